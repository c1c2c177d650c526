"""The reusable workflow, step after step, without GitHub."""

from __future__ import annotations

import hashlib
import platform
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from nox_buildstages.value import replace
from support.caches import cache_program
from support.namespaces import needs_namespaces
from support.packages import make_tree
from support.pair import Pair, declare, declare_solo, kernels_tree, publish
from support.pythons import HERE, another
from support.sharded import Machines
from support.workflow import ROOT, GitHub, read

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

OTHER = another()
BUILD, RELEASE = "build-stages.yml", "build-stages-release.yml"
WORKFLOWS = sorted(path.name for path in (ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


@pytest.fixture
def github(project: Project, tmp_path: Path) -> GitHub:
    """Return a GitHub that has the project as a repository."""
    env = {it: project.env[it] for it in project.env if "BUILDSTAGES" not in it}
    return GitHub(
        folder=tmp_path / "github",
        checkout=project.folder,
        env={**env, "NOX_DEFAULT_VENV_BACKEND": "uv"},
    )


def call(github: GitHub, name: str = BUILD, **inputs: object) -> str:
    return github.run(name, python_version="3.x", **inputs)


def wheels(folder: Path) -> dict[str, str]:
    """Return the sha256 of each wheel in a folder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.whl")
    }


def built(github: GitHub) -> list[str]:
    """Return the outputs that the last run built."""
    return re.findall(r"building (\S+) \S+ with ", github.log)


def results(github: GitHub) -> dict[str, str]:
    """Return how each job of the last run ended that wasn't skipped."""
    return {
        name: ran.result
        for name, runs in github.jobs.items()
        for ran in runs
        if ran.result != "skipped"
    }


def lock(project: Project) -> None:
    """Lock as a developer does, who builds nothing else."""
    if project.store.exists():
        project.nox("-s", "build-stages-lock")
    else:
        project.prepare("build-stages-lock")


@pytest.mark.slow
def test_what_it_merges_is_what_a_local_run_makes(
    project: Project, github: GitHub
) -> None:
    """Wheel for wheel; each job begins with nothing but what it was handed."""
    Pair().write(project)
    lock(project)
    assert call(github) == "success", github.log
    assert results(github) == {
        "plan": "success",
        "first/build": "success",
        "merge": "success",
    }
    assert built(github) == ["kernels", "models"]
    assert set(github.artifacts) == {"wheelhouse-all", "wheelhouse"}
    project.nox("-s", "build-stages")
    merged = wheels(github.artifact("wheelhouse"))
    assert merged == wheels(project.wheelhouse)
    assert len(merged) == 2

    # What is known from the run before isn't built again.
    assert call(github) == "success", github.log
    assert built(github) == []
    assert wheels(github.artifact("wheelhouse")) == merged
    (job,) = github.jobs["first/build"]
    assert "Restore half-built trees" not in job.steps
    assert "Save the store" not in job.steps


@pytest.mark.slow
def test_only_missing_builds_what_no_run_has_built(
    project: Project, github: GitHub
) -> None:
    """A second run has no job for the cell, and nothing to merge."""
    Pair().write(project)
    lock(project)
    assert call(github, only_missing=True) == "success", github.log
    assert results(github)["keep"] == "success"
    assert len(built(github)) == 2
    assert call(github, only_missing=True) == "success", github.log
    assert results(github) == {"plan": "success"}
    assert github.artifacts == {}
    Pair(second={"env": {"ARCH": "9.0"}}).write(project)
    lock(project)
    assert call(github, only_missing=True) == "success", github.log
    assert results(github)["first/build"] == "success"
    assert built(github) == ["models"]


@pytest.mark.slow
def test_a_stage_that_is_left_out_is_not_built_by_those_after_it(
    project: Project, github: GitHub
) -> None:
    """They find its wheel in the store that the plan found it in."""
    Pair().write(project)
    lock(project)
    assert call(github, only_missing=True) == "success", github.log
    Pair(second={"env": {"ARCH": "9.0"}}).write(project)
    lock(project)
    done = call(github, only_missing=True, stage_jobs=True)
    assert done == "success", github.log
    jobs = {*results(github)} - {"plan", "merge", "keep"}
    assert jobs == {"level-2/build", "first/build"}
    assert built(github) == ["models"]


@pytest.mark.slow
def test_a_release_takes_nothing_from_caches(project: Project, github: GitHub) -> None:
    """It builds all that is there already, and attests each wheel."""
    Pair(top={"remote-store": {"url": "../remote", "write": True}}).write(project)
    lock(project)
    assert call(github) == "success", github.log
    caches = set(github.caches)
    assert caches
    before = wheels(github.artifact("wheelhouse"))
    assert call(github, RELEASE) == "success", github.log
    assert not [it for it in github.steps() if it.startswith(("Restore", "Save"))]
    assert built(github) == ["kernels", "models"]
    assert set(github.caches) == caches
    released = github.artifact("wheelhouse")
    assert wheels(released) == before
    assert github.attested == set(before.values())
    assert (github.artifact("wheelhouse-all") / "SHA256SUMS").is_file()


@pytest.mark.slow
def test_a_release_is_verified_before_it_is_attested(
    project: Project, github: GitHub
) -> None:
    """With the ceiling and the torches of its inputs; a wrong wheel isn't attested."""
    tree = kernels_tree(project, compile=["a.c"])
    code = "int pthread_create(); void *a(void) { return (void *)pthread_create; }\n"
    (project.folder / "kernels/a.c").write_text(code)
    declare_solo(project, outputs=[tree])
    lock(project)
    assert call(github, RELEASE, glibc="2.28") == "failure"
    assert "needs GLIBC_2.34, and manylinux_2_28 has up to 2.28" in github.log
    assert "Attest where they come from" not in github.steps()
    assert not github.attested

    assert call(github, RELEASE, torch="2.12,2.13") == "failure"
    assert "--torch is given, but the runtime environment has no torch" in github.log

    assert call(github, RELEASE, glibc="2.34") == "success", github.log
    assert "ok       glibc      needs GLIBC_2.34" in github.log
    assert github.attested == {*wheels(github.artifact("wheelhouse")).values()}


@pytest.mark.slow
def test_each_stage_can_have_a_job_of_its_own(project: Project, github: GitHub) -> None:
    """Level by level; the cell's job then finds all wheels, and builds nothing."""
    Pair().write(project)
    lock(project)
    assert call(github, stage_jobs=True) == "success", github.log
    logs = [github.jobs[name][0].log for name in github.jobs if "/build" in name]
    assert [re.findall(r"building (\S+) \S+ with", log) for log in logs] == [
        ["kernels"],
        ["models"],
        [],
    ]
    assert set(results(github)) == {
        *("plan", "level-1/build", "level-2/build", "first/build", "merge"),
    }
    project.nox("-s", "build-stages")
    assert wheels(github.artifact("wheelhouse")) == wheels(project.wheelhouse)


@pytest.mark.slow
def test_a_cell_is_built_where_its_values_say(project: Project, github: GitHub) -> None:
    """With its own commands, which know its values; and a selection is a part."""
    setup = 'echo "$CELL_ARCH on $CELL_PYTHON, $CELL_ON in $PWD"'
    where = {"container": "image:{arch}", "runs-on": ["gpu", "sm{arch}"]}
    matrix = {
        "arch": {"8.0": {**where, "setup": setup}, "9.0": {}},
        "on": {"this": {"machine": platform.machine()}},
    }
    Pair(top={"matrix": matrix}, second={"env": {"ARCH": "{arch}"}}).write(project)
    lock(project)
    words = {"select": "arch=8.0 on=this", "setup": "echo first"}
    assert call(github, runs_on="mine", **words) == "success", github.log
    (job,) = github.jobs["first/build"]
    assert job.runner == (["gpu", "sm8.0"], "image:8.0")
    lines = f"first\n8.0 on {HERE}, this in {github.workspace}\n"
    assert f"##[group]Set up what compiles\n{lines}##[group]" in job.log
    assert set(github.artifacts) == {"wheelhouse-arch-8.0_on-this", "wheelhouse"}
    assert call(github, runs_on="mine", select="arch=9.0") == "success", github.log
    (job,) = github.jobs["first/build"]
    assert job.runner == ("mine", "")
    assert call(github, select="arch=9.1") == "failure"
    assert "arch has no value '9.1'; did you mean '9.0'?" in github.log


@pytest.mark.slow
@pytest.mark.parametrize("stage_jobs", [False, True])
def test_each_cell_of_a_matrix_is_a_job(
    project: Project, github: GitHub, *, stage_jobs: bool
) -> None:
    """Where stages have jobs, one that cells share is built once for them all."""
    matrix = {"arch": ["8.0", "9.0"]}
    Pair(top={"matrix": matrix}, second={"env": {"ARCH": "{arch}"}}).write(project)
    lock(project)
    done = call(github, by_cell=True, stage_jobs=stage_jobs)
    assert done == "success", github.log
    assert len(github.jobs["first/build"]) == 2
    assert built(github).count("kernels") == (1 if stage_jobs else 2)
    assert built(github).count("models") == 2
    project.nox("-s", "build-stages")
    merged = github.artifact("wheelhouse")
    for value in matrix["arch"]:
        here = project.wheelhouse / value
        assert wheels(here) == wheels(merged / f"arch-{value}")
        assert len(wheels(here)) == 2


@pytest.mark.slow
def test_a_stage_that_runs_out_of_time_goes_on_in_the_job_of_its_cell(
    project: Project, github: GitHub, tmp_path: Path
) -> None:
    """Where it isn't the cell's last attempt, that goes on in its turn."""
    declare_slow(project, tmp_path / "pids/pid")
    done = call(github, stage_jobs=True, timeout_minutes=LIMIT)
    assert done == "success", github.log
    assert GOES_ON in github.jobs["first/build"][0].log


def declare_slow(project: Project, pidfile: Path, *pythons: str) -> None:
    """Write and lock a project whose build compiles, and the first time hangs then."""
    settings = {"compile": ["kernels.c"], "faults": ["sleep"]}
    files = {"kernels.c": "int answer(void) { return 42; }"}
    tree = project.folder / "kernels"
    make_tree(tree, "kernels", "1.0", files=files, settings=settings)
    pidfile.parent.mkdir()
    env = {"TINYBACKEND_CACHE": str(pidfile.parent)}
    only = {"name": "only", "outputs": ["kernels @ ./kernels"], "env": env}
    final = {"requirements": ["kernels"]}
    top = {"python": [*pythons]} if pythons else {}
    declare(project, {**top, "final": final, "stage": [only]})
    lock(project)


GOES_ON = "resuming an interrupted build"
LIMIT = 0.15
"""Minutes in which an environment is made and a file is compiled."""


@pytest.mark.slow
def test_a_cell_that_runs_out_of_time_goes_on_in_another_job(
    project: Project, github: GitHub, tmp_path: Path
) -> None:
    """What was compiled isn't compiled again, and the run is a success."""
    declare_slow(project, tmp_path / "pids/pid")
    done = call(github, attempts=2, timeout_minutes=LIMIT)
    assert done == "success", github.log
    assert results(github) == {
        "plan": "success",
        "first/build": "success",
        "left-by-first": "success",
        "second/build": "success",
        "merge": "success",
    }
    assert "the next job goes on from here" in github.log
    assert GOES_ON in github.log
    log = (github.artifact("wheelhouse-all") / "logs/kernels.log").read_text("utf-8")
    assert "build/kernels.o is there" in log
    assert "tinybackend: compiling" not in log
    assert len(wheels(github.artifact("wheelhouse"))) == 1


@pytest.mark.slow
def test_attempts_at_a_release_hand_on_within_the_run(
    project: Project, github: GitHub, tmp_path: Path
) -> None:
    """There is no cache that the second one could have it from."""
    declare_slow(project, tmp_path / "pids/pid")
    done = call(github, RELEASE, attempts=2, timeout_minutes=LIMIT)
    assert done == "success", github.log
    assert not github.caches
    assert GOES_ON in github.log
    log = (github.artifact("wheelhouse-all") / "logs/kernels.log").read_text("utf-8")
    assert "build/kernels.o is there" in log
    assert len(github.attested) == 1


@needs_namespaces
@pytest.mark.slow
def test_what_was_compiled_is_kept_for_other_keys(
    project: Project, github: GitHub, tmp_path: Path
) -> None:
    """A change of a variable compiles nothing in the next run."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ccache").symlink_to(cache_program("ccache"))
    github.env = {**github.env, "PATH": f"{programs}:{github.env['PATH']}"}
    tree = kernels_tree(project, compile=["a.c"])
    (project.folder / "kernels/a.c").write_text("int a(void) { return 1; }\n")
    for value, found in (("1", 0), ("2", 1)):
        declare_solo(project, outputs=[tree], env={"A": value})
        project.nox("-s", "build-stages-lock")
        assert call(github) == "success", github.log
        assert f"ccache: {found} of 1 compilations cached" in github.log


@pytest.fixture
def machines(github: GitHub, tmp_path: Path) -> Machines:
    """Return runners that have ccache, and compilers that can refuse to compile."""
    folder = tmp_path / "machines"
    folder.mkdir()
    found = Machines(folder=folder)
    path = f"{found.variables('any')['PATH']}:{github.env['PATH']}"
    github.env = {**github.env, "PATH": path}
    return found


@pytest.mark.slow
def test_shards_compile_and_the_build_finds_it_all(
    project: Project, github: GitHub, machines: Machines
) -> None:
    """Each in a job of its own; the wheel is that of a local run."""
    machines.write(project, shards=3)
    lock(project)
    assert call(github, require_hit_rate="1") == "success", github.log
    shards = github.jobs["shards/build"]
    for number, job in enumerate(shards, 1):
        assert f"compiled shard {number}/3 of kernels" in job.log
        assert "ccache: 0 of 2 compilations cached" in job.log
        assert "Save what was compiled" not in job.steps
    assert len(shards) == 3
    (build,) = github.jobs["first/build"]
    assert "ccache: 6 of 6 compilations cached" in build.log
    project.nox("-s", "build-stages")
    assert wheels(github.artifact("wheelhouse")) == wheels(project.wheelhouse)

    # Another key: shards find what the last run compiled, and hand that on.
    tree = machines.write(project, shards=3)
    tree.joinpath("part00.cc").write_text("int value_0() { return 7; }\n")
    assert call(github, require_hit_rate="1") == "success", github.log
    logs = [job.log for job in github.jobs["shards/build"]]
    found = [re.findall(r"ccache: (\d) of 2", log) for log in logs]
    assert found == [["1"], ["2"], ["2"]]
    assert call(github, shards=False) == "success", github.log
    assert "shards/build" not in github.jobs


@pytest.mark.slow
def test_a_shard_that_fails_costs_only_time(
    project: Project, github: GitHub, machines: Machines
) -> None:
    """Unless a hit rate is required: then the wheel's job fails, and says why."""
    tree = machines.write(project, shards=2)
    backend = tree / "setup.py"
    fault = (
        "    chosen = os.environ.get('NOX_BUILDSTAGES_SHARD')\n"
        "    if chosen and '\"number\": 2' in"
        " pathlib.Path(chosen).with_name('settings.json').read_text():\n"
        "        raise SystemExit('lost')\n"
        "    sources ="
    )
    text = backend.read_text("utf-8")
    backend.write_text(text.replace("    sources =", fault))
    lock(project)
    assert call(github, RELEASE, require_hit_rate="0.9") == "failure"
    assert "ccache found 3 of 6 compilations, and --require-hit-rate" in github.log
    assert call(github, RELEASE) == "success", github.log
    assert "::warning::shard 2/2 of build-stage-only failed;" in github.log
    names = {it for it in github.artifacts if it.startswith("logs-")}
    assert names == {"logs-wheelhouse-stage-only_shard-2-of-2"}
    assert "ccache: 3 of 6 compilations cached" in github.log
    assert len(github.attested) == 1


@pytest.mark.slow
def test_the_store_is_that_of_what_is_let_through(
    project: Project, github: GitHub
) -> None:
    """The key of the plan doesn't cover its value, and the cache is found by it too."""
    Pair(first={"pass-env": ["ARCH"]}).write(project)
    lock(project)
    found = []
    for value in ("8.0", "9.0", "9.0"):
        github.environment = f"ARCH={value}\n\nOTHER=a=b c\n"
        assert call(github) == "success", github.log
        assert f"::add-mask::{value}\n" in github.log
        found.append(built(github))
    assert found == [["kernels", "models"], ["kernels", "models"], []]


@pytest.mark.skipif(OTHER is None, reason="there is one Python here")
@pytest.mark.slow
def test_of_several_cells_those_go_on_that_were_stopped(
    project: Project, github: GitHub, tmp_path: Path
) -> None:
    """Each has a job, and its wheels are merged with those of the others."""
    assert OTHER is not None
    env = {**project.env, "PATH": OTHER.on_path(project.env["PATH"])}
    github.env = {**github.env, "PATH": env["PATH"]}
    declare_slow(replace(project, env=env), tmp_path / "pids/pid", HERE, OTHER.version)
    done = call(github, attempts=2, timeout_minutes=LIMIT)
    assert done == "success", github.log
    assert len(github.jobs["first/build"]) == 2
    assert len(github.jobs["second/build"]) == 1
    cells = [f"wheelhouse-python-{python}" for python in (HERE, OTHER.version)]
    apart = [wheels(github.artifact(cell)) for cell in cells]
    assert [len(it) for it in apart] == [1, 1]
    assert wheels(github.artifact("wheelhouse")) == {**apart[0], **apart[1]}


@pytest.mark.slow
def test_what_the_last_attempt_did_is_for_the_next_run(
    project: Project, github: GitHub, tmp_path: Path
) -> None:
    """A job that is stopped saves its trees, whether there is another one or not."""
    declare_slow(project, tmp_path / "pids/pid")
    assert call(github, timeout_minutes=LIMIT) == "failure"
    assert results(github) == {"plan": "success", "first/build": "failure"}
    (job,) = github.jobs["first/build"]
    assert job.steps["Save half-built trees"] == "success"
    assert "Save the store" not in job.steps
    assert set(github.artifacts) >= {"logs-wheelhouse-all"}
    assert call(github) == "success", github.log
    assert GOES_ON in github.log


@pytest.mark.slow
def test_what_fails_by_itself_is_not_tried_again(
    project: Project, github: GitHub, tmp_path: Path
) -> None:
    """The run fails with the job, and what the build said is kept."""
    outputs = [kernels_tree(project, faults=["exit"])]
    folder = tmp_path / "pids"
    folder.mkdir()
    env = {"TINYBACKEND_CACHE": str(folder)}
    declare_solo(project, outputs=outputs, env=env)
    lock(project)
    assert call(github, attempts=3) == "failure"
    assert results(github) == {
        "plan": "success",
        "first/build": "failure",
        "left-by-first": "success",
    }
    assert set(github.artifacts) == {"logs-wheelhouse-all"}
    assert (github.artifact("logs-wheelhouse-all") / "kernels.log").is_file()


@pytest.mark.slow
def test_locks_can_be_made_first(project: Project, github: GitHub) -> None:
    """Once, for all jobs; without that a project that has none can't be planned."""
    Pair().write(project)
    assert call(github) == "failure"
    assert "  nox -s build-stages-lock\n" in github.log
    assert results(github) == {"plan": "failure"}
    assert call(github, lock=True) == "success", github.log
    assert len(wheels(github.artifact("wheelhouse"))) == 2
    (plan,) = github.jobs["plan"]
    assert plan.steps["Lock"] == "success"
    assert built(github) == ["kernels", "models"]  # none to lock
    assert call(github, lock=True, only_missing=True) == "success", github.log
    assert results(github)["first/build"] == "success"


@pytest.mark.slow
def test_a_command_sets_up_what_compiles(project: Project, github: GitHub) -> None:
    """In the folder of the noxfile, where a tool of the table comes from, say."""
    Pair(first={"tools": ["env"]}).write(project)
    lock(project)
    setup = 'test -f noxfile.py\necho "a = $HOME; \'b\'" > "$HOME/setup"\nfalse'
    assert call(github, setup=setup) == "failure"
    (job,) = github.jobs["first/build"]
    assert [it for it in job.steps if job.steps[it] == "failure"] == [
        "Set up what compiles"
    ]
    assert github.workspace.with_name("home").joinpath("setup").is_file()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned(name: str) -> None:
    """By a commit, with its version beside it for people."""
    written = (ROOT / ".github/workflows" / name).read_text("utf-8")
    for action in re.findall(r"uses: (.*)", written):
        ours = action.startswith("./.github/workflows/build-stages")
        assert ours or re.fullmatch(
            r"(actions|pypa)/[\w/-]+@[0-9a-f]{40} # v[\d.]+", action
        )


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_job_has_more_rights_than_it_needs(name: str) -> None:
    """They read the repository; those that attest or publish have rights for that."""
    workflow = read(name)
    assert workflow["permissions"] == {}
    more = {
        "attest": {"id-token": "write", "attestations": "write"},
        "publish": {"id-token": "write"},
    }
    for job_name, job in workflow["jobs"].items():
        if job_name in more:
            assert job["permissions"] == more[job_name]
        else:
            assert job["permissions"] in ({}, {"contents": "read"})


def test_the_demo_calls_it_with_inputs_that_it_has() -> None:
    """It is the one workflow that nobody calls."""
    (job,) = read("demo.yml")["jobs"].values()
    inputs = read(BUILD)["on"]["workflow_call"]["inputs"]
    assert job["with"].keys() <= inputs.keys()
    example = ROOT / job["with"]["working-directory"]
    assert (example / "noxfile.py").is_file()


def test_the_guide_shows_calls_that_are_sound() -> None:
    """With inputs that there are, and what is required."""
    guide = (ROOT / "docs/how-to/github-actions.md").read_text("utf-8")
    shown = re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    calls = [
        job
        for text in shown
        for job in yaml.safe_load(text).get("jobs", {}).values()
        if "uses" in job
    ]
    assert len(calls) >= 2
    for job in calls:
        name = job["uses"].partition("@")[0].rpartition("/")[2]
        inputs = read(name)["on"]["workflow_call"]["inputs"]
        assert job["with"].keys() <= inputs.keys()
        assert {it for it in inputs if inputs[it].get("required")} <= job["with"].keys()
    for name in read(BUILD)["on"]["workflow_call"]["inputs"]:
        assert f"`{name}`" in guide
