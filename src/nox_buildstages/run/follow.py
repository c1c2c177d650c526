"""Following a program while it runs, and showing how far it is."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from nox_buildstages.builder.attending import all_of
from nox_buildstages.run import steps as progress
from nox_buildstages.run.steps import Progress, Rate
from nox_buildstages.store.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nox_buildstages.builder.job import Job
    from nox_buildstages.run.screen import Screen

COMPILE = "compile"
METADATA = "metadata"
EDITABLE = "editable"
ENV = "env"

_CHUNK = 1_000_000
"""Bytes of a log that are read at once."""


@contextmanager
def followed(job: Job, phase: str) -> Iterator[Job]:
    """Show how far a job is while its backend runs.

    Args:
        job: Whose log is read, from where it ends now.
        phase: What the backend does, ``compile`` or ``metadata``.

    Yields:
        The job, to be carried out in the block.
    """
    follower = LogFollower(
        name=job.output.name,
        phase=phase,
        screen=job.context.tools.screen,
        log=LogTail(path=job.log, offset=job.log.stat().st_size),
        before=partial(_before, job) if phase == COMPILE else PreviousBuild,
    )
    try:
        yield replace(job, attend=all_of(job.attend, follower.attend))
    finally:
        follower.end()


@contextmanager
def shown(screen: Screen, name: str, phase: str) -> Iterator[Callable[[], None]]:
    """Show how long something takes.

    Args:
        screen: Where.
        name: Whose it is.
        phase: What is done.

    Yields:
        What is to be called again and again meanwhile.
    """
    follower = LogFollower(name=name, phase=phase, screen=screen)
    try:
        yield follower.attend
    finally:
        follower.end()


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviousBuild:
    """What is known of an earlier build of an output.

    Attributes:
        seconds: That it took; None where there was none.
        progress: At its end, if it was of the same source.
    """

    seconds: float | None = None
    progress: Progress = field(default_factory=Progress)


@dataclass(kw_only=True, slots=True)
class LogTail:
    """A file that someone else writes to, read piece by piece.

    Attributes:
        path: Of the file.
        offset: Up to where it has been read.
    """

    path: Path
    offset: int = 0

    def news(self) -> str:
        """Return the lines that have come since, without one that isn't at its end."""
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            found = stream.read(_CHUNK)
        whole = found if len(found) == _CHUNK else found[: found.rfind(b"\n") + 1]
        return self._taken(whole)

    def rest(self) -> str:
        """Return all that has come since."""
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            return self._taken(stream.read())

    def _taken(self, found: bytes) -> str:
        self.offset += len(found)
        return found.decode("utf-8", "replace")


@dataclass(kw_only=True, slots=True)
class LogFollower:
    """Shows how far something is, as often as it is asked to.

    Attributes:
        name: Whose it is: an output's or a stage's.
        phase: What is done.
        screen: Where.
        log: Of what is done; None where there is none.
        before: Returns what is known of an earlier time.
    """

    name: str
    phase: str
    screen: Screen
    log: LogTail | None = None
    before: Callable[[], PreviousBuild] = PreviousBuild
    _begun: float = field(default_factory=time.monotonic)
    _known: PreviousBuild | None = None
    _progress: Progress = field(default_factory=Progress)
    _pace: Rate = field(default_factory=Rate)

    def attend(self) -> None:
        """Read what is new and show how far it is; what goes wrong harms nobody."""
        with suppress(OSError):
            if self.log is not None:
                self._read(self.log.news())
            self.screen.show(self._line(time.monotonic()))

    def end(self) -> None:
        """Hand on the rest, and take away what is shown."""
        if self.log is not None:
            with suppress(OSError):
                self.screen.output(self.log.rest())
        with suppress(OSError):
            self.screen.clear()

    def _read(self, text: str) -> None:
        self.screen.output(text)
        for line in text.splitlines():
            self._progress = self._progress.after(line)

    def _line(self, now: float) -> str:
        if self._known is None:
            self._known = self.before()
        known, elapsed = self._known, now - self._begun
        come = self._progress.of(known.progress)
        self._pace = self._pace.after(come.done, now=now)
        left = self._pace.left(come, now=now)
        if left is None and known.seconds is not None and known.seconds > elapsed:
            left = known.seconds - elapsed
        return progress.line(
            self.name, self.phase, steps=str(come), elapsed=elapsed, left=left
        )


def _before(job: Job) -> PreviousBuild:
    """Return what the store knows of the build that this one follows."""
    recipe = job.recipe
    entry = History(store=job.context.tools.store).previous(recipe)
    if entry is None:
        return PreviousBuild()
    before = PreviousBuild(seconds=entry.seconds)
    if entry.recipe.source != recipe.source:
        return before
    with suppress(OSError), entry.log.open(errors="replace") as log:
        return replace(before, progress=progress.read(log))
    return before
