"""Follow the log of a running program, and say how far the program is."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from nox_buildstages.run.log_progress import LogSteps, Rate, measure_progress
from nox_buildstages.system.files import open_file
from nox_buildstages.value import Record, Value, field

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nox_buildstages.run.log_progress import Progress
    from nox_buildstages.store.compiled import Activity

INTERVAL = 1.0
"""Seconds between two updates of the progress."""

_CHUNK = 1_000_000
"""Maximum number of bytes of a log to read at once."""


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
        with open_file(self.path) as stream:
            stream.seek(self.offset)
            found = stream.read(_CHUNK)
        if len(found) < _CHUNK:
            found = found[: found.rfind(b"\n") + 1]
        self.offset += len(found)
        return found.decode("utf-8", "replace")

    def read_rest(self) -> str:
        """Return all new text."""
        with open_file(self.path) as stream:
            stream.seek(self.offset)
            found = stream.read()
        self.offset += len(found)
        return found.decode("utf-8", "replace")


class LogFollower(Record):
    """Emits how a running program is getting on, by its log."""

    emit: Callable[..., None]  # gets the facts of the running step
    log: LogTail
    show: Callable[[str], None] = lambda _: None
    """Gets the output."""
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
        """Read the new lines and emit the progress; file errors are ignored."""
        with suppress(OSError):
            counted = self._steps  # before the supervisor's last look
            text = self.log.read_lines()
            self.show(text)
            for line in text.splitlines():
                self._steps = self._steps.after(line)
            if self._previous is None:
                self._previous = self.find_previous()
            progress = measure_progress(
                counted if self._steps.total is None else self._steps,
                self.watch(self._steps),
                self._previous.files,
            )
            self.emit(**self._facts(progress, self._previous, time.monotonic()))

    def end(self) -> None:
        """Pass on the rest of the log."""
        with suppress(OSError):
            self.show(self.log.read_rest())

    def _facts(
        self, progress: Progress, previous: PreviousBuild, now: float
    ) -> dict[str, object]:
        """Return the facts of the running step that are known."""
        elapsed = now - self._started
        self._rate = self._rate.after(progress.done, now=now)
        left = self._rate.seconds_left(progress, now=now)
        part = progress.done / progress.total if progress.total else None
        if left is None and previous.seconds is not None and previous.seconds > elapsed:
            # With a compiler cache, the first files may take no time at all.
            rest = previous.seconds * (1 - (part or 0))
            left = min(previous.seconds - elapsed, rest)
        return {
            "steps": str(progress),
            "part": part,
            "files": progress.files,
            "memory": progress.memory,
            "left": left,
        }
