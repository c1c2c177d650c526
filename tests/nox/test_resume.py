"""A build that was stopped goes on where it was, or from the beginning."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.system.locks import hold_lock
from nox_buildstages.value import replace
from support.native import Native, wait_until_safe
from support.packages import in_tree_backend, make_tree
from support.pair import (
    KERNELS,
    built,
    declare_solo,
    entry,
    kernels_tree,
    refused,
    stored,
)
from support.project import is_alive

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Completed, Project

BUILD = ("-s", "build-stage-only")
GOES_ON = ", resuming an interrupted build"
PATIENCE = 30.0
"""Seconds for a build to begin, or to be gone."""

IMPATIENT = """
import os, pathlib, time
from tinybackend import *
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel
import tinybackend

def build_wheel(*args, **kwargs):
    mark = pathlib.Path("patched")
    if mark.exists():
        raise RuntimeError("this source was patched before")
    mark.write_text("")
    os.utime(mark, (1, 1))
    return tinybackend.build_wheel(*args, **kwargs)
"""
"""A build that can't be run twice in one tree."""

PYPROJECT = in_tree_backend("setup")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.02)


@pytest.fixture
def pidfile(tmp_path: Path) -> Path:
    """A file that a build writes before it sleeps."""
    folder = tmp_path / "pids"
    folder.mkdir()
    return folder / "pid"


@pytest.fixture
def project(project: Project, pidfile: Path) -> Project:
    """A project whose builds may write that file."""
    variables = {**project.env, "TINYBACKEND_CACHE": str(pidfile.parent)}
    return replace(project, env=variables)


def declare_kernels(project: Project, output: str, **stage: Any) -> None:  # noqa: ANN401
    """Write a project with that output, and lock it."""
    declare_solo(
        project, outputs=[output], **{"pass-env": ["TINYBACKEND_CACHE"]}, **stage
    )
    project.prepare("build-stages-lock")


def declare_sleeper(project: Project, **stage: Any) -> None:  # noqa: ANN401
    """Write a project whose one build compiles, and then sleeps once."""
    settings = {"compile": ["kernels.c"], "faults": ["sleep"]}
    files = {"kernels.c": "int answer(void) { return 42; }"}
    tree = project.folder / "kernels"
    make_tree(tree, "kernels", "1.0", files=files, settings=settings)
    declare_kernels(project, "kernels @ ./kernels", **stage)


def kill_while_it_sleeps(project: Project, pidfile: Path) -> None:
    """Kill nox, and all of its group, in the middle of the build."""
    with project.start(*BUILD) as nox:
        wait_for(pidfile)
        time.sleep(1)  # so that there is a checkpoint
        os.killpg(nox.pid, signal.SIGKILL)
        nox.wait(PATIENCE)
    for lock in (project.store / "locks").glob("*-runs.lock"):
        with hold_lock(lock):  # the supervisor ends the build, and then itself
            pass


def stop_while_it_sleeps(project: Project, pidfile: Path, *words: str) -> str:
    """Press Ctrl-C in the middle of the build, and return what nox printed."""
    with project.start(*BUILD, *words) as nox:
        wait_for(pidfile)
        time.sleep(1)  # so that there is a checkpoint
        nox.send_signal(signal.SIGINT)
        return nox.communicate(timeout=PATIENCE)[0]


def log(project: Project) -> str:
    return (project.wheelhouse / "logs/kernels.log").read_text("utf-8")


def ends_well(project: Project, *words: str) -> Completed:
    done = project.nox(*BUILD, *words)
    assert built(done) == ["kernels"]
    assert len(project.wheels()) == len(stored(project)) == 1
    assert not [*project.store.glob("builds/*")]
    return done


def test_a_killed_build_goes_on(
    project: Project, pidfile: Path, tmp_path: Path
) -> None:
    """What it had compiled isn't compiled again, and the log tells of both runs.

    A build with another key, or with ``--rebuild``, starts from the beginning.
    """
    declare_sleeper(project)
    kill_while_it_sleeps(project, pidfile)
    folders = (project.store, project.wheelhouse)
    for folder in folders:
        shutil.copytree(folder, tmp_path / f"killed-{folder.name}")
    table = project.pyproject.read_text("utf-8")
    project.pyproject.write_text(f'{table}env = {{ MORE = "1" }}\n', "utf-8")
    done = project.nox(*BUILD)
    assert built(done) == ["kernels"]
    assert GOES_ON not in done.output
    assert "is there" not in log(project)
    project.pyproject.write_text(table, "utf-8")
    for words in ((), ("--", "--rebuild", "kernels")):
        for folder in folders:
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / f"killed-{folder.name}", folder)
        resumes = not words
        assert (GOES_ON in ends_well(project, *words).output) == resumes
        assert ("build/kernels.o is there" in log(project)) == resumes
        assert log(project).count("tinybackend: compiling kernels.c") == 1
        assert ("\nresuming an interrupted build\n" in log(project)) == resumes
        assert not resumes or entry(project, "kernels")["seconds"] > 1  # of both runs


