"""A build that ran out of memory, once more with half the jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nox_buildstages.builder.hints import memory_hint, tells_of_memory
from nox_buildstages.builder.jobs.slots import count_jobs
from nox_buildstages.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nox_buildstages.builder.job import Job


def make(job: Job, how: Callable[[Job], None]) -> None:
    """Make an output, and once more with half the jobs where memory was too small.

    Not where it had one job only, nor where the table itself tells the build how many
    there are (``MAX_JOBS``): that would change nothing.

    Args:
        job: With the number of jobs that it may run.
        how: Makes it.

    Raises:
        BackendError: It failed for another reason, or for that one again.
    """
    try:
        _watched(job, how)
    except BackendError as error:
        declared = job.context.variables(job.stage, job.output.name)
        if not error.out_of_memory or job.jobs == 1 or "MAX_JOBS" in declared:
            raise
    else:
        return
    fewer = replace(job, jobs=job.jobs // 2, is_retry=True)
    job.context.tools.report(
        f"{job.output.name} ran out of memory with {count_jobs(job.jobs)};"
        f" once more with {count_jobs(fewer.jobs)}"
    )
    _watched(fewer, how)


def _watched(job: Job, how: Callable[[Job], None]) -> None:
    """Make an output; an error says whether memory was too small for it."""
    machine = job.context.tools.job_pool.machine
    kills = machine.kills()
    begin = job.log.stat().st_size if job.is_retry else 0
    try:
        how(job)
    except BackendError as error:
        # The kernel counts for the whole group: it may have been another stage's.
        killed = machine.kills() > kills and not error.hint
        if killed or tells_of_memory((error.reason, *_lines(job.log, begin))):
            error.out_of_memory = True
            error.hint = memory_hint(job.stage.name, jobs=job.jobs)
        raise


def _lines(log: Path, begin: int) -> Iterator[str]:
    with log.open("rb") as stream:
        stream.seek(begin)
        for line in stream:
            yield line.decode("utf-8", "replace")
