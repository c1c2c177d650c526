"""The forecast of a run: what it builds, and for how long, by the store's records."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nox_buildstages.builder.context import SESSION
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.model import FINAL
from nox_buildstages.run.events import BEGUN, PLANNED
from nox_buildstages.store.history import History

if TYPE_CHECKING:
    from collections.abc import Collection

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Stage


def emit_forecast(context: BuildContext, rebuild: Collection[str]) -> None:
    """Emit what is planned for the outputs of a cell, once in a run.

    The sessions that nox was asked for decide which stages count. The outputs in
    ``rebuild`` are built in any case.
    """
    run = context.tools.run
    python, cell = context.interpreter.version, run.place.get("cell", "")
    sessions: set[str] = set()
    for event in run.events():
        if event.step == "run" and event.state == BEGUN:
            sessions |= {*event.facts.get("sessions", ())}
        if event.state == PLANNED and (event.python, event.cell) == (python, cell):
            return
    to_build: set[str] = set()  # names of outputs
    for stage in context.graph.order:
        place = context.place(stage.name)
        names = {f"build-stage-{place['stage']}{it}" for it in ("", f"-{python}")}
        for output in context.locks[stage.name].outputs:
            facts = _forecast(context, stage, output, to_build)
            if output.name in rebuild:
                facts["is_stored"] = False
            if not facts.get("is_stored"):
                to_build.add(output.name)
            if not sessions.isdisjoint(names):
                run.emit("output", PLANNED, context.place(stage.name, output), **facts)
    suffix = context.project.cell.suffix
    finals = {f"build-stages{suffix}{it}" for it in ("", f"-{python}")}
    if not sessions.isdisjoint(finals):
        final = context.project.final
        run.emit(
            *("install", PLANNED, context.place(FINAL)),
            imports=len(final.imports),
            checks=len(final.checks),
        )


def _forecast(
    context: BuildContext, stage: Stage, output: LockedOutput, to_build: set[str]
) -> dict[str, Any]:
    """Return the facts that are known of an output before the stage runs."""
    tools, project = context.tools, context.project
    requires = [project.stage_label(it) for it in context.graph.requires[stage.name]]
    facts: dict[str, Any] = {"requires": requires}
    with suppress(BuildStagesError, OSError):  # the stage itself says so
        pins = context.pins(stage.name)
        unknown = to_build & {it.name for it in pins if isinstance(it, StagePin)}
        if unknown:
            recipe = context.make_recipe(stage, output, without=unknown)
        else:
            recipe = context.recipe(stage.name, output.name)
            facts["is_stored"] = context.find_wheel(recipe) is not None
        history = tools.run.once(
            (SESSION, "history"), lambda: History(store=tools.store)
        )
        last = history.previous(recipe, unknown=unknown)
        if last is not None:
            facts |= {"expected": last.seconds, "cores": tools.job_pool.machine.cores()}
            facts |= {"jobs": last.memory.jobs} if last.memory else {}
    return facts
