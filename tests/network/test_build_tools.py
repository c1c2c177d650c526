"""Compilers of real build tools, counted: with a jobserver, and with a number."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from nox_buildstages.system.machine import Machine
from support.packages import in_tree_backend, make_tree, name_file
from support.pair import declare
from support.sessions import run_session

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

pytestmark = pytest.mark.network

FILES = 8
BACKEND = """
import os, pathlib, subprocess
import tinybackend
from tinybackend import build_wheel, get_requires_for_build_wheel
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel

def compiled(settings):
    with subprocess.Popen(["TOOL"]) as tool:
        pathlib.Path(os.environ["TINYBACKEND_COUNT"] + ".pid").write_text(str(tool.pid))
    assert tool.returncode == 0
    return {}

tinybackend._compiled = compiled
"""
PYPROJECT = in_tree_backend("setup")
COMPILER = "echo + >> $$TINYBACKEND_COUNT; sleep 0.2; echo - >> $$TINYBACKEND_COUNT"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ``PATH`` with make and ninja of PyPI, which know named pipes."""
    target, folder = (tmp_path_factory.mktemp(it) for it in ("target", "bin"))
    argv = (find_uv_bin(), "pip", "install", "--target", str(target))
    subprocess.run([*argv, "gnumake>=4.4", "ninja>=1.13"], check=True)
    for name in ("make", "ninja"):
        folder.joinpath(name).symlink_to(target / "bin" / name)
    for name in ("sh", "sleep"):
        folder.joinpath(name).symlink_to(shutil.which(name) or "")
    return str(folder)


def declare_builds(project: Project, count: Path, **tools: str) -> None:
    """Declare a stage with an output for each of some tools, by name."""
    targets = [f"t{number}" for number in range(FILES)]
    make = [f"all: {' '.join(targets)}", *(f"{it}:\n\t{COMPILER}" for it in targets)]
    rule = f"rule cc\n  command = {COMPILER}"
    ninja = [rule, *(f"build {it}: cc" for it in targets)]
    for name, tool in tools.items():
        files: dict[str, str | bytes] = {
            "setup.py": BACKEND.replace("TOOL", tool),
            "pyproject.toml": PYPROJECT,
            "Makefile": "\n".join((*make, "")),
            "build.ninja": "\n".join((*ninja, "")),
        }
        make_tree(project.folder / name, name, "1.0", files=files)
    stage = {
        "name": "only",
        "outputs": [f"{name} @ ./{name}" for name in tools],
        "env": name_file("TINYBACKEND_COUNT", count),
        "memory-per-job": "1MB",
    }
    declare(project, {"final": {"requirements": [*tools]}, "stage": [stage]})


def count_most(count: Path) -> int:
    """Return how many compilers ran at once."""
    lines = count.read_text("utf-8").split()
    return max(2 * lines[:i].count("+") - i for i in range(len(lines) + 1))


@pytest.mark.parametrize("has_server", [True, False])
def test_no_more_compilers_than_cores_and_builds(
    project: Project, tools: str, tmp_path: Path, *, has_server: bool
) -> None:
    """With PyPI's make and ninja, and with a make that knows no named pipe."""
    count = tmp_path / "counts/count"
    declare_builds(project, count, left="make", right="ninja" if has_server else "make")
    env = {"PATH": tools} if has_server else {}
    done = run_session(project, "build-stage-only", env=env)
    assert ("up to" in done.stderr) == has_server
    assert count.read_text("utf-8").count("+") == 2 * FILES
    assert 2 <= count_most(count) <= Machine().cores() + 2


@pytest.mark.parametrize("tool", ["make", "ninja"])
def test_a_killed_tool_keeps_no_job(
    project: Project, tools: str, tmp_path: Path, tool: str
) -> None:
    """Its build fails, and the next one has all jobs again."""
    count = tmp_path / "counts/count"
    declare_builds(project, count, left=tool)

    def kill() -> None:
        pid = count.with_suffix(".pid")
        while not (pid.exists() and pid.read_text("utf-8") and count.exists()):
            time.sleep(0.01)
        os.kill(int(pid.read_text("utf-8")), signal.SIGABRT)  # not for memory

    thread = Thread(target=kill)
    thread.start()
    failed = run_session(project, "build-stage-only", env={"PATH": tools}, check=False)
    thread.join()
    assert "failed to build" in failed.stderr
    assert not list(project.store.rglob("jobs/*/*.json"))
    count.unlink()
    done = run_session(project, "build-stage-only", env={"PATH": tools})
    assert f"up to {Machine().cores()} jobs" in done.stderr
    assert count_most(count) == Machine().cores()
