"""Enter namespaces of the kernel, imported by ``isolate.py``.

In a network namespace, a program reaches only a private ``localhost``. In a mount
namespace, the program sees a folder at another path, all other files only to read, and
private shared memory.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

_NEW_MOUNTS = 0x20000
_NEW_USER = 0x10000000
_NEW_NET = 0x40000000
_INTERNET, _DATAGRAMS = 2, 2
_GET_FLAGS = 0x8913
_SET_FLAGS = 0x8914
_UP = 0x1
_INTERFACE = "16sh22x"
_MOVE = 0x2000
_BIND, _ALL_BELOW, _UNBINDABLE, _PRIVATE = 0x1000, 0x4000, 0x20000, 0x40000
_SET_ATTRIBUTES, _HERE, _RECURSIVE, _READ_ONLY = 442, -100, 0x8000, 0x1
_SHARED_MEMORY, _SOCKETS = "/dev/shm", "/run"  # noqa: S108 - mounted, not opened


class MoveError(OSError):
    """A folder can't be mounted elsewhere."""


def enter_namespaces(
    libc: ctypes.CDLL,
    places: list[tuple[str, str]],
    writable: list[str] | None,
    *,
    offline: bool,
) -> None:
    """Enter namespaces: without network, or with folders at other paths, or both.

    ``places`` has folders and their other paths. Everything but the first folder is
    read-only, except paths in ``writable``; None if the files aren't restricted.

    Root needs no user namespace. In a user namespace root would be the only user, and
    could not, for example, unpack an archive with the owners of the files.

    Raises:
        OSError: The system doesn't allow the namespaces.
        MoveError: The system allows the namespaces, but no mounts.
    """
    _enter(libc, _NEW_NET if offline else _NEW_MOUNTS)
    if places:
        _move(libc, places, writable=writable, offline=offline)


def hide_files(libc: ctypes.CDLL, paths: list[str]) -> None:
    """Enter a mount namespace with an empty file in the place of each file.

    Raises:
        OSError: The system doesn't allow it.
    """
    _enter(libc, _NEW_MOUNTS)
    _mount(libc, None, "/", _ALL_BELOW | _PRIVATE)
    for path in paths:
        _mount(libc, os.devnull, path, _BIND)


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    """Enter a namespace, as root or in a user namespace."""
    if not _enter_as_root(libc, namespace):
        user, group = os.geteuid(), os.getegid()
        _check(libc.unshare(_NEW_USER | namespace))
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        if namespace == _NEW_NET:
            _enable_loopback(libc)


def _enter_as_root(libc: ctypes.CDLL, namespace: int) -> bool:
    if libc.unshare(namespace):
        return False
    try:
        if namespace == _NEW_NET:
            _enable_loopback(libc)
    except PermissionError:  # in a container without all of root's rights
        return False
    return True


def _move(
    libc: ctypes.CDLL,
    places: list[tuple[str, str]],
    *,
    writable: list[str] | None,
    offline: bool,
) -> None:
    """Enter a root folder with folders at other paths, and all folders of the system.

    The root has no files of the old one: programs that search upwards for a project
    would find them. Without network, it also lacks the sockets of the system's
    services.
    """
    (folder, here), *more = places
    cwd = os.getcwd()  # noqa: PTH109 - quick to start
    top = os.path.realpath(folder)
    inside = os.path.relpath(cwd, top)
    # Below the folder, paths lead into the new root soon.
    others = [it for it in writable or [] if not f"{it}/".startswith(f"{top}/")]
    uses_run = any(it.startswith(_SOCKETS + os.sep) for it in (cwd, folder, *others))
    writes = [(it, it) for it in others]
    for source, seen in more:
        source_top = os.path.realpath(source)
        writes += [
            (it, seen + it[len(source_top) :])
            for it in others
            if f"{it}/".startswith(f"{source_top}/")
        ]

    try:
        _check(libc.unshare(_NEW_MOUNTS))
        _mount(libc, None, "/", _ALL_BELOW | _PRIVATE)
        os.chdir(folder)  # the new root hides the folder, except as "."
        _mount(libc, "tmpfs", folder, 0, "555")
        _mount(libc, None, folder, _UNBINDABLE)  # it doesn't contain itself
        for entry in os.scandir("/"):  # quicker than pathlib
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), folder + entry.path)  # noqa: PTH115, PTH211
            elif entry.is_dir():
                os.mkdir(folder + entry.path)  # noqa: PTH102 - quick to start
                if entry.path != _SOCKETS or uses_run or not offline:
                    _mount(libc, entry.path, folder + entry.path, _ALL_BELOW | _BIND)
        os.mkdir(folder + here)  # noqa: PTH102 - quick to start
        for source, seen in more:
            os.mkdir(folder + seen)  # noqa: PTH102
            _mount(libc, source, folder + seen, _ALL_BELOW | _BIND)
        if writable is not None:
            _make_read_only(libc, folder, writes)
        _mount(libc, ".", folder + here, _ALL_BELOW | _BIND)
        os.chdir(folder)
        _mount(libc, None, ".", _PRIVATE)
        _mount(libc, ".", "/", _MOVE)
        os.chroot(".")
    except OSError as error:
        raise MoveError(*error.args) from error
    is_outside = inside.startswith(os.pardir)
    os.chdir(cwd if is_outside else os.path.join(here, inside))  # noqa: PTH118


def _make_read_only(
    libc: ctypes.CDLL, root: str, writable: list[tuple[str, str]]
) -> None:
    """Make a new root read-only, except some paths, each with its path in the root."""
    attributes = struct.pack("=4Q", _READ_ONLY, 0, 0, 0)
    size, top = ctypes.c_size_t(len(attributes)), os.fsencode(root)
    call = (_SET_ATTRIBUTES, _HERE, top, _RECURSIVE, attributes, size)
    _check(libc.syscall(*call))
    for path, seen in writable:
        if path == _SHARED_MEMORY:
            _mount(libc, "tmpfs", root + seen, 0, "1777")
        elif os.path.lexists(path):
            _mount(libc, path, root + seen, _ALL_BELOW | _BIND)


def _mount(
    libc: ctypes.CDLL, source: str | None, target: str, flags: int, mode: str = ""
) -> None:
    """Mount a folder, or with a mode a new file system in memory."""
    kind, data = (b"tmpfs", b"mode=" + mode.encode()) if mode else (None, None)
    names = (name and os.fsencode(name) for name in (source, target))
    _check(libc.mount(*names, kind, flags, data))


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
