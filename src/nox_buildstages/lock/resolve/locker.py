"""The order of it all: from the table to lock files that agree with each other.

A stage's environment can only be resolved when the outputs it holds are known; what
an output requires is often known only to its build backend, which has to run in its
stage's environment; and one version of what matches the runtime has to suit all. So
it goes round: resolve what can be resolved, hold back what differs, ask the backends
of the stages whose environments are known, until nothing changes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from nox_buildstages.errors import InvalidLockError, MetadataError, ResolutionError
from nox_buildstages.lock.explain.conflicts import explained
from nox_buildstages.lock.files.lockfile import numbered
from nox_buildstages.lock.files.merge_targets import merged, selected
from nox_buildstages.lock.resolve.environment import EnvironmentResolver
from nox_buildstages.lock.resolve.match_runtime import Matching, unmatched
from nox_buildstages.lock.resolve.metadata import (
    KnownMetadata,
    requires_dist_hint,
    survey,
)
from nox_buildstages.lock.resolve.own_project import promised
from nox_buildstages.lock.resolve.per_target import TargetLock
from nox_buildstages.lock.resolve.source_choice import choose
from nox_buildstages.model import FINAL
from nox_buildstages.system.process import run_in_parallel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.resolve.metadata import BackendAnswer, StaticMetadata
    from nox_buildstages.lock.resolve.uv_compile import Resolver
    from nox_buildstages.model import Project, Source, Stage

MAX_ASKS = 5
"""How often a backend is asked, while its answers change its own environment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendQuery:
    """What is asked of an output's build backend.

    Attributes:
        stage: In whose environment it runs.
        output: The output's name.
        source: What it is built from.
        locks: Of the stage and of those before it, by name.
        wants_metadata: Whether its metadata is asked too.
        target: For which; its interpreter is at hand.
    """

    stage: Stage
    output: NormalizedName
    source: Source
    locks: Mapping[str, Lock]
    wants_metadata: bool
    target: Target


