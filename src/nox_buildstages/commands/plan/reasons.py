"""What would be built, and why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from nox_buildstages.indexes.logins import redact
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.store.key import describe_changes, stage_wheel_changes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Output, Project, Stage
    from nox_buildstages.store.history import History
    from nox_buildstages.store.key import Recipe
    from nox_buildstages.store.store import StoredWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """What is at the root of a change.

    Attributes:
        output: That it befell first.
        text: What it is.
    """

    output: str
    text: str

    def behind(self, output: str) -> str:
        """Return why an output changes, in words."""
        if output == self.output:
            return f"because {self.text}"
        return f"because of {self.output}: {self.text}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What would become of an output.

    Attributes:
        stage: That provides it.
        title: The same with the values of axes that it uses.
        name: Of the project.
        version: Of the wheel; empty where it isn't locked yet.
        reasons: Why it would be built, most telling first; none where it is cached.
        python: The minor version it is for.
        key: Of the wheel; None where it isn't known before others are built.
        source: What it is built from, in words; empty where it isn't locked yet.
        compared: The key of the build that it was compared with; None where it is
            cached, or where none is known.
        cause: Of its being built; None where it is cached.
        remote: Whether the remote store alone has it.
    """

    stage: str
    title: str
    name: str
    version: str
    reasons: tuple[str, ...]
    python: str = ""
    key: str | None = None
    source: str = ""
    compared: str | None = None
    cause: Cause | None = None
    remote: bool = False

    @property
    def place(self) -> tuple[str, str, str]:
        """What it has for itself among all cells and Pythons."""
        return self.python, self.title, self.name

    @property
    def state(self) -> Literal["cached", "build"]:
        """What would become of it, in a word."""
        return "build" if self.reasons else "cached"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What would become of every output.

    Attributes:
        locks: What it was made with.
        pythons: The minor versions that it is for.
        outputs: For each Python, stage by stage.
    """

    locks: Literal["current", "stale", "missing"]
    pythons: tuple[str, ...]
    outputs: tuple[Planned, ...]


def unlocked(project: Project, python: str) -> tuple[Planned, ...]:
    """Plan without locks: everything would be locked first."""
    return tuple(
        _unlocked(project, stage, output, python)
        for stage in project.stages
        for output in stage.outputs
    )


def plan(
    context: BuildContext,
    history: History,
    *,
    asked: Collection[str] = (),
    elsewhere: bool = False,
) -> tuple[Planned, ...]:
    """Plan every output of a project for one Python, stage by stage.

    Args:
        context: With all locks.
        history: What was built before.
        asked: Outputs that are built though the store has them.
        elsewhere: Whether another machine builds, where variables may be set that
            aren't here.
    """
    planner = _Planner(
        context=context, history=history, asked=asked, elsewhere=elsewhere
    )
    for stage in context.graph.order:
        planner.add(stage)
    return tuple(planner.planned.values())


def _unlocked(project: Project, stage: Stage, output: Output, python: str) -> Planned:
    return Planned(
        stage=stage.name,
        title=project.stage_label(stage.name),
        name=output.name,
        version="",
        reasons=("not locked yet",),
        python=python,
        cause=Cause(output=output.name, text="not locked yet"),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reason:
    text: str
    cause: Cause


@dataclass(frozen=True, kw_only=True, slots=True)
class _Planner:
    """Plans stages in their order; ``planned`` is what it has so far, by output."""

    context: BuildContext
    history: History
    asked: Collection[str]
    elsewhere: bool
    planned: dict[str, Planned] = field(default_factory=dict)

    def add(self, stage: Stage) -> None:
        """Plan the outputs of a stage after those that it needs."""
        locked = {it.name: it for it in self.context.locks[stage.name].outputs}
        gaps = [*self._gaps(stage)]
        for output in stage.outputs:
            self.planned[output.name] = (
                _unlocked(self.context.project, stage, output, self._python)
                if output.name not in locked
                else self._guessed(stage, output, locked[output.name], gaps)
                if gaps
                else self._planned(stage, output, locked[output.name])
            )

    def _gaps(self, stage: Stage) -> Iterator[str]:
        """Yield why no key of a stage is known, on this machine."""
        for program in self.context.missing_tools(stage):
            yield f"{program} is not on this machine, so its key isn't known"
        for name in stage.pass_env if self.elsewhere else ():
            if name not in stage.env and name not in self.context.tools.outer:
                yield f"{name} is not set here, so its key isn't known"

    def _guessed(
        self, stage: Stage, output: Output, locked: LockedOutput, gaps: list[str]
    ) -> Planned:
        reasons = [*self._outright(output, locked)]
        reasons += (_own(output.name, gap) for gap in gaps)
        return self._told(stage, locked, reasons)

    def _told(
        self, stage: Stage, locked: LockedOutput, reasons: Sequence[_Reason]
    ) -> Planned:
        """Return what is planned of an output, as far as no key has to be known."""
        return Planned(
            stage=stage.name,
            title=self.context.project.stage_label(stage.name),
            name=locked.name,
            version=str(locked.metadata.version),
            reasons=tuple(reason.text for reason in reasons),
            python=self._python,
            source=redact(str(locked.source)),
            cause=reasons[0].cause if reasons else None,
        )

    @property
    def _python(self) -> str:
        return self.context.interpreter.markers["python_version"]

    def _planned(self, stage: Stage, output: Output, locked: LockedOutput) -> Planned:
        held = self._from_stages(stage)
        unknown = {name for name, it in held.items() if it is None or it.reasons}
        recipe = (
            self.context.make_recipe(stage, locked, without=unknown)
            if unknown
            else self.context.recipe(stage.name, locked.name)
        )
        reasons = [*self._outright(output, locked)]
        before = None
        is_here = not unknown and self.context.find_wheel(recipe) is not None
        is_remote = not (unknown or is_here) and self.context.has_remote_wheel(recipe)
        if not (is_here or is_remote):
            before = self.history.previous(recipe, unknown=unknown)
            first = {name: held[name] for name in held if name in unknown}
            reasons += self._differences(recipe, before, first)
        return replace(
            self._told(stage, locked, reasons),
            key=None if unknown else recipe.key,
            compared=before.key if before else None,
            remote=is_remote and not reasons,
        )

    def _from_stages(self, stage: Stage) -> dict[str, Planned | None]:
        """Return what becomes of the stages' wheels that an environment holds.

        It is None where stale locks have a wheel that no stage provides any more.
        """
        return {
            pin.name: self.planned.get(pin.name)
            for pin in self.context.pins(stage.name)
            if isinstance(pin, StagePin)
        }

    def _outright(self, output: Output, locked: LockedOutput) -> Iterator[_Reason]:
        """Yield why an output is built whatever the store has."""
        version, wanted = locked.metadata.version, output.requirement.specifier
        if not wanted.contains(version, prereleases=True):
            text = f"version {version} is locked and {wanted} is wanted"
            yield _own(output.name, text)
        if output.name in self.asked:
            yield _own(output.name, "--rebuild asks for it")

    def _differences(
        self,
        recipe: Recipe,
        before: StoredWheel | None,
        first: Mapping[str, Planned | None],
    ) -> Iterator[_Reason]:
        """Yield what differs from the build before, what came from elsewhere last.

        Args:
            recipe: Of the build to come, without what is built before it.
            before: The build to compare with.
            first: What is built before it.
        """
        if before is None:
            yield _own(recipe.name, "not built yet")
            return
        if not first and before.recipe.key == recipe.key:
            yield _own(recipe.name, "its wheel in the store is damaged")
            return
        old = before.recipe.without(first)
        wheels = stage_wheel_changes(old, recipe)
        for text in describe_changes(old.without(wheels), recipe.without(wheels)):
            yield _own(recipe.name, text)
        for name in wheels:
            yield self._changed(name, old, recipe)
        for name, planned in first.items():
            yield _after(planned) if planned else _gone(recipe.name, name)

    def _changed(self, name: str, old: Recipe, new: Recipe) -> _Reason:
        stage = new.environment[name].stage
        text = f"the wheel {name} of stage {stage} changed"
        cause = self._cause(name, old, new)
        if cause is None:
            return _own(new.name, text)
        return _Reason(text=f"{text} {cause.behind(name)}", cause=cause)

    def _cause(self, name: str, old: Recipe, new: Recipe) -> Cause | None:
        """Return why a wheel in two environments isn't the same; None where unknown."""
        was, now = (
            self.history.recipe_of(name, recipe.environment[name].sha256)
            for recipe in (old, new)
        )
        if was is None or now is None:
            return None
        wheels = stage_wheel_changes(was, now)
        own = describe_changes(was.without(wheels), now.without(wheels))
        if own:
            return Cause(output=name, text=own[0])
        deeper = (self._cause(wheel, was, now) for wheel in wheels)
        return next((cause for cause in deeper if cause), None)


def _own(output: str, text: str) -> _Reason:
    return _Reason(text=text, cause=Cause(output=output, text=text))


def _gone(output: str, name: str) -> _Reason:
    return _own(output, f"no stage provides {name} any more")


def _after(planned: Planned) -> _Reason:
    assert planned.cause is not None  # noqa: S101 - it is to be built
    why = planned.cause.behind(planned.name)
    text = f"the wheel {planned.name} of stage {planned.stage} is built first {why}"
    return _Reason(text=text, cause=planned.cause)
