"""Which compilers a build starts, as the kernel sees it: by inotify, on Linux.

To run a program is to open its file, by any path. So what isn't seen wasn't started.
What is seen may have been started by somebody else at the same time; then a wheel
counts as compiled, and is built again for another compiler.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_OPENED = 0x20
_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")
_UNKNOWN = -1
"""The number of the watch if one failed, or if the kernel has lost events."""

_MOST = 1 << 16
"""Bytes of events that are read at once."""


@contextmanager
def watch_programs(
    programs: Mapping[str, str],
) -> Iterator[Callable[[], tuple[str, ...] | None]]:
    """Watch programs, given as names by path, until the end of the block.

    Yields:
        A function that returns the names of the programs opened so far, sorted; None if
        that isn't known.
    """
    if sys.platform != "linux":
        yield lambda: None
        return
    libc = ctypes.CDLL(None)
    handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if handle < 0:
        yield lambda: None
        return
    try:
        names: dict[int, str] = {}
        for path, name in programs.items():
            file = os.fsencode(os.path.realpath(path))
            names[libc.inotify_add_watch(handle, file, _OPENED)] = name
        opened: set[int] = set()

        def read() -> tuple[str, ...] | None:
            opened.update(_read_events(handle))
            if _UNKNOWN in opened or _UNKNOWN in names:
                return None
            return tuple(sorted({names[it] for it in opened}))

        yield read
    finally:
        os.close(handle)


def _read_events(handle: int) -> Iterator[int]:
    """Yield the watches of files that were opened, and -1 for events that were lost."""
    with suppress(BlockingIOError):
        while events := os.read(handle, _MOST):
            while events:
                watch, mask, _, length = _EVENT.unpack_from(events)
                events = events[_EVENT.size + length :]
                if mask & (_OPENED | _OVERFLOW):
                    yield watch