@pytest.mark.slow
def test_a_stopped_rebuild_resumes_by_the_command_that_is_named(
    project: Project, pidfile: Path
) -> None:
    """With ``--rebuild`` again it would start from the beginning.

    If the store has a wheel, there is nothing to resume, and that is kept.
    """
    declare_sleeper(project)
    stopped = stop_while_it_sleeps(project, pidfile, "--", "--rebuild")
    (command,) = re.findall(r"Run `nox (.*)` to resume:", stopped)
    assert "--rebuild" not in command
    done = project.nox(*shlex.split(command))
    assert GOES_ON in done.output
    assert "build/kernels.o is there" in log(project)
    pidfile.unlink()
    words = ("--", "--rebuild", "kernels")
    stopped = stop_while_it_sleeps(project, pidfile, *words)
    assert "stopped. Kept: the earlier wheel of kernels." in stopped
    assert "--rebuild kernels` again to start from the beginning." in stopped
    assert GOES_ON not in ends_well(project, *words).output


@pytest.mark.slow
def test_a_build_that_takes_too_long_is_stopped_and_goes_on(
    project: Project,
) -> None:
    """The message says after how long, and that nothing is lost; and so it is."""
    declare_sleeper(project, timeout="2s")
    began = time.monotonic()
    output = refused(project, *BUILD)
    assert time.monotonic() - began < PATIENCE
    assert "kernels (stage only): stopped after 2 s, its timeout\n" in output
    assert "run the same command again: compiled object files are kept" in output
    assert re.search(
        r"kernels +1\.0 +only +stopped +not built yet$", output, re.MULTILINE
    )
    assert stored(project) == project.wheels() == []
    assert GOES_ON in ends_well(project).output
    assert "build/kernels.o is there" in log(project)


def test_what_fails_by_itself_begins_anew(project: Project) -> None:
    """What it noted of the system may be what has been mended since."""
    declare_kernels(project, kernels_tree(project, faults=["exit"]))
    refused(project, *BUILD)
    assert [*project.store.glob("builds/*/failed.json")]  # for a shell
    assert GOES_ON not in ends_well(project).output


@pytest.mark.slow
def test_a_tree_that_can_not_be_gone_on_with_costs_time_and_no_more(
    project: Project, pidfile: Path
) -> None:
    """Where the build fails in it, it is begun anew, and that is said."""
    files = {"setup.py": IMPATIENT, "pyproject.toml": PYPROJECT}
    settings = {"faults": ["sleep"]}
    tree = project.folder / "kernels"
    make_tree(tree, "kernels", "1.0", files=files, settings=settings)
    declare_kernels(project, "kernels @ ./kernels")
    kill_while_it_sleeps(project, pidfile)
    done = project.nox(*BUILD)
    assert built(done) == ["kernels", "kernels"]
    assert "the partial build that it resumed may be the cause" in done.output
    assert project.wheels() == [KERNELS]


@pytest.mark.slow
def test_ninja_compiles_the_rest(project: Project, tmp_path: Path) -> None:
    """Of many files, after a stop; linked and packed they are the same wheel."""
    native = Native(name="kernels", files=24, count=tmp_path / "counts/count")
    env = {**native.env, "MAX_JOBS": "1"}
    declare_solo(project, outputs=[native.write(project)], env=env)
    with project.start(*BUILD) as nox:
        wait_until_safe(project)
        nox.send_signal(signal.SIGINT)
        nox.wait(PATIENCE)
    first = native.compiled()
    assert 0 < first < native.files
    assert GOES_ON in ends_well(project).output
    rest = native.compiled()
    assert native.files <= first + rest < 2 * native.files
    assert rest < native.files
    again = project.nox(*BUILD, "--", "--check-reproducible")
    assert "reproducible: kernels" in again.output


def test_a_backend_does_not_outlive_nox(project: Project, pidfile: Path) -> None:
    """Though only nox itself was ended, nobody builds in a tree beside us."""
    declare_sleeper(project)
    with project.start(*BUILD) as nox:
        wait_for(pidfile)
        nox.send_signal(signal.SIGTERM)
        nox.wait(PATIENCE)
    pid = int(pidfile.read_text("utf-8"))
    ends_well(project)
    assert not is_alive(pid)
