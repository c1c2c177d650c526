"""A build that goes on where an earlier one of the same key was stopped."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nox_buildstages.builder import retrying
from nox_buildstages.builder.hints import tells_of_full_disk
from nox_buildstages.errors import BackendError, BuildError, BuildTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nox_buildstages.builder.job import Job
    from nox_buildstages.store.build_dir import BuildDirectory


def make(job: Job, how: Callable[[Job], None], *, afresh: bool) -> None:
    """Make an output, in the tree that a stopped build of it left where there is one.

    Where that fails the tree may be at fault, for some builds can't be run twice: then
    it is made once more from the beginning. So a half-built tree costs time at worst.

    Args:
        job: With the number of jobs that it may run.
        how: Makes it.
        afresh: From the beginning, whatever there is.

    Raises:
        BuildError: It failed.
    """
    place = job.place
    if afresh:
        place.clear()
    if job.goes_on:
        try:
            with _kept_if_stopped(place):
                retrying.make(job, how)
        except BuildError as error:
            if is_stop(error):
                raise
            said = error.summary
        else:
            return
        job.context.tools.report(
            f"{said}; it may be its half-built tree: once more anew"
        )
    with _kept_if_stopped(place):
        retrying.make(job, how)


def is_stop(error: BuildError) -> bool:
    """Whether a build was stopped for want of time, memory or room on a disk.

    What fails for its own reasons isn't gone on with: what it found out about the
    system, and noted in its tree, may be what has to change.
    """
    if isinstance(error, BackendError):
        return error.out_of_memory or tells_of_full_disk((error.reason, *error.details))
    return isinstance(error, BuildTimeoutError)


@contextmanager
def _kept_if_stopped(place: BuildDirectory) -> Iterator[None]:
    try:
        yield
    except BuildError as error:
        if not is_stop(error):
            place.clear()
        raise
