"""Locks between processes: files that the kernel unlocks when their holder ends.

A process that holds one of these locks waits only for later ones of the list:

1. ``users``: a process uses the store (shared, from its first session to its end), or
   ``build-stages-prune`` removes things from the store (exclusive).
2. ``making-PROJECT``: nox makes the environments of a project's sessions.
3. ``locking-PROJECT``: the project's lock files are made.
4. ``environment-PATH``: an environment is changed or used.
5. ``.lock`` of a wheelhouse: the wheelhouse is changed.
6. ``project-PATH``: the build backend of the project itself runs.
7. ``jobs/HOST/SLOT``: a job slot; held as long as its process builds.
8. ``KEY``: the wheel of a key is built or fetched.
9. ``KEY-runs``: processes of a build run; held by their supervisor.
10. ``compilers``, ``git/MIRROR``, ``jobs/HOST/claims``: for moments.

Sharing ``users`` is safe at any time, because only a prune makes others wait for it,
and a prune holds no other lock while it waits. Locks that are only tried may be of any
number. ``tests/integration/test_lock_order.py`` reads this list, and observes runs.

All but those of wheelhouses, mirrors and job slots are in the store's folder ``locks``.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from nox_buildstages.system.process import BEAT, check_interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger(__name__)


@contextmanager
def hold_lock(
    path: Path, *, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold a lock exclusively; call ``on_wait`` once if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _LOG.debug("waiting for lock %s", path)
        on_wait()
        while not lock.is_locked:
            check_interrupt()
            with suppress(Timeout):
                lock.acquire(timeout=BEAT)
    _LOG.debug("holding lock %s", path)
    try:
        yield
    finally:
        lock.release()


def try_lock(path: Path) -> FileLock | None:
    """Take a lock; return None if another process holds it."""
    lock = FileLock(path)
    with suppress(Timeout):
        lock.acquire(timeout=0)
        return lock
    return None


@contextmanager
def hold_shared_lock(
    path: Path, *, exclusive: bool = False, on_wait: Callable[[], None]
) -> Iterator[None]:
    """Hold a lock that many processes can hold at once, or one exclusively.

    filelock's shared lock is a database that readers write to; the kernel's works in a
    read-only folder, too. ``on_wait`` is called once if others hold the lock.
    """
    import fcntl  # noqa: PLC0415 - Windows lacks it, and lists sessions

    path.parent.mkdir(parents=True, exist_ok=True)
    access = os.O_RDWR if exclusive else os.O_RDONLY  # NFS wants both to lock alone
    descriptor = os.open(path, access | os.O_CREAT, 0o666)
    operation = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.debug("waiting for lock %s", path)
            on_wait()
            fcntl.flock(descriptor, operation)
        _LOG.debug("holding lock %s", path)
        yield
    finally:
        os.close(descriptor)


def list_holders(path: Path) -> tuple[int, ...]:
    """Return the processes that hold a lock, as far as Linux shows them to us."""
    try:
        inode = str(path.stat().st_ino)
        rows = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return ()
    # 1: FLOCK ADVISORY READ 4711 08:01:131 0 EOF; a row of a waiting process has "->".
    fields = (row.split() for row in rows if "->" not in row)
    held = {int(pid) for _, _, _, _, pid, at, *_ in fields if at.split(":")[2] == inode}
    return tuple(sorted(held - {0}))
