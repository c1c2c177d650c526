"""Show the progress of a run: as a board, in a live line, or in a line now and then."""

from __future__ import annotations

import logging
import math
import os
import re
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock, Thread
from typing import TYPE_CHECKING, ClassVar, TextIO

from nox_buildstages.run.ci import fold
from nox_buildstages.run.events import BEGUN, RUNNING
from nox_buildstages.safe_text import show_output
from nox_buildstages.system.files import read_text
from nox_buildstages.system.terminal import print_lines
from nox_buildstages.text import fit_encoding
from nox_buildstages.value import Record, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nox_buildstages.run.events import Event
    from nox_buildstages.run.journal import Journal
    from nox_buildstages.run.state import RunState
    from nox_buildstages.safe_text import Shown

_LOG = logging.getLogger(__name__)

HEARTBEAT = 30.0
"""Seconds between two lines of progress if no line can be live."""

_DELAY = 0.6
"""Seconds from the start of a session until something is shown."""

_COLOUR = "\x1b\\[[0-9;]*m"

_QUIET = 0.3
"""Seconds after a line of nox during which nothing is drawn."""


class Screen(Record):
    """Shows nothing; the subclasses show progress."""

    lock: RLock = field(default_factory=RLock)
    """Held while something is printed: a thread draws."""

    def note(self, event: Event) -> None:
        """Take an event into account."""

    def output(self, text: str) -> None:
        """Show the output of a program."""

    def clear(self) -> None:
        """Remove the progress before other lines are printed."""

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the progress while a block runs."""
        yield


class LiveScreen(Screen):
    """Draws the state of the run again and again, in a thread."""

    interval: ClassVar[float] = 1.0  # seconds between two drawings

    journal: Journal | None = None  # with the events of other processes
    _events: list[Event] = field(default_factory=list)  # of this process, new ones
    _state: RunState | None = None
    _offset: int = 0  # in the journal
    _covered: int = 0  # the steps that run and print to the terminal themselves
    _since: float | None = None  # when the session began; infinite between sessions

    def note(self, event: Event) -> None:
        """Take an event into account; hide while a program has the terminal."""
        self._events.append(event)
        if event.facts.get("prints"):
            with self.lock:
                self._covered += 1 if event.state == BEGUN else -1
                self.clear()

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the progress while a block runs."""

        def make_room(_: logging.LogRecord) -> bool:
            with self.lock:
                self.clear()
            return True

        if self._since is None:
            Thread(target=self._draw_again, daemon=True).start()
        self._since = time.monotonic()
        nox = logging.getLogger("nox")
        nox.addFilter(make_room)
        try:
            yield
        finally:
            nox.removeFilter(make_room)
            with self.lock:
                self._since = math.inf
                self._covered = 0
                self.clear()

    def _draw_again(self) -> None:
        """Draw in a thread, which all sessions of the process share."""
        while True:
            time.sleep(self.interval)
            try:
                with self.lock:
                    since = math.inf if self._since is None else self._since
                    if time.monotonic() - since >= _DELAY and not self._covered:
                        self.draw(self._read_state())
            except Exception as error:  # noqa: BLE001 - the build matters more
                _LOG.debug("the progress can't be shown: %r", error)

    def draw(self, state: RunState) -> None:
        """Show the state of the run, in place of the earlier progress."""

    def _read_state(self) -> RunState:
        from nox_buildstages.run.state import RunState  # noqa: PLC0415 - a no-op needs none

        if self._state is None:
            self._state = RunState()
        events, self._events = self._events, []
        if self.journal is not None:
            others, self._offset = self.journal.read_from(self._offset)
            # The first process notes only the start of the run.
            events += (it for it in others if it.process != os.getpid())
        for event in events:
            self._state.add(event)
        return self._state


