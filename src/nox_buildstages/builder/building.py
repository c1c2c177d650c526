"""The outputs of a stage that no store has, built in one environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.builder import making
from nox_buildstages.builder.attending import Deadline
from nox_buildstages.builder.compilers import cache as caching
from nox_buildstages.builder.job import Job
from nox_buildstages.builder.prepare import occupied, prepare
from nox_buildstages.errors import NotRunError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Stage


def built(
    context: BuildContext,
    stage: Stage,
    environment: Environment,
    outputs: Collection[LockedOutput],
    rebuild: Collection[str],
) -> Iterator[LockedOutput]:
    """Build outputs of a stage, and yield each when the store has it.

    Args:
        context: With the locks of the stage and of those before it.
        stage: Whose outputs they are.
        environment: To build in.
        outputs: To be built.
        rebuild: Those that are built although a store has them.

    Raises:
        BuildStagesError: One can't be built; see ``stage.provide``.
    """
    _check_means(context, stage)
    deadline = Deadline.of(stage)
    # So early, for a stage that is ready sooner leaves room for those it knows of.
    with (
        occupied(context.tools, environment),
        context.tools.job_pool.take_slot() as slot,
    ):
        prepare(context, stage.name, environment)
        if not environment.may_run():
            names = tuple(output.name for output in outputs)
            raise NotRunError(stage=stage.name, outputs=names)
        for output in outputs:
            job = Job(
                context=context,
                stage=stage,
                output=output,
                environment=environment,
                attend=deadline.watch(output.name) if deadline else None,
            )
            making.build(job, slot, again=output.name in rebuild)
            yield output


def _check_means(context: BuildContext, stage: Stage) -> None:
    """See that what a stage asks for is there, before anything costs time."""
    context.tools.sandbox_policy.sandbox(stage)
    caching.chosen(context, stage)
    if context.tools.remote is not None:
        context.tools.remote.check()
