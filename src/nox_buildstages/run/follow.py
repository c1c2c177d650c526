"""Follow the log of a running program and show the progress."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nox_buildstages.run.log_progress import (
    LogSteps,
    Rate,
    measure_progress,
    progress_line,
)
from nox_buildstages.value import Record, Value, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nox_buildstages.run.log_progress import Progress
    from nox_buildstages.run.screen import Screen
    from nox_buildstages.store.compiled import Activity

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
    """The previous build of an output."""

    seconds: float | None = None  # None without a previous build
    files: int | None = None  # compiled ones, if the source was the same


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
    watch: Callable[[LogSteps], Activity | None] = lambda _: None
    """Returns what the processes do now, and sees what the log says."""
    _started: float = field(default_factory=time.monotonic)
    _previous: PreviousBuild | None = None
    _steps: LogSteps = field(default_factory=LogSteps)
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
            counted = self._steps  # before the supervisor's last look
            if self.log is not None:
                text = self.log.read_lines()
                self.screen.output(text)
                for line in text.splitlines():
                    self._steps = self._steps.after(line)
            if self._previous is None:
                self._previous = self.find_previous()
            progress = measure_progress(
                counted if self._steps.total is None else self._steps,
                self.watch(self._steps),
                self._previous.files,
            )
            line = self._line(progress, self._previous, time.monotonic())
            self.screen.show_one(self, line)

    def end(self) -> None:
        """Pass the rest of the log to the screen, and clear the progress line."""
        if self.log is not None:
            with suppress(OSError):
                self.screen.output(self.log.read_rest())
        with suppress(OSError):
            self.screen.end_one(self)

    def _line(self, progress: Progress, previous: PreviousBuild, now: float) -> str:
        """Return the progress line."""
        elapsed = now - self._started
        self._rate = self._rate.after(progress.done, now=now)
        left = self._rate.seconds_left(progress, now=now)
        if left is None and previous.seconds is not None and previous.seconds > elapsed:
            left = previous.seconds - elapsed
        return progress_line(
            self.name, self.phase, steps=str(progress), elapsed=elapsed, left=left
        )
