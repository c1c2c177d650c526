"""Where people see how far a build is: a line that lives, or one now and then."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT = 30.0
"""Seconds between two lines where no line can live."""


class Screen:
    """Shows nothing; the others show something."""

    def show(self, line: str) -> None:
        """Show how far it is now, in place of what was shown before."""

    def output(self, text: str) -> None:
        """Show what a program printed."""

    def clear(self) -> None:
        """Take away what is shown: something else is printed next."""


@dataclass(kw_only=True, slots=True)
class LiveLine(Screen):
    r"""One line, written over again and again.

    There are no escape codes in it: the line ends with a carriage return, so what
    comes next goes over it, and spaces take away what a longer one has left. There
    are two of them, for who reads a pipe line by line can't tell after one whether a
    ``\n`` follows, and would be a line behind.

    Attributes:
        stream: A terminal, or a pipe that is read by who shows its last line.
        columns: Returns how wide the terminal is.
    """

    stream: TextIO
    columns: Callable[[], int]
    _width: int = 0

    def show(self, line: str) -> None:
        """Write over the line."""
        shown = line[: max(1, self.columns() - 1)]
        self._write(shown.ljust(self._width))
        self._width = len(shown)

    def clear(self) -> None:
        """Write spaces over it, where there is one."""
        if self._width:
            self._write(" " * self._width)
            self._width = 0

    def _write(self, text: str) -> None:
        self.stream.write(f"{text}\r\r")
        self.stream.flush()


@dataclass(kw_only=True, slots=True)
class Heartbeat(Screen):
    """A line now and then, so that nobody takes a silent job for a dead one.

    Attributes:
        say: Prints it.
        interval: Seconds of silence.
    """

    say: Callable[[str], None]
    interval: float = HEARTBEAT
    _said: float = field(default_factory=time.monotonic)

    def show(self, line: str) -> None:
        """Print the line if it is time."""
        if time.monotonic() - self._said >= self.interval:
            self.clear()
            self.say(line)

    def clear(self) -> None:
        """Begin to count anew."""
        self._said = time.monotonic()


@dataclass(kw_only=True, slots=True)
class Stream(Heartbeat):
    """All that programs print, and a line now and then.

    Attributes:
        to: Where it goes.
    """

    to: TextIO

    def output(self, text: str) -> None:
        """Hand it on."""
        self.to.write(text)
        self.to.flush()
