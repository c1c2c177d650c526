"""Wheelhouses that nothing is built into any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.wheelhouse.directory import Wheelhouse
from nox_buildstages.wheelhouse.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


def left_over(folder: Path, houses: Collection[Path]) -> list[Path]:
    """Return the wheelhouses in a folder that were built there and have no cell.

    What a merge brought is none of them.

    Args:
        folder: The project's, which may be one itself.
        houses: Of the cells that there are.
    """
    found = (path.parent for path in folder.rglob(MANIFEST))
    return sorted(
        it for it in found if it not in houses and Wheelhouse(it).record().own
    )
