"""The script of the guide to GitLab, and the pipelines that it makes of plans."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.pair import Pair, built, publish
from support.project import make_project
from support.sharded import Machines
from support.workflow import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

SCRIPT = ROOT / "examples" / "gitlab" / "pipeline.py"
GUIDE = ROOT / "docs" / "how-to" / "gitlab.md"


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


def made_of(plan: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT)],
        input=plan,
        capture_output=True,
        text=True,
        check=False,
    )


def pipeline(project: Project) -> dict[str, Any]:
    """Return the jobs that come out for a project."""
    said = project.nox("-s", "build-stages-plan", "--", "--json").output
    document = said[said.index("\n{\n") : said.rindex("\n}\n") + 3]
    done = made_of(document)
    assert done.returncode == 0, done.stderr
    jobs: dict[str, Any] = yaml.safe_load(done.stdout)
    assert jobs.pop("include") == [{"local": ".build-stages.yml"}]
    return jobs


def test_each_stage_is_a_job_that_needs_those_it_requires(project: Project) -> None:
    """The last one has the wheelhouse."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    shutil.rmtree(project.store)
    jobs = pipeline(project)
    assert {name: job["needs"] for name, job in jobs.items()} == {
        "build-stage-first": [],
        "build-stage-second": ["build-stage-first"],
        "build-stages": ["build-stage-first", "build-stage-second"],
    }
    assert {job["extends"] for job in jobs.values()} == {".build-stages"}
    assert jobs["build-stages"]["artifacts"] == {"paths": ["wheelhouse/"]}


@pytest.mark.slow
def test_its_jobs_build_what_a_local_run_builds(
    project: Project, env: dict[str, str], tmp_path: Path
) -> None:
    """Each on a machine of its own, with the wheels of those that it needs."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    shutil.rmtree(project.store)
    jobs = pipeline(project)
    needs = {name: job["needs"] for name, job in jobs.items()}
    machines: dict[str, Project] = {}
    for name in TopologicalSorter(needs).static_order():
        machine = make_project(tmp_path / name / "project", env)
        Pair().write(machine)
        shutil.copytree(
            project.folder / "build-stages", machine.folder / "build-stages"
        )
        for other in needs[name]:
            wheels = machines[other].store / "wheels"
            shutil.copytree(wheels, machine.store / "wheels", dirs_exist_ok=True)
        machines[name] = machine
        (line,) = jobs[name]["script"]
        program, *words = shlex.split(line)
        assert program == "nox"
        assert len(built(machine.nox(*words))) == (name != "build-stages")
    project.nox("-s", "build-stages")
    last = machines["build-stages"]
    assert last.wheels() == project.wheels()
    for wheel in project.wheels():
        there, here = last.wheelhouse / wheel, project.wheelhouse / wheel
        assert there.read_bytes() == here.read_bytes()


def test_a_stage_with_nothing_to_build_has_no_job(project: Project) -> None:
    """And nobody needs it."""
    Pair().write(project)
    project.prepare()
    Pair(second={"env": {"ARCH": "9.0"}}).write(project)
    project.nox("-s", "build-stages-lock")
    jobs = pipeline(project)
    assert {name: job["needs"] for name, job in jobs.items()} == {
        "build-stage-second": [],
        "build-stages": ["build-stage-second"],
    }


def test_a_job_runs_where_the_values_of_its_cell_say() -> None:
    """On a runner with these tags, in this image, after these commands."""
    anywhere: dict[str, Any] = {
        "container": None,
        "runs-on": [],
        "setup": None,
        "variables": {"A": "1"},
    }
    there: dict[str, Any] = {
        "container": "cuda",
        "runs-on": ["gpu"],
        "setup": "a\nb",
        "variables": {},
    }
    names = ("build-stages(a=1)", "build-stages(a=2)")
    final = [
        {"session": name, "requires": [], **settings}
        for name, settings in zip(names, (anywhere, there), strict=True)
    ]
    plan = {"format": 1, "locks": "current", "stages": [], "final": final}
    jobs = yaml.safe_load(made_of(json.dumps(plan)).stdout)
    first, second = (jobs[name] for name in names)
    assert first["variables"] == {"A": "1"}
    assert first["script"] == ["nox -s 'build-stages(a=1)'"]
    assert first.keys().isdisjoint({"image", "tags"})
    assert (second["image"], second["tags"]) == ("cuda", ["gpu"])
    assert second["script"] == ["a\nb", "nox -s 'build-stages(a=2)'"]


def test_shards_are_jobs_before_the_one_of_their_stage(project: Project) -> None:
    """Each hands its compiler cache on; one that fails stops nothing."""
    Pair(second={"shards": 2}).write(project)
    project.prepare("build-stages-lock")
    shutil.rmtree(project.store)
    jobs = pipeline(project)
    second = "build-stage-second"
    names = [f"{second} 1/2", f"{second} 2/2"]
    assert jobs[second]["needs"] == ["build-stage-first", *names]
    for number, name in enumerate(names, 1):
        shard = jobs[name]
        assert shard["script"] == [f"nox -s {second} -- --shard {number}/2"]
        assert shard["needs"] == ["build-stage-first"]
        assert shard["artifacts"] == {"paths": [".compiled/"], "when": "always"}
        assert shard["allow_failure"]
    assert not [it for it in jobs if it.startswith("build-stage-first ")]


@pytest.mark.slow
def test_the_job_of_a_stage_finds_what_its_shards_compiled(
    project: Project, tmp_path: Path
) -> None:
    """Each job has the compiler caches of those that it needs, and no others."""
    machines = Machines(folder=tmp_path / "machines")
    machines.folder.mkdir()
    machines.write(project, shards=2)
    project.prepare("build-stages-lock")
    jobs = pipeline(project)
    stage = "build-stage-only"
    said = {}
    for name in (*jobs[stage]["needs"], stage):
        shutil.rmtree(project.store, ignore_errors=True)
        own = name.replace("/", "-of-")
        machines.merge(
            *(it.replace("/", "-of-") for it in jobs[name]["needs"]), into=own
        )
        (line,) = jobs[name]["script"]
        variables = machines.variables(own)
        path = f"{variables['PATH']}:{project.env['PATH']}"
        words = shlex.split(line)[1:]
        said[name] = project.nox(*words, env={**variables, "PATH": path}).output
    assert "compiled shard 2/2 of kernels" in said[f"{stage} 2/2"]
    assert "ccache: 6 of 6 compilations cached" in said[stage]


@pytest.mark.parametrize(
    "plan", [{"format": 2, "locks": "current"}, {"format": 1, "locks": "stale"}]
)
def test_a_plan_that_it_does_not_know_is_refused(plan: dict[str, Any]) -> None:
    """A pipeline of it would fail job by job."""
    done = made_of(json.dumps(plan))
    assert done.returncode == 1
    assert f"format {plan['format']}, locks {plan['locks']}" in done.stderr


def test_the_guide_names_what_the_script_names() -> None:
    """Its YAML is sound, and has the job that others extend."""
    text = GUIDE.read_text("utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    parent, base = map(yaml.safe_load, blocks)
    assert parent["build"]["trigger"]["include"] == [
        {"artifact": "pipeline.yml", "job": "plan"}
    ]
    assert base.keys() == {".build-stages"}
    assert base[".build-stages"]["artifacts"]["paths"] == [".wheels/"]
