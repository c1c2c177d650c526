"""Locks between processes: files, let go by the kernel when their holder ends."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def held(
    path: Path, *, wait: Callable[[], None] = lambda: None, patience: float = 0.0
) -> Iterator[None]:
    """Hold a lock that only one process at a time can hold.

    Args:
        path: Of the lock's file; its folder is made.
        wait: Called once, where another process holds it.
        patience: Seconds that it may do so before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def taken(path: Path) -> FileLock | None:
    """Take a lock where nobody has it."""
    taking = FileLock(path)
    with suppress(Timeout):
        taking.acquire(timeout=0)
        return taking
    return None
