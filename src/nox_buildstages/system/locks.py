"""Locks between processes: files unlocked by the kernel when their holder ends.

A thread with a lock of this list, or started by a thread with a lock, waits only for
later locks of the list:

1. ``users``: a process uses the store (shared, from the first session to the end), or
   ``build-stages-prune`` removes things from the store (exclusive).
2. ``making-PATH``: nox makes an environment. A process takes several of these
   locks in the order of their names.
3. ``locking-PROJECT``: the project's lock files are made.
4. ``environment-PATH``: an environment is changed or used.
5. ``.lock`` of a wheelhouse: the wheelhouse is changed.
6. ``project-PATH``: the build backend of the project itself runs.
7. ``jobs/HOST/SLOT``: a job slot; held for successive builds.
8. ``KEY``: the wheel of a key is built or fetched. A process with the lock of a key
   may take the one of the same key without compilers, or with a processor.
9. ``KEY-runs``: processes of a build run; held by their supervisor.
10. ``compilers``, ``git/MIRROR``, ``jobs/HOST/claims``, ``trial``: for moments.

Sharing ``users`` is safe at any time, because others wait only for a prune, and a
waiting prune holds no other lock. Locks may be tried, without waiting, in any order.
``tests/integration/test_lock_order.py`` reads this list, and observes runs.

Temporary files and folders are locked by their makers; those locks are only tried.

Except for wheelhouses, mirrors and job slots, the files are in the store's folder
``locks``.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.system.process import check_interrupt
from nox_buildstages.value import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger(__name__)

PAUSE = 0.05
"""Seconds between two attempts to take a lock that another process holds."""


@contextmanager
def hold_lock(
    path: Path, *, on_wait: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, ...]]:
    """Hold a lock exclusively; call ``on_wait`` once if another process has it.

    Yields:
        The descriptor of the lock. As long as a program that inherits it runs, the lock
        is held, even if this process is killed.
    """
    if sys.platform == "win32":  # where projects are locked, and the kernel can't
        from filelock import FileLock  # noqa: PLC0415

        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield ()
    else:
        with _hold(path, on_wait, is_shared=False) as descriptor:
            yield (descriptor,)


@contextmanager
def hold_shared_lock(path: Path, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock shared by many processes, even in a read-only folder."""
    with _hold(path, on_wait, is_shared=True):
        yield


class HeldLock(Record):
    """A lock held by this process until the release."""

    descriptor: int | None  # None afterwards

    def release(self) -> None:
        """Release the lock, unless already released."""
        if self.descriptor is not None:
            os.close(self.descriptor)
        self.descriptor = None


def take_lock(path: Path) -> HeldLock:
    """Take a lock that no other process should hold.

    Raises:
        BlockingIOError: Another process holds it.
    """
    return HeldLock(descriptor=_take(path))


def try_lock(path: Path) -> HeldLock | None:
    """Take a lock; return None if another process holds it."""
    try:
        return take_lock(path)
    except BlockingIOError:
        return None


@contextmanager
def _hold(path: Path, on_wait: Callable[[], None], *, is_shared: bool) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    has_reported = False
    while True:
        try:
            descriptor = _take(path, is_shared=is_shared)
            break
        except BlockingIOError:
            if not has_reported:
                _LOG.debug("waiting for lock %s", path)
                on_wait()
            has_reported = True
            check_interrupt()  # a thread would wait in the kernel after Ctrl-C, too
            time.sleep(PAUSE)
    try:
        _LOG.debug("holding lock %s", path)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(path: Path, *, is_shared: bool = False) -> int:
    """Return the descriptor of a locked file.

    A prune may remove the file before we have the lock; then we need the new file.

    Raises:
        BlockingIOError: Another process holds the lock.
    """
    import fcntl  # noqa: PLC0415 - Windows lacks it

    access = os.O_RDONLY if is_shared else os.O_RDWR  # NFS wants both to lock alone
    operation = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    while True:
        descriptor = os.open(path, access | os.O_CREAT | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def list_holders(path: Path) -> tuple[int, ...]:
    """Return the processes with a lock, as far as Linux shows them to us."""
    try:
        inode = str(path.stat().st_ino)
        rows = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return ()
    # 1: FLOCK ADVISORY READ 4711 08:01:131 0 EOF; a row of a waiting process has "->".
    fields = (row.split() for row in rows if "->" not in row)
    held = {int(pid) for _, _, _, _, pid, at, *_ in fields if at.split(":")[2] == inode}
    return tuple(sorted(held - {0}))
