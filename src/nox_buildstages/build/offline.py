"""Run a program where no network is: ``python -I -S offline.py PROGRAM ARGUMENT…``.

A script for Linux that needs the standard library and nothing else, and little of
that, as it runs before each hook. It takes the program's place only once the network
is cut off, with ``localhost`` up; process, signals and exit status are then the
program's. Without a program it only tries.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import sys

CANNOT_CUT = 125
"""The exit status where the network can't be cut off; nothing was run."""

CANNOT_RUN = 127
"""The exit status where the program can't be started."""

_NEW_USER = 0x10000000
_NEW_NET = 0x40000000
_INTERNET, _DATAGRAMS = 2, 2
_GET_FLAGS = 0x8913
_SET_FLAGS = 0x8914
_UP = 0x1
_INTERFACE = "16sh22x"
_DROP_CAPABILITY = 24
_SYS_PTRACE, _SYS_ADMIN, _PERFMON = 19, 21, 38


def main(argv: list[str]) -> int:
    """Cut the network off and become a program; return the status where that fails."""
    try:
        cut()
    except OSError as error:
        # The system's word for that one is of a disk.
        is_limit = error.errno == errno.ENOSPC
        reason = "a limit in /proc/sys/user" if is_limit else error.strerror
        print(reason, file=sys.stderr)  # noqa: T201 - it is read by who tries
        return CANNOT_CUT
    if not argv:
        return 0
    try:
        os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"{error.strerror}: {argv[0]}", file=sys.stderr)  # noqa: T201
        return CANNOT_RUN


def cut() -> None:
    """Go where no network is but ``localhost``.

    Root needs no user namespace for that. In one it would be the only user there
    is, and could not, for example, unpack an archive with its owners.

    Raises:
        OSError: The system doesn't allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if _cut_as_root(libc):
        return
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_NEW_USER | _NEW_NET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")
    _raise_loopback(libc)


def _cut_as_root(libc: ctypes.CDLL) -> bool:
    if libc.unshare(_NEW_NET):
        return False
    try:
        _raise_loopback(libc)
    except PermissionError:  # as in a container that has not all of root's rights
        return False
    # They lead back out, or let one read in processes outside.
    dropped = (_SYS_PTRACE, _SYS_ADMIN, _PERFMON)
    return not any(libc.prctl(_DROP_CAPABILITY, it, 0, 0, 0) for it in dropped)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 - quick to start
        file.write(text)


def _raise_loopback(libc: ctypes.CDLL) -> None:
    interfaces = libc.socket(_INTERNET, _DATAGRAMS, 0)
    question = struct.pack(_INTERFACE, b"lo", 0)
    name, flags = struct.unpack(
        _INTERFACE, fcntl.ioctl(interfaces, _GET_FLAGS, question)
    )
    fcntl.ioctl(interfaces, _SET_FLAGS, struct.pack(_INTERFACE, name, flags | _UP))
    os.close(interfaces)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
