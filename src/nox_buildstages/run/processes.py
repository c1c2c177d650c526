"""The processes of a run of nox: the first, and the children of ``-j``."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import shlex
import shutil
import signal
import stat
import sys
import time
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from nox_buildstages.errors import UsageError
from nox_buildstages.model import DEBUG_LOG
from nox_buildstages.run.ci import add_to_summary, is_folding
from nox_buildstages.run.events import BEGUN
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run
from nox_buildstages.run.screen import (
    HEARTBEAT,
    Board,
    Folds,
    Heartbeat,
    LiveLine,
    Screen,
    Stream,
)
from nox_buildstages.safe_text import Shown, show
from nox_buildstages.text import has_colour, show_path, wrap_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from nox_buildstages.config.cells import Cells
    from nox_buildstages.run.events import Event
    from nox_buildstages.run.nox_command_line import NoxInvocation, RegisteredSession

_RUN_VARIABLE = "NOX_BUILDSTAGES_RUN"
_BOARD_VARIABLE = "NOX_BUILDSTAGES_BOARD"
_HEARTBEAT_VARIABLE = "NOX_BUILDSTAGES_HEARTBEAT"
_LOG_VARIABLE = "NOX_BUILDSTAGES_LOG"

_OUTPUT = logging.DEBUG - 1
"""The level at which nox logs the output of programs, with ``-v``."""

_LOGGER = logging.getLogger("nox")

_PREFIX = "nox > "
"""Nox prints it before each record."""

_COLUMNS = 100
"""The width of lines without a terminal."""

_INTERVAL = 1.0
"""Seconds between two looks at the parent process."""


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
    columns = os.environ.get(_BOARD_VARIABLE)
    is_terminal = columns is not None if is_worker else sys.stderr.isatty()
    if columns is None and is_terminal:
        columns = str(shutil.get_terminal_size().columns)
    if is_terminal:
        _LOGGER.addFilter(partial(_wrap_record, columns=int(columns or _COLUMNS)))
    return Run(
        id=name,
        outer=dict(os.environ),
        journal=journal,
        colour=has_colour(os.environ, is_terminal=is_terminal),
        columns=int(columns or _COLUMNS),
        width=int(columns or _COLUMNS) if is_terminal else None,
        is_verbose=logging.getLogger().isEnabledFor(_OUTPUT),
        screen=_open_screen(journal if is_worker else None),
        is_parallel=is_worker,
    )


def _wrap_record(record: logging.LogRecord, *, columns: int) -> bool:
    """Wrap the lines of a record between words, those of nox as well as ours."""
    wrapped = (
        wrap_line(line, columns - len(_PREFIX), indent=" " * len(f"{_PREFIX}  "))
        for line in record.getMessage().splitlines()
    )
    record.msg, record.args = "\n".join(it for lines in wrapped for it in lines), ()
    return True


def watch_processes(
    run: Run,
    cells: Cells,
    selected: Mapping[str, RegisteredSession],
    invocation: NoxInvocation,
    *,
    write_report: Callable[[Sequence[Event]], None],
) -> None:
    """Begin the journal if a selected session builds; watch other processes.

    A child of ``-j`` ends with its parent: if that is killed, nothing else ends it.
    """
    builds = invocation.makes_environments and any(
        session.builds for session in selected.values()
    )
    if run.is_parallel:
        run.keeps_events = builds
        Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        return
    if builds:
        begin_journal(run, cells, selected, invocation, write_report=write_report)
    elif invocation.is_parallel and invocation.makes_environments:
        # Children may run sessions of ours that one of the user's requires.
        atexit.register(_end_run, run, cells, None, write_report)
    has_terminal = _BOARD_VARIABLE in os.environ
    if invocation.is_parallel and not has_terminal and sys.platform != "win32":
        _let_children_append()


def begin_journal(
    run: Run,
    cells: Cells,
    sessions: Mapping[str, RegisteredSession],
    invocation: NoxInvocation,
    *,
    write_report: Callable[[Sequence[Event]], None],
) -> None:
    """Keep the events of sessions that build, by full name.

    At the end of this process, the report is written, and a summary if none is shown.
    The children of ``-j`` leave both to the parent.
    """
    run.keeps_events = True
    run.emit(
        *("run", BEGUN),
        sessions=[*sessions],
        parallel=invocation.is_parallel,
        command=shlex.join(("nox", *sys.argv[1:])),
        host=platform.node(),
    )
    stages = {session.name for session in sessions.values() if session.tags}
    of_stages = stages if cells.has_matrix and stages else None
    atexit.register(_end_run, run, cells, of_stages, write_report)


def print_summary(
    run: Run,
    entries: Sequence[Mapping[str, Any]],
    events: Iterable[Event],
    report: Path | None = None,
) -> None:
    """Print a summary, and add it to the summary of a job in GitHub."""
    from nox_buildstages.run.summary import (  # noqa: PLC0415 - a child may need none
        render_summary,
        summarize,
        summary_markdown,
    )

    shown = show_path(report, Path.cwd()) if report else ""
    summary = summarize(entries, events, now=time.time(), report=shown)
    run.print_lines(render_summary(summary, columns=run.columns, colour=run.colour))
    with suppress(OSError):  # a full disk
        title = run.place.get("session", "")
        add_to_summary(summary_markdown(summary), run.outer, title=title)


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


def _open_screen(shared: Journal | None) -> Screen:
    """Return the screen of this process; children of ``-j`` share the journal.

    Nox shows the lines of a child only when the session ends, so without a terminal
    children print to the stream of the process that was called.
    """
    columns = None if shared is None else os.environ.get(_BOARD_VARIABLE)
    every = _read_heartbeat(os.environ.get(_HEARTBEAT_VARIABLE, ""))
    say = _LOGGER.info if shared is None else _say_in_parent
    if is_folding(os.environ):
        return Folds(say=say, every=every, journal=shared, env=dict(os.environ))
    if logging.getLogger().isEnabledFor(_OUTPUT):
        return Stream(say=say, every=every, to=sys.stderr, journal=shared)
    if columns is not None:
        return LiveLine(stream=sys.stderr, columns=int(columns), journal=shared)
    if shared is None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Board(
            stream=sys.stderr,
            size=shutil.get_terminal_size,
            colour=has_colour(os.environ, is_terminal=True),
        )
    return Heartbeat(say=say, every=every, journal=shared)


def _read_heartbeat(value: str) -> float:
    """Return the seconds of silence after which a line is printed.

    Raises:
        UsageError: The value of the variable is no number of seconds.
    """
    if not value:
        return HEARTBEAT
    with suppress(ValueError):
        if (seconds := float(value)) >= 0:
            return seconds
    raise UsageError(
        problem=f"{_HEARTBEAT_VARIABLE} is {value!r}",
        hint="set it to a number of seconds, or unset it",
    )


def _say_in_parent(line: Shown) -> None:
    """Print a line to the standard error stream of the parent process.

    A socket can't be opened in this way; then nothing is printed until the end.
    """
    with suppress(OSError):
        path = Path(f"/proc/{os.getppid()}/fd/2")
        with path.open("a", encoding="utf-8", errors="replace") as stream:
            stream.write(f"nox > {line}\n")


def _let_children_append() -> None:
    """Let children add lines to the file that standard output or error may go to.

    Otherwise this process would write over them.
    """
    import fcntl  # noqa: PLC0415 - Windows lacks it

    for descriptor in (1, 2):
        with suppress(OSError):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)


def _end_with_parent(parent: int) -> None:
    """End this process when the parent is gone, and the group made by ``-j``."""
    while os.getppid() == parent:
        time.sleep(_INTERVAL)
    process = os.getpid()
    end = os.killpg if os.getpgrp() == process else os.kill
    end(process, signal.SIGTERM)


def _end_run(
    run: Run,
    cells: Cells,
    sessions: Collection[str] | None,
    write_report: Callable[[Sequence[Event]], None],
) -> None:
    """Print the summary if no session did, and what a stop keeps; write the report."""
    from nox_buildstages.run.failure import describe_stop  # noqa: PLC0415 - a no-op needs none
    from nox_buildstages.run.summary import missing_summaries  # noqa: PLC0415

    try:
        events = run.events()
        if not events:
            return
        for python, entries in missing_summaries(events, cells, sessions):
            if len(cells.first.project.pythons) > 1:
                _LOGGER.info("Python %s", python)
            print_summary(run, entries, events[:1])
        command = ("nox", *sys.argv[1:])
        for line in describe_stop(events, command, now=time.time()):
            _LOGGER.info("%s", show(line))
        write_report(events)
    except Exception as error:  # noqa: BLE001 - the last line of defence
        from nox_buildstages.run.unexpected import explain  # noqa: PLC0415

        run.print_lines(explain(error).lines(colour=run.colour, width=run.width))
    run.journal.remove()
