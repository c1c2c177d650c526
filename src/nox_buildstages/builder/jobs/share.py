"""How many compilers may run at once, and who of several builds runs how many.

A build *claims* a part of the cores and of the free memory before it begins, and gives
it back at its end. Claims are files, and each is locked by its process: what a killed
one held is free again, for the kernel drops its lock.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from nox_buildstages.system import files
from nox_buildstages.system.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nox_buildstages.model import Stage

MEMORY_PER_JOB = 2_000_000_000
"""Bytes, where the table doesn't say: for a C++ compiler that reads torch's headers."""

SETTLE = 0.5
"""Seconds in which sessions that nox starts at once all come to claim something."""

PAUSE = 0.2
"""Seconds between two looks at whether others have ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What there is to share.

    Attributes:
        cores: All that we may use.
        memory: Bytes that are free now; None where that isn't known.
    """

    cores: int
    memory: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """What a build would like.

    Attributes:
        most: Jobs; None for as many as there are.
        memory_per_job: Bytes; 0 where memory doesn't matter.
    """

    most: int | None = None
    memory_per_job: int = MEMORY_PER_JOB


@dataclass(frozen=True, kw_only=True, slots=True)
class JobGrant:
    """What a build has.

    Attributes:
        jobs: That it may run at once; 0 while it hasn't begun.
        memory: Bytes that they may come to need.
        base: Bytes that were free before the first of those that run now began; None
            where that isn't known.
    """

    jobs: int = 0
    memory: int = 0
    base: int | None = None


def wish_of(stage: Stage) -> JobRequest:
    """Return what the builds of a stage would like.

    Who names a number has thought of memory: then it counts only where
    ``memory-per-job`` is given.
    """
    default = MEMORY_PER_JOB if stage.jobs is None else 0
    declared = stage.memory_per_job
    return JobRequest(
        most=stage.jobs, memory_per_job=default if declared is None else declared
    )


def part(
    wish: JobRequest, means: Capacity, others: Sequence[JobGrant]
) -> JobGrant | None:
    """Return a build's part; None where it has to wait until another one ends.

    What is free is divided by those who haven't begun. Who is alone always gets a
    job, however little memory there is, so somebody always goes on.

    Args:
        wish: What it would like.
        means: What there is.
        others: What the other builds have.
    """
    running = [other for other in others if other.jobs]
    room = means.cores - sum(other.jobs for other in running)
    base = means.memory
    if means.memory is not None:
        base = min([it.base for it in running if it.base is not None] or [means.memory])
        left = min(means.memory, base - sum(other.memory for other in running))
        room = min(room, left // wish.memory_per_job if wish.memory_per_job else room)
    if room < 1 and running:
        return None
    waiting = len(others) - len(running)
    fair = -(-room // (waiting + 1))
    jobs = max(1, fair if wish.most is None else min(fair, wish.most))
    return JobGrant(jobs=jobs, memory=jobs * wish.memory_per_job, base=base)


def variables(jobs: int) -> dict[str, str]:
    """Return the variables by which build tools know how many jobs to run at once."""
    return {
        "CARGO_BUILD_JOBS": str(jobs),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        "MAKEFLAGS": f"-j{jobs}",
        "MAX_JOBS": str(jobs),
        "NINJAFLAGS": f"-j{jobs}",
        "NPY_NUM_BUILD_JOBS": str(jobs),
        "NVCC_THREADS": "1",  # of each compiler: they would multiply the jobs
        "PYTHON_CPU_COUNT": str(jobs),
    }


def counted(jobs: int) -> str:
    """Return a number of jobs in words."""
    return "1 job" if jobs == 1 else f"{jobs} jobs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What all builds of this machine that know a folder may run at once.

    Attributes:
        folder: For the claims.
        machine: Whose cores and memory are shared.
        settle: Seconds from a claim to its first build, to know of others by then.
    """

    folder: Path
    machine: Machine = field(default_factory=Machine)
    settle: float = 0.0

    @contextmanager
    def claim(self) -> Iterator[JobSlot]:
        """Stand in line: builds that begin from now on leave room for ours."""
        place = self.folder / self.machine.name
        place.mkdir(parents=True, exist_ok=True)
        claim = JobSlot(
            file=place / f"{os.getpid()}-{os.urandom(16).hex()}.json",
            machine=self.machine,
            ready=time.monotonic() + self.settle,
        )
        lock = _lock_of(claim.file)
        with claim.alone():
            lock.acquire()
            claim.write(JobGrant())
        try:
            yield claim
        finally:
            with claim.alone():
                lock.release()
                _forget(claim.file)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSlot:
    """A process's place among those that build.

    Attributes:
        file: That tells the others of it.
        machine: Whose cores and memory are shared.
        ready: The moment, of the monotonic clock, from which it may build.
    """

    file: Path
    machine: Machine
    ready: float

    @contextmanager
    def jobs(self, wish: JobRequest, *, wait: Callable[[], None]) -> Iterator[int]:
        """Yield how many jobs a build may run at once, at least one.

        Args:
            wish: What it would like.
            wait: Called once, where others have to end first.
        """
        time.sleep(max(0.0, self.ready - time.monotonic()))
        jobs = self._take(wish)
        if not jobs:
            wait()
        while not jobs:
            time.sleep(PAUSE)
            jobs = self._take(wish)
        try:
            yield jobs
        finally:
            with suppress(OSError):  # a full disk: why the build failed is to be told
                self.write(JobGrant())

    def _take(self, wish: JobRequest) -> int:
        with self.alone():
            means = Capacity(
                cores=self.machine.cores(), memory=self.machine.free_memory()
            )
            taken = part(wish, means, self._others())
            if taken is None:
                return 0
            self.write(taken)
            return taken.jobs

    def _others(self) -> list[JobGrant]:
        """Return what the others have, and forget those that are gone."""
        found = []
        for file in sorted(self.file.parent.glob("*.json")):
            if file == self.file:
                continue
            try:
                with _lock_of(file).acquire(timeout=0):
                    _forget(file)
            except Timeout:
                found.append(JobGrant(**json.loads(file.read_text(encoding="utf-8"))))
        return found

    def write(self, has: JobGrant) -> None:
        """Tell the others what we have."""
        files.write_text(self.file, json.dumps(asdict(has)))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time look at the claims and change them."""
        with FileLock(self.file.with_name("claims.lock")):
            yield


def _lock_of(file: Path) -> FileLock:
    return FileLock(file.with_suffix(".lock"))


def _forget(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.with_suffix(".lock").unlink(missing_ok=True)
