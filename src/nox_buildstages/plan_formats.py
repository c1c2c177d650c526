"""A plan as text for people, and as JSON for other programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nox_buildstages.columns import aligned
from nox_buildstages.lock.targets import minor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.declare.graph import Graph
    from nox_buildstages.model import Project, Stage
    from nox_buildstages.plan import Plan, Planned

FORMAT = 1
"""Of the JSON; a program that reads it should refuse one that it doesn't know."""


def text(plan: Plan) -> Iterator[str]:
    """Yield a line for each output: state, name, version, stage, first reason.

    Further reasons stand below the first. Where there are several Pythons, the line
    says for which one it is.
    """
    several = len(plan.pythons) > 1
    return aligned([row for it in plan.outputs for row in _rows(it, several=several)])


def document(plan: Plan, project: Project, graph: Graph) -> Iterator[str]:
    """Yield the lines of a plan as JSON."""
    listing = _Listing(plan=plan, project=project, graph=graph)
    yield from json.dumps(listing.to_dict(), indent=2).splitlines()


def session_of(project: Project, name: str, python: str) -> str:
    """Return the name that nox gives to a session of a Python."""
    pythons = project.pythons
    if not pythons:
        return name
    # Where there is one alone, it may be spelled in any way that nox takes.
    declared = {minor(version): version for version in pythons}
    return f"{name}-{declared.get(python, pythons[0])}"


def _rows(planned: Planned, *, several: bool) -> Iterator[tuple[str, ...]]:
    head = (planned.state, planned.name, planned.version, planned.stage)
    cells = (*head, planned.python) if several else head
    where = "in the remote store" if planned.remote else ""
    first, *others = planned.reasons or (where,)
    yield (*cells, first)
    yield from ((*("" for _ in cells), reason) for reason in others)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listing:
    plan: Plan
    project: Project
    graph: Graph

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        pythons, stages = self.plan.pythons, self.graph.order
        return {
            "format": FORMAT,
            "locks": self.plan.locks,
            "stages": [self._stage(it, python) for python in pythons for it in stages],
            "final": [
                {
                    "session": self._session("build-stages", python),
                    "python": python,
                    "requires": [self._stage_session(it.name, python) for it in stages],
                }
                for python in pythons
            ],
        }

    def _stage(self, stage: Stage, python: str) -> dict[str, Any]:
        required = self.graph.requires(stage.name)
        return {
            "name": stage.name,
            "session": self._stage_session(stage.name, python),
            "python": python,
            "requires": [self._stage_session(name, python) for name in required],
            "outputs": [
                _output(planned)
                for planned in self.plan.outputs
                if (planned.stage, planned.python) == (stage.name, python)
            ],
        }

    def _stage_session(self, name: str, python: str) -> str:
        return self._session(f"build-stage-{name}", python)

    def _session(self, name: str, python: str) -> str:
        return session_of(self.project, name, python)


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
