"""`build-stages-plan -- --github`: what a workflow of GitHub Actions is told."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.value import replace
from support.pair import Pair, kernels_tree, planned, publish, refused
from support.project import make_project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.index import Index
    from support.project import Project

PATCH = "--- /dev/null\n+++ b/kernels/new.py\n@@ -0,0 +1 @@\n+x = 1\n"
PLAN = ("-s", "build-stages-plan", "--", "--github")


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a step left in the files that GitHub Actions names.

    Attributes:
        outputs: Its matrix and count.
        summary: Markdown.
    """

    outputs: Mapping[str, str]
    summary: str

    @property
    def jobs(self) -> list[dict[str, str]]:
        """What each job is told."""
        found: list[dict[str, str]] = json.loads(self.outputs["matrix"])["include"]
        return found


def step(project: Project, *words: str, **env: str) -> Step:
    """Plan as in a step of a workflow."""
    files = {
        name: project.folder.with_name(name)
        for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
    }
    for file in files.values():
        file.write_text("before\n")
    named = {name: str(path) for name, path in files.items()}
    project.nox(*PLAN, *words, env={**named, **env})
    first, *lines = files["GITHUB_OUTPUT"].read_text("utf-8").splitlines()
    assert first == "before"
    outputs = dict(line.split("=", 1) for line in lines)
    before, summary = files["GITHUB_STEP_SUMMARY"].read_text("utf-8").split("\n", 1)
    assert before == "before"
    return Step(outputs=outputs, summary=summary)


def locked(project: Project, pair: Pair) -> Project:
    pair.write(project)
    if project.store.exists():
        project.nox("-s", "build-stages-lock")
    else:
        project.prepare("build-stages-lock")
    return project


def test_a_project_without_a_matrix_is_one_job(project: Project) -> None:
    """It is told its session, its wheelhouse and its key."""
    first = {"tools": ["env", "bash"], "pass-env": ["CUDA_HOME"]}
    found = step(locked(project, Pair(first=first)))
    assert found.outputs["count"] == "1"
    assert found.outputs["wheelhouse"] == "wheelhouse"
    assert found.outputs["locks"] == "build-stages"
    (job,) = found.jobs
    assert len(job.pop("key")) == 64
    assert job == {
        "cell": "all",
        "label": "",
        "session": "build-stages",
        "release": "build-stages-release",
        "python": job["python"],
        "wheelhouse": "wheelhouse",
        "tools": "bash c++ cc env gfortran ld nvcc rustc",
        "pass-env": "CUDA_HOME",
        "runs-on": "",
        "container": "",
        "setup": "",
        "variables": f"CELL_PYTHON={job['python']}",
    }
    assert "### Build stages: a job for 1 of 1 cell\n" in found.summary
    assert "| build | models | 1.0 | second | not built yet |" in found.summary


@pytest.mark.slow
def test_stages_have_jobs_and_keys_of_their_own(project: Project) -> None:
    """The key of a stage is that of all it stands on, and of nothing else."""
    pair = Pair(second={"tools": ["env"]})
    outputs = step(locked(project, pair)).outputs
    (low,), (high,) = (
        json.loads(outputs[f"level-{number}"])["include"] for number in (1, 2)
    )
    assert (low["cell"], low["session"]) == ("stage-first", "build-stage-first")
    assert (high["cell"], high["session"]) == ("stage-second", "build-stage-second")
    compilers = "c++ cc gfortran ld nvcc rustc"
    own = "c++ cc env gfortran ld nvcc rustc"
    assert (low["tools"], high["tools"]) == (compilers, own)
    outputs = step(locked(project, replace(pair, second={"env": {"A": "1"}}))).outputs
    assert low["key"] in outputs["level-1"]
    assert high["key"] not in outputs["level-2"]


def test_only_missing_leaves_out_what_is_built(project: Project) -> None:
    """By the local store, and by the remote one on a machine that has none."""
    pair = Pair(top={"remote-store": {"url": "../remote", "write": True}})
    locked(project, pair)
    assert step(project, "--only-missing").outputs["count"] == "1"
    project.nox("-s", "build-stage-second")
    assert step(project).outputs["count"] == "1"
    found = step(project, "--only-missing")
    assert (found.jobs, found.outputs["count"]) == ([], "0")
    assert "Left out: all its wheels are in the store." in found.summary
    shutil.rmtree(project.store)
    found = step(project, "--only-missing")
    assert found.outputs["count"] == "0"
    assert "Left out: all its wheels are in the remote store." in found.summary
    assert step(project, "--only-missing", "--rebuild", "models").jobs


def test_outside_github_it_is_printed(project: Project) -> None:
    """A variable that is empty names no file."""
    locked(project, Pair())
    said = project.nox(*PLAN, env={"GITHUB_OUTPUT": ""}).output
    assert '\nmatrix={"include":[{"cell":"all",' in said
    assert "\ncount=1\n" in said
    assert "\n### Build stages: a job for 1 of 1 cell\n" in said


