"""Find declarations without effect, once the locks are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.declarations.uv_sources import list_sources
from nox_buildstages.errors import LockError
from nox_buildstages.model import FINAL, Cell
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.model import Project


def find_idle_matches(
    names: Collection[NormalizedName], cells: Collection[Mapping[str, Lock]]
) -> Iterator[str]:
    """Yield a line for each name of match-runtime that only one environment contains.

    Each cell has its locks by name.

    Raises:
        LockError: No environment contains some names, probably misspellings.
    """
    holders: dict[str, set[str]] = {}
    for locks in cells:
        for label, lock in locks.items():
            for package in lock.pylock.packages:
                holders.setdefault(package.name, set()).add(label)
    missing = [name for name in names if name not in holders]
    if missing:
        hints = "".join(did_you_mean(name, holders) for name in missing)
        raise LockError(
            subject="match-runtime",
            problem=f"no environment contains {', '.join(missing)}{hints}",
            hint=f"correct or remove {', '.join(missing)} in match-runtime",
        )
    for name in names:
        found = sorted(holders[name])
        if found == [FINAL]:
            yield (
                f"match-runtime has no effect on {name}: no stage contains it; add it"
                " to the dependencies of the stages that build against it"
            )
        elif len(found) == 1:
            yield (
                f"match-runtime has no effect on {name}: only stage {found[0]} contains"
                " it"
            )


def find_idle_constraints(
    key: str,
    constraints: Iterable[Requirement],
    cells: Collection[Mapping[str, Lock]],
) -> Iterator[str]:
    """Yield a line for each constraint on a name with a probable misspelling.

    A constraint may be for a project which nothing requires at the moment, so the name
    must be similar to a name in an environment.
    """
    every = [lock for locks in cells for lock in locks.values()]
    known = {package.name for lock in every for package in lock.pylock.packages}
    known |= {output.name for lock in every for output in lock.outputs}
    for name in dict.fromkeys(canonicalize_name(it.name) for it in constraints):
        hint = "" if name in known else did_you_mean(name, known)
        if hint:
            yield f"{key}: no environment contains {name}{hint}"


def find_unused_outputs(
    project: Project, used: Collection[NormalizedName]
) -> tuple[NormalizedName, ...]:
    """Return the outputs that aren't among the packages of a cell's environments."""
    return tuple(
        output.name
        for output in project.outputs
        if output.name not in used and not project.rules(output.name).unused
    )


def describe_unused(project: Project, name: NormalizedName) -> str:
    """Return the line about an output that no environment contains."""
    return (
        f"nothing installs {name}: remove it from its stage, or add it to"
        f" {project.final.requirements_key} or to the dependencies of another stage; if"
        f" it is only for others, set package.{name}.unused = true"
    )


def find_idle_editables(project: Project) -> Iterator[str]:
    """Yield a line for each output that a source of uv's wants to be editable."""
    outputs = {output.name for output in project.outputs}
    for name, source in list_sources(project.uv):
        if name in outputs and source.get("editable") is True:
            yield (
                f"editable in [tool.uv.sources] has no effect on {name}: a stage builds"
                " it, and the runtime gets that wheel"
            )


def find_idle_axes(projects: Sequence[Project]) -> Iterator[str]:
    """Yield a line for each axis of the matrix whose values make no difference.

    ``projects`` are those of all cells.
    """
    used = {axis for it in projects for axes in it.uses.values() for axis in axes}
    for axis, _ in projects[0].cell.choices:
        if axis in used:  # by a stage
            continue
        # Projects that differ at most in this axis, by their other values.
        alike: dict[Cell, list[Project]] = {}
        for it in projects:
            others = tuple(pair for pair in it.cell.choices if pair[0] != axis)
            alike.setdefault(Cell(choices=others), []).append(it)
        changes = [[_without(it, axis) for it in group] for group in alike.values()]
        if max(map(len, changes)) > 1 and all(
            it == group[0] for group in changes for it in group
        ):
            yield (
                f"axis {axis} of the matrix has no effect: nothing names {{{axis}}},"
                " and its values bring nothing"
            )


def _without(project: Project, axis: str) -> Project:
    """Return a project without the name of the value that it has of an axis."""
    value = replace(project.values[axis], name="")
    return replace(
        project, cell=Cell(), is_included=False, values={**project.values, axis: value}
    )
