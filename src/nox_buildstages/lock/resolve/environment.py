"""Resolving environments, also while not all that they may hold is known yet."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.errors import NoWheelError, ResolutionError, UnorderedOutputError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.lockfile import Lock, StagePin, pins
from nox_buildstages.lock.resolve.uv_compile import FROM_SOURCE, Question, StandIn
from nox_buildstages.model import FINAL, ArchiveSource, DirectorySource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.pylock import Package, Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.lock.files.lockfile import Pin
    from nox_buildstages.lock.resolve.metadata import KnownMetadata
    from nox_buildstages.lock.resolve.uv_compile import Resolver
    from nox_buildstages.model import Metadata, Project, Source, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedEnvironment:
    """One environment as far as it is known.

    Attributes:
        lock: What it holds.
        pins: The same for the target.
    """

    lock: Lock
    pins: tuple[Pin, ...]

    def version(self, name: NormalizedName) -> Version | None:
        """Return the version of a project in it; None where it isn't in it.

        An output's has no local part: there is one wheel of it, whatever that becomes.
        """
        found = next((pin for pin in self.pins if pin.name == name), None)
        if isinstance(found, StagePin):
            return Version(found.version.public)
        return None if found is None else found.version


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentResolver:
    """Makes drafts of a project's environments for one target.

    Attributes:
        graph: The stages in order.
        resolver: Answers which versions go together.
        facts: What is known of the outputs.
        inputs: The digest for the locks.
        earlier: The locks for this target that there were, by stage.
    """

    graph: Graph
    resolver: Resolver
    facts: KnownMetadata
    inputs: str
    earlier: Mapping[str, Lock] = field(default_factory=dict)

    @property
    def project(self) -> Project:
        """What is declared."""
        return self.facts.project

    def draft(self, stage: Stage | None, bounds: Sequence[str]) -> ResolvedEnvironment:
        """Return the draft of a stage's environment, or of ``final``'s.

        Args:
            stage: All of whose outputs are known, as those before it are; None for
                ``final``.
            bounds: Constraints on what has to match, PEP 508 strings.

        Raises:
            ResolutionError: It can't be resolved.
            UnorderedOutputError: It wants an output that isn't built before it.
        """
        question = self._question(stage, bounds)
        answer = self.resolver.resolve(question, earlier=self._earlier(question.name))
        namesake = self._namesake(answer, question)
        if namesake is not None:
            raise self._unordered(question.name, namesake)
        lock = Lock(
            name=question.name,
            inputs=self.inputs,
            pylock=self._ours(answer, question),
            outputs=() if stage is None else self.facts.locked(stage),
        )
        return ResolvedEnvironment(
            lock=lock, pins=pins(lock, self.resolver.target.interpreter)
        )

    def question(self, name: str, bounds: Sequence[str]) -> Question:
        """Return what is asked for a stage, or for ``final``."""
        return self._question(self.graph.stages.get(name), bounds)

    def sketch(
        self, stage: Stage | None, bounds: Sequence[str]
    ) -> ResolvedEnvironment | None:
        """Return a draft without the outputs that nothing is known of yet.

        It can't be told from one that is complete. There is none where it takes all
        that is known to resolve it.
        """
        try:
            return self.draft(stage, bounds)
        except (ResolutionError, UnorderedOutputError):
            return None

    def _earlier(self, name: str) -> str | None:
        lock = self.earlier.get(name)
        return None if lock is None else pylock.dumps(lock.pylock)

    def _available(self, stage: Stage | None) -> list[NormalizedName]:
        """Return what there is when a stage, or the final one, begins.

        These are outputs, and for the final one the project itself where it is to be
        installed as well.
        """
        before: Iterable[Stage] = self.graph.order
        if stage is not None:
            before = map(self.graph.stage, self.graph.ancestors(stage.name))
        return [output.name for other in before for output in other.outputs]

    def _question(self, stage: Stage | None, bounds: Sequence[str]) -> Question:
        available = self._available(stage)
        wanted = list(self._wanted(stage))
        constraints = [*map(str, self.project.constraints), *bounds]
        if stage is not None:
            constraints += map(str, self.project.build_constraints)
            self._check_order(stage, wanted, available)
        unknown = self.facts.unknown(available)
        return Question(
            name=FINAL if stage is None else stage.name,
            requirements=tuple(
                dict.fromkeys(  # what a backend asks for may stand in the table too
                    self.spelled(str(requirement))
                    for requirement in wanted
                    if canonicalize_name(requirement.name) not in unknown
                )
            ),
            constraints=tuple(map(self.spelled, constraints)),
            stand_ins=tuple(
                StandIn(name=output, metadata=self._standing(metadata))
                for output in available
                if (metadata := self.facts.metadata(output)) is not None
            ),
            overriding=tuple(
                name for name in available if name == self.project.final.project
            ),
        )

    def spelled(self, text: str) -> str:
        """Return a requirement as uv is asked: one for an output without its URL.

        An output is its stage's wheel, wherever else it might be taken from.
        """
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) in self.graph.providers:
            requirement.url = None
        return str(requirement)

    def _standing(self, metadata: Metadata) -> Metadata:
        requires = tuple(map(self.spelled, metadata.requires_dist))
        return replace(metadata, requires_dist=requires)

    def _wanted(self, stage: Stage | None) -> Iterator[Requirement]:
        if stage is None:
            yield from self.project.final.requirements
        else:
            yield from self.facts.requirements(stage)

    def _check_order(
        self,
        stage: Stage,
        wanted: Iterable[Requirement],
        available: Sequence[NormalizedName],
    ) -> None:
        for requirement in wanted:
            name = canonicalize_name(requirement.name)
            missing = name in self.graph.providers and name not in available
            if missing and self._applies(requirement):
                raise self._unordered(stage.name, name)

    def _applies(self, requirement: Requirement) -> bool:
        interpreter = self.resolver.target.interpreter
        return requirement.marker is None or interpreter.satisfies(requirement.marker)

    def _namesake(self, answer: Pylock, question: Question) -> NormalizedName | None:
        """Return an output that an answer takes from elsewhere than from its stage."""
        stood_in = {stand_in.name for stand_in in question.stand_ins}
        names = (package.name for package in answer.packages)
        promised = self.graph.providers.keys() - stood_in
        return next((name for name in names if name in promised), None)

    def _ours(self, answer: Pylock, question: Question) -> Pylock:
        """Make uv's answer a lock of ours, with stages in place of stand-ins."""
        stood_in = {stand_in.name: stand_in for stand_in in question.stand_ins}
        packages = []
        for package in answer.packages:
            if package.name in question.overriding:
                continue  # the project itself, which is installed beside the lock
            if package.name in stood_in:
                packages.append(self._provided(stood_in[package.name]))
            else:
                self._require_wheel(package, question)
                packages.append(package)
        local = pylock.localized(pylock.make(packages), self.project.root)
        ours = pylock.moved(local, self._seen)
        return pylock.restrict(ours, self.resolver.target.interpreter)

    def _require_wheel(self, package: Package, question: Question) -> None:
        """See that a package is a wheel, and that its wheels may be used."""
        reason = FROM_SOURCE
        if _is_wheel(package):
            said = self.resolver.refusal(package.name)
            if said is None:
                return
            reason = f"{said} says not to use its wheels"
        raise NoWheelError(
            name=question.name,
            output=f"{package.name} would have to be built: {reason}",
            project=package.name,
            reason=reason,
            version=None if package.version is None else str(package.version),
            requirements=question.requirements,
            constraints=question.constraints,
        )

    def _seen(self, path: str) -> str:
        """Return a path of the project as seen from the lock files (PEP 751)."""
        place = self.project.root / path
        return Path(os.path.relpath(place, self.project.lock_dir)).as_posix()

    def _provided(self, stand_in: StandIn) -> Package:
        source = self.facts.promises[stand_in.name].chosen.source
        return pylock.provided(
            stand_in.name,
            stand_in.metadata.version,
            self._from_lock_dir(source),
            stage=self.graph.providers[stand_in.name].name,
        )

    def _from_lock_dir(self, source: Source) -> Source:
        if isinstance(source, DirectorySource):
            return replace(source, path=self._seen(source.path))
        if isinstance(source, ArchiveSource) and "://" not in source.location:
            return replace(source, location=self._seen(source.location))
        return source

    def _unordered(self, stage: str, output: NormalizedName) -> UnorderedOutputError:
        provider = self.graph.providers[output].name
        return UnorderedOutputError(stage=stage, output=output, provider=provider)


def _is_wheel(package: Package) -> bool:
    archive = package.archive
    location = (archive.url or archive.path or "") if archive else ""
    return bool(package.wheels) or location.partition("#")[0].endswith(".whl")
