"""Builds of several processes, and what they may run at once."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.jobs.server import take_jobs
from nox_buildstages.builder.jobs.slots import JobPool, JobRequest
from nox_buildstages.system.machine import Machine
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CORES = 4
ANY = JobRequest(memory_per_job=0)

HOLDER = """
import sys, time
from pathlib import Path
from nox_buildstages.builder.jobs.server import take_jobs
from nox_buildstages.builder.jobs.slots import JobPool, JobRequest
from nox_buildstages.system.machine import Machine

machine = Machine(allowed_cores=lambda: 4)
with JobPool(folder=Path(sys.argv[1]), machine=machine).take_slot() as slot:
    print("ready", flush=True)
    sys.stdin.readline()
    request = JobRequest(most=int(sys.argv[2]), memory_per_job=0)
    with take_jobs(slot, request, wait=lambda it: print(it, flush=True)) as jobs:
        print(jobs.count, flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def pool(tmp_path: Path) -> JobPool:
    return JobPool(
        folder=tmp_path / "jobs", machine=Machine(allowed_cores=lambda: CORES)
    )


def never(shortage: str) -> None:
    raise AssertionError(f"it had to wait for {shortage}")


@contextmanager
def taker(pool: JobPool, most: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process that takes jobs at once."""
    with holder(pool, most) as process:
        assert said(process) == "ready"
        end(process)
        yield process


@contextmanager
def holder(pool: JobPool, most: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process that takes a slot and, at each line written to it, goes on."""
    command = [sys.executable, "-c", HOLDER, str(pool.folder), str(most)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_build_that_is_alone_takes_all(pool: JobPool) -> None:
    """And gives it back, for its next output as for others."""
    for _ in range(2):
        with pool.take_slot() as slot:
            for _ in range(2):
                with take_jobs(slot, ANY, wait=never) as jobs:
                    assert jobs.count == CORES


def test_builds_that_begin_together_share(pool: JobPool) -> None:
    """Each process knows of the others before the first of their builds begins."""
    with ExitStack() as stack:
        others = [stack.enter_context(holder(pool, CORES)) for _ in range(2)]
        assert [said(it) for it in others] == ["ready"] * 2
        for process, jobs in zip(others, ("2", "2"), strict=True):
            end(process)
            assert said(process) == jobs


def test_builds_of_one_process_leave_a_number_to_one_of_them(pool: JobPool) -> None:
    """The first gets all, and those that run a compiler at a time run beside it."""
    one = JobRequest(most=1, memory_per_job=0)
    with pool.take_slot() as first, pool.take_slot() as second, pool.take_slot():
        with take_jobs(first, ANY, wait=never) as jobs:
            assert jobs.count == CORES
            with take_jobs(second, one, wait=never) as beside:
                assert beside.count == 1
        with take_jobs(second, ANY, wait=never) as jobs:
            assert jobs.count == CORES


def test_a_build_looks_around_before_it_begins(pool: JobPool) -> None:
    """Once, where nox starts several: those that come a moment later are known then."""
    began = time.monotonic()
    with replace(pool, settle=1).take_slot() as slot:
        with take_jobs(slot, ANY, wait=never):
            assert time.monotonic() - began >= 1
        again = time.monotonic()
        with take_jobs(slot, ANY, wait=never):
            assert time.monotonic() - again < 1


def test_a_build_of_another_process_counts(pool: JobPool) -> None:
    """What it has is missing here, until it ends."""
    with pool.take_slot() as slot:
        with taker(pool, 3) as other:
            assert said(other) == "2"
            with take_jobs(slot, ANY, wait=never) as jobs:
                assert jobs.count == 2
            end(other)
            other.wait()
        with take_jobs(slot, ANY, wait=never) as jobs:
            assert jobs.count == CORES


def test_a_killed_process_holds_nothing(pool: JobPool) -> None:
    """However it ended: nobody has to clean up after it."""
    with taker(pool, CORES) as other:
        assert said(other) == str(CORES)
        other.kill()
        other.wait()
    assert list(pool.folder.rglob("*.json"))
    with pool.take_slot() as slot, take_jobs(slot, ANY, wait=never) as jobs:
        assert jobs.count == CORES
    assert not list(pool.folder.rglob("*.json"))


def test_who_finds_nothing_waits(pool: JobPool) -> None:
    """It says so, once, and goes on as soon as another build ends."""
    with ExitStack() as stack:
        with pool.take_slot() as slot, take_jobs(slot, ANY, wait=never):
            other = stack.enter_context(taker(pool, CORES))
            assert said(other) == "cores"
        assert said(other) == str(CORES)
    waits: list[str] = []
    with taker(pool, CORES) as other:
        assert said(other) == str(CORES)

        def wait(shortage: str) -> None:
            waits.append(shortage)
            end(other)

        with pool.take_slot() as slot, take_jobs(slot, ANY, wait=wait) as jobs:
            assert jobs.count == CORES
    assert waits == ["cores"]


def test_another_machine_that_shares_the_folder_is_another_pool(
    pool: JobPool,
) -> None:
    """Two containers with one store have cores of their own each."""
    machine = Machine(allowed_cores=lambda: 2, name="other")
    elsewhere = JobPool(folder=pool.folder, machine=machine)
    with pool.take_slot() as ours, take_jobs(ours, ANY, wait=never) as jobs:
        assert jobs.count == CORES
        with (
            elsewhere.take_slot() as theirs,
            take_jobs(theirs, ANY, wait=never) as jobs_there,
        ):
            assert jobs_there.count == 2


def test_a_build_on_other_machines_has_the_number_of_the_table(pool: JobPool) -> None:
    """It counts here with its share of the cores alone, so others get theirs."""
    request = JobRequest(most=3 * CORES, memory_per_job=0, is_distributed=True)
    with pool.take_slot() as slot, take_jobs(slot, request, wait=never) as jobs:
        assert jobs.count == 3 * CORES
        assert jobs.variables["MAX_JOBS"] == str(3 * CORES)
        with pool.take_slot() as other:
            assert [it.jobs for it in other.read_others().values()] == [CORES]
