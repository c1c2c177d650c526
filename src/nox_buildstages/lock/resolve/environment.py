"""Resolve the environments of a target, even before all outputs are known."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from nox_buildstages.config import writing
from nox_buildstages.errors import (
    LocalVersionError,
    NoWheelError,
    ResolutionError,
    UnorderedOutputError,
)
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.document import list_pins
from nox_buildstages.lock.files.lockfile import Lock, Pin, StagePin
from nox_buildstages.lock.resolve.source_choice import without_url
from nox_buildstages.lock.resolve.uv_compile import FROM_SOURCE, Question, StandIn
from nox_buildstages.model import FINAL, ArchiveSource, DirectorySource
from nox_buildstages.value import Record, Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.pylock import Package

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.resolve.known_metadata import KnownMetadata
    from nox_buildstages.lock.resolve.uv_compile import Resolver
    from nox_buildstages.model import Project, Source, Stage


class Bound(Value):
    """A limit for the version of a project in all environments."""

    name: NormalizedName
    operator: str  # ==, to try a version for all environments, or <=
    version: Version  # with the local part if the bound is for a build
    holder: str  # the environment with this version on its own
    target: str = ""  # a marker; empty for all targets

    def __str__(self) -> str:
        if self.target and self.version.local is None:
            return f"{self.name}==={self.version}"  # == would allow every build
        return f"{self.name}{self.operator}{self.version}"


class ResolvedEnvironment(Value):
    """A resolved environment."""

    lock: Lock
    pins: tuple[Pin, ...]

    def version(self, name: NormalizedName) -> Version | None:
        """Return the version of a project; None if the environment lacks the project.

        An output's version has no local part: all environments get the same wheel.
        """
        pin = next((pin for pin in self.pins if pin.name == name), None)
        if isinstance(pin, StagePin):
            return Version(pin.version.public)
        return None if pin is None else pin.version


class EnvironmentResolver(Value):
    """Resolves the environments of a project for a target."""

    graph: Graph
    resolver: Resolver
    known: KnownMetadata
    inputs: str  # a digest
    earlier: Mapping[str, Lock] = field(default_factory=dict)  # by name

    @property
    def project(self) -> Project:
        """The project."""
        return self.known.project

    def resolve(
        self, stage: Stage | None, bounds: Sequence[Bound]
    ) -> ResolvedEnvironment:
        """Resolve the environment of a stage; None for ``final``.

        Raises:
            ResolutionError: The environment can't be resolved.
            UnorderedOutputError: A requirement names an output of a later stage.
        """
        question = self.question(stage, bounds)
        earlier = self.earlier.get(question.name)
        answer = self.resolver.resolve(
            question,
            earlier=None if earlier is None else pylock.dump_pylock(earlier.pylock),
        )
        stand_ins = {stand_in.name: stand_in for stand_in in question.stand_ins}
        packages = []
        for package in answer.packages:
            if package.name in question.overriding:
                continue  # the project itself, which isn't installed from the lock
            if package.name in stand_ins:
                packages.append(self._stage_package(stand_ins[package.name]))
            elif package.name in self.graph.providers:
                raise self.order_error(question.name, package.name)
            else:
                self._check_wheel(package, question)
                packages.append(package)
        interpreter = self.resolver.target.interpreter
        local = pylock.with_local_paths(pylock.make_pylock(packages), self.project.root)
        lock = Lock(
            name=question.name,
            inputs=self.inputs,
            pylock=pylock.restrict_to(
                pylock.move_paths(local, self._path_from_locks), interpreter
            ),
            outputs=() if stage is None else self.known.output_entries(stage),
        )
        return ResolvedEnvironment(lock=lock, pins=list_pins(lock, interpreter))

    def question(self, stage: Stage | None, bounds: Iterable[Bound]) -> Question:
        """Return the question to uv about the environment of a stage, or ``final``.

        Raises:
            UnorderedOutputError: A requirement names an output of a later stage.
        """
        before = self.stages_before(stage)
        requirements = [*self.project.final.requirements]
        constraints = [*map(str, self.project.constraints), *map(str, bounds)]
        if stage is not None:
            requirements = [*self.known.requirements(stage)]
            constraints += map(str, self.project.build_constraints)
        outputs = [output.name for other in before for output in other.outputs]
        if stage is not None:
            interpreter = self.resolver.target.interpreter
            for requirement in requirements:
                name, marker = canonicalize_name(requirement.name), requirement.marker
                if (
                    name in self.graph.providers
                    and name not in outputs
                    and (marker is None or interpreter.satisfies(marker))
                ):
                    raise self.order_error(stage.name, name)
        metadata = {name: self.known.metadata(name) for name in outputs}
        unknown = {name for name in outputs if metadata[name] is None}
        return Question(
            name=FINAL if stage is None else stage.name,
            requirements=tuple(
                dict.fromkeys(  # table and build backend may name the same requirement
                    self.without_output_url(str(requirement))
                    for requirement in requirements
                    if canonicalize_name(requirement.name) not in unknown
                )
            ),
            constraints=tuple(map(self.without_output_url, constraints)),
            stand_ins=tuple(
                StandIn(
                    name=name,
                    metadata=replace(
                        known,
                        requires_dist=tuple(
                            map(self.without_output_url, known.requires_dist)
                        ),
                    ),
                )
                for name, known in metadata.items()
                if known is not None
            ),
            overriding=tuple(
                name for name in outputs if name == self.project.final.project
            ),
        )

    def stages_before(self, stage: Stage | None) -> Sequence[Stage]:
        """Return the stages whose outputs an environment may have.

        ``final`` comes after all stages, the project's own included.
        """
        if stage is None:
            return self.graph.order
        return [self.graph.stages[it] for it in self.graph.ancestors(stage.name)]

    def without_output_url(self, text: str) -> str:
        """Return a requirement for uv; requirements for outputs lose their URLs."""
        return without_url(text, self.graph.providers)

    def order_error(self, name: str, output: NormalizedName) -> UnorderedOutputError:
        """Return the error for a stage that needs an output of no earlier stage.

        Outputs that need each other to build, or themselves, can't be ordered.
        """
        provider = self.graph.providers[output].name
        error = UnorderedOutputError(stage=name, output=output, provider=provider)
        if name == FINAL:
            return error
        outputs = self.graph.stages[name].outputs
        needed: set[NormalizedName] = set()  # to build it, directly or not
        waiting = {output}
        while waiting:
            needed |= waiting
            waiting = {need for it in waiting for need in self._needs(it)} - needed
        askers = [it.name for it in outputs if output in self._needs(it.name)]
        for asker in askers:
            if asker in needed:
                table = writing.build_requires_table(asker, add=(), remove=[output])
                first = f"{asker} and {output} need each other; remove one of the two:"
                if asker == output:
                    error.problem = (
                        f"{output} builds with an earlier version of itself, which an"
                        " output can't be"
                    )
                    first = "build it without, in pyproject.toml:"
                error.hint = "\n".join((first, *table))
        if not askers and len(outputs) == 1 and name == provider:
            error.hint = (
                f"one of its build requirements needs {output}: leave that out, with"
                " build-requires, or change what it needs, with override-dependencies"
                " in [tool.uv]"
            )
        return error

    def _needs(self, output: NormalizedName) -> set[NormalizedName]:
        """Return the outputs, perhaps itself, that an output requires to build."""
        interpreter = self.resolver.target.interpreter
        requirements = map(Requirement, self.known.build_requires(output))
        return {
            canonicalize_name(it.name)
            for it in requirements
            if it.marker is None or interpreter.satisfies(it.marker)
        } & self.graph.providers.keys()

    def _check_wheel(self, package: Package, question: Question) -> None:
        """Raise an error if a package has no wheel that uv's settings allow."""
        archive = package.archive
        location = (archive.url or archive.path or "") if archive else ""
        reason = FROM_SOURCE
        if package.wheels or location.partition("#")[0].endswith(".whl"):
            setting = self.resolver.no_binary_setting(package.name)
            if setting is None:
                return
            reason = f"{setting} says not to use its wheels"
        raise NoWheelError(
            name=question.name,
            project=package.name,
            reason=reason,
            version=None if package.version is None else str(package.version),
            requirements=question.requirements,
            constraints=question.constraints,
        )

    def _stage_package(self, stand_in: StandIn) -> Package:
        """Return the lock's entry for the wheel of an earlier stage."""
        source: Source = self.known.static[stand_in.name].choice.source
        if isinstance(source, DirectorySource):
            source = replace(source, path=self._path_from_locks(source.path))
        elif isinstance(source, ArchiveSource) and "://" not in source.location:
            source = replace(source, location=self._path_from_locks(source.location))
        return pylock.stage_package(
            stand_in.name,
            stand_in.metadata.version,
            source,
            stage=self.graph.providers[stand_in.name].name,
        )

    def _path_from_locks(self, path: str) -> str:
        """Return a path in the project relative to the lock files (PEP 751)."""
        absolute = self.project.root / path
        return Path(os.path.relpath(absolute, self.project.lock_dir)).as_posix()


