"""Show the progress of a build: in a live line, or in a line now and then."""

from __future__ import annotations

import time
from threading import RLock
from typing import TYPE_CHECKING, TextIO

from nox_buildstages.value import Record, field

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.run.events import Event

HEARTBEAT = 30.0
"""Seconds between two lines of progress if no line can be live."""


class Screen(Record):
    """Shows nothing; the subclasses show progress."""

    lock: RLock = field(default_factory=RLock)
    """Held while something is printed: several builds run in threads."""
    _lines: dict[object, str] = field(default_factory=dict)

    def note(self, event: Event) -> None:
        """Show an event."""

    def show_one(self, name: object, line: str) -> None:
        """Show the progress of one of several programs: the first, and how many."""
        with self.lock:
            self._lines[name] = line
            first, *others = self._lines.values()
            self.show(f"{first}; {len(others)} more" if others else first)

    def end_one(self, name: object) -> None:
        """Show no more progress of a program."""
        with self.lock:
            self._lines.pop(name, None)
            self.clear()

    def show(self, line: str) -> None:
        """Show the progress now, in place of the earlier progress."""

    def output(self, text: str) -> None:
        """Show the output of a program."""

    def clear(self) -> None:
        """Remove the progress before other lines are printed."""


class LiveLine(Screen):
    r"""One line, written over again and again.

    The line has no escape codes. It ends with a carriage return, so that the next line
    is written over it, and spaces cover the rest of a longer line. It ends with two
    carriage returns, because a program that reads a pipe line by line waits after the
    first one for a ``\n``, and would be a line behind.
    """

    stream: TextIO  # a terminal, or a pipe to nox, which shows the last line
    columns: Callable[[], int]
    _width: int = 0

    def show(self, line: str) -> None:
        """Write over the line."""
        fitting = line[: max(1, self.columns() - 1)]
        self._write(fitting.ljust(self._width))
        self._width = len(fitting)

    def clear(self) -> None:
        """Write spaces over the line, unless the line is empty."""
        if self._width:
            self._write(" " * self._width)
            self._width = 0

    def _write(self, text: str) -> None:
        self.stream.write(f"{text}\r\r")
        self.stream.flush()


class Heartbeat(Screen):
    """A line now and then, so a silent build doesn't look dead."""

    say: Callable[[str], None]
    interval: float = HEARTBEAT  # seconds
    _last: float = field(default_factory=time.monotonic)

    def show(self, line: str) -> None:
        """Print the line if the silence was long enough."""
        if time.monotonic() - self._last >= self.interval:
            self.clear()
            self.say(line)

    def clear(self) -> None:
        """Begin to measure the silence again."""
        self._last = time.monotonic()


class Stream(Heartbeat):
    """The output of all programs, and a line of progress now and then."""

    to: TextIO

    def output(self, text: str) -> None:
        """Write the output of a program."""
        self.to.write(text)
        self.to.flush()
