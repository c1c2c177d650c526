"""The locks of a target while they are made."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nox_buildstages.errors import (
    LocalVersionError,
    ResolutionError,
    UnorderedOutputError,
)
from nox_buildstages.model import FINAL, Stage

if TYPE_CHECKING:
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.resolve.environment import (
        Bound,
        EnvironmentResolver,
        ResolvedEnvironment,
    )
    from nox_buildstages.lock.resolve.metadata import KnownMetadata


@dataclass(kw_only=True, slots=True)
class TargetLock:
    """The environments of a target, as far as they are resolved."""

    resolver: EnvironmentResolver
    donor: TargetLock | None = None
    bounds: tuple[Bound, ...] | None = None
    provisional: dict[str, ResolvedEnvironment] = field(default_factory=dict)
    resolved: dict[str, ResolvedEnvironment] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """The target."""
        return self.resolver.resolver.target

    @property
    def known(self) -> KnownMetadata:
        """The metadata of outputs for the target."""
        return self.resolver.known

    @property
    def environments(self) -> dict[str, ResolvedEnvironment]:
        """The environments, including provisional environments."""
        return {**self.provisional, **self.resolved}

    def start_over(self, bounds: tuple[Bound, ...]) -> list[Stage | None]:
        """Forget the resolved environments, because bounds or answers have changed.

        Returns:
            The stages to resolve provisionally: all if the bounds have changed.
        """
        self.resolved = {}
        if bounds == self.bounds:
            return []
        self.bounds = bounds
        self.provisional = {}
        return [*self.resolver.graph.order, None]

    def resolve_provisionally(self, stage: Stage | None) -> None:
        """Resolve an environment with the metadata known so far, if possible."""
        with suppress(ResolutionError, UnorderedOutputError):
            environment = self.resolver.resolve(stage, self.bounds or ())
            self.provisional[environment.lock.name] = environment

    def ready(self) -> list[Stage | None]:
        """Return the stages to resolve now, ``final`` as None.

        The build backends of all earlier stages have answered.
        """
        graph = self.resolver.graph
        ready: list[Stage | None] = [
            stage
            for stage in graph.order
            if stage.name not in self.resolved
            and all(map(self.has_answers, graph.requires(stage.name)))
        ]
        is_last = all(self.has_answers(stage.name) for stage in graph.order)
        if is_last and FINAL not in self.resolved:
            ready.append(None)
        return ready

    def resolve(self, stage: Stage | None) -> ResolutionError | None:
        """Resolve an environment; return the error if uv can't.

        Raises:
            UnorderedOutputError: A requirement names an output of a later stage.
        """
        try:
            environment = self.resolver.resolve(stage, self.bounds or ())
        except ResolutionError as error:
            return error
        self.resolved[environment.lock.name] = environment
        return None

    def set_local_versions(self, stage: Stage) -> None:
        """Compute the local versions of outputs from their resolved environment.

        Raises:
            LocalVersionError: A local version names a project outside the
                environment.
        """
        environment = self.resolved[stage.name]
        try:
            self.known.set_local_versions(stage, environment.pins)
        except LocalVersionError:
            if self.has_answers(stage.name):
                raise
            return  # a build backend may still require the project
        lock = replace(environment.lock, outputs=self.known.output_entries(stage))
        self.resolved[stage.name] = replace(environment, lock=lock)

    def has_answers(self, name: str) -> bool:
        """Whether the build backends of a stage have answered in this environment."""
        environment = self.resolved.get(name)
        if environment is None:
            return False
        if self.donor is not None:
            return self.donor.has_answers(name)
        answers, outputs = self.known.answers, self.resolver.graph.stage(name).outputs
        return all(
            output.name in answers and answers[output.name].pins == environment.pins
            for output in outputs
        )

    def lock(self, name: str, *, is_asked_marked: bool) -> Lock:
        """Return a lock of the target."""
        lock = self.resolved[name].lock
        if not is_asked_marked or self.donor is not None:
            return lock
        asked = (self.target.marker,)
        return replace(
            lock, outputs=tuple(replace(it, asked=asked) for it in lock.outputs)
        )
