"""Restrict the files that a program reaches (Landlock), imported by ``isolate.py``.

Without a rule for a file, or for a folder above, the kernel refuses access. Rules only
allow more, so a folder can't be excluded from an allowed folder.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

READ, WRITE, DEVICE = "r", "w", "d"
"""The kinds of rules: read and run; also make, write and remove; use a device."""

FIRST_USABLE = 2
"""The version of Landlock from which on a program can move files between folders."""

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # calls, the same on all machines
_ASK_VERSION, _PATH_BENEATH, _NO_NEW_PRIVILEGES = 1, 1, 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_DEVICES = 1 << 6 | 1 << 11
_REFER, _TRUNCATE, _CONTROL = 1 << 13, 1 << 14, 1 << 15
_BITS = {1: 13, 2: 14, 3: 15, 4: 15}  # of accesses that a version knows, then 16
_NETWORK_VERSION, _SCOPES_VERSION = 4, 6
_SCOPES = 1 << 0 | 1 << 1  # abstract sockets and signals
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _CONTROL
"""The accesses that a rule for a file can have."""


def find_version(libc: ctypes.CDLL) -> int:
    """Return the version of Landlock that the kernel has; 0 for none."""
    version: int = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(0, version)


def restrict_files(libc: ctypes.CDLL, rules: list[str], version: int) -> None:
    """Restrict this process, and all below, to files; also scope sockets and signals.

    Each rule is a letter and a path. Paths that don't exist are skipped. The kernel has
    the version of Landlock, or a later one.

    Raises:
        OSError: The kernel has no Landlock.
    """
    known = (1 << _BITS.get(version, 16)) - 1
    read = _EXECUTE | _READ_FILE | _READ_DIR
    accesses = {
        READ: read,
        WRITE: known & ~(_MAKE_DEVICES | _CONTROL),
        DEVICE: _READ_FILE | _READ_DIR | _WRITE_FILE | known & _CONTROL,
    }
    parts = [known]
    if version >= _NETWORK_VERSION:
        parts.append(0)  # of the network, nothing is restricted
    if version >= _SCOPES_VERSION:
        parts.append(_SCOPES)
    attributes = struct.pack(f"={len(parts)}Q", *parts)
    size = ctypes.c_size_t(len(attributes))
    ruleset = _check(libc.syscall(_CREATE, attributes, size, 0))
    for rule in rules:
        try:
            handle = os.open(rule[1:], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        access = accesses[rule[0]]
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            access &= _OF_FILES
        path = struct.pack("=Qi", access, handle)
        _check(libc.syscall(_ADD, ruleset, _PATH_BENEATH, path, 0))
        os.close(handle)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _check(libc.syscall(_RESTRICT, ruleset, 0))
    os.close(ruleset)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
