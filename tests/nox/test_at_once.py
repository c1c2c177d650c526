"""Several runs of one project at once, the first of all among them.

Nox makes a session's environment before any code of ours runs, and takes no lock.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import uv
from filelock import FileLock

from nox_buildstages.run.environment_lock import WAITING
from nox_buildstages.system.files import path_id
from nox_buildstages.wheels import wheel as wheels
from support.pair import (
    KERNELS,
    MODELS,
    Pair,
    built,
    declare_solo,
    installed,
    kernels_tree,
    lock_texts,
    planned,
    publish,
    refused,
    stored,
)
from support.project import Completed, make_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.index import Index
    from support.project import Project

PATIENCE = 60.0
"""Seconds for a run to come to something."""


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


def at_once(project: Project, number: int, *args: str) -> list[Completed]:
    """Start so many runs at once, and wait for all of them."""
    with ExitStack() as stack:
        runs = [
            stack.enter_context(project.start(*args, "-s", "build-stages"))
            for _ in range(number)
        ]
        outputs = [run.communicate(timeout=120)[0] for run in runs]
        return [
            Completed(returncode=run.returncode, output=output)
            for run, output in zip(runs, outputs, strict=True)
        ]


def states(done: Completed) -> list[tuple[str, str]]:
    """Return each output of a run's closing table, and whether it was built."""
    return re.findall(r"(kernels|models) +1\.0 +\w+ +(built|cached) ", done.output)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (3, "-db uv -j 2"),
        pytest.param(8, "-db uv", marks=pytest.mark.slow),
        pytest.param(2, "-db uv --reuse-venv never", marks=pytest.mark.slow),
        pytest.param(2, "-db virtualenv", marks=pytest.mark.slow),
        pytest.param(2, "-db venv -j 2", marks=pytest.mark.slow),
    ],
)
def test_first_runs_at_once_all_succeed(
    project: Project, tmp_path: Path, number: int, words: str
) -> None:
    """Each wheel is built once, and each run's table says who built it."""
    Pair(final={"imports": ["models"]}).write(project)
    runs = at_once(project, number, *words.split())
    failed = [run.output for run in runs if run.returncode]
    assert not failed, failed[0]
    assert sorted(name for run in runs for name in built(run)) == ["kernels", "models"]
    said = sorted(state for run in runs for state in states(run))
    others = [(name, "cached") for name in ("kernels", "models")] * (number - 1)
    assert said == sorted([("kernels", "built"), ("models", "built"), *others])
    assert project.wheels() == [KERNELS, MODELS]
    for name in project.wheels():
        wheels.verify_record(project.wheelhouse / name)
    assert len(project.manifest()["wheels"]) == len(stored(project)) == 2
    wanted = {"kernels": "1.0", "models": "1.0", "tensorlib": "2.0"}
    assert installed(project.folder / ".nox/build-stages") == wanted
    other = make_project(tmp_path / "other", project.env, project.earlier_runs)
    Pair().write(other)
    other.prepare("build-stages-lock")
    assert lock_texts(project) == lock_texts(other)


def held(project: Project, session: str) -> FileLock:
    """Return the lock of another run that makes a session's environment."""
    name = f"making-{path_id(project.folder / '.nox' / session)}.lock"
    return FileLock(project.store / "locks" / name)


@pytest.mark.slow
def test_a_run_says_what_it_waits_for(project: Project) -> None:
    """In one line; those that need other environments don't wait."""
    declare_solo(project, outputs=[kernels_tree(project)])
    project.prepare("build-stages-lock")
    others = "import nox\n@nox.session(python=False)\ndef lint(session): pass\n"
    project.noxfile.write_text(others + project.noxfile.read_text("utf-8"), "utf-8")
    waiting = WAITING.format(project.folder / ".nox/build-stages")
    elsewhere = (["--list"], ["-s", "lint"], ["-s", "build-stages-plan"])
    with (
        held(project, "build-stages") as lock,
        project.start("-s", "build-stages") as run,
    ):
        assert run.stdout is not None
        assert run.stdout.readline() == f"{waiting}\n"
        for words in elsewhere:
            assert "waiting for" not in project.nox(*words, timeout=PATIENCE).output
        lock.release()
        output = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 0, output
    assert "waiting for" not in output
    again = project.nox("-s", "build-stages")
    assert "waiting for" not in again.output


@pytest.mark.slow
def test_who_has_its_environments_waits_for_nobody(project: Project) -> None:
    """One by one or side by side, whatever another run makes."""
    Pair().write(project)
    project.prepare()
    project.nox("-s", "build-stages")
    with held(project, "build-stages"):
        for args in (("-s", "build-stages"), ("-j", "2"), ("-t", "build-stage")):
            assert "waiting for" not in project.nox(*args, timeout=PATIENCE).output