class MetadataProvider(Protocol):
    """Where sources are unpacked and build backends run."""

    def tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder to read in what an output, patched, declares."""

    def ask(self, query: BackendQuery) -> BackendAnswer:
        """Run an output's hooks in its stage's environment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Locker:
    """One making of all lock files.

    Attributes:
        project: What is declared.
        graph: Its stages in order.
        targets: For what the locks are made; the first that is at hand answers for
            those that aren't.
        resolver: Answers which versions go together.
        metadata_provider: Runs build backends.
        inputs: The digest of everything this depends on.
        earlier: The locks that there were; their versions are kept where they can be.
        explaining: Whether it is asked why an environment can't be resolved.
    """

    project: Project
    graph: Graph
    targets: tuple[Target, ...]
    resolver: Resolver
    metadata_provider: MetadataProvider
    inputs: str
    earlier: Mapping[str, Lock] = field(default_factory=dict)
    explaining: bool = True

    def locks(self) -> tuple[Lock, ...]:
        """Return the lock of every stage, in order, of the project, and of ``final``.

        Raises:
            LockError: There are none.
            SourceError: A source can't be had.
            BuildError: A hook failed, or a wheel it needs could not be built.
        """
        target_locks = self._courses()
        matching = Matching(names=self.project.match_runtime, places=self._places())
        while not self._settled(target_locks, matching):
            pass
        borrowed = any(
            target_lock.target.python is None for target_lock in target_locks
        )
        return numbered(
            merged(
                (target_lock.target, target_lock.lock(name, marked=borrowed))
                for target_lock in target_locks
            )
            for name in (*(stage.name for stage in self.graph.order), FINAL)
        )

    def _places(self) -> dict[str, str]:
        """Return what targets are called, where there are several."""
        several = self.targets if len(self.targets) > 1 else ()
        return {target.marker: str(target) for target in several}

    def _courses(self) -> tuple[TargetLock, ...]:
        resolvers = [self.resolver.aimed(target) for target in self.targets]
        versions = {resolver.target.version: resolver for resolver in resolvers}
        promises = self._promises([*versions.values()])
        return tuple(
            TargetLock(
                drafter=EnvironmentResolver(
                    graph=self.graph,
                    resolver=resolver,
                    facts=KnownMetadata(project=self.project, promises=promises),
                    inputs=self.inputs,
                    earlier=_selected(self.earlier, resolver.target),
                )
            )
            for resolver in resolvers
        )

    def _promises(
        self, resolvers: Sequence[Resolver]
    ) -> dict[NormalizedName, StaticMetadata]:
        chosen = choose(self.project, resolvers, earlier=self.earlier)
        found = {
            name: survey(
                chosen[name],
                self.metadata_provider.tree(name, chosen[name].source),
                patched=bool(self.project.rules(name).patches),
            )
            for name in chosen
        }
        own = self.project.final.project
        return found if own is None else {**found, own: promised(self.project)}

    def _settled(self, target_locks: Sequence[TargetLock], matching: Matching) -> bool:
        """Go as far as it goes with what is known; learn what is needed to go on.

        Returns:
            Whether nothing was left to be learned.
        """
        sketches = []
        for target_lock in target_locks:
            sketches += target_lock.begin(
                matching.for_target(target_lock.target.marker)
            )
        run_in_parallel(sketches)
        while not matching.tightened(
            {c.target.marker: c.known() for c in target_locks}
        ):
            ready = [
                (target_lock, stage)
                for target_lock in target_locks
                for stage in target_lock.ready()
            ]
            if not ready:
                return not self._learned(target_locks)
            failures = run_in_parallel(partial(c.draft, stage) for c, stage in ready)
            for (target_lock, stage), error in zip(ready, failures, strict=True):
                if error is not None:
                    self._blame(target_lock, stage, error, matching)
                    return False
        return False

    def _blame(
        self,
        target_lock: TargetLock,
        stage: Stage | None,
        error: ResolutionError,
        matching: Matching,
    ) -> None:
        """Find the bound without which an environment can be resolved.

        Raises:
            MatchRuntimeError: It was the last thing that could be tried.
            ResolutionError: There is none.
        """
        if len(self.targets) > 1:
            error = replace(error, target=str(target_lock.target))
        for bound, others in matching.without_each(target_lock.target.marker):
            try:
                freed = target_lock.drafter.draft(stage, others)
            except ResolutionError:
                continue
            unsuited = unmatched(error, bound, target_lock.facts, self.graph)
            matching.refused(bound, freed, unsuited)
            return
        bounds = matching.bounds_for(target_lock.target.marker)
        better = (
            explained(error, target_lock.drafter, bounds) if self.explaining else None
        )
        better = better or error
        if len(self.targets) > 1 and isinstance(better, ResolutionError):
            better = replace(better, target=str(target_lock.target))
        raise better from error

    def _learned(self, target_locks: Sequence[TargetLock]) -> bool:
        """Ask the backends that can be asked now; return whether there were any."""
        at_hand = [
            target_lock
            for target_lock in target_locks
            if target_lock.target.python is not None
        ]
        learned = False
        for target_lock in target_locks:
            donor = _donor(target_lock, at_hand)
            for stage in target_lock.drafted():
                if donor is not target_lock:
                    learned |= _borrowed(target_lock, stage, donor)
                elif not target_lock.has_settled(stage.name):
                    self._ask(target_lock, stage)
                    learned = True
        return learned

    def _ask(self, target_lock: TargetLock, stage: Stage) -> None:
        names = (*self.graph.ancestors(stage.name), stage.name)
        locks = {name: target_lock.drafts[name].lock for name in names}
        for output in stage.outputs:
            promise = target_lock.facts.promises[output.name]
            query = BackendQuery(
                stage=stage,
                output=output.name,
                source=promise.chosen.source,
                locks=locks,
                wants_metadata=promise.metadata is None,
                target=target_lock.target,
            )
            answer = self.metadata_provider.ask(query)
            pins = target_lock.drafts[stage.name].pins
            asked = target_lock.facts.learn(output.name, answer, pins)
            if target_lock.facts.metadata(output.name) is None:
                configured = self.project.rules(output.name).requires_dist is not None
                raise _unclear(query, configured=configured)
            if asked.times > MAX_ASKS:
                raise MetadataError(
                    output=query.output,
                    stage=query.stage.name,
                    problem="its build requirements change each time they are met",
                    hint=("pin them in the dependencies of its stage",),
                )


def _selected(locks: Mapping[str, Lock], target: Target) -> dict[str, Lock]:
    """Return what locks hold for a target; nothing of those that aren't for it."""
    found = {}
    for name, lock in locks.items():
        with suppress(InvalidLockError):
            found[name] = selected(lock, target.interpreter)
    return found


def _donor(target_lock: TargetLock, at_hand: Sequence[TargetLock]) -> TargetLock:
    """Return the course whose backends speak for a target too: itself, if they can."""
    same = (it for it in at_hand if it.target.version == target_lock.target.version)
    return target_lock if target_lock in at_hand else next(same, at_hand[0])


def _borrowed(target_lock: TargetLock, stage: Stage, donor: TargetLock) -> bool:
    """Take what backends said elsewhere for what they would say here.

    Returns:
        Whether that was another answer, or for another environment, than before.
    """
    pins, before = target_lock.drafts[stage.name].pins, dict(target_lock.facts.asked)
    for output in stage.outputs:
        if output.name in donor.facts.asked:
            told = donor.facts.asked[output.name]
            target_lock.facts.asked[output.name] = replace(told, pins=pins)
    return target_lock.facts.asked != before


def _unclear(query: BackendQuery, *, configured: bool) -> MetadataError:
    """Say what a backend without metadata hook leaves open, and how to say it."""
    if configured:
        problem = "its backend can't say its version without building it"
        hint: tuple[str, ...] = (
            "give it a version in the pyproject.toml of its source",
        )
    else:
        problem = "its backend can't say what it requires without building it"
        hint = ("say it in pyproject.toml:", *requires_dist_hint(query.output))
    return MetadataError(
        output=query.output, stage=query.stage.name, problem=problem, hint=hint
    )
