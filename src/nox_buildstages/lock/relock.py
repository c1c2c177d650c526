"""The order of it all: from the table to lock files that agree with each other.

A stage's environment can only be resolved when the outputs it holds are known; what
an output requires is often known only to its build backend, which has to run in its
stage's environment; and one version of what matches the runtime has to suit all. So
it goes round: resolve what can be resolved, hold back what differs, let the first
stage that has something to learn learn it, until nothing changes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages import source_tree
from nox_buildstages.errors import (
    MatchRuntimeError,
    MetadataError,
    ResolutionError,
    UnorderedOutputError,
)
from nox_buildstages.lock import pylock
from nox_buildstages.lock.choose import choose
from nox_buildstages.lock.lockfile import Lock, LockedOutput, numbered, pins
from nox_buildstages.lock.resolver import Question, StandIn
from nox_buildstages.model import (
    FINAL,
    ArchiveSource,
    DirectorySource,
    Metadata,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.pylock import Package
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from nox_buildstages.declare.graph import Graph
    from nox_buildstages.lock.choose import Chosen
    from nox_buildstages.lock.lockfile import Pin
    from nox_buildstages.lock.resolver import Resolver
    from nox_buildstages.model import PackageRules, Project, Source, Stage

MAX_ASKS = 5
"""How often a backend is asked, while its answers change its own environment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inquiry:
    """What is asked of an output's build backend.

    Attributes:
        stage: In whose environment it runs.
        output: The output's name.
        source: What it is built from.
        locks: Of the stage and of those before it, by name.
        wants_metadata: Whether its metadata is asked too.
    """

    stage: Stage
    output: NormalizedName
    source: Source
    locks: Mapping[str, Lock]
    wants_metadata: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a build backend said.

    Attributes:
        requires: Of ``get_requires_for_build_wheel``, PEP 508 strings.
        metadata: Of ``prepare_metadata_for_build_wheel``; None where it wasn't
            asked, or can't say without building.
    """

    requires: tuple[str, ...]
    metadata: Metadata | None


class Workshop(Protocol):
    """Where sources are unpacked and build backends run."""

    def tree(self, source: Source) -> Path:
        """Return a folder with the source, to read in."""

    def ask(self, inquiry: Inquiry) -> Answer:
        """Run an output's hooks in its stage's environment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of an output before anything is run.

    Attributes:
        chosen: Its source.
        requires: Its declared build requirements, PEP 508 strings.
        metadata: What it promises; None where it doesn't.
    """

    chosen: Chosen
    requires: tuple[str, ...]
    metadata: Metadata | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """The highest version of a project that every environment can have.

    Attributes:
        version: That version.
        holder: The stage, or ``final``, that can't have a higher one.
    """

    version: Version
    holder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """One environment as far as it is known.

    Attributes:
        lock: What it holds.
        pins: The same for the interpreter at hand.
        complete: Whether everything it may hold was known.
    """

    lock: Lock
    pins: tuple[Pin, ...]
    complete: bool

    def version(self, name: NormalizedName) -> Version | None:
        """Return the version of a project in it."""
        return next((pin.version for pin in self.pins if pin.name == name), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """An answer, the environment it was given in, and how often it was asked for."""

    pins: tuple[Pin, ...]
    answer: Answer
    times: int


@dataclass(kw_only=True)
class Relock:
    """One making of all lock files.

    Attributes:
        project: What is declared.
        graph: Its stages in order.
        resolver: Answers which versions go together.
        workshop: Runs build backends.
        inputs: The digest of everything this depends on.
        earlier: The texts of the lock files that there were, by stage.
    """

    project: Project
    graph: Graph
    resolver: Resolver
    workshop: Workshop
    inputs: str
    earlier: Mapping[str, str] = field(default_factory=dict)
    earlier_sources: str | None = None
    _known: dict[NormalizedName, Known] = field(default_factory=dict)
    _asked: dict[NormalizedName, Asked] = field(default_factory=dict)
    _bounds: dict[NormalizedName, Bound] = field(default_factory=dict)

    def locks(self) -> tuple[Lock, ...]:
        """Return the lock of every stage, in order, and that of ``final``.

        Raises:
            LockError: There are none.
            SourceError: A source can't be had.
            BuildError: A hook failed, or a wheel it needs could not be built.
        """
        chosen = choose(self.project, self.resolver, earlier=self.earlier_sources)
        self._known = {name: self._survey(name, chosen[name]) for name in chosen}
        while True:
            drafts = self._drafts()
            if self._hold_back(drafts):
                continue
            stage = self._first_unsettled(drafts)
            if stage is None:
                return numbered(draft.lock for draft in drafts.values())
            self._learn(stage, drafts)

    def _survey(self, name: NormalizedName, chosen: Chosen) -> Known:
        tree = self.workshop.tree(chosen.source)
        promised = source_tree.static_metadata(tree)
        configured = self.project.rules(name).requires_dist
        version = chosen.version or (promised.version if promised else None)
        if configured is not None and version is not None:
            promised = _configured(version, configured, promised)
        elif promised is not None and chosen.version is not None:
            promised = replace(promised, version=chosen.version)
        return Known(
            chosen=chosen,
            requires=source_tree.build_system(tree).requires,
            metadata=promised,
        )

    def _drafts(self) -> dict[str, Draft]:
        """Resolve every environment; one that isn't complete yet may be missing."""
        drafts = {}
        for stage in (*self.graph.order, None):
            draft = self._draft(stage)
            if draft is not None:
                drafts[draft.lock.name] = draft
        return drafts

    def _draft(self, stage: Stage | None) -> Draft | None:
        before = self.graph.order if stage is None else self._before(stage)
        available = [output.name for other in before for output in other.outputs]
        complete = all(self._metadata(name) is not None for name in available)
        question = self._question(stage, available)
        try:
            answer = self.resolver.resolve(
                question, earlier=self.earlier.get(question.name)
            )
        except ResolutionError as error:
            if not complete:
                return None
            raise self._explained(error, question) from error
        lock = Lock(
            name=question.name,
            inputs=self.inputs,
            pylock=self._ours(answer, question, complete=complete),
            outputs=() if stage is None else tuple(self._outputs(stage)),
        )
        held = pins(lock, self.resolver.interpreter)
        return Draft(lock=lock, pins=held, complete=complete)

    def _question(
        self, stage: Stage | None, available: Sequence[NormalizedName]
    ) -> Question:
        constraints = [*map(str, self.project.constraints)]
        if stage is None:
            name, requirements = FINAL, self.project.final.requirements
        else:
            name, requirements = stage.name, tuple(self._requirements(stage))
            constraints += map(str, self.project.build_constraints)
            self._check_order(stage, requirements, available)
        constraints += [
            f"{bounded}<={bound.version.public}"
            for bounded, bound in sorted(self._bounds.items())
        ]
        unknown = {name for name in available if self._metadata(name) is None}
        return Question(
            name=name,
            requirements=tuple(
                str(requirement)
                for requirement in requirements
                if canonicalize_name(requirement.name) not in unknown
            ),
            constraints=tuple(constraints),
            stand_ins=tuple(
                StandIn(name=output, metadata=metadata)
                for output in available
                if (metadata := self._metadata(output)) is not None
            ),
        )

    def _requirements(self, stage: Stage) -> Iterator[Requirement]:
        yield from stage.dependencies
        for output in stage.outputs:
            yield from map(Requirement, self._build_requires(output.name))

    def _build_requires(self, name: NormalizedName) -> tuple[str, ...]:
        """Return what an output's build wants, as corrected by the table."""
        asked = self._asked.get(name)
        wanted = {
            *self._known[name].requires,
            *(asked.answer.requires if asked else ()),
        }
        return _corrected(wanted, self.project.rules(name))

    def _check_order(
        self,
        stage: Stage,
        requirements: Sequence[Requirement],
        available: Sequence[NormalizedName],
    ) -> None:
        for requirement in requirements:
            name = canonicalize_name(requirement.name)
            if name in self._known and name not in available:
                raise self._unordered(stage.name, name)

    def _unordered(self, stage: str, output: NormalizedName) -> UnorderedOutputError:
        provider = self.graph.provider(output)
        return UnorderedOutputError(
            stage=stage,
            output=output,
            provider="" if provider is None else provider.name,
        )

    def _ours(self, answer: Pylock, question: Question, *, complete: bool) -> Pylock:
        """Make uv's answer a lock of ours, with stages in place of stand-ins."""
        stood_in = {stand_in.name for stand_in in question.stand_ins}
        packages = [
            self._provided(package) if package.name in stood_in else package
            for package in answer.packages
        ]
        for package in packages:
            if package.name in self._known and package.name not in stood_in:
                if not complete and question.name == FINAL:
                    continue
                raise self._unordered(question.name, package.name)
            if package.name not in stood_in:
                _require_wheel(package, question.name)
        ours = Pylock(
            lock_version=answer.lock_version,
            created_by=answer.created_by,
            packages=packages,
        )
        return pylock.restrict(ours, self.resolver.interpreter)

    def _provided(self, package: Package) -> Package:
        provider = self.graph.provider(package.name)
        metadata = self._metadata(package.name)
        if provider is None or metadata is None:  # pragma: no cover - it stood in
            return package
        source = self._known[package.name].chosen.source
        return pylock.provided(
            package.name,
            metadata.version,
            _from_folder(source, self.project),
            stage=provider.name,
        )

    def _outputs(self, stage: Stage) -> Iterator[LockedOutput]:
        for output in stage.outputs:
            metadata = self._metadata(output.name)
            if metadata is not None:
                yield LockedOutput(
                    name=output.name,
                    source=self._known[output.name].chosen.source,
                    build_requires=self._build_requires(output.name),
                    metadata=metadata,
                )

    def _before(self, stage: Stage) -> list[Stage]:
        return [self.graph.stage(name) for name in self.graph.ancestors(stage.name)]

    def _metadata(self, name: NormalizedName) -> Metadata | None:
        known = self._known[name].metadata
        asked = self._asked.get(name)
        return known or (asked.answer.metadata if asked else None)

    def _hold_back(self, drafts: Mapping[str, Draft]) -> bool:
        """Lower the bound of what differs between environments, if anything does."""
        for name in self.project.match_runtime:
            versions = {
                stage: version
                for stage, draft in drafts.items()
                if (version := draft.version(name)) is not None
            }
            if len(set(versions.values())) > 1:
                self._lower(name, versions)
                return True
        return False

    def _lower(self, name: NormalizedName, versions: Mapping[str, Version]) -> None:
        holder = min(versions, key=lambda stage: versions[stage])
        bound = self._bounds.get(name)
        if bound is not None and bound.version <= versions[holder]:
            raise MatchRuntimeError(
                name=name,
                versions={stage: str(version) for stage, version in versions.items()},
            )
        self._bounds[name] = Bound(version=versions[holder], holder=holder)

    def _explained(
        self, error: ResolutionError, question: Question
    ) -> ResolutionError | MatchRuntimeError:
        """Say whose wish it was, where a bound may be why nothing suits."""
        if not self._bounds:
            return error
        unbounded = replace(
            question,
            constraints=question.constraints[: -len(self._bounds)],
        )
        try:
            self.resolver.resolve(unbounded)
        except ResolutionError:
            return error
        name, bound = next(
            (name, bound)
            for name, bound in self._bounds.items()
            if name in error.output
        )
        return MatchRuntimeError(
            name=name,
            versions={bound.holder: f"at most {bound.version}"},
            wishes=tuple(self._wishes(name)),
            stage=question.name,
            output=error.output,
        )

    def _wishes(self, name: NormalizedName) -> Iterator[str]:
        """Yield who says something of a project's version, and what."""
        for requirement in self.project.final.requirements:
            if canonicalize_name(requirement.name) == name and requirement.specifier:
                yield f"final: {requirement}"
        for stage in self.graph.order:
            for requirement in self._requirements(stage):
                if (
                    canonicalize_name(requirement.name) == name
                    and requirement.specifier
                ):
                    yield f"stage {stage.name}: {requirement}"
        for output in self._known:
            metadata = self._metadata(output)
            for text in () if metadata is None else metadata.requires_dist:
                requirement = Requirement(text)
                if (
                    canonicalize_name(requirement.name) == name
                    and requirement.specifier
                ):
                    yield f"{output} once built: {requirement}"

    def _first_unsettled(self, drafts: Mapping[str, Draft]) -> Stage | None:
        """Return the first stage whose backends haven't spoken in its environment."""
        for stage in self.graph.order:
            draft = drafts[stage.name]
            for output in stage.outputs:
                asked = self._asked.get(output.name)
                if asked is None or asked.pins != draft.pins:
                    return stage
        return None

    def _learn(self, stage: Stage, drafts: Mapping[str, Draft]) -> None:
        names = (*self.graph.ancestors(stage.name), stage.name)
        locks = {name: drafts[name].lock for name in names}
        held = drafts[stage.name].pins
        for output in stage.outputs:
            asked = self._asked.get(output.name)
            times = 1 + (asked.times if asked else 0)
            answer = self._ask(stage, output.name, locks)
            if times > MAX_ASKS:
                raise MetadataError(
                    output=output.name,
                    stage=stage.name,
                    problem="its build requirements differ each time they are met",
                )
            self._asked[output.name] = Asked(pins=held, answer=answer, times=times)

    def _ask(
        self, stage: Stage, name: NormalizedName, locks: Mapping[str, Lock]
    ) -> Answer:
        known = self._known[name]
        answer = self.workshop.ask(
            Inquiry(
                stage=stage,
                output=name,
                source=known.chosen.source,
                locks=locks,
                wants_metadata=known.metadata is None,
            )
        )
        if known.metadata is None and answer.metadata is None:
            raise MetadataError(
                output=name,
                stage=stage.name,
                problem="its backend can't say what it requires without building it",
            )
        return self._with_configured(name, answer)

    def _with_configured(self, name: NormalizedName, answer: Answer) -> Answer:
        configured = self.project.rules(name).requires_dist
        if answer.metadata is None or configured is None:
            return answer
        version = answer.metadata.version
        metadata = _configured(version, configured, answer.metadata)
        return replace(answer, metadata=metadata)


