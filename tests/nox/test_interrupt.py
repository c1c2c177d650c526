"""Ctrl-C: nothing half-made is left, and the next run ends well."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from support.pair import KERNELS, built, declare_solo, kernels_tree, stored

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

PATIENCE = 30.0
"""Seconds for a build to begin, or for a process to be gone."""


def wait_for_pid(pidfile: Path) -> int:
    """Wait until a backend sleeps, and return its process id."""
    deadline = time.monotonic() + PATIENCE
    while not pidfile.exists():
        assert time.monotonic() < deadline, "the backend never slept"
        time.sleep(0.02)
    return int(pidfile.read_text("utf-8"))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(pid: int) -> None:
    """Wait until a backend is gone."""
    deadline = time.monotonic() + PATIENCE
    while is_alive(pid):
        assert time.monotonic() < deadline, "the backend is still there"
        time.sleep(0.02)


@pytest.mark.parametrize("flags", [(), ("-j", "2")], ids=["one", "parallel"])
def test_interrupted_build_leaves_nothing_half_made(
    project: Project, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Nox ends with its status, the backend ends with it, and no wheel is there."""
    pidfile = tmp_path / "pid"
    tree = kernels_tree(project, faults=["sleep"])
    declare_solo(project, outputs=[tree], env={"TINYBACKEND_PIDFILE": str(pidfile)})
    with project.start(*flags, "-s", "build-stages") as nox:
        pid = wait_for_pid(pidfile)
        nox.send_signal(signal.SIGINT)
        output = nox.communicate(timeout=PATIENCE)[0]
    assert nox.returncode != 0, output
    wait_for_end(pid)
    assert stored(project) == project.wheels() == []
    assert built(project.nox("-s", "build-stages")) == ["kernels"]
    assert project.wheels() == [KERNELS]
    assert built(project.nox("-s", "build-stages")) == []


@pytest.mark.parametrize("flags", [(), ("-j", "2")], ids=["one", "parallel"])
def test_no_build_outlives_a_nox_that_was_killed(
    project: Project, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Nor does a session that it ran side by side, of which its group knows nothing."""
    pidfile = tmp_path / "pid"
    tree = kernels_tree(project, faults=["sleep"])
    declare_solo(project, outputs=[tree], env={"TINYBACKEND_PIDFILE": str(pidfile)})
    with project.start(*flags, "-s", "build-stages") as nox:
        pid = wait_for_pid(pidfile)
        os.killpg(nox.pid, signal.SIGKILL)
        nox.wait(PATIENCE)
        wait_for_end(pid)
    assert stored(project) == []
    done = project.nox("-s", "build-stages")
    assert built(done) == ["kernels"]
    assert "waiting for another run" not in done.output
