"""Wheelhouses of cells that the project no longer has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nox_buildstages.environments.targets import minor_version
from nox_buildstages.wheelhouse.directory import Wheelhouse
from nox_buildstages.wheelhouse.manifest import MANIFEST

if TYPE_CHECKING:
    from nox_buildstages.config.cells import Cells


def unused_wheelhouses(cells: Cells) -> list[str]:
    """Return the wheelhouses that were built for cells which are gone.

    Wheelhouses that a merge put there don't count.

    Returns:
        Their folders, relative to the folder of the project's wheelhouse.
    """
    project = cells.first.project
    folder, pythons = project.wheelhouse, [minor_version(it) for it in project.pythons]
    used = {
        folder / it.cell.folder / python
        for it in cells.projects
        for python in (pythons if len(pythons) > 1 else [""])
    }
    found = (path.parent for path in folder.rglob(MANIFEST))
    return sorted(
        os.path.relpath(it, folder.parent)
        for it in found
        if it not in used and Wheelhouse(it).record().own
    )
