"""One run of nox: the process that was called, and those that ``-j`` starts."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from nox_buildstages.run.journal import SAY, Journal
from nox_buildstages.run.run import Run
from nox_buildstages.run.screen import HEARTBEAT, Heartbeat, LiveLine, Stream

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from nox_buildstages.config.cells import Cells
    from nox_buildstages.run.screen import Screen

_RUN_VARIABLE = "NOX_BUILDSTAGES_RUN"
_BOARD_VARIABLE = "NOX_BUILDSTAGES_BOARD"
_HEARTBEAT_VARIABLE = "NOX_BUILDSTAGES_HEARTBEAT"

_OUTPUT = logging.DEBUG - 1
"""The level at which nox logs what programs print, with ``-v``."""

_LOGGER = logging.getLogger("nox")

_LOOK = 1.0
"""Seconds between two looks at what the sessions have said, and at who waits for it."""


def begin_run(wheelhouse: Path) -> Run:
    """Begin a run of nox, or join the run of the process that started this one.

    The processes that ``-j`` starts inherit the run's id, and the width of the
    terminal on which nox shows their last lines.

    Args:
        wheelhouse: The project's folder, in which the run has its journal.
    """
    process, _, _ = os.environ.get(_RUN_VARIABLE, "").partition("-")
    if process not in (str(os.getpid()), str(os.getppid())):
        os.environ[_RUN_VARIABLE] = f"{os.getpid()}-{os.urandom(16).hex()}"
        os.environ.pop(_BOARD_VARIABLE, None)
        if sys.stdout.isatty():
            os.environ[_BOARD_VARIABLE] = str(shutil.get_terminal_size().columns)
    name = os.environ[_RUN_VARIABLE]
    journal = Journal.of(wheelhouse, name)
    return Run(
        id=name,
        outer=dict(os.environ),
        journal=journal,
        screen=_screen(journal),
        is_parallel=_is_worker(),
    )


def attend(run: Run, cells: Cells, sessions: Collection[str] | None = None) -> None:
    """Print what the other processes of a run say, and its summary if none did.

    A process that ``-j`` started leaves both to its parent, and ends with it: if the
    parent is killed, nothing else ends its children.

    Args:
        run: The run of this process.
        cells: All cells of the project.
        sessions: The sessions of stages that may run, without a Python; None for all.
    """
    if run.is_parallel:
        Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        return
    several = len(cells.first.project.pythons) > 1
    atexit.register(_end, run.journal, cells, sessions, several=several)
    if _BOARD_VARIABLE not in os.environ:
        Thread(target=_repeat, args=(run.journal,), daemon=True).start()


def _screen(journal: Journal) -> Screen:
    """Return where people see how far a session of this process is."""
    columns = os.environ.get(_BOARD_VARIABLE)
    say, is_live = _LOGGER.info, sys.stderr.isatty()
    if _is_worker():
        say, is_live = partial(_say, journal), columns is not None
    if logging.getLogger().isEnabledFor(_OUTPUT):
        return Stream(say=say, interval=_interval(), to=sys.stderr)
    if not is_live:
        return Heartbeat(say=say, interval=_interval())
    return LiveLine(stream=sys.stderr, columns=partial(_columns, columns))


def _is_worker() -> bool:
    return not os.environ[_RUN_VARIABLE].startswith(f"{os.getpid()}-")


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, and the group that ``-j`` gave it."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    process = os.getpid()
    end = os.killpg if os.getpgrp() == process else os.kill
    end(process, signal.SIGTERM)


def _interval() -> float:
    with suppress(ValueError):
        return float(os.environ.get(_HEARTBEAT_VARIABLE, ""))
    return HEARTBEAT


def _columns(board: str | None) -> int:
    """Return how wide the terminal is: ours, or that of the process that was called."""
    if _is_worker() and board is not None:
        return int(board)
    return shutil.get_terminal_size().columns


def _say(journal: Journal, line: str) -> None:
    """Have a line printed by the process that was called.

    What we print ourselves is held back until the session ends.
    """
    journal.note(SAY, line=line)


def _repeat(journal: Journal) -> None:
    """Print what the sessions say."""
    said = 0
    while True:
        time.sleep(_LOOK)
        lines = [note["line"] for note in journal.notes() if note["state"] == SAY]
        for line in lines[said:]:
            _LOGGER.info(line)
        said = len(lines)


def _end(
    journal: Journal, cells: Cells, sessions: Collection[str] | None, *, several: bool
) -> None:
    """Print the closing table where something went wrong and no session printed it."""
    if not journal.path.exists():
        return
    from nox_buildstages.run import summary as closing  # noqa: PLC0415 - nothing was provided

    notes = journal.notes()
    journal.remove()
    for python, table in closing.left_open(notes, cells, sessions):
        if several:
            _LOGGER.info("Python %s", python)
        for line in closing.rendered(table):
            _LOGGER.info(line)
