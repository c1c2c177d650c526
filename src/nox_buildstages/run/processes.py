"""The processes of a run of nox: the first, and the children of ``-j``."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import sys
import time
from contextlib import nullcontext
from threading import Thread
from typing import TYPE_CHECKING

from nox_buildstages.errors import UsageError
from nox_buildstages.model import DEBUG_LOG
from nox_buildstages.run.journal import SAY, Journal
from nox_buildstages.run.run import Run
from nox_buildstages.run.screen import HEARTBEAT, Heartbeat, LiveLine, Screen, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from pathlib import Path

    from nox_buildstages.config.cells import Cells

_RUN_VARIABLE = "NOX_BUILDSTAGES_RUN"
_BOARD_VARIABLE = "NOX_BUILDSTAGES_BOARD"
_HEARTBEAT_VARIABLE = "NOX_BUILDSTAGES_HEARTBEAT"
_LOG_VARIABLE = "NOX_BUILDSTAGES_LOG"

_OUTPUT = logging.DEBUG - 1
"""The level at which nox logs the output of programs, with ``-v``."""

_LOGGER = logging.getLogger("nox")

_INTERVAL = 1.0
"""Seconds between two looks at the journal, and at the parent process."""


def begin_run(wheelhouse: Path) -> Run:
    """Begin a run of nox, or join the run of the parent process.

    The children of ``-j`` inherit the run's id, and the width of the
    terminal on which nox shows their last lines.
    """
    # Nox prints debug messages of every logger that has no level.
    logging.getLogger("nox_buildstages").setLevel(logging.CRITICAL)
    process, _, _ = os.environ.get(_RUN_VARIABLE, "").partition("-")
    if process not in (str(os.getpid()), str(os.getppid())):
        os.environ[_RUN_VARIABLE] = f"{os.getpid()}-{os.urandom(16).hex()}"
        os.environ.pop(_BOARD_VARIABLE, None)
        if sys.stdout.isatty():
            os.environ[_BOARD_VARIABLE] = str(shutil.get_terminal_size().columns)
    name = os.environ[_RUN_VARIABLE]
    is_worker = not name.startswith(f"{os.getpid()}-")
    journal = Journal.of(wheelhouse, name)
    return Run(
        id=name,
        outer=dict(os.environ),
        journal=journal,
        screen=_open_screen(journal if is_worker else None),
        is_parallel=is_worker,
    )


def watch_processes(
    run: Run, cells: Cells, sessions: Collection[str] | None = None
) -> None:
    """Print the messages of other processes, and the summary if no session did.

    A child of ``-j`` leaves both to the parent, and ends with it: if the
    parent is killed, nothing else ends the children.
    """
    if run.is_parallel:
        Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        return
    atexit.register(_print_summary, run.journal, cells, sessions)
    if _BOARD_VARIABLE not in os.environ:
        Thread(target=_print_messages, args=(run.journal,), daemon=True).start()


def open_debug_log(
    run: Run, session: str, *, logs: Callable[[], Path], root: Path
) -> AbstractContextManager[None]:
    """Write the debug log of a session while a block runs, if the user wants a log.

    ``logs`` returns the folder of logs, and ``root`` is the project's folder.

    Raises:
        UsageError: The variable has an invalid value.
    """
    value = run.outer.get(_LOG_VARIABLE)
    if not value:
        return nullcontext()
    if value != "debug":
        raise UsageError(
            problem=f"{_LOG_VARIABLE} is {value!r}",
            hint=f"for a debug log, set it to debug:\n  export {_LOG_VARIABLE}=debug",
        )
    from nox_buildstages.run.debug_log import write_debug_log  # noqa: PLC0415 - few want it

    return write_debug_log(run, session, path=logs() / DEBUG_LOG, root=root)


def _open_screen(parent: Journal | None) -> Screen:
    """Return the screen of this process.

    The parent prints the lines that children write in the journal: nox shows the
    lines of a child only when the session ends. The first process has no parent.
    """

    def say(line: str) -> None:
        if parent is None:
            _LOGGER.info(line)
        else:
            parent.note(SAY, line=line)

    columns = None if parent is None else os.environ.get(_BOARD_VARIABLE)
    is_live = sys.stderr.isatty() if parent is None else columns is not None
    try:
        interval = float(os.environ.get(_HEARTBEAT_VARIABLE, ""))
    except ValueError:
        interval = HEARTBEAT
    if logging.getLogger().isEnabledFor(_OUTPUT):
        return Stream(say=say, interval=interval, to=sys.stderr)
    if not is_live:
        return Heartbeat(say=say, interval=interval)
    return LiveLine(
        stream=sys.stderr,
        columns=lambda: int(columns or shutil.get_terminal_size().columns),
    )


def _end_with_parent(parent: int) -> None:
    """End this process when the parent is gone, and the group made by ``-j``."""
    while os.getppid() == parent:
        time.sleep(_INTERVAL)
    process = os.getpid()
    end = os.killpg if os.getpgrp() == process else os.kill
    end(process, signal.SIGTERM)


def _print_messages(journal: Journal) -> None:
    """Print the lines noted by children, until this process ends."""
    count = 0
    while True:
        time.sleep(_INTERVAL)
        lines = [note["line"] for note in journal.notes() if note["state"] == SAY]
        for line in lines[count:]:
            _LOGGER.info(line)
        count = len(lines)


def _print_summary(
    journal: Journal, cells: Cells, sessions: Collection[str] | None
) -> None:
    """Print the summary if something failed and no session printed a summary."""
    if not journal.path.exists():
        return
    from nox_buildstages.run.summary import missing_summaries, render_summary  # noqa: PLC0415 - a no-op needs none

    notes = journal.notes()
    journal.remove()
    for python, entries in missing_summaries(notes, cells, sessions):
        if len(cells.first.project.pythons) > 1:
            _LOGGER.info("Python %s", python)
        for line in render_summary(entries):
            _LOGGER.info(line)