class TargetLock(Record):
    """The environments of a target, as far as they are resolved."""

    resolver: EnvironmentResolver
    # Its build backends answer if no interpreter of this target can run here.
    donor: TargetLock | None = None
    bounds: tuple[Bound, ...] | None = None  # of the environments below
    # First without outputs whose metadata isn't known yet, then with all outputs.
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

    def start_over(self, bounds: tuple[Bound, ...]) -> list[Stage | None]:
        """Forget the resolved environments, because bounds or answers have changed.

        Return the stages to resolve provisionally: all if the bounds have changed.
        """
        self.resolved = {}
        if bounds == self.bounds:
            return []
        self.bounds = bounds
        self.provisional = {}
        return [*self.resolver.graph.order, None]

    def knows_outputs_before(self, stage: Stage | None) -> bool:
        """Whether the metadata of all outputs that an environment may have is known."""
        return all(
            self.known.metadata(output.name) is not None
            for other in self.resolver.stages_before(stage)
            for output in other.outputs
        )

    def resolve_provisionally(self, stage: Stage | None) -> None:
        """Resolve an environment with the metadata known so far, if possible."""
        with suppress(ResolutionError, UnorderedOutputError):
            environment = self.resolver.resolve(stage, self.bounds or ())
            self.provisional[environment.lock.name] = environment

    def ready(self) -> list[Stage | None]:
        """Return the stages whose earlier backends have answered; ``final`` is None."""
        graph = self.resolver.graph
        ready: list[Stage | None] = [
            stage
            for stage in graph.order
            if stage.name not in self.resolved
            and all(map(self.has_answers, graph.requires[stage.name]))
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
            LocalVersionError: A template names a project outside the environment.
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
        if name not in self.resolved:
            return False
        if self.donor is not None:
            return self.donor.has_answers(name)
        outputs = self.resolver.graph.stages[name].outputs
        return all(self.has_answer(name, output.name) for output in outputs)

    def has_answer(self, name: str, output: NormalizedName) -> bool:
        """Whether a build backend has answered in the environment of its stage."""
        recorded = self.known.answers.get(output)
        return (
            recorded is not None
            and recorded.pins == self.resolved[name].pins
            and not recorded.answer.unmet
        )

    def lock(self, name: str, *, is_asked_marked: bool) -> Lock:
        """Return a lock of the target, which its outputs may name as asked."""
        lock = self.resolved[name].lock
        if not is_asked_marked or self.donor is not None:
            return lock
        asked = (self.target.marker,)
        return replace(
            lock, outputs=tuple(replace(it, asked=asked) for it in lock.outputs)
        )
