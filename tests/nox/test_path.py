"""The whole path: from a table to locks, wheels and a runtime, with one command."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import uv

from support.packages import make_sdist, make_wheel
from support.pair import (
    KERNELS,
    MODELS,
    Pair,
    built,
    declare,
    entry,
    installed,
    lock_texts,
    versions,
    world,
)
from support.project import make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.index import Index
    from support.project import Completed, Project


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A project, its index, and its first run."""

    index: Index
    project: Project
    done: Completed

    def again(self, *args: str) -> Completed:
        """Run it once more, and see that the index isn't asked for anything."""
        before = len(self.index.requests)
        done = self.project.nox(*args, "-s", "build-stages")
        assert self.index.requests[before:] == []
        return done


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, caches: Path) -> Iterator[Run]:
    with world(tmp_path_factory.mktemp("path"), caches) as (index, project):
        Pair(final={"imports": ["models", "kernels"]}).write(project)
        done = project.nox("-s", "build-stages")
        yield Run(index=index, project=project, done=done)


def test_first_run_makes_the_locks_and_says_so(run: Run) -> None:
    """With no lock, `nox -s build-stages` locks everything, once, and goes on."""
    names = {"pylock.first.toml", "pylock.second.toml", "pylock.final.toml"}
    assert lock_texts(run.project).keys() == names
    assert run.done.output.count("no lock files in build-stages; locking") == 1
    assert "wrote to" in run.done.output
    assert "pylock.first.toml, pylock.second.toml, pylock.final.toml" in run.done.output


def test_lock_holds_what_its_stage_holds(run: Run) -> None:
    """Each lock has the dependencies, the declared build requirements, the outputs."""
    assert versions(run.project, "first") == {"tensorlib": "2.0", "tinybackend": "1.0"}
    second = {"kernels": "1.0", "tensorlib": "2.0", "tinybackend": "1.0"}
    assert versions(run.project, "second") == second
    final = {"kernels": "1.0", "models": "1.0", "tensorlib": "2.0"}
    assert versions(run.project, "final") == final


def test_stages_are_built_in_order(run: Run) -> None:
    """A stage is built after the one whose wheel it holds; each output once."""
    assert built(run.done) == ["kernels", "models"]
    order = [
        run.done.output.index(f"Running session {name}")
        for name in ("build-stage-first", "build-stage-second", "build-stages")
    ]
    assert order == sorted(order)


def test_wheelhouse_holds_wheels_lock_manifest_and_logs(run: Run) -> None:
    """The wheelhouse is complete, and nothing half-made lies in it."""
    house = run.project.wheelhouse
    names = {path.name for path in house.iterdir() if not path.name.startswith(".")}
    report = {"report.html", "timeline.json"}
    lists = {"pylock.toml", "build-stages.json"}
    assert names == {KERNELS, MODELS, *lists, "logs", *report}
    logs = {path.name for path in (house / "logs").iterdir()}
    assert logs == {"kernels.log", "models.log"}
    log = (house / "logs/kernels.log").read_text("utf-8")
    assert "tinybackend: made kernels-1.0" in log


def test_manifest_tells_of_each_wheel(run: Run) -> None:
    """build-stages.json says where each wheel comes from and what it is."""
    wheel = (run.project.wheelhouse / MODELS).read_bytes()
    said = entry(run.project, "models")
    assert said["version"] == "1.0"
    assert said["file"] == MODELS
    assert said["stage"] == "second"
    assert said["status"] in {"built", "cached"}
    assert len(said["key"]) == 64
    assert said["sha256"] == hashlib.sha256(wheel).hexdigest()
    assert said["size"] == len(wheel)
    assert said["seconds"] > 0
    assert "models-1.0.tar.gz" in said["source"]
    environment = {"kernels": "1.0", "tensorlib": "2.0", "tinybackend": "1.0"}
    assert said["environment"] == environment
    assert (run.project.wheelhouse / said["log"]).is_file()


