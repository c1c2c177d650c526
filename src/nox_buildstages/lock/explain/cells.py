"""The error for cells that can't be locked: all of them, and how to leave them out."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages.config import writing
from nox_buildstages.errors import BuildStagesError, UnlockableCellsError
from nox_buildstages.model import minor_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nox_buildstages.model import Project

Failure: TypeAlias = tuple["Project", str, BuildStagesError]
"""A cell, the Python that it can't be locked for or an empty text, and the reason."""

_Choices: TypeAlias = tuple[tuple[str, str], ...]
"""A combination as ``exclude`` names it: axes, and ``python`` if there are several."""

_MAX_DETAILS = 8
"""The maximum number of lines that explain one failure among several."""


def explain_cells(
    failures: Sequence[Failure], projects: Sequence[Project]
) -> BuildStagesError:
    """Return the error for all cells of a matrix that can't be locked.

    If all cells fail for one reason, they aren't the cause, and its error stands.
    """
    reasons: dict[tuple[str, ...], list[str]] = {}
    for project, python, error in failures:
        label = f"({project.cell})" + (f" on Python {python}" if python else "")
        lines = [f"  {line}" for line in error.details if line.strip()]
        reason = (error.summary, *lines[:_MAX_DETAILS])
        reasons.setdefault(reason, []).append(label)
    every = [it for project in projects for it in _combinations(project)]
    failed = [
        it for project, python, _ in failures for it in _combinations(project, python)
    ]
    is_everywhere = set(failed) == set(every)
    if is_everywhere and len(reasons) == 1:
        return failures[0][2]
    cells = {str(project.cell) for project, _, _ in failures}
    details = []
    for reason, labels in reasons.items():
        details += [f"{', '.join(labels)}:", *(f"  {line}" for line in reason)]
    hints = []
    if not is_everywhere:
        hints = [*_advise(failed, every, projects)]
    return UnlockableCellsError(
        problem=f"{len(cells)} of {len(projects)} cells can't be locked",
        details=details,
        hint="\n".join(hints),
    )


def _combinations(project: Project, python: str = "") -> Iterator[_Choices]:
    if len(project.pythons) < 2:  # noqa: PLR2004
        yield project.cell.choices
        return
    for version in map(minor_version, project.cell_pythons):
        if python in ("", version):
            yield (*project.cell.choices, ("python", version))


def _advise(
    failed: Sequence[_Choices], every: Sequence[_Choices], projects: Sequence[Project]
) -> Iterator[str]:
    """Yield lines of the matrix that leave out the failed combinations."""
    included = {
        it
        for project in projects
        if project.is_included
        for it in _combinations(project)
    }
    if excluded := [it for it in failed if it not in included]:
        entries = [*projects[0].exclude, *_common_parts(excluded, failed, every)]
        yield "leave them out, in [tool.nox-buildstages.matrix]:"
        tables = [
            writing.format_value(it)
            for it in entries
            if not any(other.items() < it.items() for other in entries)
        ]
        yield f"  exclude = [{tables[0]}]" if len(tables) == 1 else "  exclude = ["
        if len(tables) > 1:
            yield from (f"    {it}," for it in tables)
            yield "  ]"
    if remaining := [it for it in failed if it in included]:
        yield "remove from include:"
        yield from (f"  {writing.format_value(dict(it))}" for it in remaining)


def _common_parts(
    wanted: Sequence[_Choices], failed: Sequence[_Choices], every: Sequence[_Choices]
) -> list[dict[str, str]]:
    """Return small tables that together match all wanted combinations.

    None of them matches a combination that hasn't failed.
    """
    found: list[dict[str, str]] = []
    for choices in wanted:
        if any(part.items() <= set(choices) for part in found):
            continue
        parts = (
            part
            for count in range(1, 1 + len(choices))
            for part in combinations(choices, count)
        )
        found.append(
            next(
                dict(part)
                for part in parts
                if all(it in failed for it in every if set(part) <= set(it))
            )
        )
    return found
