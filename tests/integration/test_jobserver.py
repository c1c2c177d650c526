"""Jobs that builds exchange while they run, through named pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.jobs import server
from nox_buildstages.builder.jobs.slots import BuildJobs, JobPool, JobRequest
from nox_buildstages.system.machine import Machine
from support.packages import make_tree, name_file
from support.pair import declare, declare_solo, kernels_tree
from support.project import cores
from support.sessions import run_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.project import Project

CORES = 4

TAKE = "import os, sys; f = os.open(sys.argv[1], os.O_RDWR); os.read(f, 9); input()"
"""A tool that takes the tokens in a pipe."""


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobPool:
    monkeypatch.setattr(server, "LOOK", 0.0)
    monkeypatch.setattr(server, "PATIENCE", 0.05)
    machine = Machine(allowed_cores=lambda: CORES)
    return JobPool(folder=tmp_path / "jobs", machine=machine)


@contextmanager
def build(pool: JobPool, pipe: Path) -> Iterator[BuildJobs]:
    """Begin a build with a jobserver."""
    os.mkfifo(pipe)
    request = JobRequest(memory_per_job=0, pipe=pipe)
    with (
        pool.take_slot() as slot,
        server.take_jobs(slot, request, wait=pytest.fail) as jobs,
    ):
        yield jobs


@contextmanager
def tool(pipe: Path, jobs: BuildJobs) -> Iterator[subprocess.Popen[bytes]]:
    """Run a tool that takes all tokens in a pipe, and wait until it has them."""
    argv = (sys.executable, "-c", TAKE, str(pipe))
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        while tokens(jobs):
            time.sleep(0.01)
        yield process
        process.kill()


def tokens(jobs: BuildJobs) -> int:
    assert isinstance(jobs, server.JobServer)
    return jobs.count_free()


def balance(*builds: BuildJobs, seconds: float = 0.3, wanted: int = 99) -> None:
    """Let builds exchange jobs for a while, or until the last has as many tokens."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and tokens(builds[-1]) != wanted:
        for each in builds:
            each.balance()
        time.sleep(0.01)


def test_a_build_alone_may_use_all(pool: JobPool, tmp_path: Path) -> None:
    """One job needs no token, and the pipe is gone afterwards."""
    pipe = tmp_path / "pipe"
    with build(pool, pipe) as jobs:
        assert str(jobs) == "up to 4 jobs"
        assert jobs.variables["MAKEFLAGS"] == f" -j4 --jobserver-auth=fifo:{pipe}"
        assert "MAX_JOBS" not in jobs.variables
        balance(jobs)
        assert tokens(jobs) == CORES - 1
    assert not pipe.exists()


def test_unused_jobs_go_to_a_build_that_asks(pool: JobPool, tmp_path: Path) -> None:
    """And used ones stay; together they never have more than there are cores."""
    with ExitStack() as stack:
        first = stack.enter_context(build(pool, tmp_path / "a"))
        second = stack.enter_context(build(pool, tmp_path / "b"))
        assert (tokens(first), tokens(second)) == (CORES - 1, 0)
        balance(first, second, seconds=5, wanted=CORES - 2)
        assert (tokens(first), tokens(second)) == (0, CORES - 2)
        stack.enter_context(tool(tmp_path / "b", second))
        balance(first, second)
        assert (tokens(first), tokens(second)) == (0, 0)
        assert (first.count, second.count) == (CORES, CORES - 1)


def test_a_build_gets_what_others_leave(pool: JobPool, tmp_path: Path) -> None:
    """When they end, or are killed with all tokens in the hands of a tool."""
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        jobs = first.enter_context(build(pool, tmp_path / "a"))
        second = stack.enter_context(build(pool, tmp_path / "b"))
        process = first.enter_context(tool(tmp_path / "a", jobs))
        process.send_signal(signal.SIGKILL)
        process.wait()
        balance(jobs, second)
        assert (tokens(jobs), tokens(second)) == (0, 0)
        first.close()
        balance(second)
        assert tokens(second) == CORES - 1


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A ``PATH`` without make, ninja and cargo."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sleep"):
        folder.joinpath(name).symlink_to(f"/bin/{name}")
    return str(folder)


def test_a_build_that_ran_out_of_memory_gets_half_of_what_it_had(
    project: Project, path: str
) -> None:
    """At most that many, if it is built again with a jobserver."""
    tree = kernels_tree(project, faults=["memory"])
    declare_solo(project, outputs=[tree], **{"memory-per-job": "1MB"})
    with cores(2):
        if Machine().cores() == 1:
            pytest.skip("one core: nothing to halve")
        done = run_session(project, "build-stage-only", env={"PATH": path})
    assert "kernels ran out of memory with 2 jobs; retrying with 1 job" in done.stderr
    assert "building kernels 1.0 with 1 job, resuming" in done.stderr


def test_builds_of_a_stage_share_a_machine(
    project: Project, path: str, tmp_path: Path
) -> None:
    """A compiler for each core and one for each build; and none of it is in the key."""
    count = tmp_path / "counts/count"
    for name in ("left", "right"):
        make_tree(project.folder / name, name, "1.0", settings={"compilers": 4})
    stage = {
        "name": "only",
        "outputs": ["left @ ./left", "right @ ./right"],
        "env": name_file("TINYBACKEND_COUNT", count),
        "memory-per-job": "1MB",
    }
    table = {"final": {"requirements": ["left", "right"]}, "stage": [stage]}
    declare(project, table)
    done = run_session(project, "build-stage-only", env={"PATH": path})
    cores = Machine().cores()
    for name in ("left", "right"):
        assert (
            f"building {name} 1.0 with {'up to ' * (cores > 1)}{cores}" in done.stderr
        )
    lines = count.read_text("utf-8").split()
    running = [lines[:i].count("+") - lines[:i].count("-") for i in range(len(lines))]
    assert lines.count("+") == lines.count("-") == 8
    assert min(2, cores) <= max(running) <= cores + 2
    assert not list(project.store.rglob("jobs/*/*.json"))
    stage["memory-per-job"] = "2MB"
    declare(project, table)
    done = run_session(project, "build-stage-only", env={"PATH": path})
    assert "building" not in done.stderr
