"""Give up the rights of root, imported by ``isolate.py``."""

from __future__ import annotations

import ctypes

_KEPT = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4
"""To own files of others, read and write them, and set their modes: without these,
root can't unpack an archive with owners, nor remove files that are read-only."""

_DROP_FROM_BOUNDS, _AMBIENT, _CLEAR_ALL = 24, 47, 4
_VERSION_3 = 0x20080522
_LAST = 64  # above any capability


def drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up all capabilities but those for files, for good.

    With others, root could read the variables of other processes, trace them, load
    kernel modules, or enter other namespaces. Users have none, so nothing changes.
    """
    for number in range(_LAST):
        if not _KEPT >> number & 1:
            libc.prctl(_DROP_FROM_BOUNDS, number, 0, 0, 0)
    libc.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    libc.capget(header, sets)
    kept = sets[1] & _KEPT
    data = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    if libc.capset(header, data):
        number = ctypes.get_errno()
        raise OSError(number, "capabilities can't be dropped")
