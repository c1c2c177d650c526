"""The session of a stage: build its wheels, and put them into the wheelhouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.builder.build import Build, call_function
from nox_buildstages.builder.prepare import occupy_environment, prepare_environment
from nox_buildstages.builder.stage import (
    BuildOrder,
    available_results,
    provide_stage,
)
from nox_buildstages.errors import BuildError
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.model import Stage
    from nox_buildstages.workspace.workspace import Workspace


def run_stage(
    workspace: Workspace,
    stage: Stage,
    function: Callable[[Build], object] | None = None,
) -> str | None:
    """Provide every wheel of a stage, and with ``--check-reproducible`` build it twice.

    The function of a stage in Python does what it likes beside that.

    Cells share a stage that none of their differences concerns; the wheelhouses of
    these cells get its wheels when their final stage runs.

    Raises:
        BuildStagesError: The locks can't be made, or an output can't be built.
    """
    project, options = workspace.project, workspace.options
    if options.statement:
        from nox_buildstages.commands.release.check import check_stage  # noqa: PLC0415 - for it alone

        return check_stage(workspace, stage, function)
    tools, environment = workspace.tools, workspace.environment
    needed = (stage.name, *workspace.cell.graph.ancestors(stage.name))
    locks, were_made = workspace.ensure_locks(needed)
    cell = project.stage_cell(stage.name)
    house = workspace.wheelhouse_of(cell)
    delivered = {it["name"]: it["key"] for it in house.read_manifest().wheels}
    context = workspace.context(locks)
    context = replace(context, logs=house.logs, delivered=delivered)
    stages = workspace.cell.graph.order if options.rebuild_all else ()
    rebuild = {it.name for one in stages for it in one.outputs} | {*options.rebuild}
    with tools.run.step("stage", context.place(stage.name)):
        try:
            order = BuildOrder(
                rebuild=rebuild, keeps_going=not tools.run.stops_on_error
            )
            if function is None:
                results = provide_stage(context, stage, environment, order)
            else:
                build = Build(
                    context=context, stage=stage, environment=environment, order=order
                )
                results = call_function(function, build)
        except BuildError:
            if cell == project.cell:
                house.deliver([*available_results(context, stage)])
            raise
        if were_made:
            # While locking, backends of other stages were asked in this environment.
            with occupy_environment(tools, environment):
                prepare_environment(context, stage, environment)
        if cell == project.cell:
            house.deliver(results)
        for result in results:
            if not result.is_built:
                tools.run.report(f"cached {result.wheel.path.name}")
        if options.check_reproducible:
            from nox_buildstages.builder import reproducible  # noqa: PLC0415 - for it alone

            reproducible.check_reproducible(context, stage, environment)
    return None
