"""Ctrl-C: nothing half-made is left, and the next run ends well."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.value import replace
from support.pair import KERNELS, built, declare_solo, kernels_tree, stored
from support.project import is_alive

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


def wait_for_end(pid: int) -> None:
    """Wait until a backend is gone."""
    deadline = time.monotonic() + PATIENCE
    while is_alive(pid):
        assert time.monotonic() < deadline, "the backend is still there"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "flags",
    [(), pytest.param(("-j", "2"), marks=pytest.mark.slow)],
    ids=["one", "parallel"],
)
def test_an_ended_build_leaves_nothing_half_made(
    project: Project, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """The backend ends with an interrupted nox and with a killed one.

    So does a session that ran side by side, which has a group of its own.
    """
    pidfile = tmp_path / "pids/pid"
    pidfile.parent.mkdir()
    variables = {**project.env, "TINYBACKEND_CACHE": str(pidfile.parent)}
    project = replace(project, env=variables)
    tree = kernels_tree(project, faults=["sleep"])
    declare_solo(project, outputs=[tree], **{"pass-env": ["TINYBACKEND_CACHE"]})
    project.prepare("build-stages-lock")
    for number in (signal.SIGINT, signal.SIGKILL):
        with project.start(*flags, "-s", "build-stages") as nox:
            pid = wait_for_pid(pidfile)
            if number == signal.SIGINT:
                nox.send_signal(number)
            else:
                os.killpg(nox.pid, number)
            output = nox.communicate(timeout=PATIENCE)[0]
            wait_for_end(pid)
        assert nox.returncode != 0, output
        assert stored(project) == project.wheels() == []
        if number == signal.SIGINT:
            pidfile.unlink()
    done = project.nox("-s", "build-stages")
    assert built(done) == ["kernels"]
    assert project.wheels() == [KERNELS]
    assert built(project.nox("-s", "build-stages")) == []
