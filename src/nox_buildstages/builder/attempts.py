"""When a build is tried again: resumed, restarted, or retried with fewer jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.builder.diagnosis.hints import memory_hint
from nox_buildstages.builder.jobs.slots import count_jobs
from nox_buildstages.errors import BackendError, BuildTimeoutError, PreflightError
from nox_buildstages.store.failed_builds import remove_kept_trees
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from nox_buildstages.builder.job import Job
    from nox_buildstages.errors import BuildError


class Attempt(Value):
    """An attempt to build an output."""

    is_resumed: bool  # whether the build began in the tree of an interrupted build
    most: int | None = None
    """The most jobs, if it is a retry with half the jobs because memory ran out."""


def next_attempt(
    job: Job, attempt: Attempt, error: BuildError, *, jobs: int
) -> Attempt | None:
    """Return the attempt after a failure with some jobs; None to give up.

    - If memory ran out, the build continues in the tree with half the jobs, once. A
      build with a single job, or with ``MAX_JOBS`` in the table, isn't retried.
    - After a timeout, or if a disk is full, the tree is kept for the next run. So is
      the tree of an interrupted build that a check keeps from resuming.
    - After any other failure the tree is kept for a shell alone: the build may have
      recorded facts about the system, and the user may fix the system. A resumed build
      starts again from the beginning, because some builds can't run twice in the same
      tree.
    """
    name, report = job.output.name, job.context.tools.run.report
    if is_out_of_memory(error):
        most = None if attempt.most is not None else halve_jobs(job, jobs)
        return None if most is None else replace(attempt, most=most)
    keeps_tree = (
        isinstance(error, BuildTimeoutError)
        or (isinstance(error, BackendError) and error.full_disk)
        or (isinstance(error, PreflightError) and attempt.is_resumed)
    )
    store = job.context.tools.store
    if keeps_tree:
        if isinstance(error, BackendError) and error.full_disk:
            remove_kept_trees(store)
        return None
    if not attempt.is_resumed:
        remove_kept_trees(store, name)
        job.build_dir.keep_tree(name)
        return None
    job.build_dir.clear()
    report(
        f"{error.summary}; the partial build that it resumed may be the cause:"
        " starting again without it"
    )
    return Attempt(is_resumed=False)


def halve_jobs(job: Job, jobs: int) -> int | None:
    """Report and return the jobs of a retry because memory ran out; None for none."""
    if jobs == 1 or "MAX_JOBS" in job.variables:
        return None
    job.context.tools.run.report(
        f"{job.output.name} ran out of memory with {count_jobs(jobs)};"
        f" retrying with {count_jobs(jobs // 2)}"
    )
    return jobs // 2


def is_out_of_memory(error: BuildError) -> bool:
    """Whether an attempt failed because memory ran out."""
    return isinstance(error, BackendError) and error.out_of_memory


def mark_out_of_memory(
    error: BuildError, job: Job, *, jobs: int, kills: int
) -> BuildError:
    """Return the error of a failed attempt, marked if memory was the cause.

    ``kills`` is the number of processes that the kernel had killed before the attempt.
    """
    if not isinstance(error, BackendError):
        return error
    # The kernel counts kills of the whole cgroup, so another build's may be included:
    # a known cause wins.
    is_killed = job.context.tools.job_pool.machine.oom_kills() > kills
    if not error.out_of_memory and (error.hint or not is_killed):
        return error
    hint = memory_hint(job.stage.name, jobs=jobs)
    return replace(error, out_of_memory=True, hint=hint)
