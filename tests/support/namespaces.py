"""What the machine allows of namespaces, and a way to be where it allows none."""

from __future__ import annotations

import errno
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import nox_buildstages

OFFLINE = Path(nox_buildstages.__file__).parent / "builder/scripts/isolate.py"
"""The script that cuts the network off."""

_FORBID_NET = "echo 0 > /proc/sys/user/max_net_namespaces"
_FORBID_ALL = f"{_FORBID_NET} && echo 0 > /proc/sys/user/max_mnt_namespaces"


def offline(*argv: str) -> list[str]:
    """Return a command that runs with no network."""
    return [sys.executable, "-I", "-S", str(OFFLINE), "namespace", "--", *argv]


def forbidding(*argv: str) -> list[str]:
    """Return a command that runs where the system allows no network namespace."""
    forbid = f'{_FORBID_NET} && exec "$@"'
    return ["unshare", "--map-root-user", "sh", "-c", forbid, "sh", *argv]


def forbidding_all(*argv: str) -> list[str]:
    """Return a command that runs with no namespaces, as in most containers."""
    forbid = f'{_FORBID_ALL} && exec "$@"'
    return ["unshare", "--map-root-user", "sh", "-c", forbid, "sh", *argv]


def _works(command: list[str]) -> bool:
    if sys.platform != "linux" or shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


has_namespaces = _works(offline())
"""Whether this system allows network namespaces."""

needs_namespaces = pytest.mark.skipif(
    not has_namespaces, reason="this system allows no network namespace"
)
can_forbid = pytest.mark.skipif(
    not _works(forbidding("true")), reason="this system allows no user namespace"
)

_FORBID_CALLS = """
import ctypes, struct, sys, os
libc = ctypes.CDLL(None, use_errno=True)
calls, argv = eval(sys.argv[1]), sys.argv[2:]
steps = []
for (number, first), error in calls.items():
    steps += [(0x20, 0, 0, 0), (0x15, 0, 1 if first is None else 3, number)]
    steps += [] if first is None else [(0x20, 0, 0, 16), (0x15, 0, 1, first)]
    steps.append((0x06, 0, 0, 0x50000 | error))
steps.append((0x06, 0, 0, 0x7FFF0000))
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *it) for it in steps))
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(22, 2, struct.pack("@HP", len(steps), ctypes.addressof(code)), 0, 0):
    sys.exit("no filter of calls")
os.execvp(argv[0], argv)
"""
"""A program that runs another one, for which the kernel lacks some calls.

Calls are given by their numbers and their first arguments; None stands for any.
"""

_UNSHARE = {"x86_64": 272, "aarch64": 97}.get(platform.machine(), 0)
_PRCTL = {"x86_64": 157, "aarch64": 167}.get(platform.machine(), 0)
_SET_SECCOMP = 22
_LANDLOCK = 444
_NAMESPACES: dict[tuple[int, int | None], int] = {(_UNSHARE, None): errno.EPERM}


def _without(calls: dict[tuple[int, int | None], int], *argv: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _FORBID_CALLS, repr(calls), *argv]


def without_namespaces(*argv: str) -> list[str]:
    """Return a command that runs where no namespaces can be made, as in containers."""
    return _without(_NAMESPACES, *argv)


def without_landlock(*argv: str) -> list[str]:
    """Return a command that runs without namespaces and without Landlock."""
    return _without({**_NAMESPACES, (_LANDLOCK, None): errno.ENOSYS}, *argv)


def without_filters(*argv: str) -> list[str]:
    """Return a command that runs without namespaces and without filters of calls."""
    return _without({**_NAMESPACES, (_PRCTL, _SET_SECCOMP): errno.ENOSYS}, *argv)


@cache
def landlock_version() -> int:
    """Return the version of Landlock that this kernel has."""
    command = [sys.executable, "-I", "-S", str(OFFLINE), "on", "--"]
    done = subprocess.run(command, check=False, capture_output=True)
    return int(done.stdout or 0)
