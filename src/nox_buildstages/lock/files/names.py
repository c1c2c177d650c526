"""The names of locks and of their files: ``pylock.STAGE-VALUE….toml``."""

from __future__ import annotations

from itertools import combinations

from nox_buildstages.model import FINAL, PROJECT, Cell, Project


def lock_names(project: Project) -> tuple[str, ...]:
    """Return the names of a project's locks: the stages, ``project``, ``final``."""
    own = () if project.final.project is None else (PROJECT,)
    return (*(stage.name for stage in project.stages), *own, FINAL)


def file_name(stem: str) -> str:
    """Return the name of a lock file."""
    return f"pylock.{stem}.toml"


def stem_of(name: str, cell: Cell) -> str:
    """Return the stem of a lock's file: the lock's name, then the values of a cell."""
    return "-".join((name, *(without_dots(value) for _, value in cell.choices)))


def without_dots(value: str) -> str:
    """Return a value for the name of a lock file, in which PEP 751 allows no dot."""
    return value.replace(".", "_")


def possible_cells(project: Project, name: str) -> tuple[Cell, ...]:
    """Return all combinations of values for the name of a lock's file.

    The combination with the most values is first.
    """
    choices = project.stage_cell(name).choices
    counts = range(len(choices), -1, -1)
    found = (of for n in counts for of in combinations(choices, n))
    return tuple(Cell(choices=of) for of in found)


def possible_stems(project: Project, name: str) -> tuple[str, ...]:
    """Return all possible stems of a lock's file, the longest first."""
    return tuple(stem_of(name, cell) for cell in possible_cells(project, name))
