"""Which cells of a matrix share a lock, and what its file is called then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from nox_buildstages.errors import DivergingStageError
from nox_buildstages.lock.files.lockfile import dumps, numbered
from nox_buildstages.lock.files.names import possible_cells, stem_of
from nox_buildstages.model import FINAL, Cell

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.model import Project

MODELS = 4
"""How many ways to share a stage are tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Locked:
    """The locks of one cell.

    Attributes:
        project: What is declared for it.
        locks: By name.
    """

    project: Project
    locks: Mapping[str, Lock]


def divergence(cells: Sequence[Locked]) -> DivergingStageError | None:
    """Return which stage would need several locks in cells that share it, if any."""
    first: dict[tuple[str, Cell], Locked] = {}
    for cell in cells:
        for name, lock in cell.locks.items():
            place = name, cell.project.stage_cell(name)
            other = first.setdefault(place, cell)
            if not _same(other.locks[name], lock):
                return _diverging(name, other, cell)
    return None


def models(cells: Sequence[Locked], name: str) -> list[Locked]:
    """Return cells, a few at most, that have different locks of a stage."""
    found = {_text(cell.locks[name]): cell for cell in cells if name in cell.locks}
    return [*found.values()][-MODELS:]


def preferring(cell: Locked, model: Locked) -> dict[str, Lock]:
    """Return the locks of a cell, those that another one shares as they are there."""
    return {
        name: model.locks[name]
        if name in model.locks
        and model.project.stage_cell(name) == cell.project.stage_cell(name)
        else lock
        for name, lock in cell.locks.items()
    }


def filed(cells: Sequence[Locked]) -> tuple[Lock, ...]:
    """Return the locks of all cells, those alike once, named as their files are.

    A name has the fewest axes, the first in their order, that tell the locks of a
    stage apart. Stages come in their order, ``final`` last.
    """
    names = dict.fromkeys(name for it in cells for name in it.locks if name != FINAL)
    return numbered(lock for name in (*names, FINAL) for lock in _filed(name, cells))


def _filed(name: str, cells: Sequence[Locked]) -> Iterator[Lock]:
    """Yield the locks of a stage, of ``final``."""
    having = [cell for cell in cells if name in cell.locks]
    choices = (_parts(name, having, it) for it in _choices_of_axes(name, having))
    for part, lock in next(found for found in choices if found).items():
        yield replace(lock, name=stem_of(name, part))


def _parts(
    name: str, cells: Sequence[Locked], axes: Collection[str]
) -> dict[Cell, Lock]:
    """Return the locks of a stage by what some axes say; nothing where that differs."""
    found: dict[Cell, Lock] = {}
    for cell in cells:
        lock = cell.locks[name]
        if not _same(found.setdefault(cell.project.cell.of(axes), lock), lock):
            return {}
    return found


def _choices_of_axes(name: str, cells: Sequence[Locked]) -> Iterator[tuple[str, ...]]:
    """Yield the axes that a file may name, the fewest first.

    Where values of several axes may make one name, all are named or none.
    """
    axes = [axis for axis, _ in cells[0].project.stage_cell(name).choices]
    parts = {part for cell in cells for part in possible_cells(cell.project, name)}
    is_telling = len({stem_of(name, part) for part in parts}) == len(parts)
    for count in range(len(axes) + 1):
        if is_telling or count in (0, len(axes)):
            yield from combinations(axes, count)


def _same(one: Lock, other: Lock) -> bool:
    return one == other or _text(one) == _text(other)


def _text(lock: Lock) -> str:
    return dumps(replace(lock, series=""))


def _diverging(name: str, one: Locked, other: Locked) -> DivergingStageError:
    return DivergingStageError(
        stage=name,
        cells=(str(one.project.cell), str(other.project.cell)),
        axes=tuple(
            axis
            for axis, value in one.project.cell.choices
            if other.project.cell.value(axis) != value
        ),
        versions=tuple(_versions(one.locks[name], other.locks[name])),
    )


def _versions(one: Lock, other: Lock) -> Iterator[tuple[str, str, str]]:
    """Yield what is held, or built, in different versions, and the versions."""
    held = [
        {package.name: str(package.version) for package in lock.pylock.packages}
        | {output.name: str(output.metadata.version) for output in lock.outputs}
        for lock in (one, other)
    ]
    for name in sorted(held[0].keys() | held[1].keys()):
        versions = [it.get(name, "none") for it in held]
        if versions[0] != versions[1]:
            yield name, versions[0], versions[1]
