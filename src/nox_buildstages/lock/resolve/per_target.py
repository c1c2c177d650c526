"""One target's way to its locks: sketches first, then a draft of stage after stage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from nox_buildstages.errors import LocalVersionError, ResolutionError
from nox_buildstages.model import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.resolve.environment import (
        EnvironmentResolver,
        ResolvedEnvironment,
    )
    from nox_buildstages.lock.resolve.metadata import KnownMetadata
    from nox_buildstages.model import Stage


@dataclass(kw_only=True, slots=True)
class TargetLock:
    """What has been found for a target so far.

    A stage is drafted when the backends of all stages that it needs have spoken in
    their environments, ``final`` when all have. Sketches show earlier how far what has
    to match is held back, before a backend runs for nothing.

    Attributes:
        drafter: Makes drafts for the target.
        bounds: On what has to match, PEP 508 strings.
        sketches: Of every environment that could be sketched under them.
        drafts: Made under them.
    """

    drafter: EnvironmentResolver
    bounds: tuple[str, ...] | None = None
    sketches: dict[str, ResolvedEnvironment] = field(default_factory=dict)
    drafts: dict[str, ResolvedEnvironment] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """For which it is."""
        return self.drafter.resolver.target

    @property
    def facts(self) -> KnownMetadata:
        """What is known of the outputs."""
        return self.drafter.facts

    def begin(self, bounds: tuple[str, ...]) -> list[Callable[[], None]]:
        """Begin anew, with what is known by now.

        Returns:
            What remains to be sketched, in any order or side by side.
        """
        self.drafts = {}
        if bounds == self.bounds:
            return []
        self.bounds = bounds
        self.sketches = {}
        return [partial(self._sketch, stage) for stage in self._all()]

    def ready(self) -> Iterator[Stage | None]:
        """Yield what can be drafted now; None for ``final``."""
        graph = self.drafter.graph
        for stage in graph.order:
            if stage.name not in self.drafts and all(
                map(self.has_settled, graph.requires(stage.name))
            ):
                yield stage
        if FINAL not in self.drafts and all(
            self.has_settled(stage.name) for stage in graph.order
        ):
            yield None

    def draft(self, stage: Stage | None) -> ResolutionError | None:
        """Draft an environment; return why it can't be resolved.

        Raises:
            UnorderedOutputError: It wants an output that isn't built before it.
            LocalVersionError: It lacks what the local version of an output names.
        """
        try:
            draft = self.drafter.draft(stage, self.bounds or ())
        except ResolutionError as error:
            return error
        self.drafts[draft.lock.name] = draft
        if stage is not None:
            self._label(stage, draft)
        return None

    def _label(self, stage: Stage, draft: ResolvedEnvironment) -> None:
        """Give outputs the versions that a draft of their environment makes of them."""
        try:
            self.facts.label(stage, draft.pins)
        except LocalVersionError:
            if self.has_settled(stage.name):
                raise
            return  # a backend may still ask for what isn't there
        lock = replace(draft.lock, outputs=self.facts.locked(stage))
        self.drafts[stage.name] = replace(draft, lock=lock)

    def known(self) -> dict[str, ResolvedEnvironment]:
        """Return the best that is known of every environment."""
        return {**self.sketches, **self.drafts}

    def drafted(self) -> list[Stage]:
        """Return the stages that are drafted, in order."""
        stages = self.drafter.graph.order
        return [stage for stage in stages if stage.name in self.drafts]

    def has_settled(self, name: str) -> bool:
        """Whether a stage's backends have spoken in the environment that is drafted."""
        draft = self.drafts.get(name)
        asked = self.facts.asked
        return draft is not None and all(
            output.name in asked and asked[output.name].pins == draft.pins
            for output in self.drafter.graph.stage(name).outputs
        )

    def lock(self, name: str, *, marked: bool) -> Lock:
        """Return a lock of the target.

        Args:
            name: Of the stage, or ``final``.
            marked: Whether it says that its backends were asked here.
        """
        lock = self.drafts[name].lock
        if not marked or self.target.python is None:
            return lock
        asked = (self.target.marker,)
        return replace(
            lock, outputs=tuple(replace(it, asked=asked) for it in lock.outputs)
        )

    def _all(self) -> Iterable[Stage | None]:
        return (*self.drafter.graph.order, None)

    def _sketch(self, stage: Stage | None) -> None:
        sketch = self.drafter.sketch(stage, self.bounds or ())
        if sketch is not None:
            self.sketches[sketch.lock.name] = sketch
