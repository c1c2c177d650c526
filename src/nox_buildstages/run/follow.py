"""Follow the log of a running program and show the progress."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nox_buildstages.run.log_progress import Progress, Rate, progress_line
from nox_buildstages.value import Record, Value, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nox_buildstages.run.screen import Screen

COMPILE = "compile"
METADATA = "metadata"
EDITABLE = "editable"
ENV = "env"

INTERVAL = 1.0
"""Seconds between two updates of the progress."""

_CHUNK = 1_000_000
"""Maximum number of bytes of a log to read at once."""


@contextmanager
def show_elapsed(screen: Screen, name: str, phase: str) -> Iterator[Callable[[], None]]:
    """Show for how long a block runs; yield a function to call regularly."""
    follower = LogFollower(name=name, phase=phase, screen=screen)
    try:
        yield follower.update_slowly
    finally:
        follower.end()


class PreviousBuild(Value):
    """The previous build of an output, with its progress if the source was the same."""

    seconds: float | None = None  # None without a previous build
    progress: Progress = field(default_factory=Progress)


class LogTail(Record):
    """A growing file, read piece by piece."""

    path: Path
    offset: int = 0

    def read_lines(self) -> str:
        """Return the new lines, without an incomplete line at the end."""
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            found = stream.read(_CHUNK)
        if len(found) < _CHUNK:
            found = found[: found.rfind(b"\n") + 1]
        self.offset += len(found)
        return found.decode("utf-8", "replace")

    def read_rest(self) -> str:
        """Return all new text."""
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            found = stream.read()
        self.offset += len(found)
        return found.decode("utf-8", "replace")


class LogFollower(Record):
    """Shows the progress of a running program."""

    name: str
    phase: str
    screen: Screen
    log: LogTail | None = None
    find_previous: Callable[[], PreviousBuild] = PreviousBuild
    _started: float = field(default_factory=time.monotonic)
    _previous: PreviousBuild | None = None
    _progress: Progress = field(default_factory=Progress)
    _rate: Rate = field(default_factory=Rate)
    _updated: float = -INTERVAL

    def update_slowly(self) -> None:
        """Update the progress, unless that was done within the last second."""
        now = time.monotonic()
        if now - self._updated >= INTERVAL:
            self._updated = now
            self.update()

    def update(self) -> None:
        """Read the new lines and show the progress; file errors are ignored."""
        with suppress(OSError):
            if self.log is not None:
                text = self.log.read_lines()
                self.screen.output(text)
                for line in text.splitlines():
                    self._progress = self._progress.after(line)
            self.screen.show_one(self, self._line(time.monotonic()))

    def end(self) -> None:
        """Pass the rest of the log to the screen, and clear the progress line."""
        if self.log is not None:
            with suppress(OSError):
                self.screen.output(self.log.read_rest())
        with suppress(OSError):
            self.screen.end_one(self)

    def _line(self, now: float) -> str:
        """Return the progress line."""
        if self._previous is None:
            self._previous = self.find_previous()
        previous, elapsed = self._previous, now - self._started
        progress = self._progress.with_total_of(previous.progress)
        self._rate = self._rate.after(progress.done, now=now)
        left = self._rate.seconds_left(progress, now=now)
        if left is None and previous.seconds is not None and previous.seconds > elapsed:
            left = previous.seconds - elapsed
        return progress_line(
            self.name, self.phase, steps=str(progress), elapsed=elapsed, left=left
        )
