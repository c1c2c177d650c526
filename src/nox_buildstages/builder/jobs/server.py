"""A jobserver of a build: tokens in a named pipe, known to make, ninja and cargo.

The build has one job without a token. Each tool takes a token from the pipe for each
further compiler, and returns the token when the compiler has ended. Our process adds
tokens while jobs are free, and removes unused tokens if other builds ask for jobs.
Tokens of killed compilers are lost to their build, but to nobody else: the slot counts,
and is free when the build ends.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nox_buildstages.builder.jobs.slots import (
    BuildJobs,
    count_jobs,
    grant_more,
    job_variables,
)
from nox_buildstages.value import field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nox_buildstages.builder.jobs.slots import (
        JobGrant,
        JobRequest,
        JobSlot,
        Shortage,
    )

LOOK = 0.5
"""Seconds between two looks at other builds."""

PATIENCE = 1.0
"""Seconds for which unused tokens stay, if others ask, and for which a build then asks
for none. It doubles each time, up to ``MOST_PATIENCE``: ninja looks for a token only
when a compiler ends."""

MOST_PATIENCE = 60.0


@contextmanager
def take_jobs(
    slot: JobSlot, request: JobRequest, wait: Callable[[Shortage], None]
) -> Iterator[BuildJobs]:
    """Yield the jobs of a build; ``wait`` is called before waiting for others."""
    with slot.hold_jobs(request, wait=wait) as grant:
        if request.pipe is None:
            # Others share the cores of this machine, which preprocesses and links.
            elsewhere = (request.is_distributed and request.most) or 0
            yield BuildJobs.of(max(grant.jobs, elsewhere))
            return
        # Reading and writing: then neither we nor a tool waits for the other to open.
        pipe = os.open(request.pipe, os.O_RDWR | os.O_NONBLOCK)
        try:
            os.write(pipe, b"+" * (grant.jobs - 1))
            limit = slot.machine.cores()
            limit = limit if request.most is None else min(limit, request.most)
            yield JobServer(
                count=grant.jobs,
                variables=server_variables(request.pipe, limit),
                limit=limit,
                request=request,
                slot=slot,
                pipe=pipe,
                grant=grant,
            )
        finally:
            os.close(pipe)
            with suppress(OSError):
                request.pipe.unlink()


def server_variables(pipe: Path, jobs: int) -> dict[str, str]:
    """Return the variables for build tools that know jobservers.

    Variables with a number of jobs aren't set if a tool would ignore the jobserver for
    them. Tools without support for jobservers run a single job.
    """
    ignored = ("CMAKE_BUILD_PARALLEL_LEVEL", "MAX_JOBS", "NINJAFLAGS")
    one = {name: it for name, it in job_variables(1).items() if name not in ignored}
    return {**one, "MAKEFLAGS": f" -j{jobs} --jobserver-auth=fifo:{pipe}"}


class JobServer(BuildJobs):
    """The jobs of a running build: as many as it uses and as are free."""

    limit: int
    request: JobRequest
    slot: JobSlot
    pipe: int  # descriptor
    grant: JobGrant
    _unused: int = -1  # tokens in the pipe, at the last look
    _changed: float = field(default_factory=time.monotonic)  # when that was new
    _asks_from: float = 0.0
    _patience: float = field(default_factory=lambda: PATIENCE)
    _due: float = 0.0  # when to look at other builds again

    def balance(self) -> None:
        """Add tokens while jobs are free, or take unused ones back for others."""
        now, unused = time.monotonic(), self.count_free()
        if unused != self._unused:
            if unused < self._unused:  # the build uses what it gets
                self._patience = PATIENCE
            self._unused, self._changed = unused, now
        asks = not unused and now >= self._asks_from
        is_idle = unused > 0 and now - self._changed >= self._patience
        is_news = asks or is_idle or self.grant.asks
        if is_news and now >= self._due:
            self._due = now + LOOK
            with suppress(OSError), self.slot.exclusive():
                self._exchange(now, unused, asks=asks, is_idle=is_idle)

    def _exchange(self, now: float, unused: int, *, asks: bool, is_idle: bool) -> None:
        others, machine = [*self.slot.read_others().values()], self.slot.machine
        grant = replace(self.grant, asks=False)
        if asks:
            cores, memory = machine.cores(), machine.free_memory()
            grant = grant_more(self.request, grant, others, cores=cores, memory=memory)
        elif is_idle and any(it.asks or not it.jobs for it in others):
            taken = len(os.read(self.pipe, unused))
            self._asks_from = now + self._patience
            self._patience = min(2 * self._patience, MOST_PATIENCE)
            memory = grant.memory - taken * self.request.memory_per_job
            grant = replace(grant, jobs=grant.jobs - taken, memory=memory)
        if grant != self.grant:
            self.slot.write(grant)
        added, self.grant = grant.jobs - self.grant.jobs, grant
        os.write(self.pipe, b"+" * max(0, added))
        self.count = max(self.count, grant.jobs)

    def count_free(self) -> int:
        """Return how many tokens are in the pipe."""
        size = array.array("i", [0])
        fcntl.ioctl(self.pipe, termios.FIONREAD, size)
        return size[0]

    def __str__(self) -> str:
        prefix = "" if self.limit == 1 else "up to "
        return f"{prefix}{count_jobs(self.limit)}"