def _configured(
    version: Version, requires: Sequence[Requirement], said: Metadata | None
) -> Metadata:
    return Metadata(
        version=version,
        requires_dist=tuple(sorted(map(str, requires))),
        requires_python=None if said is None else said.requires_python,
        provides_extra=() if said is None else said.provides_extra,
        learned="config",
    )


def _corrected(wanted: set[str], rules: PackageRules) -> tuple[str, ...]:
    removed = set(rules.build_requires_remove)
    kept = {
        text
        for text in wanted
        if canonicalize_name(Requirement(text).name) not in removed
    }
    return tuple(sorted(kept | set(map(str, rules.build_requires_add))))


def _require_wheel(package: Package, name: str) -> None:
    archive = package.archive
    location = (archive.url or archive.path or "") if archive else ""
    if package.wheels or location.partition("#")[0].endswith(".whl"):
        return
    raise ResolutionError(
        name=name,
        output=f"{package.name} would have to be built: it comes from a source",
        mend=f"make it an output of a stage: outputs = [{package.name!r}]",
    )


def _from_folder(source: Source, project: Project) -> Source:
    """Name a source's path as seen from the lock files."""
    if isinstance(source, DirectorySource):
        return replace(source, path=_relocated(source.path, project))
    if isinstance(source, ArchiveSource) and "://" not in source.location:
        return replace(source, location=_relocated(source.location, project))
    return source


def _relocated(path: str, project: Project) -> str:
    return Path(os.path.relpath(project.root / path, project.lock_dir)).as_posix()
