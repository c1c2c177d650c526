"""What the machine allows of namespaces, and a way to be where it allows none."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
