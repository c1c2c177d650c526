"""A plan as JSON for other programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nox_buildstages.model import FINAL, minor_version
from nox_buildstages.value import to_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nox_buildstages.commands.plan.reasons import Plan, PlannedOutput
    from nox_buildstages.config.cells import Cells
    from nox_buildstages.model import Project, Stage

FORMAT = 1
"""The version of the JSON; readers should refuse unknown versions."""


def format_json(plan: Plan, cells: Cells, *, cores: int) -> str:
    """Return a plan as JSON; ``cores`` are those of a build without a limit."""

    def session(name: str, python: str) -> str:
        return session_name(cells.first.project, name, python)

    stages = []
    for python in plan.pythons:
        for cell, stage in cells.distinct_stages():
            if not cell.project.has_python(python):
                continue
            title = cell.project.stage_label(stage.name)
            required = [cell.graph.stages[it] for it in cell.graph.requires[stage.name]]
            outputs = [
                planned
                for planned in plan.outputs
                if (planned.title, planned.python) == (title, python)
            ]
            stages.append(
                {
                    "name": stage.name,
                    "session": session(cell.session(stage), python),
                    "python": python,
                    "matrix": dict(cell.project.stage_cell(stage.name).choices),
                    **cell.project.runner(stage.name, python).to_dict(),
                    "requires": [session(cell.session(it), python) for it in required],
                    **_needs_dict(stage, outputs, cores),
                    "outputs": [*map(_output_dict, outputs)],
                }
            )
    final = [
        {
            "session": session(f"build-stages{cell.project.cell.suffix}", python),
            "python": python,
            "matrix": dict(cell.project.cell.choices),
            **cell.project.runner(FINAL, python).to_dict(),
            "requires": [
                session(cell.session(stage), python) for stage in cell.graph.order
            ],
        }
        for python in plan.pythons
        for cell in cells.cells
        if cell.project.has_python(python)
    ]
    document = {
        "format": FORMAT,
        "locks": plan.locks,
        "locks-changed": plan.lock_changes or None,
        "stages": stages,
        "final": final,
        "preflight": [
            {**to_dict(it), "outputs": [*it.outputs]} for it in plan.findings
        ],
    }
    return json.dumps(document, indent=2)


def _needs_dict(
    stage: Stage, outputs: Sequence[PlannedOutput], cores: int
) -> dict[str, int | float | None]:
    """Return what a scheduler needs to know to run a stage: bytes and seconds."""
    builds = [it for it in outputs if it.reasons]
    sizes = [it.memory.size for it in builds if it.memory] or [
        stage.memory_per_job or 0
    ]
    times = [it.seconds for it in builds]
    known = [it for it in times if it is not None]
    jobs = stage.jobs or cores
    return {
        "jobs": stage.jobs,
        "cores": jobs,
        "memory-per-job": max(sizes) or None,
        "memory": jobs * max(sizes) or None,
        "timeout": stage.timeout,
        "shards": stage.shards,
        "seconds": round(sum(known), 1) if len(known) == len(times) else None,
    }


def session_name(project: Project, name: str, python: str) -> str:
    """Return nox's name of a session for a Python."""
    pythons = project.pythons
    if not pythons:
        return name
    # A single Python may be spelled in any way that nox takes.
    declared = {minor_version(version): version for version in pythons}
    return f"{name}-{declared.get(python, pythons[0])}"


def _output_dict(planned: PlannedOutput) -> dict[str, Any]:
    store = "remote" if planned.remote else "local"
    memory = planned.memory
    return {
        "name": planned.name,
        "version": planned.version or None,
        "state": planned.state,
        "reasons": list(planned.reasons),
        "key": planned.key,
        "compared": planned.compared,
        "source": planned.source or None,
        "store": None if planned.reasons else store,
        "seconds": planned.seconds,
        "memory-per-job": memory and memory.size,
        "memory-per-job-from": memory and memory.origin,
    }
