"""The session of a stage: build its wheels, and put them into the wheelhouse."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from nox_buildstages.builder.build import Build, call_function
from nox_buildstages.builder.prepare import occupy_environment, prepare_environment
from nox_buildstages.builder.stage import (
    BuildOrder,
    available_results,
    provide_stage,
)
from nox_buildstages.errors import BuildError
from nox_buildstages.model import minor_version
from nox_buildstages.run.events import BEGUN
from nox_buildstages.system.locks import PAUSE
from nox_buildstages.system.process import check_interrupt
from nox_buildstages.value import replace
from nox_buildstages.wheelhouse.directory import Wheelhouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nox_buildstages.model import Stage
    from nox_buildstages.workspace.workspace import Workspace


def run_stage(
    workspace: Workspace,
    stage: Stage,
    function: Callable[[Build], object] | None = None,
) -> str | None:
    """Provide every wheel of a stage, and with ``--check-reproducible`` build it twice.

    With ``--shard``, compile a share of the files instead, and deliver nothing.

    The function of a stage in Python does anything else, too.

    Cells share a stage if none of their differences concerns the stage; the wheelhouses
    of these cells get the wheels when their final stage runs.

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
    _await_lower_pythons(workspace, stage)
    cell = project.stage_cell(stage.name)
    house = workspace.wheelhouse_of(cell)
    delivered = {it["name"]: it["key"] for it in house.read_manifest().wheels}
    context = workspace.context(locks)
    shard = options.shard
    logs = house.logs / shard.folder if shard else house.logs  # those of builds stay
    context = replace(context, logs=logs, delivered=delivered)
    stages = workspace.cell.graph.order if options.rebuild_all else ()
    rebuild = {it.name for one in stages for it in one.outputs} | {*options.rebuild}
    divided = [it.name for it in workspace.cell.graph.order if it.shards > 1]
    is_divided = not divided or stage.name in divided
    delivers = cell == project.cell and shard is None
    with tools.run.step("stage", context.place(stage.name)):
        try:
            order = BuildOrder(
                rebuild=rebuild,
                keeps_going=not tools.run.stops_on_error,
                shard=shard,
                hit_rate=options.require_hit_rate if is_divided else None,
            )
            if function is None:
                results = provide_stage(context, stage, environment, order)
            else:
                build = Build(
                    context=context, stage=stage, environment=environment, order=order
                )
                results = call_function(function, build)
        except BuildError:
            if delivers:
                house.deliver([*available_results(context, stage)])
            raise
        if were_made:
            # While locking, backends of other stages were asked in this environment.
            with occupy_environment(tools, environment):
                prepare_environment(context, stage, environment)
        if delivers:
            house.deliver(results)
        for result in results:
            if not result.is_built:
                tools.run.report(f"cached {result.wheel.path.name}")
        if options.check_reproducible:
            from nox_buildstages.builder import reproducible  # noqa: PLC0415 - for it alone

            reproducible.check_reproducible(context, stage, environment)
    return None


def _await_lower_pythons(workspace: Workspace, stage: Stage) -> None:
    """Wait while lower Pythons build this stage in other processes of the run.

    Their wheels may fit this Python, unless the last wheels didn't. Sessions that
    begin later may need the place of this session, so nothing waits for them.
    """
    run, project = workspace.tools.run, workspace.project
    if not run.is_parallel:
        return
    own = workspace.interpreter.tags
    names = set()
    for python in workspace.lower_pythons:
        cell = project.stage_cell(stage.name)
        folder = project.wheelhouse_of(cell, minor_version(python))
        wheels = Wheelhouse(folder).read_manifest().wheels
        tags = {it["name"]: parse_wheel_filename(it["file"])[3] for it in wheels}
        if any(
            it.name not in tags or not tags[it.name].isdisjoint(own)
            for it in stage.outputs
        ):
            names.add(f"{workspace.cell.session(stage)}-{python}")
    if not names:
        return

    def running() -> list[str]:
        last = {it.session: it for it in run.events_of("") if it.step == "session"}
        begun = (last[it] for it in names & last.keys() if last[it].state == BEGUN)
        return [it.session for it in begun if Path(f"/proc/{it.process}").exists()]

    @contextmanager
    def wait(begin: Callable[..., None]) -> Iterator[None]:
        if found := running():
            begin(", ".join(sorted(found)))
        while running():
            check_interrupt()
            time.sleep(PAUSE)
        yield

    with run.wait(wait, "{}, whose wheels may fit this Python"):
        pass
