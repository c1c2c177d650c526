"""Who is at work with the store, and what they use: none of that is removed.

A session announces itself by a file that it keeps locked. Whoever removes things holds
the *gate* while it chooses and removes; nobody announces itself then, or notes a new
use. So each use of a session at work was noted since a day before it began, or will be
noted when what is removed is gone and can't be found any more.

The sessions of a process follow each other, and what one has left counts for a while:
the next one takes it up again, with no need to pass the gate.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from nox_buildstages.system.locks import held, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from filelock import FileLock


DAY = 86_400.0
"""Seconds for which a use, once noted, isn't noted again."""

FOLDER = "runs"
_GATE = "gate.lock"
_PATIENCE = 1.0
_LINGER = 600.0
"""Seconds that nox may take from the end of a session to the next one of a run."""

_LEFT: dict[tuple[Path, str], FileLock] = {}
"""What the last session of this process announced itself by, by store and run."""


def note_use(store: Path, path: Path) -> None:
    """Note that something in a store is used, by its time of change.

    Nothing happens where that was noted within a day, or can't be.
    """
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY:
            with gate(store):
                os.utime(path)


def gate(
    store: Path, waiting: Callable[[], None] = lambda: None
) -> AbstractContextManager[None]:
    """Let one process at a time remove things, or say what must not be removed.

    Args:
        store: Its folder.
        waiting: Called once, where another one is at it for long.
    """
    return held(store / FOLDER / _GATE, wait=waiting, patience=_PATIENCE)


@contextmanager
def present(store: Path, *, run: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Be at work with a store.

    Where it can't be written to, nobody is told, and nobody can remove anything.

    Args:
        store: Its folder.
        run: Identifies the run of nox: the process of nox, ``-`` and more.
        waiting: Called once, where things are being removed for long.
    """
    lock = _announced(store, run, waiting)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                os.utime(lock.lock_file)
            lock.release()
            _LEFT[store, run] = lock


def at_work_since(store: Path, *, run: str = "-") -> float | None:
    """Return when the first session at work began; None where none is.

    A session that ended counts for a while, as long as its nox runs, which may begin
    the next one. Traces of all others are removed. Call it behind the gate.

    Args:
        store: Its folder.
        run: Our own, which counts for nothing.
    """
    found = []
    for file in (store / FOLDER).glob("[0-9]*-*-*.lock"):
        began, _, rest = file.name.partition("-")
        # Before it is locked: older releases of filelock change the file by that.
        goes_on = not rest.startswith(run) and _may_go_on(file)
        if goes_on or _is_held(file):
            found.append(float(began))
        else:
            with suppress(OSError):
                file.unlink()
    return min(found, default=None)


def _announced(store: Path, run: str, waiting: Callable[[], None]) -> FileLock | None:
    left = _LEFT.pop((store, run), None)
    if left is not None and _still_counts(left):
        return left
    with suppress(OSError), gate(store, waiting):
        at_work_since(store)
        return taken(store / FOLDER / f"{int(time.time())}-{run}-{os.getpid()}.lock")
    return None


def _still_counts(left: FileLock) -> bool:
    """Take up what a session before has left, if nobody can have overlooked it yet.

    Whoever looks before it is locked sees when that session ended, with time to spare.
    """
    with suppress(OSError, Timeout):
        if time.time() - Path(left.lock_file).stat().st_mtime < _LINGER / 2:
            left.acquire(timeout=0)
            return True
    return False


def _is_held(file: Path) -> bool:
    lock = taken(file)
    if lock is None:
        return True
    lock.release()
    return False


def _may_go_on(file: Path) -> bool:
    """Whether the run of a session that ended may begin another one."""
    process = file.name.split("-")[1]
    try:
        ended = file.stat().st_mtime
        os.kill(int(process), 0)
    except PermissionError:
        pass
    except (OSError, ValueError):
        return False
    return time.time() - ended < _LINGER