def test_closing_table_names_each_output(run: Run) -> None:
    """At the end stands a line for each output: version, stage, state, time, size."""
    lines = run.done.output.splitlines()
    (line,) = (it for it in lines if it.startswith(" models "))
    assert line.split()[:4] == ["models", "1.0", "second", "built"]
    assert re.search(r"\d s +[\d.]+ kB +not built yet$", line)


def test_environments_are_what_the_locks_say(run: Run) -> None:
    """They have the packages of their locks, and neither pip nor setuptools."""
    wanted = {"kernels": "1.0", "models": "1.0", "tensorlib": "2.0"}
    assert installed(run.project.folder / ".nox/build-stages") == wanted
    wanted = {"kernels": "1.0", "tensorlib": "2.0", "tinybackend": "1.0"}
    assert installed(run.project.folder / ".nox/build-stage-second") == wanted


def test_bound_lock_makes_the_same_environment_elsewhere(
    run: Run, tmp_path: Path
) -> None:
    """`uv pip sync wheelhouse/pylock.toml` works from another folder."""
    house = tmp_path / "elsewhere"
    shutil.copytree(run.project.wheelhouse, house)
    command = [uv.find_uv_bin(), "pip", "sync", "-q", "--preview-features", "pylock"]
    command += ["--python", sys.executable, "--prefix", str(tmp_path / "env")]
    command.append(str(house / "pylock.toml"))
    subprocess.run(command, env=dict(run.project.env), check=True)
    wanted = {"kernels": "1.0", "models": "1.0", "tensorlib": "2.0"}
    assert installed(tmp_path / "env") == wanted


def test_second_run_builds_nothing_and_asks_no_index(run: Run) -> None:
    """With nothing changed nothing is built, locked or fetched."""
    before = lock_texts(run.project)
    done = run.again()
    assert built(done) == []
    assert "locking" not in done.output
    assert lock_texts(run.project) == before
    assert entry(run.project, "models")["status"] == "cached"


def test_store_alone_gives_everything_back(run: Run) -> None:
    """Without .nox and the wheelhouse the wheels come from the store, byte for byte."""
    house = run.project.wheelhouse
    before = {name: (house / name).read_bytes() for name in run.project.wheels()}
    lock = (house / "pylock.toml").read_bytes()
    shutil.rmtree(run.project.folder / ".nox")
    shutil.rmtree(house)
    assert built(run.again()) == []
    after = {name: (house / name).read_bytes() for name in run.project.wheels()}
    assert after == before
    assert (house / "pylock.toml").read_bytes() == lock
    assert (house / "logs/models.log").is_file()


def test_no_environment_is_touched_for_stored_wheels(run: Run) -> None:
    """A stage whose wheels are all in the store installs nothing."""
    shutil.rmtree(run.project.folder / ".nox", ignore_errors=True)
    run.again()
    assert installed(run.project.folder / ".nox/build-stage-second") == {}


def test_a_wheel_of_the_project_serves_in_every_checkout(
    project: Project, index: Index
) -> None:
    """A wheel that lies in the project is locked, synced and bound by where it lies."""
    make_wheel(project.folder / "wheels", "own", "1.0")
    make_sdist(index.folder, "kernels", "1.0", settings={"import-first": ["own"]})
    own = "own @ ./wheels/own-1.0-py3-none-any.whl"
    declare(
        project,
        {
            "final": {"requirements": ["kernels", own], "imports": ["own"]},
            "stage": [{"name": "only", "dependencies": [own], "outputs": ["kernels"]}],
        },
    )
    project.nox("-s", "build-stages-lock")
    elsewhere = make_project(project.folder.parent / "elsewhere", project.env)
    shutil.copytree(project.folder / "wheels", elsewhere.folder / "wheels")
    shutil.copytree(project.folder / "build-stages", elsewhere.folder / "build-stages")
    shutil.copy(project.pyproject, elsewhere.pyproject)
    elsewhere.nox("-s", "build-stages", "--", "--locked")
    assert elsewhere.wheels() == [KERNELS]
