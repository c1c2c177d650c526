"""Run a program where no network is: ``python -I -S offline.py PROGRAM ARGUMENT…``.

A script for Linux that needs the standard library and nothing else, and little of
that, as it runs before each hook. It takes the program's place only once the network
is cut off, with ``localhost`` up; process, signals and exit status are then the
program's. Without a program it only tries.

With ``--at FOLDER HERE`` before it the program, and what it starts, finds a folder
under another path too, and runs there if it would in the folder. ``--online`` before
that leaves the network as it is.
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

CANNOT_MOVE = 126
"""The exit status where a folder can't be shown elsewhere; the network can be cut."""

CANNOT_RUN = 127
"""The exit status where the program can't be started."""

AT, ONLINE = "--at", "--online"

_NEW_MOUNTS = 0x20000
_NEW_USER = 0x10000000
_NEW_NET = 0x40000000
_INTERNET, _DATAGRAMS = 2, 2
_GET_FLAGS = 0x8913
_SET_FLAGS = 0x8914
_UP = 0x1
_INTERFACE = "16sh22x"
_DROP_CAPABILITY = 24
_SYS_PTRACE, _SYS_ADMIN, _PERFMON = 19, 21, 38
_BIND, _ALL_BELOW, _PRIVATE = 0x1000, 0x4000, 0x40000


class _MoveError(OSError):
    """A folder can't be shown elsewhere."""


def main(argv: list[str]) -> int:
    """Cut the network off and become a program; return the status where that fails."""
    is_online = argv[:1] == [ONLINE]
    argv = argv[1:] if is_online else argv
    is_moved = argv[:1] == [AT]
    moved, argv = (argv[1:3], argv[3:]) if is_moved else ([], argv)
    try:
        separate(moved, online=is_online)
    except OSError as error:
        # The system's word for that one is of a disk.
        is_limit = error.errno == errno.ENOSPC
        reason = "a limit in /proc/sys/user" if is_limit else error.strerror
        print(reason, file=sys.stderr)  # noqa: T201 - it is read by who tries
        return CANNOT_MOVE if isinstance(error, _MoveError) else CANNOT_CUT
    if not argv:
        return 0
    try:
        os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"{error.strerror}: {argv[0]}", file=sys.stderr)  # noqa: T201
        return CANNOT_RUN


def separate(moved: list[str], *, online: bool = False) -> None:
    """Go where no network is but ``localhost``, and a folder is found elsewhere too.

    Root needs no user namespace for that. In one it would be the only user there
    is, and could not, for example, unpack an archive with its owners.

    Args:
        moved: The folder, and where it is found; empty where nothing is moved.
        online: Whether the network is left as it is.

    Raises:
        OSError: The system doesn't allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = _NEW_MOUNTS if online else _NEW_NET
    if not _separate_as_root(libc, namespace):
        user, group = os.geteuid(), os.getegid()
        _check(libc.unshare(_NEW_USER | namespace))
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        if not online:
            _raise_loopback(libc)
    if moved:
        _move(libc, *moved)


def _separate_as_root(libc: ctypes.CDLL, namespace: int) -> bool:
    if libc.unshare(namespace):
        return False
    try:
        if namespace == _NEW_NET:
            _raise_loopback(libc)
    except PermissionError:  # as in a container that has not all of root's rights
        return False
    # They lead back out, or let one read in processes outside; gone from the program.
    dropped = (_SYS_PTRACE, _SYS_ADMIN, _PERFMON)
    return not any(libc.prctl(_DROP_CAPABILITY, it, 0, 0, 0) for it in dropped)


def _move(libc: ctypes.CDLL, folder: str, here: str) -> None:
    """Show a folder under another path, to this process and those that it starts."""
    inside = os.path.relpath(os.getcwd(), os.path.realpath(folder))  # noqa: PTH109 - quick
    source, target = os.fsencode(folder), os.fsencode(here)
    try:
        _check(libc.unshare(_NEW_MOUNTS))
        _check(libc.mount(None, b"/", None, _ALL_BELOW | _PRIVATE, None))
        _check(libc.mount(source, target, None, _ALL_BELOW | _BIND, None))
    except OSError as error:
        raise _MoveError(*error.args) from error
    if not inside.startswith(os.pardir):
        os.chdir(os.path.join(here, inside))  # noqa: PTH118 - quick to start


def _check(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


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
