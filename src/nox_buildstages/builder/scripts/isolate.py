"""Run a program in new namespaces, without network.

``python -I -S isolate.py [--online] [--at FOLDER HERE] [--frozen FOLDER]… [PROGRAM …]``

This script for Linux imports little, because each hook starts the script. The script
cuts the network off, except for ``localhost``, and then becomes the program, so
process, signals and exit status are the program's. The program is optional.

With ``--at``, the program and all processes below see a folder at another path, too,
and a program started in the folder starts at the other path. Nothing lies around that
path except the folders of the system: a program that searches upwards finds no project
of the user. Folders after ``--frozen`` are read-only. With ``--online``, the network
stays.
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

AT, ONLINE, FROZEN = "--at", "--online", "--frozen"

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
_READ_ONLY, _REMOUNT, _MOVE = 0x1, 0x20, 0x2000
_BIND, _ALL_BELOW, _UNBINDABLE, _PRIVATE = 0x1000, 0x4000, 0x20000, 0x40000
_KEPT = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
"""Flags of a mount that must stay; as numbers they are the same for ``mount``."""


class _MoveError(OSError):
    """A folder can't be mounted elsewhere."""


def main(argv: list[str]) -> int:
    """Enter the namespaces and become a program; return a status after a failure."""
    is_online = argv[:1] == [ONLINE]
    argv = argv[1:] if is_online else argv
    is_moved = argv[:1] == [AT]
    moved, argv = (argv[1:3], argv[3:]) if is_moved else ([], argv)
    while argv[:1] == [FROZEN]:
        moved, argv = [*moved, argv[1]], argv[2:]
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

    ``moved`` has the folder, the other path, and folders that become read-only.

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


def _move(libc: ctypes.CDLL, folder: str, here: str, *frozen: str) -> None:
    """Enter a root folder with a folder at another path, and all folders of the system.

    The root has no files of the old one: programs that search upwards for a project
    would find them.
    """
    cwd = os.getcwd()  # noqa: PTH109 - quick to start
    inside = os.path.relpath(cwd, os.path.realpath(folder))

    def mount(source: str | None, target: str, flags: int, kind: str = "") -> None:
        names = (name and os.fsencode(name) for name in (source, target, kind))
        _check(libc.mount(*names, flags, b"mode=555" if kind else None))

    try:
        _check(libc.unshare(_NEW_MOUNTS))
        mount(None, "/", _ALL_BELOW | _PRIVATE)
        os.chdir(folder)  # the new root hides the folder, except as "."
        mount("tmpfs", folder, 0, "tmpfs")
        mount(None, folder, _UNBINDABLE)  # it doesn't contain itself
        for entry in os.scandir("/"):  # quicker than pathlib
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), folder + entry.path)  # noqa: PTH115, PTH211
            elif entry.is_dir():
                os.mkdir(folder + entry.path)  # noqa: PTH102 - quick to start
                mount(entry.path, folder + entry.path, _ALL_BELOW | _BIND)
        os.mkdir(folder + here)  # noqa: PTH102 - quick to start
        mount(".", folder + here, _ALL_BELOW | _BIND)
        for path in map(os.path.realpath, frozen):
            kept = os.statvfs(path).f_flag & _KEPT
            mount(path, folder + path, _ALL_BELOW | _BIND)
            mount(None, folder + path, _REMOUNT | _BIND | _READ_ONLY | kept)
        os.chdir(folder)
        mount(None, ".", _PRIVATE)
        mount(".", "/", _MOVE)
        os.chroot(".")
    except OSError as error:
        raise _MoveError(*error.args) from error
    is_outside = inside.startswith(os.pardir)
    os.chdir(cwd if is_outside else os.path.join(here, inside))  # noqa: PTH118


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
