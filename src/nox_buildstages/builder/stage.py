"""One stage: key → store, else each output is built in its environment → store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """What became of an output.

    Attributes:
        wheel: The wheel in the store.
        output: As it is locked.
        patches: Of its source, by their names of today.
        stage: That provides it.
        built: Whether it was built in this run; else it was found in the store.
    """

    wheel: StoredWheel
    output: LockedOutput
    patches: tuple[AppliedPatch, ...]
    stage: str
    built: bool


def provide(
    context: BuildContext,
    stage: Stage,
    environment: Environment,
    *,
    rebuild: Collection[str] = (),
) -> tuple[OutputResult, ...]:
    """Make the store hold every wheel of a stage.

    Args:
        context: With the locks of the stage and of those before it.
        stage: Whose outputs are wanted.
        environment: To build in; untouched where nothing is to be built.
        rebuild: Outputs that are built although a store has them, unless this
            run has put them there.

    Returns:
        The outcomes, in the order of the outputs.

    Raises:
        MissingWheelError: An earlier stage's wheel isn't in the store.
        UsageError: There is no driver for the remote store.
        NotRunError: Something is to be built and nox was told not to run.
        NetworkError: It is to be off and can't be.
        CompilerCacheError: It is named and isn't there, or doesn't work.
        SyncError: The environment could not be made.
        BuildError: An output could not be built.
    """
    outputs = context.locks[stage.name].outputs
    recipes = {
        output.name: context.recipe(stage.name, output.name) for output in outputs
    }
    missing = [
        output
        for output in outputs
        if output.name in rebuild or context.obtain(recipes[output.name]) is None
    ]
    _note(context, stage)
    if missing:
        from nox_buildstages.builder import building  # noqa: PLC0415 - mostly all is there

        for _ in building.built(context, stage, environment, missing, rebuild):
            _note(context, stage)
    return outcomes(context, stage)


def outcomes(context: BuildContext, stage: Stage) -> tuple[OutputResult, ...]:
    """Return what became of the outputs of a stage.

    Raises:
        MissingWheelError: One isn't in the store.
    """
    outputs = context.locks[stage.name].outputs
    wheels = [context.stored_wheel(stage.name, output.name) for output in outputs]
    return tuple(
        _outcome(context, stage, output, wheel)
        for wheel, output in zip(wheels, outputs, strict=True)
    )


def present(context: BuildContext, stage: Stage) -> Iterator[OutputResult]:
    """Yield what became of the outputs of a stage whose wheels are in the store."""
    for output in context.locks[stage.name].outputs:
        wheel = context.find(context.recipe(stage.name, output.name))
        if wheel is not None:
            yield _outcome(context, stage, output, wheel)


def _note(context: BuildContext, stage: Stage) -> None:
    """Tell the journal of every wheel of a stage that is there."""
    context.journal.add(
        {
            **context.noted(stage.name, outcome.output),
            "state": BUILT if outcome.built else CACHED,
            "seconds": outcome.wheel.seconds,
            "size": outcome.wheel.size,
        }
        for outcome in present(context, stage)
    )


def _outcome(
    context: BuildContext, stage: Stage, output: LockedOutput, wheel: StoredWheel
) -> OutputResult:
    return OutputResult(
        wheel=wheel,
        output=output,
        patches=context.recipe(stage.name, output.name).patches,
        stage=stage.name,
        built=wheel.run == context.tools.run.id,
    )
