"""What would be built, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nox_buildstages.build.key import difference
from nox_buildstages.columns import aligned
from nox_buildstages.errors import MissingWheelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nox_buildstages.build.bench import Bench
    from nox_buildstages.lock.lockfile import LockedOutput
    from nox_buildstages.model import Output, Project, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What would become of an output.

    Attributes:
        stage: That provides it.
        name: Of the project.
        version: Of the wheel; empty where it isn't locked yet.
        reasons: Why it would be built, most telling first; none where it is cached.
        python: The minor version it is for; empty where that isn't known yet.
    """

    stage: str
    name: str
    version: str
    reasons: tuple[str, ...]
    python: str = ""

    @property
    def state(self) -> str:
        """``cached`` or ``build``."""
        return "build" if self.reasons else "cached"


def unlocked(project: Project, python: str = "") -> tuple[Planned, ...]:
    """Plan without locks, for a Python: everything would be locked first."""
    return tuple(
        replace(_unlocked(stage, output), python=python)
        for stage in project.stages
        for output in stage.outputs
    )


def plan(bench: Bench, keys: Mapping[str, str]) -> tuple[Planned, ...]:
    """Plan every output of a project, stage by stage.

    Args:
        bench: With all locks.
        keys: Under which the store has what was last built of each output.
    """
    return tuple(
        _planned(bench, stage, output, keys)
        for stage in bench.graph.order
        for output in stage.outputs
    )


def render(planned: Sequence[Planned]) -> Iterator[str]:
    """Yield a line for each output: state, name, version, stage, first reason.

    Where there are several Pythons, the line says for which one it is.
    """
    several = len({it.python for it in planned}) > 1
    return aligned(
        [
            (
                *(it.state, it.name, it.version, it.stage),
                *([it.python] if several else []),
                _first(it.reasons),
            )
            for it in planned
        ]
    )


def _first(reasons: tuple[str, ...]) -> str:
    if len(reasons) > 1:
        return f"{reasons[0]} (and {len(reasons) - 1} more)"
    return reasons[0] if reasons else ""


def _planned(
    bench: Bench, stage: Stage, output: Output, keys: Mapping[str, str]
) -> Planned:
    outputs = bench.locks[stage.name].outputs
    locked = next((other for other in outputs if other.name == output.name), None)
    python = bench.interpreter.markers["python_version"]
    if locked is None:
        return replace(_unlocked(stage, output), python=python)
    reasons = _reasons(bench, stage, locked, keys.get(output.name))
    version = locked.metadata.version
    wanted = output.requirement.specifier
    if not wanted.contains(version, prereleases=True):
        reasons = (f"version {version} is locked and {wanted} is wanted", *reasons)
    return Planned(
        stage=stage.name,
        name=output.name,
        version=str(version),
        reasons=reasons,
        python=python,
    )


def _unlocked(stage: Stage, output: Output) -> Planned:
    return Planned(
        stage=stage.name, name=output.name, version="", reasons=("not locked yet",)
    )


def _reasons(
    bench: Bench, stage: Stage, output: LockedOutput, key: str | None
) -> tuple[str, ...]:
    try:
        recipe = bench.recipe(stage.name, output.name)
    except MissingWheelError as missing:
        return (f"{missing.output} of stage {missing.stage} is built first",)
    if bench.find(recipe) is not None:
        return ()
    before = None if key is None else bench.tools.store.peek(key)
    if before is None:
        return ("not built yet",)
    if before.recipe == recipe:
        return ("its wheel in the store is damaged",)
    return difference(before.recipe, recipe)
