"""Builds of several processes, and what they may run at once."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

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
from nox_buildstages.builder.jobs.slots import JobPool, JobRequest
from nox_buildstages.system.machine import Machine

machine = Machine(allowed_cores=lambda: 4)
with JobPool(folder=Path(sys.argv[1]), machine=machine).take_slot() as slot:
    request = JobRequest(most=int(sys.argv[2]), memory_per_job=0)
    with slot.take_jobs(request, wait=lambda: print("waits", flush=True)) as jobs:
        print(jobs, flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def pool(tmp_path: Path) -> JobPool:
    return JobPool(
        folder=tmp_path / "jobs", machine=Machine(allowed_cores=lambda: CORES)
    )


def never() -> None:
    raise AssertionError("it had to wait")


@contextmanager
def holder(pool: JobPool, most: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process that takes jobs until a line is written to it, or it is killed."""
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
                with slot.take_jobs(ANY, wait=never) as jobs:
                    assert jobs == CORES


def test_builds_that_begin_together_share(pool: JobPool) -> None:
    """Each knows of the others before the first of them begins."""
    with ExitStack() as stack:
        slots = [stack.enter_context(pool.take_slot()) for _ in range(3)]
        jobs = [stack.enter_context(it.take_jobs(ANY, wait=never)) for it in slots]
        assert jobs == [2, 1, 1]


def test_a_build_looks_around_before_it_begins(pool: JobPool) -> None:
    """Once, where nox starts several: those that come a moment later are known then."""
    began = time.monotonic()
    with replace(pool, settle=0.3).take_slot() as slot:
        with slot.take_jobs(ANY, wait=never):
            assert time.monotonic() - began >= 0.3
        again = time.monotonic()
        with slot.take_jobs(ANY, wait=never):
            assert time.monotonic() - again < 0.3


def test_a_build_of_another_process_counts(pool: JobPool) -> None:
    """What it has is missing here, until it ends."""
    with pool.take_slot() as slot:
        with holder(pool, 3) as other:
            assert said(other) == "2"
            with slot.take_jobs(ANY, wait=never) as jobs:
                assert jobs == 2
            end(other)
            other.wait()
        with slot.take_jobs(ANY, wait=never) as jobs:
            assert jobs == CORES


def test_a_killed_process_holds_nothing(pool: JobPool) -> None:
    """However it ended: nobody has to clean up after it."""
    with holder(pool, CORES) as other:
        assert said(other) == str(CORES)
        other.kill()
        other.wait()
    assert list(pool.folder.rglob("*.json"))
    with pool.take_slot() as slot, slot.take_jobs(ANY, wait=never) as jobs:
        assert jobs == CORES
    assert not list(pool.folder.rglob("*.json"))


def test_who_finds_nothing_waits(pool: JobPool) -> None:
    """It says so, once, and goes on as soon as another build ends."""
    with ExitStack() as stack:
        with pool.take_slot() as slot, slot.take_jobs(ANY, wait=never):
            other = stack.enter_context(holder(pool, CORES))
            assert said(other) == "waits"
        assert said(other) == str(CORES)
    waits = []
    with holder(pool, CORES) as other:
        assert said(other) == str(CORES)

        def wait() -> None:
            waits.append(other)
            end(other)

        with pool.take_slot() as slot, slot.take_jobs(ANY, wait=wait) as jobs:
            assert jobs == CORES
    assert waits == [other]


def test_another_machine_that_shares_the_folder_is_another_pool(
    pool: JobPool,
) -> None:
    """Two containers with one store have cores of their own each."""
    machine = Machine(allowed_cores=lambda: 2, name="other")
    elsewhere = JobPool(folder=pool.folder, machine=machine)
    with pool.take_slot() as ours, ours.take_jobs(ANY, wait=never) as jobs:
        assert jobs == CORES
        with (
            elsewhere.take_slot() as theirs,
            theirs.take_jobs(ANY, wait=never) as jobs_there,
        ):
            assert jobs_there == 2
