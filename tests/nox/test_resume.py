"""A build that was stopped goes on where it was, or from the beginning."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.native import Native, wait_until_safe
from support.packages import make_tree
from support.pair import (
    KERNELS,
    built,
    declare_solo,
    entry,
    kernels_tree,
    refused,
    stored,
)

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Completed, Project

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

PYPROJECT = """
[build-system]
requires = ["tinybackend"]
build-backend = "setup"
backend-path = ["."]
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.02)


def declare_sleeper(project: Project, pidfile: Path, **stage: Any) -> None:  # noqa: ANN401
    """Write a project whose one build compiles, and then sleeps once."""
    settings = {"compile": ["kernels.c"], "faults": ["sleep"]}
    files = {"kernels.c": "int answer(void) { return 42; }"}
    tree = project.folder / "kernels"
    make_tree(tree, "kernels", "1.0", files=files, settings=settings)
    env = {"TINYBACKEND_PIDFILE": str(pidfile)}
    declare_solo(project, outputs=["kernels @ ./kernels"], env=env, **stage)


def kill_while_it_sleeps(project: Project, pidfile: Path) -> None:
    """Kill nox, and all of its group, in the middle of the build."""
    with project.start("-s", "build-stages") as nox:
        wait_for(pidfile)
        time.sleep(2)  # so that there is a checkpoint
        os.killpg(nox.pid, signal.SIGKILL)
        nox.wait(PATIENCE)


def log(project: Project) -> str:
    return (project.wheelhouse / "logs/kernels.log").read_text("utf-8")


def ends_well(project: Project, *words: str) -> Completed:
    done = project.nox("-s", "build-stages", *words)
    assert built(done) == ["kernels"]
    assert len(project.wheels()) == len(stored(project)) == 1
    assert not [*project.store.glob("builds/*")]
    return done


def test_a_killed_build_goes_on(project: Project, tmp_path: Path) -> None:
    """What it had compiled isn't compiled again, and the log tells of both runs."""
    declare_sleeper(project, tmp_path / "pid")
    kill_while_it_sleeps(project, tmp_path / "pid")
    assert GOES_ON in ends_well(project).output
    assert log(project).count("tinybackend: compiling kernels.c") == 1
    assert "build/kernels.o is there" in log(project)
    assert "\nresuming an interrupted build\n" in log(project)
    assert entry(project, "kernels")["seconds"] > 1  # of both runs


def test_a_killed_build_begins_anew_where_that_is_asked_for(
    project: Project, tmp_path: Path
) -> None:
    """``--rebuild`` means all of it."""
    declare_sleeper(project, tmp_path / "pid")
    kill_while_it_sleeps(project, tmp_path / "pid")
    assert GOES_ON not in ends_well(project, "--", "--rebuild", "kernels").output
    assert "is there" not in log(project)


def test_a_tree_of_another_key_is_never_gone_on_with(
    project: Project, tmp_path: Path
) -> None:
    """One variable more, and everything is compiled with it."""
    declare_sleeper(project, tmp_path / "pid")
    kill_while_it_sleeps(project, tmp_path / "pid")
    table = project.pyproject.read_text("utf-8")
    more = table.replace("TINYBACKEND_PIDFILE", 'MORE = "1"\nTINYBACKEND_PIDFILE')
    project.pyproject.write_text(more, "utf-8")
    done = project.nox("-s", "build-stages")
    assert built(done) == ["kernels"]
    assert GOES_ON not in done.output
    assert "is there" not in log(project)


def test_a_build_that_takes_too_long_is_stopped_and_goes_on(
    project: Project, tmp_path: Path
) -> None:
    """The message says after how long, and that nothing is lost; and so it is."""
    declare_sleeper(project, tmp_path / "pid", timeout="2s")
    began = time.monotonic()
    output = refused(project, "-s", "build-stages")
    assert time.monotonic() - began < PATIENCE
    assert "kernels (stage only): stopped after 2 s, its timeout\n" in output
    assert "run the same command again: compiled object files are kept" in output
    assert re.search(r"kernels +1\.0 +only +stopped$", output, re.MULTILINE)
    assert stored(project) == project.wheels() == []
    assert GOES_ON in ends_well(project).output
    assert "build/kernels.o is there" in log(project)


def test_what_fails_by_itself_begins_anew(project: Project, tmp_path: Path) -> None:
    """What it noted of the system may be what has been mended since."""
    env = {"TINYBACKEND_PIDFILE": str(tmp_path / "pid")}
    outputs = [kernels_tree(project, faults=["exit"])]
    declare_solo(project, outputs=outputs, env=env)
    refused(project, "-s", "build-stages")
    assert not [*project.store.glob("builds/*")]
    assert GOES_ON not in ends_well(project).output


def test_a_tree_that_can_not_be_gone_on_with_costs_time_and_no_more(
    project: Project, tmp_path: Path
) -> None:
    """Where the build fails in it, it is begun anew, and that is said."""
    files = {"setup.py": IMPATIENT, "pyproject.toml": PYPROJECT}
    settings = {"faults": ["sleep"]}
    tree = project.folder / "kernels"
    make_tree(tree, "kernels", "1.0", files=files, settings=settings)
    env = {"TINYBACKEND_PIDFILE": str(tmp_path / "pid")}
    declare_solo(project, outputs=["kernels @ ./kernels"], env=env)
    kill_while_it_sleeps(project, tmp_path / "pid")
    done = project.nox("-s", "build-stages")
    assert built(done) == ["kernels", "kernels"]
    assert "the partial build that it resumed may be the cause" in done.output
    assert project.wheels() == [KERNELS]


def test_ninja_compiles_the_rest(project: Project, tmp_path: Path) -> None:
    """Of many files, after a stop; linked and packed they are the same wheel."""
    native = Native(name="kernels", files=40, count=tmp_path / "count")
    env = {**native.env, "MAX_JOBS": "1"}
    declare_solo(project, outputs=[native.write(project)], env=env)
    with project.start("-s", "build-stages") as nox:
        wait_until_safe(project)
        nox.send_signal(signal.SIGINT)
        nox.wait(PATIENCE)
    first = native.compiled()
    assert 0 < first < native.files
    assert GOES_ON in ends_well(project).output
    rest = native.compiled()
    assert native.files <= first + rest < 2 * native.files
    assert rest < native.files
    again = project.nox("-s", "build-stages", "--", "--check-reproducible")
    assert "reproducible: kernels" in again.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_backend_does_not_outlive_nox(
    project: Project, tmp_path: Path, number: int
) -> None:
    """Though only nox itself was killed, nobody builds in a tree beside us."""
    declare_sleeper(project, tmp_path / "pid")
    with project.start("-s", "build-stages") as nox:
        wait_for(tmp_path / "pid")
        nox.send_signal(number)
        nox.wait(PATIENCE)
    pid = int((tmp_path / "pid").read_text("utf-8"))
    ends_well(project)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
