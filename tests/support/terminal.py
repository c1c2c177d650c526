"""Programs on a terminal, and what the terminal shows."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from support.project import Completed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from support.project import Project

COLUMNS = 100
"""Of the terminal."""

CTRL_C, CTRL_D = "\x03", "\x04"

_CODES = re.compile(r"(\x1b\[[0-9;?]*[A-Za-z]|[\r\n])")
_INCOMPLETE = re.compile(r"\x1b(?:\[[0-9;?]*)?\Z")


class Terminal:
    """What a terminal shows, with the lines that have scrolled away.

    It knows the codes of nox and of boards: return, line feed, up, erase and colours.

    Attributes:
        lines: All of them.
        too_long: Those that a terminal would have wrapped.
    """

    def __init__(self, columns: int = 0) -> None:
        self.lines = [""]
        self.too_long: list[str] = []
        self._columns = columns
        self._row = self._column = 0

    def write(self, text: str) -> None:
        """Show a text."""
        for part in _CODES.split(text):
            if part == "\n":
                self._row += 1
                self.lines += [""] * (self._row + 1 - len(self.lines))
                self._column = 0
            elif part == "\r":
                self._column = 0
            elif part.startswith("\x1b"):
                self._obey(part[2:-1], part[-1])
            elif part:
                line = self.lines[self._row].ljust(self._column)
                end = self._column + len(part)
                line = f"{line[: self._column]}{part}{line[end:]}"
                self.lines[self._row], self._column = line, end
                if self._columns and len(line.rstrip()) > self._columns:
                    self.too_long.append(line)

    def _obey(self, number: str, code: str) -> None:
        if code == "A":
            self._row = max(0, self._row - int(number or 1))
        elif code in "JK":
            self.lines[self._row] = self.lines[self._row][: self._column]
            if code == "J":
                del self.lines[self._row + 1 :]

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip() + "\n"


def run(project: Project, *args: str, columns: int = COLUMNS) -> Completed:
    """Run nox to its end on a terminal of its own.

    Args:
        project: Where.
        *args: As on the command line.
        columns: How wide the terminal is.

    Returns:
        How it ended; what it printed is as the terminal got it.
    """
    argv = [sys.executable, "-m", "nox", "-db", "uv", *args]
    with _started(argv, project.folder, project.env, columns) as (process, ours):
        output = "".join(_read(ours))
    return Completed(returncode=process.wait(30), output=output)


def watch(
    command: str,
    folder: Path,
    env: Mapping[str, str],
    *,
    columns: int,
    keys: Sequence[tuple[str, str]] = (),
) -> tuple[list[str], Terminal]:
    """Run a command on a terminal, in colour.

    Args:
        command: Of a shell.
        folder: Where.
        env: All that it sees of the environment.
        columns: How wide the terminal is.
        keys: What is typed, one after the other, as soon as the screen matches the
            regular expression before it.

    Returns:
        All that the terminal showed, one after the other, and its screen at the end.
    """
    screen, shown, before, left = Terminal(columns), [""], "", [*keys]
    colourful = {name: env[name] for name in env if name != "NO_COLOR"}
    argv = ["/bin/bash", "-c", command]
    with _started(argv, folder, colourful, columns) as (process, ours):
        for text in _read(ours):
            screen.write(text)
            if str(screen) != shown[-1]:
                shown.append(str(screen))
            now = "\n".join(screen.lines)
            if left and now != before and re.search(left[0][0], now):
                before, (_, typed) = now, left.pop(0)
                if typed == CTRL_C:
                    os.killpg(process.pid, signal.SIGINT)
                else:
                    os.write(ours, typed.encode())
    process.wait(30)
    return shown, screen


@contextmanager
def _started(
    argv: list[str], folder: Path, env: Mapping[str, str], columns: int
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a program on a terminal; yield it and our end of the terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    try:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env={**env, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        yield process, ours
    finally:
        os.close(ours)


def _read(terminal: int) -> Iterator[str]:
    """Yield what is written to a terminal, with no code cut in two."""
    decoder, text = codecs.getincrementaldecoder("utf-8")("replace"), ""
    with suppress(OSError):  # nobody has it open any more
        while True:
            text += decoder.decode(os.read(terminal, 65536))
            whole = _INCOMPLETE.sub("", text)
            text = text[len(whole) :]
            yield whole
