"""Plan which outputs would be built, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from nox_buildstages.indexes.url_secrets import redact, redact_logins
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.lock.files.pylock import sdist_version
from nox_buildstages.model import DirectorySource
from nox_buildstages.run.events import ASKED
from nox_buildstages.store.history import Cause
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.jobs.memory import MemoryNeed
    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Output, Project, Stage
    from nox_buildstages.preflight.finding import Finding
    from nox_buildstages.store.history import History
    from nox_buildstages.store.key import Recipe
    from nox_buildstages.store.store import StoredWheel

_Reason: TypeAlias = "tuple[str, Cause | None]"
"""A reason to build an output, and its cause if that lies in another output."""


class PlannedOutput(Value):
    """The plan of an output."""

    stage: str
    title: str  # the stage with the values of its axes
    name: str  # normalized
    version: str  # empty without a lock
    reasons: tuple[str, ...]  # for a build, the root first; empty if cached
    python: str = ""  # the minor version
    key: str | None = None  # None if other outputs are built first
    source: str = ""  # empty without a lock
    compared: str | None = None  # the key of the last build, if any
    cause: Cause | None = None  # of the first reason
    remote: bool = False  # whether only the remote store has the wheel
    place: str = ""  # of the remote store, if only that has the wheel
    memory: MemoryNeed | None = None  # for each job of a build; None if unknown
    seconds: float | None = None  # of the last build; None if unknown

    @property
    def state(self) -> Literal["cached", "build"]:
        """Whether the wheel is cached or would be built."""
        return "build" if self.reasons else "cached"


class Branch(Value):
    """A stage of a tree, with the plan of its outputs."""

    stage: str
    needs: tuple[str, ...] = ()  # the stages before it
    outputs: tuple[PlannedOutput, ...] = ()
    is_above: bool = False  # whether an earlier tree has the same stage


class Tree(Value):
    """A runtime environment, and the stages that its wheels come from."""

    title: str = ""  # the cell and the Python, if there are several
    installs: str = ""  # in words
    branches: tuple[Branch, ...]  # each after those that it needs


class Plan(Value):
    """The plan of a project."""

    locks: Literal["current", "stale", "missing"]  # the state of the lock files
    lock_changes: str = ""  # why they are stale, or which one is missing or damaged
    pythons: tuple[str, ...]  # minor versions
    outputs: tuple[PlannedOutput, ...]  # of each Python, in the order of the stages
    trees: tuple[Tree, ...] = ()  # of each cell and Python
    findings: tuple[Finding, ...] = ()  # of preflight


def plan_without_locks(project: Project, python: str) -> tuple[PlannedOutput, ...]:
    """Plan a project without lock files: everything is locked, then built."""
    return tuple(
        _plan_without_lock(project, stage, output, python)
        for stage in project.stages
        for output in stage.outputs
    )


def _plan_without_lock(
    project: Project, stage: Stage, output: Output, python: str
) -> PlannedOutput:
    cause = Cause(output=output.name, text="not locked yet")
    return PlannedOutput(
        stage=stage.name,
        title=project.stage_label(stage.name),
        name=output.name,
        version="",
        reasons=(cause.text,),
        python=python,
        cause=cause,
    )


def plan_outputs(
    context: BuildContext,
    history: History,
    *,
    rebuild: Collection[str] = (),
    elsewhere: bool = False,
) -> tuple[PlannedOutput, ...]:
    """Plan every output of a project for a Python, in the order of the stages.

    ``rebuild`` names outputs that are built even if the store has them; ``elsewhere``
    is for builds on another machine, which may have other variables.
    """
    planner = _Planner(context=context, history=history, rebuild=rebuild)
    for stage in context.graph.order:
        planner.plan_stage(stage, elsewhere=elsewhere)
    return tuple(planner.planned.values())


class _Planner(Value):
    """Plans stages in their order."""

    context: BuildContext
    history: History
    rebuild: Collection[str]  # built even if cached
    planned: dict[str, PlannedOutput] = field(default_factory=dict)
    """The outputs of the stages so far, by name."""

    def plan_stage(self, stage: Stage, *, elsewhere: bool) -> None:
        """Plan the outputs of a stage, whose ancestors are planned."""
        project = self.context.project
        python = self.context.interpreter.version
        gaps = [
            f"{program} is not on this machine, so its key isn't known"
            for program in self.context.missing_tools(stage)
        ]
        gaps += [
            f"{name} is not set here, so its key isn't known"
            for name in (stage.pass_env if elsewhere else ())
            if name not in stage.env and name not in self.context.tools.run.outer
        ]
        all_locked = {it.name: it for it in self.context.locks[stage.name].outputs}
        for output in stage.outputs:
            locked = all_locked.get(output.name)
            if locked is None:
                planned = _plan_without_lock(project, stage, output, python)
                self.planned[output.name] = planned
                continue
            reasons: list[_Reason] = []
            version = locked.metadata.version
            if not output.accepts(sdist_version(output.name, locked.source) or version):
                wanted = output.requirement.specifier
                text = f"version {version} is locked and {wanted} is wanted"
                reasons.append((text, None))
            if output.name in self.rebuild:
                reasons.append((ASKED, None))
            planned = PlannedOutput(
                stage=stage.name,
                title=project.stage_label(stage.name),
                name=locked.name,
                version=str(version),
                reasons=(),
                python=python,
                source=redact_logins(str(locked.source)),
            )
            if stage.code and isinstance(locked.source, DirectorySource):
                reasons.append((f"known when stage {stage.name} has run", None))
            elif gaps:
                reasons += ((gap, None) for gap in gaps)
            else:
                planned = self._compare(planned, stage, locked, reasons)
            if reasons:
                text, cause = reasons[0]
                planned = replace(
                    planned,
                    reasons=tuple(text for text, _ in reasons),
                    cause=cause or Cause(output=output.name, text=text),
                    remote=False,
                    place="",
                )
            self.planned[output.name] = planned

    def _compare(
        self,
        planned: PlannedOutput,
        stage: Stage,
        locked: LockedOutput,
        reasons: list[_Reason],
    ) -> PlannedOutput:
        """Look for an output in the stores; add the reasons if neither has a wheel."""
        # None for a wheel in out-of-date lock files that no stage provides any more.
        ancestors: dict[str, PlannedOutput | None] = {
            pin.name: self.planned.get(pin.name)
            for pin in self.context.pins(stage.name)
            if isinstance(pin, StagePin)
        }
        built_first = {
            name: it for name, it in ancestors.items() if it is None or it.reasons
        }
        if built_first:
            recipe = self.context.make_recipe(stage, locked, without=built_first.keys())
        else:
            recipe = self.context.recipe(stage.name, locked.name)
            planned = replace(planned, key=recipe.key)
            wheel = self.context.find_wheel(recipe)
            if wheel is not None:
                return replace(planned, key=wheel.key, seconds=wheel.seconds)
            remote = self.context.tools.remote
            if remote is not None and self.context.has_remote_wheel(recipe):
                return replace(planned, remote=True, place=redact(remote.declared.url))
        wanted, unknown = recipe, built_first.keys()
        if recipe.machine and recipe.machine.keys().isdisjoint(("cc", "c++")):
            recipe = recipe.without_compilers  # differs from no other machine
            self.context.tools.run.report_once(
                "no C or C++ compiler is here: the plan compares everything but"
                " compilers and the C library"
            )
        earlier = self.history.memory_of(recipe, unknown=unknown)
        need = self.context.memory_need(stage, locked, earlier)
        planned = replace(planned, memory=need)
        last = self.history.previous(recipe, unknown=unknown)
        reasons += self._differences(recipe, last, built_first)
        if last is not None and not reasons:
            self.context.use_wheel(wanted, last)
            return replace(planned, key=last.key, seconds=last.seconds)
        return replace(
            planned,
            compared=last.recipe.key if last else None,
            seconds=last.seconds if last else None,
        )

    def _differences(
        self,
        recipe: Recipe,
        last: StoredWheel | None,
        built_first: Mapping[str, PlannedOutput | None],
    ) -> Iterator[_Reason]:
        """Yield how a build differs from the last one; changes of other outputs last.

        ``built_first`` are the outputs in the environment that are built first.
        """
        yield from self.history.explain(recipe, last, unknown=built_first)
        if last is None:
            return
        for name, planned in built_first.items():
            if planned is None or planned.cause is None:
                yield f"no stage provides {name} any more", None
            else:
                text = f"the wheel {name} of stage {planned.stage} is built first"
                yield f"{text} {planned.cause.explain(name)}", planned.cause
