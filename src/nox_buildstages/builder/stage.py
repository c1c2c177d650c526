"""One stage: key → store, else each output is built in its environment → store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nox_buildstages.run.journal import BUILT, CACHED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nox_buildstages.builder.context import Bench
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Stage
    from nox_buildstages.store.key import AppliedPatch
    from nox_buildstages.store.store import Entry


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of an output.

    Attributes:
        entry: Its wheel, and what went into it.
        output: As it is locked.
        patches: Of its source, by their names of today.
        stage: That provides it.
        built: Whether it was built in this run; else it was found in the store.
    """

    entry: Entry
    output: LockedOutput
    patches: tuple[AppliedPatch, ...]
    stage: str
    built: bool


def provide(
    bench: Bench,
    stage: Stage,
    environment: Environment,
    *,
    rebuild: Collection[str] = (),
) -> tuple[Outcome, ...]:
    """Make the store hold every wheel of a stage.

    Args:
        bench: With the locks of the stage and of those before it.
        stage: Whose outputs are wanted.
        environment: To build in; untouched where nothing is to be built.
        rebuild: Outputs that are built although a store has them, unless this
            run has put them there.

    Returns:
        The outcomes, in the order of the outputs.

    Raises:
        MissingWheelError: An earlier stage's wheel isn't in the store.
        RemoteStoreError: There is no driver for the remote store.
        NotRunError: Something is to be built and nox was told not to run.
        NetworkError: It is to be off and can't be.
        CompilerCacheError: It is named and isn't there, or doesn't work.
        SyncError: The environment could not be made.
        BuildError: An output could not be built.
    """
    outputs = bench.locks[stage.name].outputs
    recipes = {output.name: bench.recipe(stage.name, output.name) for output in outputs}
    missing = [
        output
        for output in outputs
        if output.name in rebuild or bench.obtain(recipes[output.name]) is None
    ]
    _note(bench, stage)
    if missing:
        from nox_buildstages.builder import building  # noqa: PLC0415 - mostly all is there

        for _ in building.built(bench, stage, environment, missing, rebuild):
            _note(bench, stage)
    return outcomes(bench, stage)


def outcomes(bench: Bench, stage: Stage) -> tuple[Outcome, ...]:
    """Return what became of the outputs of a stage.

    Raises:
        MissingWheelError: One isn't in the store.
    """
    outputs = bench.locks[stage.name].outputs
    entries = [bench.entry(stage.name, output.name) for output in outputs]
    return tuple(
        _outcome(bench, stage, output, entry)
        for entry, output in zip(entries, outputs, strict=True)
    )


def present(bench: Bench, stage: Stage) -> Iterator[Outcome]:
    """Yield what became of the outputs of a stage whose wheels are in the store."""
    for output in bench.locks[stage.name].outputs:
        entry = bench.find(bench.recipe(stage.name, output.name))
        if entry is not None:
            yield _outcome(bench, stage, output, entry)


def _note(bench: Bench, stage: Stage) -> None:
    """Tell the journal of every wheel of a stage that is there."""
    bench.journal.add(
        {
            **bench.noted(stage.name, outcome.output),
            "state": BUILT if outcome.built else CACHED,
            "seconds": outcome.entry.wheel.seconds,
            "size": outcome.entry.wheel.size,
        }
        for outcome in present(bench, stage)
    )


def _outcome(bench: Bench, stage: Stage, output: LockedOutput, entry: Entry) -> Outcome:
    return Outcome(
        entry=entry,
        output=output,
        patches=bench.recipe(stage.name, output.name).patches,
        stage=stage.name,
        built=entry.run == bench.tools.run,
    )
