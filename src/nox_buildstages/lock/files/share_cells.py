"""Share locks between the cells of a matrix, and name their files."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from nox_buildstages.errors import DivergingStageError
from nox_buildstages.lock.files.document import dump_lock, with_series
from nox_buildstages.lock.files.names import possible_cells, stem_of
from nox_buildstages.model import FINAL, Cell, Project
from nox_buildstages.text import diff
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nox_buildstages.lock.files.lockfile import Lock


MAX_MODELS = 4
"""The maximum number of different locks of a stage to try for all cells."""


class CellLocks(Value):
    """The locks of a cell."""

    project: Project
    locks: Mapping[str, Lock]
    idle_rules: frozenset[str] = frozenset()  # rules of outputs without effect


def find_divergence(cells: Sequence[CellLocks]) -> DivergingStageError | None:
    """Return the error for a shared stage with different locks, if any."""
    first: dict[tuple[str, Cell], CellLocks] = {}
    for cell in cells:
        for name, lock in cell.locks.items():
            other = first.setdefault((name, cell.project.stage_cell(name)), cell)
            if not _are_same(other.locks[name], lock):
                axis = next(
                    axis
                    for axis, value in other.project.cell.choices
                    if cell.project.cell.value(axis) != value
                )
                variable = axis.upper().replace("-", "_")
                differing = diff(_versions(other.locks[name]), _versions(lock))
                return DivergingStageError(
                    stage=name,
                    subject=f"stage {name}",
                    problem="its environment differs between cells that share it",
                    details=[
                        f"in ({other.project.cell}) and ({cell.project.cell})",
                        *(
                            f"  {package}: {old or 'none'}, {new or 'none'}"
                            for package, old, new in differing
                        ),
                    ],
                    hint=f"build it for each value of {axis}: use {{{axis}}} in it,"
                    f' such as\n  env = {{ {variable} = "{{{axis}}}" }}',
                )
    return None


def _versions(lock: Lock) -> dict[str, str]:
    versions: dict[str, str] = {}
    for package in lock.pylock.packages:
        versions[package.name] = str(package.version)
    for output in lock.outputs:
        versions[output.name] = str(output.metadata.version)
    return versions


def distinct_cells(cells: Sequence[CellLocks], name: str) -> list[CellLocks]:
    """Return cells with different locks of a stage, a cell for each lock."""
    found = {_text(cell.locks[name]): cell for cell in cells if name in cell.locks}
    return [*found.values()][-MAX_MODELS:]


def prefer_locks_of(cell: CellLocks, model: CellLocks) -> dict[str, Lock]:
    """Return the locks of a cell, with a model's locks of all stages they share."""
    return {
        name: model.locks[name]
        if name in model.locks
        and model.project.stage_cell(name) == cell.project.stage_cell(name)
        else lock
        for name, lock in cell.locks.items()
    }


def name_lock_files(cells: Sequence[CellLocks]) -> tuple[Lock, ...]:
    """Return the distinct locks of all cells, named by the stems of their files.

    A stem has the fewest axes, in their order, to distinguish the locks of a stage.
    Stages are in their order, ``final`` is last.
    """
    names = dict.fromkeys(name for it in cells for name in it.locks if name != FINAL)
    found = []
    for name in (*names, FINAL):
        sharing = [cell for cell in cells if name in cell.locks]
        for axes in _possible_axes(name, sharing):
            locks: dict[Cell, Lock] = {}
            for cell in sharing:
                part, lock = cell.project.cell.of(axes), cell.locks[name]
                if not _are_same(locks.setdefault(part, lock), lock):
                    break
            else:
                found += [
                    replace(lock, name=stem_of(name, part))
                    for part, lock in locks.items()
                ]
                break
    return with_series(found)


def _possible_axes(name: str, cells: Sequence[CellLocks]) -> Iterator[tuple[str, ...]]:
    """Yield the possible axes of a file name, the fewest first.

    If values of several axes could make the same name, all or none are in the name.
    """
    axes = [axis for axis, _ in cells[0].project.stage_cell(name).choices]
    parts = {part for cell in cells for part in possible_cells(cell.project, name)}
    is_unambiguous = len({stem_of(name, part) for part in parts}) == len(parts)
    for count in range(len(axes) + 1):
        if is_unambiguous or count in (0, len(axes)):
            yield from combinations(axes, count)


def _are_same(one: Lock, other: Lock) -> bool:
    return one == other or _text(one) == _text(other)


def _text(lock: Lock) -> str:
    return dump_lock(replace(lock, series=""))