class Board(LiveScreen):
    """A few lines at the bottom of a terminal, drawn again and again."""

    interval = 0.25

    stream: TextIO  # a terminal
    size: Callable[[], tuple[int, int]]  # columns and rows
    colour: bool
    _drawn: list[int] = field(default_factory=list)  # the lengths of the lines
    _quiet_until: float = 0.0

    def draw(self, state: RunState) -> None:
        """Draw the board in place of the earlier one."""
        from nox_buildstages.run.board import draw_board  # noqa: PLC0415 - a no-op needs none

        if time.monotonic() < self._quiet_until:
            return
        columns, rows = self.size()
        lines = [
            fit_encoding(line, self.stream.encoding)
            for line in draw_board(
                *(state, time.time()), columns=columns, rows=rows, colour=self.colour
            )
        ]
        self._write(self._erase(columns) + "".join(f"{line}\n" for line in lines))
        self._drawn = [len(re.sub(_COLOUR, "", line)) for line in lines]

    def clear(self) -> None:
        """Remove the board; others print now."""
        self._quiet_until = time.monotonic() + _QUIET
        if self._drawn:
            self._write(self._erase(self.size()[0]))
            self._drawn = []

    def _erase(self, columns: int) -> str:
        """Return what moves to the top of the board and erases it.

        If the terminal has become narrower, lines of the board take several rows.
        """
        rows = sum(max(1, -(-length // columns)) for length in self._drawn)
        # The terminal may have shown ^C, so the cursor isn't at the start of its line.
        return f"\r\x1b[{rows}A\x1b[J" if rows else ""

    def _write(self, text: str) -> None:
        if text:
            self.stream.write(text)
            self.stream.flush()


class LiveLine(LiveScreen):
    r"""One line, written over again and again.

    The line has no escape codes. It ends with a carriage return, so that the next line
    is written over it, and spaces cover the rest of a longer line. It ends with two
    carriage returns, because a program that reads a pipe line by line waits after the
    first one for a ``\n``, and would be a line behind.
    """

    stream: TextIO  # a pipe to nox, which shows the last line
    columns: int
    _width: int = 0

    def draw(self, state: RunState) -> None:
        """Write over the line."""
        from nox_buildstages.run.board import draw_line  # noqa: PLC0415 - a no-op needs none

        line = draw_line(state, time.time(), columns=self.columns, process=os.getpid())
        if line:
            self._write(line.ljust(self._width))
            self._width = len(line)

    def clear(self) -> None:
        """Write spaces over the line, unless the line is empty."""
        if self._width:
            self._write(" " * self._width)
            self._width = 0

    def _write(self, text: str) -> None:
        self.stream.write(f"{text}\r\r")
        self.stream.flush()


class Heartbeat(LiveScreen):
    """A line now and then, so a silent build doesn't look dead."""

    say: Callable[[Shown], None]
    every: float = HEARTBEAT  # seconds
    _last: float = field(default_factory=time.monotonic)

    def draw(self, state: RunState) -> None:
        """Print the line if the silence was long enough."""
        from nox_buildstages.run.board import draw_line  # noqa: PLC0415 - a no-op needs none

        if time.monotonic() - self._last >= self.every:
            line = draw_line(state, time.time(), columns=160, process=os.getpid())
            if line:
                self.say(line)
                self.clear()

    def clear(self) -> None:
        """Begin to measure the silence again."""
        self._last = time.monotonic()


class Stream(Heartbeat):
    """The output of all programs, and a line of progress now and then."""

    to: TextIO

    def output(self, text: str) -> None:
        """Write the output of a program."""
        with self.lock:
            self.to.write(show_output(text))
            self.to.flush()


class Folds(Heartbeat):
    """The log of each program that has ended, folded, for CI; and a line meanwhile."""

    env: Mapping[str, str]

    def note(self, event: Event) -> None:
        """Print the log of a program that has ended."""
        super().note(event)
        if event.state in (BEGUN, RUNNING) or "log" not in event.facts:
            return
        with suppress(OSError), self.lock:
            path = Path(event.facts["log"])
            lines = read_text(path, errors="replace").splitlines()
            title = f"{path.name}: {event.output} {event.version}".rstrip()
            print_lines(fold(f"{title}, {event.step} {event.state}", lines, self.env))
