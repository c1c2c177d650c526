"""Plan the jobs that build the cells of a project on other machines."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.commands.plan.formats import session_name
from nox_buildstages.commands.plan.github import CellPlan
from nox_buildstages.config.cells import MULTIPLIED
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.model import Cell
from nox_buildstages.store.key import digest_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.commands.plan.reasons import PlannedOutput
    from nox_buildstages.config.graph import Graph
    from nox_buildstages.model import Project, Stage

SCHEME = 1
"""The version of the keys of stores; another one starts all of them empty."""


def plan_cell(
    context: BuildContext, outputs: tuple[PlannedOutput, ...], wheelhouse: Path
) -> CellPlan:
    """Plan the job of a cell, and the jobs of its stages.

    Raises:
        SourceError: A folder or a patch can't be read.
    """
    project, python = context.project, context.interpreter.markers["python_version"]
    several = len(project.pythons) > 1

    def with_python(cell: Cell) -> Cell:
        """Return a cell with the Python as one more value if there are several."""
        return Cell(choices=(*cell.choices, ("python", python))) if several else cell

    def plan_stages(
        stages: Sequence[Stage], name: str, label: str, *sessions: str
    ) -> CellPlan:
        session, release = (session_name(project, it, python) for it in sessions)
        return CellPlan(
            name=name,
            label=label,
            session=session,
            release=release,
            python=python,
            wheelhouse=relative_path(project, wheelhouse),
            key=store_key(context, stages),
            tools=tuple(sorted({tool for it in stages for tool in it.tools})),
            pass_env=tuple(sorted({name for it in stages for name in it.pass_env})),
            outputs=outputs,
        )

    def plan_stage(stage: Stage) -> CellPlan:
        needed = {stage.name, *context.graph.ancestors(stage.name)}
        stages = [it for it in context.graph.order if it.name in needed]
        cell = with_python(project.stage_cell(stage.name))
        suffix = f"_{cell.name}" if cell.choices else ""
        session = f"build-stage-{project.stage_label(stage.name)}"
        name = f"stage-{stage.name}{suffix}"
        return replace(
            plan_stages(stages, name, str(cell), session, session),
            outputs=tuple(it for it in outputs if it.stage == stage.name),
        )

    cell = with_python(project.cell)
    sessions = (f"{it}{project.cell.suffix}" for it in MULTIPLIED)
    return replace(
        plan_stages(context.graph.order, cell.name, str(cell), *sessions),
        levels=tuple(
            tuple(map(plan_stage, level)) for level in find_levels(context.graph)
        ),
    )


def find_levels(graph: Graph) -> tuple[tuple[Stage, ...], ...]:
    """Return the stages by level; each level requires only the levels before."""
    levels: dict[str, int] = {}
    for stage in graph.order:
        required = graph.requires(stage.name)
        levels[stage.name] = 1 + max((levels[name] for name in required), default=0)
    return tuple(
        tuple(stage for stage in graph.order if levels[stage.name] == level)
        for level in range(1, 1 + max(levels.values(), default=0))
    )


def relative_path(project: Project, folder: Path) -> str:
    """Return the POSIX path of a folder, relative to the project."""
    return Path(os.path.relpath(folder, project.root)).as_posix()


def store_key(context: BuildContext, stages: Iterable[Stage]) -> str:
    """Return the sha256 of everything that goes into the wheels of stages, in hex.

    The key covers locks, declarations, folders and patches. It doesn't cover compilers,
    passed variables and the patch version of Python, because a machine that only
    plans may lack them. So wheels with one key may be in several stores, and one
    store may contain wheels with several keys.

    Raises:
        SourceError: A folder or a patch can't be read.
    """
    entries = []
    for stage in stages:
        stage_wheels = {
            pin.name: [str(pin.version), pin.stage]
            for pin in context.pins(stage.name)
            if isinstance(pin, StagePin)
        }
        declared = replace(stage, tools=(), pass_env=())
        version = context.interpreter.markers["python_version"]
        keys = []
        for output in context.locks[stage.name].outputs:
            recipe = context.make_recipe(declared, output, without=stage_wheels)
            interpreter = {**recipe.interpreter, "version": version}
            keys.append(replace(recipe, interpreter=interpreter).key)
        entries.append(
            {
                "name": stage.name,
                "held": stage_wheels,
                "tools": stage.tools,
                "outputs": keys,
            }
        )
    return digest_json({"scheme": SCHEME, "stages": entries})
