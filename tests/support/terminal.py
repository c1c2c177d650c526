"""Nox run where it finds a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from support.project import Completed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.project import Project

COLUMNS = 100
"""Of the terminal."""


def run(project: Project, *args: str, columns: int = COLUMNS) -> Completed:
    """Run nox to its end on a terminal of its own.

    Args:
        project: Where.
        *args: As on the command line.
        columns: How wide the terminal is.

    Returns:
        How it ended; what it printed is as the terminal got it.
    """
    with _terminal(columns) as (ours, theirs):
        process = subprocess.Popen(
            [sys.executable, "-m", "nox", "-db", "uv", *args],
            cwd=project.folder,
            env={**project.env, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        output = b"".join(_read(ours))
    return Completed(returncode=process.wait(30), output=output.decode("utf-8"))


@contextmanager
def _terminal(columns: int) -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def _read(terminal: int) -> Iterator[bytes]:
    with suppress(OSError):  # nobody has it open any more
        while True:
            yield os.read(terminal, 65536)