def test_a_prune_that_waits_keeps_nobody_waiting(project: Project) -> None:
    """Other runs make their environments, or it would wait for them forever."""
    declare_solo(project, outputs=[kernels_tree(project)])
    project.store.mkdir()
    user = ["flock", "--shared", str(project.store / "users.lock")]
    with (
        subprocess.Popen(
            [*user, "sh", "-c", "echo; cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as session,
        project.start("-s", "build-stages-prune", "build-stages") as run,
    ):
        assert session.stdin is not None
        assert session.stdout is not None
        assert run.stdout is not None
        session.stdout.readline()
        while "waiting until these have ended" not in run.stdout.readline():
            assert run.poll() is None
        with held(project, "build-stages").acquire(timeout=PATIENCE):
            session.stdin.close()
        output = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 0, output


def test_a_run_within_a_run_goes_on(project: Project) -> None:
    """A session of the user's that runs nox doesn't wait for what waits for it."""
    declare_solo(project, outputs=[kernels_tree(project)])
    project.prepare("build-stages-lock")
    outer = (
        "import nox, sys\n"
        "@nox.session(python=False)\n"
        "def outer(session):\n"
        "    nox = [sys.executable, '-m', 'nox', '-db', 'uv', '-s', 'build-stages']\n"
        "    session.run('sh', '-c', '\"$@\"; true', 'sh', *nox, external=True)\n"
    )
    project.noxfile.write_text(outer + project.noxfile.read_text("utf-8"), "utf-8")
    done = project.nox("-s", "outer", "build-stages", timeout=PATIENCE)
    assert built(done) == ["kernels"]
    assert done.output.count("* build-stages: success") == 2


@pytest.mark.slow
def test_while_a_stage_builds_others_make_their_environments(
    project: Project, tmp_path: Path
) -> None:
    """Hours of compiling keep nobody from planning for the first time."""
    pidfile = tmp_path / "pids/pid"
    pidfile.parent.mkdir()
    tree = kernels_tree(project, faults=["sleep"], sleep=3)
    declare_solo(
        project, outputs=[tree], env={"TINYBACKEND_CACHE": str(pidfile.parent)}
    )
    with project.start("-s", "build-stages") as run:
        wait_for(pidfile.exists)
        done = project.nox("-s", "build-stages-plan")
        assert run.poll() is None
        assert planned(done)["kernels"][0] == "build"
        beside = project.nox("-s", "build-stages")
        output = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 0, output
    place = project.folder / ".nox/build-stage-only"
    assert f"waiting for another run that uses {place}" in beside.output
    assert states(beside) == [("kernels", "cached")]


# What a run leaves that is killed


def empty(location: Path) -> None:
    location.mkdir(parents=True)


def without_settings(location: Path) -> None:
    location.joinpath("bin").mkdir(parents=True)
    location.joinpath("bin/python").symlink_to(sys.executable)


def without_python(location: Path) -> None:
    location.mkdir(parents=True)
    location.joinpath("pyvenv.cfg").write_text(f"home = {sys.prefix}/bin\n", "utf-8")


def with_a_broken_link(location: Path) -> None:
    without_python(location)
    location.joinpath("bin").mkdir()
    location.joinpath("bin/python").symlink_to(location / "gone")


@pytest.mark.slow
def test_an_environment_that_is_half_made_is_made_anew(project: Project) -> None:
    """Nox would reuse some of them."""
    declare_solo(project, outputs=[kernels_tree(project)])
    project.prepare("build-stages-lock")
    location = project.folder / ".nox/build-stage-only"
    for leave in (empty, without_settings, without_python, with_a_broken_link):
        shutil.rmtree(location, ignore_errors=True)
        shutil.rmtree(project.store / "wheels", ignore_errors=True)
        leave(location)
        assert built(project.nox("-s", "build-stage-only")) == ["kernels"]


def test_an_environment_whose_making_was_killed_is_made_anew(
    project: Project, tmp_path: Path
) -> None:
    """Though a Python is in it: nobody knows what else was on its way."""
    declare_solo(project, outputs=[kernels_tree(project)])
    project.prepare("build-stages-lock")
    location = project.folder / ".nox/build-stage-only"
    killer = tmp_path / "uv"
    killer.write_text(
        f'#!/bin/sh\n"{uv.find_uv_bin()}" "$@" || exit\n'
        f'[ "$1" = venv ] && touch "{location}/stray" && kill -9 $PPID\ntrue\n',
        "utf-8",
    )
    killer.chmod(0o755)
    project.nox("-s", "build-stage-only", env={"UV": str(killer)}, check=False)
    assert (location / "stray").exists()
    assert (location / "bin/python").exists()
    assert built(project.nox("-s", "build-stage-only")) == ["kernels"]
    assert not (location / "stray").exists()


def test_an_environment_that_went_is_made_anew(project: Project) -> None:
    """By one of those that need it, whatever is noted of it."""
    Pair().write(project)
    project.prepare()
    project.nox("-s", "build-stages")
    project.folder.joinpath(".nox/build-stages/bin/python").unlink()
    note = next(project.folder.glob(".nox/build-stage-*/*made.txt"))
    note.write_text("damaged", "utf-8")
    runs = at_once(project, 3)
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert [built(run) for run in runs] == [[], [], []]


def test_a_broken_environment_that_nobody_mends_is_told(project: Project) -> None:
    """Such as that of a session which another session of the user's requires."""
    declare_solo(project, outputs=[kernels_tree(project)])
    mine = (
        "import nox\n"
        "@nox.session(python=False, requires=['build-stage-only'])\n"
        "def mine(session): pass\n"
    )
    project.noxfile.write_text(mine + project.noxfile.read_text("utf-8"), "utf-8")
    empty(project.folder / ".nox/build-stage-only")
    output = refused(project, "-s", "mine")
    assert "build-stage-only: the environment is incomplete" in output
    assert "help: remove the folder, then run the session again" in output
