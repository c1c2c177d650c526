"""Find or build the outputs of a stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nox_buildstages.errors import not_run
from nox_buildstages.run.journal import BUILT, CACHED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Stage
    from nox_buildstages.store.key import AppliedPatch
    from nox_buildstages.store.store import StoredWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputResult:
    """The result of providing an output.

    Attributes:
        wheel: The wheel in the store.
        output: The output, as locked.
        patches: The patches of the source, by their current file names.
        stage: The stage's name.
        is_built: Whether this run built the wheel, rather than an earlier run.
    """

    wheel: StoredWheel
    output: LockedOutput
    patches: tuple[AppliedPatch, ...]
    stage: str
    is_built: bool


def provide_stage(
    context: BuildContext,
    stage: Stage,
    environment: Environment,
    *,
    rebuild: Collection[str] = (),
) -> tuple[OutputResult, ...]:
    """Find or build every wheel of a stage.

    Args:
        context: The project, with the locks of the stage and of earlier stages.
        stage: The stage.
        environment: The environment to build in; untouched if the store has all wheels.
        rebuild: Names of outputs to build even if the store has their wheels, unless
            this run has built them.

    Returns:
        The results, in the order of the outputs.

    Raises:
        BuildStagesError: The store lacks a wheel of an earlier stage.
        UsageError: The remote store has no driver.
        BuildStagesError: Something has to be built, and nox must not run anything.
        BuildStagesError: The network can't be switched off.
        BuildStagesError: The compiler cache is missing or doesn't work.
        BuildStagesError: The environment can't be made.
        BuildError: An output can't be built.
    """
    tools, outputs = context.tools, context.locks[stage.name].outputs
    missing = [
        output
        for output in outputs
        if output.name in rebuild
        or context.fetch_wheel(context.recipe(stage.name, output.name)) is None
    ]
    _record_results(context, stage)
    if missing:
        from nox_buildstages.builder.compilers.cache import find_cache  # noqa: PLC0415
        from nox_buildstages.builder.job import Deadline, Job  # noqa: PLC0415 - to build
        from nox_buildstages.builder.output import build_output  # noqa: PLC0415
        from nox_buildstages.builder.prepare import (  # noqa: PLC0415
            occupy_environment,
            prepare_environment,
        )

        # Check the machine before anything takes time.
        tools.sandbox_policy.sandbox(stage)
        compiler_cache = find_cache(context, stage)
        if tools.remote is not None:
            tools.remote.check()
        deadline = Deadline.of(stage)
        # The slot is taken before the environment is made: stages that are ready
        # sooner leave jobs for this one.
        with (
            occupy_environment(tools, environment),
            tools.job_pool.take_slot() as slot,
        ):
            prepare_environment(context, stage.name, environment)
            if not environment.may_run():
                raise not_run(stage.name, *(output.name for output in missing))
            for output in missing:
                job = Job(
                    context=context,
                    stage=stage,
                    output=output,
                    environment=environment,
                    compiler_cache=compiler_cache,
                    deadline=deadline,
                )
                build_output(job, slot, rebuild=output.name in rebuild)
                _record_results(context, stage)
    return find_results(context, stage)


def find_results(context: BuildContext, stage: Stage) -> tuple[OutputResult, ...]:
    """Return the results of a stage whose wheels are all in the store.

    Raises:
        BuildStagesError: The store lacks a wheel.
    """
    for output in context.locks[stage.name].outputs:
        context.get_wheel(stage.name, output.name)
    return tuple(available_results(context, stage))


def available_results(context: BuildContext, stage: Stage) -> Iterator[OutputResult]:
    """Yield the results of the outputs whose wheels are in the store."""
    for output in context.locks[stage.name].outputs:
        recipe = context.recipe(stage.name, output.name)
        wheel = context.find_wheel(recipe)
        if wheel is not None:
            yield OutputResult(
                wheel=wheel,
                output=output,
                patches=recipe.patches,
                stage=stage.name,
                is_built=wheel.run == context.tools.run.id,
            )


def _record_results(context: BuildContext, stage: Stage) -> None:
    """Record the wheels of a stage in the run's journal."""
    context.tools.run.journal.add(
        {
            **context.journal_fields(stage.name, result.output),
            "state": BUILT if result.is_built else CACHED,
            "seconds": result.wheel.seconds,
            "size": result.wheel.size,
        }
        for result in available_results(context, stage)
    )
