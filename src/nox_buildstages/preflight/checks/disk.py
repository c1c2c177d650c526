"""Is there enough disk space for the build directory?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding
from nox_buildstages.text import format_size

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "disk space"


def check(facts: Facts) -> Finding | None:
    """Compare the free space with the last build directory, or with the recipe."""
    disk = facts.disk
    if disk is None or disk.needed is None:
        return None
    free = f"{format_size(disk.free)} free in {disk.place}"
    needed = format_size(disk.needed)
    needed = f"{'the last build took' if disk.is_measured else 'it needs'} {needed}"
    if disk.free >= disk.needed - disk.used:
        return Finding(check=NAME, state="ok", text=free)
    return Finding(
        check=NAME,
        state="error",
        text=f"{free}, and {needed}",
        hint="free some space, or build in another folder:\n"
        "export NOX_BUILDSTAGES_BUILD_DIR=/path/to/a/larger/disk",
    )
