"""What is known of a cell before its job begins, on a machine that builds nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nox_buildstages.commands.plan.formats import session_of
from nox_buildstages.commands.plan.plan_github import CellPlan
from nox_buildstages.config.cells import MULTIPLIED
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.model import Cell
from nox_buildstages.store.key import digest_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.commands.plan.reasons import Planned
    from nox_buildstages.config.graph import Graph
    from nox_buildstages.model import Project, Stage

SCHEME = 1
"""Of the key; a change of it makes every kept store a new one."""


def cell_plan(
    context: BuildContext, outputs: tuple[Planned, ...], house: Path
) -> CellPlan:
    """Return what a job has to know of a project's cell.

    Args:
        context: With all locks.
        outputs: What would become of them.
        house: The cell's wheelhouse.

    Raises:
        SourceError: A folder or a patch can't be read.
    """
    project, python = context.project, context.interpreter.markers["python_version"]
    final, release = (f"{it}{project.cell.suffix}" for it in MULTIPLIED)
    here = _in(project, project.cell, python)
    cell = CellPlan(
        name=here.name,
        label=str(here),
        session=session_of(project, final, python),
        release=session_of(project, release, python),
        python=python,
        wheelhouse=within(project, house),
        key=store_key(context, context.graph.order),
        tools=_each(it.tools for it in context.graph.order),
        pass_env=_each(it.pass_env for it in context.graph.order),
        outputs=outputs,
    )
    levels = tuple(
        tuple(_stage_plan(context, cell, stage) for stage in level)
        for level in levels_of(context.graph)
    )
    return replace(cell, levels=levels)


def _in(project: Project, cell: Cell, python: str) -> Cell:
    """Return a cell with the Python as one more value, where there are several."""
    several = len(project.pythons) > 1
    return Cell(choices=(*cell.choices, ("python", python))) if several else cell


def _stage_plan(context: BuildContext, cell: CellPlan, stage: Stage) -> CellPlan:
    """Return what the job of a stage has to know, the same for all that share it."""
    project = context.project
    needed = {stage.name, *context.graph.ancestors(stage.name)}
    stages = tuple(it for it in context.graph.order if it.name in needed)
    variant = _in(project, project.stage_cell(stage.name), cell.python)
    behind = f"_{variant.name}" if variant.choices else ""
    title = f"build-stage-{project.stage_label(stage.name)}"
    session = session_of(project, title, cell.python)
    return replace(
        cell,
        name=f"stage-{stage.name}{behind}",
        label=str(variant),
        session=session,
        release=session,
        key=store_key(context, stages),
        tools=_each(it.tools for it in stages),
        pass_env=_each(it.pass_env for it in stages),
        outputs=tuple(it for it in cell.outputs if it.stage == stage.name),
    )


def levels_of(graph: Graph) -> tuple[tuple[Stage, ...], ...]:
    """Return the stages level by level: each after all that it requires."""
    levels: dict[str, int] = {}
    for stage in graph.order:
        required = graph.requires(stage.name)
        levels[stage.name] = 1 + max((levels[name] for name in required), default=0)
    return tuple(
        tuple(stage for stage in graph.order if levels[stage.name] == level)
        for level in range(1, 1 + max(levels.values(), default=0))
    )


def _each(listed: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted(set(chain.from_iterable(listed))))


def within(project: Project, folder: Path) -> str:
    """Return a folder as a workflow names it: POSIX, relative to the project's."""
    return Path(os.path.relpath(folder, project.root)).as_posix()


def store_key(context: BuildContext, stages: Iterable[Stage]) -> str:
    """Return the sha256 of what the wheels of stages are made of, in hex.

    It is of what is locked and declared, and of folders and patches: not of the
    programs that compile, the variables that are let through, and the interpreter's
    last digit, which a machine that only plans needn't have. So wheels of one key of
    the store may be kept under several of these, and those of several under one.

    Raises:
        SourceError: A folder or a patch can't be read.
    """
    value = {
        "scheme": SCHEME,
        "stages": [_stage(context, stage) for stage in stages],
    }
    return digest_json(value)


def _stage(context: BuildContext, stage: Stage) -> dict[str, Any]:
    held = {
        pin.name: [str(pin.version), pin.stage]
        for pin in context.pins(stage.name)
        if isinstance(pin, StagePin)
    }
    declared = replace(stage, tools=(), pass_env=())
    markers = context.interpreter.markers
    keys = []
    for output in context.locks[stage.name].outputs:
        recipe = context.make_recipe(declared, output, without=held)
        interpreter = {**recipe.interpreter, "version": markers["python_version"]}
        keys.append(replace(recipe, interpreter=interpreter).key)
    return {"name": stage.name, "held": held, "tools": stage.tools, "outputs": keys}
