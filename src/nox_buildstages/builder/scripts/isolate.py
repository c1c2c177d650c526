"""Run a program in new namespaces, without network.

``python -I -S isolate.py [--online] [--at FOLDER HERE] [PROGRAM ARGUMENT…]``

This script for Linux imports little, because each hook starts the script. The script
cuts the network off, except for ``localhost``, and then becomes the program, so
process, signals and exit status are the program's. The program is optional.

With ``--at``, the program and all processes below see a folder at another path, too,
and a program started in the folder starts at the other path. With ``--online``, the
network stays.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import sys

CANNOT_CUT = 125
"""The exit status if the network can't be cut off."""

CANNOT_MOVE = 126
"""The exit status if the network can be cut off, but a folder can't be mounted."""

CANNOT_RUN = 127
"""The exit status if the program can't be started."""

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
    """A folder can't be mounted elsewhere."""


def main(argv: list[str]) -> int:
    """Enter the namespaces and become a program; return a status after a failure."""
    is_online = argv[:1] == [ONLINE]
    argv = argv[1:] if is_online else argv
    is_moved = argv[:1] == [AT]
    moved, argv = (argv[1:3], argv[3:]) if is_moved else ([], argv)
    try:
        enter_namespaces(moved, online=is_online)
    except OSError as error:
        # The system's word for this limit is about disks.
        is_limit = error.errno == errno.ENOSPC
        reason = "a limit in /proc/sys/user" if is_limit else error.strerror
        print(reason, file=sys.stderr)  # noqa: T201 - for the caller
        return CANNOT_MOVE if isinstance(error, _MoveError) else CANNOT_CUT
    if not argv:
        return 0
    try:
        os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"{error.strerror}: {argv[0]}", file=sys.stderr)  # noqa: T201
        return CANNOT_RUN


def enter_namespaces(moved: list[str], *, online: bool = False) -> None:
    """Enter namespaces without network, and with a folder at another path.

    Root needs no user namespace. In a user namespace root would be the only user, and
    could not, for example, unpack an archive with the owners of the files.

    Raises:
        OSError: The system doesn't allow the namespaces.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = _NEW_MOUNTS if online else _NEW_NET
    if not _enter_as_root(libc, namespace):
        user, group = os.geteuid(), os.getegid()
        _check(libc.unshare(_NEW_USER | namespace))
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        if not online:
            _enable_loopback(libc)
    if moved:
        _move(libc, *moved)


def _enter_as_root(libc: ctypes.CDLL, namespace: int) -> bool:
    if libc.unshare(namespace):
        return False
    try:
        if namespace == _NEW_NET:
            _enable_loopback(libc)
    except PermissionError:  # in a container without all of root's rights
        return False
    # With these the program could leave, or read processes outside.
    dropped = (_SYS_PTRACE, _SYS_ADMIN, _PERFMON)
    return not any(libc.prctl(_DROP_CAPABILITY, it, 0, 0, 0) for it in dropped)


def _move(libc: ctypes.CDLL, folder: str, here: str) -> None:
    """Mount a folder at another path, for this process and all children."""
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


def _enable_loopback(libc: ctypes.CDLL) -> None:
    interfaces = libc.socket(_INTERNET, _DATAGRAMS, 0)
    question = struct.pack(_INTERFACE, b"lo", 0)
    name, flags = struct.unpack(
        _INTERFACE, fcntl.ioctl(interfaces, _GET_FLAGS, question)
    )
    fcntl.ioctl(interfaces, _SET_FLAGS, struct.pack(_INTERFACE, name, flags | _UP))
    os.close(interfaces)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
