"""Processes of a build whose supervisor was killed.

Each process of a build has a variable in its environment. Where the kernel allows
namespaces of processes, such processes die with their supervisor, and none is found.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from nox_buildstages.errors import BuildStagesError
from nox_buildstages.system.process import check_interrupt

BUILD_VARIABLE = "NOX_BUILDSTAGES_BUILD"
"""The variable that names the build, in its processes alone."""

SUPERVISOR = "supervise.py"
"""The file name of the script that runs each build."""

_PAUSE = 0.02
_PATIENCE = 20.0
"""Seconds after which a killed process should be gone."""


def end_orphans(build: str) -> None:
    """Kill the processes of a build that no supervisor watches any more.

    Raises:
        BuildStagesError: One of them doesn't end.
    """
    deadline = time.monotonic() + _PATIENCE
    while orphans := find_orphans(build):
        for process in orphans:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise BuildStagesError(
                problem=f"process {orphans[0]} of a killed build doesn't end",
                hint="restart the machine, or wait until its disk answers",
            )
        check_interrupt()
        time.sleep(_PAUSE)


def find_orphans(build: str) -> list[int]:
    """Return the processes of a build without a supervisor above them."""
    variable = f"{BUILD_VARIABLE}={build}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            variables = (folder / "environ").read_bytes().split(b"\0")
            if variable in variables and not _has_supervisor(int(folder.name)):
                found.append(int(folder.name))
    return found


def _has_supervisor(process: int) -> bool:
    while process > 1:
        folder = Path(f"/proc/{process}")
        words = (folder / "cmdline").read_bytes().split(b"\0")
        if any(os.path.basename(it) == SUPERVISOR.encode() for it in words):  # noqa: PTH119
            return True
        status = (folder / "stat").read_bytes()
        process = int(status.rpartition(b")")[2].split()[1])
    return False
