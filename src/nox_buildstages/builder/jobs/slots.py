"""The parallel jobs of each build, shared by all builds on a machine.

Each build has a *slot*: a file with its jobs and their memory, on which its process
holds a lock. If the process is killed, the kernel releases the lock, and the jobs are
free: another process removes the file.

The first job of a build never waits for a core, so no build waits for one that uses
one core. All builds together never run more compilers than there are cores and builds.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from nox_buildstages import reader
from nox_buildstages.system import files
from nox_buildstages.system.documents import find_json
from nox_buildstages.system.locks import HeldLock, hold_lock, take_lock, try_lock
from nox_buildstages.system.machine import Machine
from nox_buildstages.system.process import check_interrupt
from nox_buildstages.value import Record, Value, field, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

SETTLE = 0.5
"""Seconds for all sessions that nox starts in parallel to take their slots."""

PAUSE = 0.2
"""Seconds between two attempts to get jobs while other builds hold them."""

Shortage: TypeAlias = Literal["cores", "memory"]
"""The resource that a build waits for."""


class JobRequest(Value):
    """The resources requested for a build."""

    most: int | None = None  # jobs
    memory_per_job: int = 0  # bytes; 0 to ignore memory
    pipe: Path | None = None
    """A named pipe for more jobs while the build runs; None for a fixed number."""
    is_distributed: bool = False
    """Whether other machines compile, so that ``most`` may exceed the cores here."""


class JobGrant(Value):
    """The resources granted to a build."""

    jobs: int = 0  # 0 if no build is running
    memory: int = 0  # bytes for all jobs
    base: int | None = None
    """Free bytes before the first of the running builds began; None if unknown."""
    asks: bool = False  # whether the build could use more jobs


def grant_jobs(
    request: JobRequest, others: Sequence[JobGrant], *, cores: int, memory: int | None
) -> JobGrant | Shortage:
    """Return the share of a build that starts, or what it has to wait for.

    Free resources are divided equally among the processes without a running build. A
    build alone always gets a job, so builds never deadlock.

    A fixed number stays while other builds end. So builds with a single job don't
    count, and the build waits until it gets an equal share of the cores: otherwise one
    that compiles for hours could be left with a single job.
    """
    running = [other for other in others if other.jobs]
    waiting = len(others) - len(running)
    most = cores if request.most is None else request.most
    fitting, base = _count_fitting(request, running, memory)
    if running and fitting < 1:
        return "memory"
    several = [it.jobs for it in running if it.jobs > 1 or request.pipe is not None]
    fitting = -(-fitting // (waiting + 1))
    share = -(-(cores - sum(several)) // (waiting + 1))
    jobs = max(1, min(share, most, fitting))
    equal = cores // (len(several) + waiting + 1)
    if request.pipe is None and jobs < min(equal, most, fitting):
        return "cores"
    return JobGrant(jobs=jobs, memory=jobs * request.memory_per_job, base=base)


def grant_more(
    request: JobRequest,
    grant: JobGrant,
    others: Sequence[JobGrant],
    *,
    cores: int,
    memory: int | None,
) -> JobGrant:
    """Return the share of a running build that asks for more jobs.

    Free cores are divided equally among the builds that ask or wait.
    """
    asking = sum(it.asks or not it.jobs for it in others)
    free = cores - grant.jobs - sum(it.jobs for it in others)
    fitting, _ = _count_fitting(request, [grant, *others], memory)
    left = cores if request.most is None else request.most - grant.jobs
    more = max(0, min(-(-free // (asking + 1)), fitting, left))
    return JobGrant(
        jobs=grant.jobs + more,
        memory=grant.memory + more * request.memory_per_job,
        base=grant.base,
        asks=not more,
    )


def _count_fitting(
    request: JobRequest, running: Sequence[JobGrant], memory: int | None
) -> tuple[int, int | None]:
    """Return how many jobs fit into memory, and the base for the grant.

    Memory promised to running builds counts as used, even if it is free yet.
    """
    unlimited = 1_000_000
    if memory is None:
        return unlimited, None
    base = min([it.base for it in running if it.base is not None] or [memory])
    free = min(memory, base - sum(it.memory for it in running))
    each = request.memory_per_job
    return (max(0, free // each) if each else unlimited), base


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


class BuildJobs(Record):
    """The jobs of a running build: a fixed number."""

    count: int  # the most that the build has had
    variables: Mapping[str, str]  # by these, build tools learn of the jobs

    @classmethod
    def of(cls, count: int) -> BuildJobs:
        """Return a number of jobs."""
        return cls(count=count, variables=job_variables(count))

    def balance(self) -> None:
        """Exchange jobs with other builds, if the number isn't fixed."""

    def __str__(self) -> str:
        return count_jobs(self.count)


