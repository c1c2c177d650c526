"""When a build is tried again: resumed, restarted, or retried with fewer jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.builder.diagnosis.hints import memory_hint
from nox_buildstages.builder.jobs.slots import count_jobs
from nox_buildstages.errors import BackendError, BuildTimeoutError, PreflightError
from nox_buildstages.store.failed_builds import remove_kept_trees
from nox_buildstages.store.memory import Kill
from nox_buildstages.value import Record, replace

if TYPE_CHECKING:
    from nox_buildstages.builder.job import Job
    from nox_buildstages.errors import BuildError
    from nox_buildstages.system.machine import Machine


class Attempt(Record):
    """An attempt to build an output."""

    is_resumed: bool = False
    """Whether the build began in the tree of an interrupted build."""
    most: int | None = None
    """The most jobs, if it is a retry with half the jobs because memory ran out."""
    kill: Kill | None = None  # of the attempt that it retries
    jobs: int = 0  # of the running attempt
    free: int | None = None  # bytes when it began; None if unknown
    kills: int = 0
    """The processes that the kernel had killed for lack of memory when it began."""

    def begin(self, jobs: int, machine: Machine) -> None:
        """Note what the machine is like when the attempt begins."""
        self.jobs, self.free = jobs, machine.free_memory()
        self.kills = machine.oom_kills()


def next_attempt(job: Job, attempt: Attempt, error: BuildError) -> Attempt:
    """Note the memory of an attempt that failed, and return the next one.

    Raises:
        BuildError: There is none.
    """
    failure = mark_out_of_memory(error, job, attempt)
    if is_out_of_memory(failure) and attempt.free:
        attempt.kill = Kill(jobs=attempt.jobs, free=attempt.free)
    if memory := job.build_dir.read_memory(attempt.jobs, kill=attempt.kill):
        job.context.tools.store.note_failure(job.recipe, memory)
    following = choose_next(job, attempt, failure)
    if following is None:
        raise failure from error.__cause__
    return following


def choose_next(job: Job, attempt: Attempt, error: BuildError) -> Attempt | None:
    """Return the attempt after a failure; None to give up.

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
        return halve_jobs(job, attempt)
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
    return Attempt(kill=attempt.kill)


def halve_jobs(job: Job, attempt: Attempt) -> Attempt | None:
    """Report and return the retry of an attempt that ran out of memory, if any."""
    if attempt.jobs == 1 or attempt.most is not None or "MAX_JOBS" in job.variables:
        return None
    half = attempt.jobs // 2
    job.context.tools.run.report(
        f"{job.output.name} ran out of memory with {count_jobs(attempt.jobs)};"
        f" retrying with {count_jobs(half)}"
    )
    return Attempt(is_resumed=attempt.is_resumed, most=half, kill=attempt.kill)


def is_out_of_memory(error: BuildError) -> bool:
    """Whether an attempt failed because memory ran out."""
    return isinstance(error, BackendError) and error.out_of_memory


def mark_out_of_memory(error: BuildError, job: Job, attempt: Attempt) -> BuildError:
    """Return the error of a failed attempt, marked if memory was the cause."""
    if not isinstance(error, BackendError):
        return error
    # The kernel counts kills of the whole cgroup, so another build's may be included:
    # a known cause wins.
    is_killed = job.context.tools.job_pool.machine.oom_kills() > attempt.kills
    if not error.out_of_memory and (error.hint or not is_killed):
        return error
    hint = memory_hint(job.stage.name, jobs=attempt.jobs)
    return replace(error, out_of_memory=True, hint=hint)
