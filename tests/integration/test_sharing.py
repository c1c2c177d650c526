"""Builds of several processes, and what they may run at once."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.jobs.share import Budget, JobRequest
from nox_buildstages.system.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CORES = 4
ANY = JobRequest(memory_per_job=0)

HOLDER = """
import sys, time
from pathlib import Path
from nox_buildstages.builder.jobs.share import Budget, JobRequest
from nox_buildstages.system.machine import Machine

machine = Machine(allowed=lambda: 4)
with Budget(folder=Path(sys.argv[1]), machine=machine).claim() as claim:
    wish = JobRequest(most=int(sys.argv[2]), memory_per_job=0)
    with claim.jobs(wish, wait=lambda: print("waits", flush=True)) as jobs:
        print(jobs, flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    return Budget(folder=tmp_path / "jobs", machine=Machine(allowed=lambda: CORES))


def never() -> None:
    raise AssertionError("it had to wait")


@contextmanager
def holder(budget: Budget, most: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process that claims jobs until a line is written to it, or it is killed."""
    command = [sys.executable, "-c", HOLDER, str(budget.folder), str(most)]
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


def test_a_build_that_is_alone_takes_all(budget: Budget) -> None:
    """And gives it back, for its next output as for others."""
    for _ in range(2):
        with budget.claim() as claim:
            for _ in range(2):
                with claim.jobs(ANY, wait=never) as jobs:
                    assert jobs == CORES


def test_builds_that_begin_together_share(budget: Budget) -> None:
    """Each knows of the others before the first of them begins."""
    with ExitStack() as stack:
        claims = [stack.enter_context(budget.claim()) for _ in range(3)]
        jobs = [stack.enter_context(it.jobs(ANY, wait=never)) for it in claims]
        assert jobs == [2, 1, 1]


def test_a_build_looks_around_before_it_begins(budget: Budget) -> None:
    """Once, where nox starts several: those that come a moment later are known then."""
    began = time.monotonic()
    with replace(budget, settle=0.3).claim() as claim:
        with claim.jobs(ANY, wait=never):
            assert time.monotonic() - began >= 0.3
        again = time.monotonic()
        with claim.jobs(ANY, wait=never):
            assert time.monotonic() - again < 0.3


def test_a_build_of_another_process_counts(budget: Budget) -> None:
    """What it has is missing here, until it ends."""
    with budget.claim() as claim:
        with holder(budget, 3) as other:
            assert said(other) == "2"
            with claim.jobs(ANY, wait=never) as jobs:
                assert jobs == 2
            end(other)
            other.wait()
        with claim.jobs(ANY, wait=never) as jobs:
            assert jobs == CORES


def test_a_killed_process_holds_nothing(budget: Budget) -> None:
    """However it ended: nobody has to clean up after it."""
    with holder(budget, CORES) as other:
        assert said(other) == str(CORES)
        other.kill()
        other.wait()
    assert list(budget.folder.rglob("*.json"))
    with budget.claim() as claim, claim.jobs(ANY, wait=never) as jobs:
        assert jobs == CORES
    assert not list(budget.folder.rglob("*.json"))


def test_who_finds_nothing_waits(budget: Budget) -> None:
    """It says so, once, and goes on as soon as another build ends."""
    with ExitStack() as stack:
        with budget.claim() as claim, claim.jobs(ANY, wait=never):
            other = stack.enter_context(holder(budget, CORES))
            assert said(other) == "waits"
        assert said(other) == str(CORES)
    waits = []
    with holder(budget, CORES) as other:
        assert said(other) == str(CORES)

        def wait() -> None:
            waits.append(other)
            end(other)

        with budget.claim() as claim, claim.jobs(ANY, wait=wait) as jobs:
            assert jobs == CORES
    assert waits == [other]


def test_another_machine_that_shares_the_folder_is_another_budget(
    budget: Budget,
) -> None:
    """Two containers with one store have cores of their own each."""
    machine = Machine(allowed=lambda: 2, name="other")
    elsewhere = Budget(folder=budget.folder, machine=machine)
    with budget.claim() as ours, ours.jobs(ANY, wait=never) as jobs:
        assert jobs == CORES
        with elsewhere.claim() as theirs, theirs.jobs(ANY, wait=never) as jobs_there:
            assert jobs_there == 2
