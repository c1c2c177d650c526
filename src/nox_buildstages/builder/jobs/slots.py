"""The number of parallel jobs for each build, shared by all builds on a machine.

A process takes a *slot* before the first build. A slot is a file with the jobs and the
memory of the current build, and the process holds a lock on the file. If the process
is killed, the kernel releases the lock, and another process removes the file.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from nox_buildstages.system import files
from nox_buildstages.system.machine import Machine
from nox_buildstages.value import Value, field, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nox_buildstages.model import Stage

MEMORY_PER_JOB = 2_000_000_000
"""Default in bytes: enough for a C++ compiler that reads torch's headers."""

SETTLE = 0.5
"""Seconds for all sessions that nox starts in parallel to take their slots."""

PAUSE = 0.2
"""Seconds between two attempts to get jobs while other builds hold them."""


class JobRequest(Value):
    """The resources requested for a build."""

    most: int | None = None  # jobs
    memory_per_job: int = MEMORY_PER_JOB  # bytes; 0 to ignore memory

    @classmethod
    def of(cls, stage: Stage) -> JobRequest:
        """Return the request for builds of a stage.

        If the stage sets ``jobs`` to a number, memory is ignored unless the stage sets
        ``memory-per-job`` too.
        """
        default = MEMORY_PER_JOB if stage.jobs is None else 0
        declared = stage.memory_per_job
        memory = default if declared is None else declared
        return cls(most=stage.jobs, memory_per_job=memory)


class JobGrant(Value):
    """The resources granted to a build."""

    jobs: int = 0  # 0 if no build is running
    memory: int = 0  # bytes for all jobs
    base: int | None = None
    """Free bytes before the first of the running builds began; None if unknown."""


def grant_jobs(
    request: JobRequest, others: Sequence[JobGrant], *, cores: int, memory: int | None
) -> JobGrant | None:
    """Return a build's share of a machine; None to wait for another build to end.

    Free resources are divided equally among the processes without a running
    build. A build alone always gets a job, so builds never deadlock.
    """
    running = [other for other in others if other.jobs]
    free = cores - sum(other.jobs for other in running)
    base = memory
    if memory is not None:
        base = min([it.base for it in running if it.base is not None] or [memory])
        memory = min(memory, base - sum(it.memory for it in running))
        if request.memory_per_job:
            free = min(free, memory // request.memory_per_job)
    if free < 1 and running:
        return None
    waiting = len(others) - len(running)
    share = -(-free // (waiting + 1))
    jobs = max(1, share if request.most is None else min(share, request.most))
    return JobGrant(jobs=jobs, memory=jobs * request.memory_per_job, base=base)


def job_variables(jobs: int) -> dict[str, str]:
    """Return the variables for the number of jobs of common build tools."""
    return {
        "CARGO_BUILD_JOBS": str(jobs),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        "MAKEFLAGS": f"-j{jobs}",
        "MAX_JOBS": str(jobs),
        "NINJAFLAGS": f"-j{jobs}",
        "NPY_NUM_BUILD_JOBS": str(jobs),
        "NVCC_THREADS": "1",  # threads of each nvcc would multiply the jobs
        "PYTHON_CPU_COUNT": str(jobs),
    }


def count_jobs(jobs: int) -> str:
    """Return a number of jobs in words."""
    return "1 job" if jobs == 1 else f"{jobs} jobs"


class JobPool(Value):
    """All jobs of a machine, shared by the processes with the same folder."""

    folder: Path
    machine: Machine = field(default_factory=Machine)
    settle: float = 0.0
    """Seconds from taking a slot to the first build: others take their slots, too."""

    @contextmanager
    def take_slot(self) -> Iterator[JobSlot]:
        """Take a slot, so later builds leave room for ours."""
        folder = self.folder / self.machine.name
        folder.mkdir(parents=True, exist_ok=True)
        slot = JobSlot(
            file=folder / f"{os.getpid()}-{os.urandom(16).hex()}.json",
            machine=self.machine,
            ready=time.monotonic() + self.settle,
        )
        lock = _lock_of(slot.file)
        with slot.exclusive():
            lock.acquire(timeout=0)  # its file is new: nobody else has the lock
            slot.write(JobGrant())
        try:
            yield slot
        finally:
            with slot.exclusive():
                lock.release()
                _remove(slot.file)


class JobSlot(Value):
    """The slot of a process."""

    file: Path
    machine: Machine
    ready: float  # earliest time of the first build, by the monotonic clock

    @contextmanager
    def take_jobs(
        self, request: JobRequest, *, wait: Callable[[], None]
    ) -> Iterator[int]:
        """Yield the number of jobs for a build; ``wait`` is called before waiting."""
        time.sleep(max(0.0, self.ready - time.monotonic()))
        grant = self._try_to_take(request)
        if grant is None:
            wait()
        while grant is None:
            time.sleep(PAUSE)
            grant = self._try_to_take(request)
        try:
            yield grant.jobs
        finally:
            with suppress(OSError):  # a full disk: the build's own error matters more
                self.write(JobGrant())

    def _try_to_take(self, request: JobRequest) -> JobGrant | None:
        """Write a grant to the slot; return None if other builds hold all jobs."""
        with self.exclusive():
            cores, memory = self.machine.cores(), self.machine.free_memory()
            others = []
            for file in sorted(self.file.parent.glob("*.json")):
                if file == self.file:
                    continue
                try:
                    with _lock_of(file).acquire(timeout=0):
                        _remove(file)  # its process was killed
                except Timeout:
                    text = file.read_text(encoding="utf-8")
                    others.append(JobGrant(**json.loads(text)))
            grant = grant_jobs(request, others, cores=cores, memory=memory)
            if grant is not None:
                self.write(grant)
            return grant

    def write(self, grant: JobGrant) -> None:
        """Record a grant for other processes to read."""
        files.write_text(self.file, json.dumps(to_dict(grant)))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from reading and writing slots."""
        with FileLock(self.file.with_name("claims.lock")):
            yield


def _lock_of(file: Path) -> FileLock:
    return FileLock(file.with_suffix(".lock"))


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.with_suffix(".lock").unlink(missing_ok=True)