class JobPool(Value):
    """All jobs of a machine, shared by the processes with the same folder."""

    folder: Path
    machine: Machine = field(default_factory=Machine)
    settle: float = 0.0
    """Seconds from taking a slot to the first build: others take their slots, too."""

    def count_alone(self, request: JobRequest) -> int:
        """Return how many jobs a build would get if no other build ran."""
        fitting, _ = _count_fitting(request, (), self.machine.free_memory())
        return max(1, min(self.count_wanted(request), fitting))

    def count_wanted(self, request: JobRequest) -> int:
        """Return how many jobs a build would get if memory didn't matter."""
        cores = self.machine.cores()
        return cores if request.most is None else min(cores, request.most)

    @contextmanager
    def take_slot(self) -> Iterator[JobSlot]:
        """Take a slot, so later builds leave room for ours."""
        folder = self.folder / self.machine.name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{os.getpid()}-{os.urandom(16).hex()}.json"
        with _hold_claims(folder):
            slot = JobSlot(
                file=file,
                lock=take_lock(file.with_suffix(".lock")),
                machine=self.machine,
                ready=time.monotonic() + self.settle,
            )
            slot.write(JobGrant())
        try:
            yield slot
        finally:
            slot.close()


class JobSlot(Value):
    """The slot of one build at a time."""

    file: Path
    lock: HeldLock
    machine: Machine
    ready: float  # earliest time of the first build, by the monotonic clock

    def close(self) -> None:
        """Give the slot up, as soon as no more builds are to come."""
        with self.exclusive():
            self.lock.release()
            _remove(self.file)

    @contextmanager
    def hold_jobs(
        self, request: JobRequest, *, wait: Callable[[Shortage], None]
    ) -> Iterator[JobGrant]:
        """Hold jobs while a block runs.

        ``wait`` is called before waiting for builds of other processes.
        """
        time.sleep(max(0.0, self.ready - time.monotonic()))
        has_reported = False
        while isinstance(grant := self._try_to_take(request), str):
            if not has_reported and any(map(self._is_foreign, self._files())):
                has_reported = True
                wait(grant)
            check_interrupt()
            time.sleep(PAUSE)
        try:
            yield grant
        finally:
            with suppress(OSError):  # a full disk: the build's own error matters more
                self.write(JobGrant())

    def _try_to_take(self, request: JobRequest) -> JobGrant | Shortage:
        """Write a grant to the slot, or return what other builds hold."""
        with self.exclusive():
            found = self.read_others()
            running = [it for it in found.values() if it.jobs]
            # A process prepares several builds at once, but they aren't all ready.
            waiting = {
                file.name.partition("-")[0]
                for file, it in found.items()
                if not it.jobs and self._is_foreign(file)
            }
            grant = grant_jobs(
                request,
                [*running, *[JobGrant()] * len(waiting)],
                cores=self.machine.cores(),
                memory=self.machine.free_memory(),
            )
            if isinstance(grant, JobGrant):
                self.write(grant)
            return grant

    def read_others(self) -> dict[Path, JobGrant]:
        """Return the content of other slots, except for killed processes."""
        others = {}
        for file in self._files():
            lock = try_lock(file.with_suffix(".lock"))
            if lock is None:
                grant = find_json(file, reader.table(_read_grant))
                others[file] = grant or JobGrant()
            else:
                _remove(file)  # its process was killed
                lock.release()
        return others

    def _files(self) -> list[Path]:
        found = self.file.parent.glob("*.json")
        return sorted(it for it in found if it != self.file)

    def _is_foreign(self, file: Path) -> bool:
        """Whether another process has a slot."""
        return not file.name.startswith(f"{os.getpid()}-")

    def write(self, grant: JobGrant) -> None:
        """Record a grant for other processes to read."""
        files.write_text(self.file, json.dumps(to_dict(grant)))

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep other processes from reading and writing slots."""
        return _hold_claims(self.file.parent)


def _read_grant(table: reader.Table) -> JobGrant:
    return JobGrant(
        jobs=table.get("jobs", reader.count),
        memory=table.get("memory", reader.integer),
        base=table.get("base", reader.nullable(reader.integer)),
        asks=table.get("asks", reader.boolean),
    )


def _hold_claims(folder: Path) -> AbstractContextManager[object]:
    return hold_lock(folder / "claims.lock")


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.with_suffix(".lock").unlink(missing_ok=True)
