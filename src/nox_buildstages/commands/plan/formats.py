"""A plan as text for people, and as JSON for other programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nox_buildstages.environments.targets import minor_version
from nox_buildstages.text import align

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.commands.plan.reasons import Plan, Planned
    from nox_buildstages.config.cells import CellProject, Cells
    from nox_buildstages.model import Project, Stage

FORMAT = 1
"""Of the JSON; a program that reads it should refuse one that it doesn't know."""


def text(plan: Plan) -> Iterator[str]:
    """Yield a line for each output: state, name, version, stage, first reason.

    Further reasons stand below the first. Where there are several Pythons, the line
    says for which one it is.
    """
    several = len(plan.pythons) > 1
    return align([row for it in plan.outputs for row in _rows(it, several=several)])


def document(plan: Plan, cells: Cells) -> Iterator[str]:
    """Yield the lines of a plan as JSON."""
    listing = _Listing(plan=plan, cells=cells)
    yield from json.dumps(listing.to_dict(), indent=2).splitlines()


def session_of(project: Project, name: str, python: str) -> str:
    """Return the name that nox gives to a session of a Python."""
    pythons = project.pythons
    if not pythons:
        return name
    # Where there is one alone, it may be spelled in any way that nox takes.
    declared = {minor_version(version): version for version in pythons}
    return f"{name}-{declared.get(python, pythons[0])}"


def _rows(planned: Planned, *, several: bool) -> Iterator[tuple[str, ...]]:
    head = (planned.state, planned.name, planned.version, planned.title)
    columns = (*head, planned.python) if several else head
    where = "in the remote store" if planned.remote else ""
    first, *others = planned.reasons or (where,)
    yield (*columns, first)
    yield from ((*("" for _ in columns), reason) for reason in others)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listing:
    plan: Plan
    cells: Cells

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        pythons = self.plan.pythons
        return {
            "format": FORMAT,
            "locks": self.plan.locks,
            "stages": [
                self._stage(cell, stage, python)
                for python in pythons
                for cell, stage in self.cells.distinct_stages()
            ],
            "final": [
                self._final(cell, python)
                for python in pythons
                for cell in self.cells.cells
            ],
        }

    def _stage(self, cell: CellProject, stage: Stage, python: str) -> dict[str, Any]:
        title = cell.project.stage_label(stage.name)
        required = map(cell.graph.stage, cell.graph.requires(stage.name))
        return {
            "name": stage.name,
            "session": self._session(cell.session(stage), python),
            "python": python,
            "matrix": dict(cell.project.stage_cell(stage.name).choices),
            "requires": [self._session(cell.session(it), python) for it in required],
            "outputs": [
                _output(planned)
                for planned in self.plan.outputs
                if (planned.title, planned.python) == (title, python)
            ],
        }

    def _final(self, cell: CellProject, python: str) -> dict[str, Any]:
        values = cell.project.cell
        stages = map(cell.session, cell.graph.order)
        return {
            "session": self._session(f"build-stages{values.suffix}", python),
            "python": python,
            "matrix": dict(values.choices),
            "requires": [self._session(name, python) for name in stages],
        }

    def _session(self, name: str, python: str) -> str:
        return session_of(self.cells.first.project, name, python)


def _output(planned: Planned) -> dict[str, Any]:
    return {
        "name": planned.name,
        "version": planned.version or None,
        "state": planned.state,
        "reasons": list(planned.reasons),
        "key": planned.key,
        "compared": planned.compared,
        "source": planned.source or None,
        "store": _store(planned),
    }


def _store(planned: Planned) -> str | None:
    """Return which store has a wheel; None where it would be built."""
    if planned.reasons:
        return None
    return "remote" if planned.remote else "local"