def test_a_file_that_can_not_be_written_is_an_error(project: Project) -> None:
    """That names it."""
    locked(project, Pair())
    gone = str(project.folder / "gone" / "output")
    said = refused(project, *PLAN, env={"GITHUB_OUTPUT": gone})
    assert gone in said
    assert "Traceback" not in said


@pytest.mark.parametrize("state", ["missing", "stale"])
def test_locks_have_to_be_current(project: Project, state: str) -> None:
    """Else each job would end with what ends the plan now."""
    if state == "stale":
        locked(project, Pair())
    Pair(first={"env": {"ARCH": "9.0"}}).write(project)
    said = refused(project, *PLAN)
    assert "  nox -s build-stages-lock\n" in said


@pytest.mark.slow
def test_a_tool_that_only_the_build_has_is_no_error(
    project: Project, tmp_path: Path
) -> None:
    """A machine that plans needs no compilers; what they count for isn't known."""
    program = tmp_path / "cuda" / "mynvcc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho mynvcc 1.0\n")
    program.chmod(0o755)
    path = {"PATH": f"{program.parent}{os.pathsep}{project.env['PATH']}"}
    Pair(first={"tools": ["mynvcc"]}).write(project)
    project.nox("-s", "build-stage-second", env=path)
    assert step(project, "--only-missing", **path).outputs["count"] == "0"
    why = "mynvcc is not on this machine, so its key isn't known"
    found = step(project, "--only-missing")
    assert found.outputs["count"] == "1"
    assert f"| build | kernels | 1.0 | first | {why} |" in found.summary
    behind = f"the wheel kernels of stage first is built first because {why}"
    assert f"| build | models | 1.0 | second | {behind} |" in found.summary
    plan = planned(project.nox("-s", "build-stages-plan"))
    assert plan == {"kernels": ("build", why), "models": ("build", behind)}


@pytest.mark.slow
def test_a_variable_that_only_the_build_has_is_counted_with(project: Project) -> None:
    """Here it may be unset without need, so nobody says that it is cached."""
    locked(project, Pair(first={"pass-env": ["CUDA_HOME", "ARCH"]}))
    project.nox("-s", "build-stage-second", env={"ARCH": "9.0"})
    found = step(project, "--only-missing", ARCH="9.0")
    assert found.outputs["count"] == "1"
    why = r"CUDA\_HOME is not set here, so its key isn't known"
    assert f"| build | kernels | 1.0 | first | {why} |" in found.summary
    plan = project.nox("-s", "build-stages-plan", env={"ARCH": "9.0"})
    assert {state for state, _ in planned(plan).values()} == {"cached"}
    found = step(project, "--only-missing", ARCH="9.0", CUDA_HOME="/cuda")
    assert "CUDA\\_HOME unset → set" in found.summary
    assert "/cuda" not in found.summary


def key(project: Project, **env: str) -> str:
    (job,) = step(project, **env).jobs
    return job["key"]


def declared(project: Project, **first: Any) -> Pair:  # noqa: ANN401 - TOML
    return Pair(first={"outputs": [kernels_tree(project)], **first})


@pytest.mark.slow
def test_the_key_is_that_of_any_checkout(
    project: Project, env: dict[str, str], tmp_path: Path
) -> None:
    """Wherever it lies, whatever was built, and without the compilers."""
    pair = declared(project, **{"tools": ["env"], "pass-env": ["CUDA_HOME"]})
    locked(project, pair)
    first = key(project)
    project.nox("-s", "build-stage-second")
    assert key(project, CUDA_HOME="/cuda") == first
    other = make_project(tmp_path / "elsewhere" / "checkout", env)
    shutil.copytree(project.folder / "kernels", other.folder / "kernels")
    shutil.copytree(project.folder / "build-stages", other.folder / "build-stages")
    pair.write(other)
    assert key(other) == first


@pytest.mark.slow
def test_the_key_is_another_where_another_wheel_comes_out(project: Project) -> None:
    """A variable, a setting, a source, a patch and a dependency count."""
    keys = []
    rules = {"package": {"kernels": {"config-settings": {"--fast": "1"}}}}
    project.folder.joinpath("x.patch").write_text(PATCH)
    patched = {"package": {"kernels": {"patches": ["x.patch"]}}}
    for pair in (
        declared(project),
        declared(project, env={"ARCH": "9.0"}),
        Pair(first=declared(project).first, top=rules),
        Pair(first=declared(project).first, top=patched),
        declared(project, tools=["env"]),
        declared(project, dependencies=["tensorlib<2"]),
    ):
        locked(project, pair)
        keys.append(key(project))
    (project.folder / "kernels" / "kernels" / "more.py").write_text("x = 1\n")
    keys.append(key(project))
    assert len(set(keys)) == len(keys)
