"""Make the locks of a project.

``Locker.make_locks`` is the whole procedure; docs/explanation/locking.md explains the
steps and why they have to be repeated.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from nox_buildstages.errors import (
    InvalidLockError,
    MetadataError,
    ResolutionError,
)
from nox_buildstages.lock.files.document import with_series
from nox_buildstages.lock.files.merge_targets import merge_targets, select_target
from nox_buildstages.lock.files.pylock import without_stage_packages
from nox_buildstages.lock.resolve import known_metadata
from nox_buildstages.lock.resolve.check_identity import check_source, check_version
from nox_buildstages.lock.resolve.choose_sources import SourceChooser
from nox_buildstages.lock.resolve.environment import EnvironmentResolver, TargetLock
from nox_buildstages.lock.resolve.match_runtime import VersionMatcher, match_error
from nox_buildstages.lock.resolve.own_project import own_static_metadata
from nox_buildstages.model import FINAL, Project, Stage
from nox_buildstages.system.process import run_in_parallel
from nox_buildstages.value import Record, Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.files.lockfile import Lock, Pin
    from nox_buildstages.lock.resolve.environment import Bound
    from nox_buildstages.lock.resolve.uv_compile import Resolver

MAX_ANSWERS = 5
"""How many different answers a backend may give in the environments they lead to."""

_LOG = logging.getLogger(__name__)


class UnresolvableError(Record, Exception, kw_only=False):
    """An environment can't be resolved, with any bounds for ``match-runtime``."""

    error: ResolutionError  # in uv's words
    resolver: EnvironmentResolver
    bounds: Sequence[Bound]


class LockState(Record):
    """The complete state of the loop in ``Locker.make_locks``."""

    targets: Sequence[TargetLock]
    matcher: VersionMatcher
    # By target, the outputs whose backends were asked without earlier outputs.
    asked_early: set[tuple[str, NormalizedName]] = field(default_factory=set)

    def start_over(self) -> None:
        """Resolve again, because bounds or known metadata have changed."""
        begun = [
            (target, stage)
            for target in self.targets
            for stage in target.start_over(
                self.matcher.bounds_for(target.target.marker)
            )
            # Without versions to match, only an answer that may be final is of use.
            if self.matcher.names or target.knows_outputs_before(stage)
        ]
        _LOG.debug("resolve provisionally: %s", _names(begun))
        run_in_parallel(partial(it.resolve_provisionally, stage) for it, stage in begun)


class MadeLocks(Value):
    """All locks of a project."""

    locks: tuple[Lock, ...]
    idle_rules: frozenset[str]  # a line for each rule of an output without effect


class Locker(Value):
    """Makes all locks of a project."""

    project: Project
    graph: Graph
    targets: tuple[Target, ...]  # backends here answer for those elsewhere
    resolver: Resolver
    metadata_provider: known_metadata.MetadataProvider
    inputs: str  # a digest
    earlier: Mapping[str, Lock] = field(default_factory=dict)  # by name

    def make_locks(self) -> MadeLocks:
        """Make the lock of every stage, of the project itself and of ``final``.

        Raises:
            UnresolvableError: An environment can't be resolved.
            LockError: The locks can't be made for another reason.
            SourceError: A source can't be fetched or read.
            BuildError: A hook failed, or a wheel for its environment can't be built.
        """
        resolvers = [replace(self.resolver, target=it) for it in self.targets]

        # Choose sources, one for each output and the same for every Python, and read
        # their declarations, until these change nothing.
        chooser = SourceChooser(
            project=self.project,
            graph=self.graph,
            resolvers=[*{it.target.version: it for it in resolvers}.values()],
            metadata_provider=self.metadata_provider,
            earlier=self.earlier,
        )
        # Resolve provisionally: all environments, with the metadata known so far.
        state = self._first_state(resolvers, chooser.choose())
        state.start_over()
        for number in count(1):
            # Match versions: bind what differs, and start over with the bounds.
            environments = {
                it.target.marker: {**it.provisional, **it.resolved}
                for it in state.targets
            }
            _LOG.debug("round %d: match versions", number)
            if state.matcher.tighten(environments):
                state.start_over()
                continue

            # Resolve finally: each stage whose earlier stages' backends have answered.
            ready = [(it, stage) for it in state.targets for stage in it.ready()]
            _LOG.debug("round %d: resolve finally: %s", number, _names(ready))
            errors = run_in_parallel(partial(it.resolve, stage) for it, stage in ready)
            failures = [
                (target, stage, error)
                for (target, stage), error in zip(ready, errors, strict=True)
                if error is not None
            ]
            if failures:
                known = failures[0][0].known
                if chooser.learn(known):
                    state = self._first_state(resolvers, chooser.choose())
                    state.start_over()
                    continue
                self._relax_bound(state.matcher, *failures[0])
                state.start_over()
                continue
            for target, stage in ready:
                if stage is not None:
                    target.set_local_versions(stage)
            if ready:
                continue

            # Ask backends: of all stages whose environments have changed, if any.
            if not self._ask_backends(state):
                break
            state.start_over()

        has_donors = any(target.donor is not None for target in state.targets)
        locks = with_series(
            merge_targets(
                (target.target, target.lock(name, is_asked_marked=has_donors))
                for target in state.targets
            )
            for name in (*(stage.name for stage in self.graph.order), FINAL)
        )
        idle = (frozenset(target.known.idle_rules()) for target in state.targets)
        return MadeLocks(locks=locks, idle_rules=frozenset.intersection(*idle))

    def _first_state(
        self,
        resolvers: Sequence[Resolver],
        static: Mapping[NormalizedName, known_metadata.StaticMetadata],
    ) -> LockState:
        for output in self.project.outputs:
            stage_name = self.graph.providers[output.name].name
            check_source(output, stage_name, static[output.name])
        if self.project.final.project is not None:
            own = {self.project.final.project: own_static_metadata(self.project)}
            static = {**static, **own}
        targets = []
        for resolver in resolvers:
            earlier = {}
            for name, lock in self.earlier.items():
                with suppress(InvalidLockError):  # it was for other targets
                    earlier[name] = select_target(lock, resolver.target.interpreter)
            environments = EnvironmentResolver(
                graph=self.graph,
                resolver=resolver,
                known=known_metadata.KnownMetadata(project=self.project, static=static),
                inputs=self.inputs,
                earlier=earlier,
            )
            targets.append(TargetLock(resolver=environments))
        local = [it for it in targets if it.target.python is not None]
        for target in targets:
            if target.target.python is None:
                same = (
                    it for it in local if it.target.version == target.target.version
                )
                target.donor = next(same, local[0])
                target.known.answers = target.donor.known.answers
        several = self.targets if len(self.targets) > 1 else ()
        labels = {target.marker: str(target) for target in several}
        matcher = VersionMatcher(names=self.project.match_runtime, labels=labels)
        return LockState(targets=targets, matcher=matcher)

    def _relax_bound(
        self,
        matcher: VersionMatcher,
        target: TargetLock,
        stage: Stage | None,
        error: ResolutionError,
    ) -> None:
        """Reject the bound to blame for a failed resolution, if a bound is."""
        if len(self.targets) > 1:
            error = replace(error, target=str(target.target))
        for bound, others in matcher.without_each(target.target.marker):
            with suppress(ResolutionError):
                environment = target.resolver.resolve(stage, others)
                unsuited = match_error(error, bound, target.known, self.graph)
                matcher.reject(bound, environment, unsuited)
                return
        raise UnresolvableError(error, target.resolver, target.bounds or ()) from error

    def _ask_backends(self, state: LockState) -> bool:
        """Ask the backends of stages whose environments have changed, if any."""
        changed = [
            (target, stage)
            for target in state.targets
            if target.donor is None
            for stage in self.graph.order
            if stage.name in target.resolved and not target.has_answers(stage.name)
        ]
        _LOG.debug("ask backends: %s", _names(changed))
        queries = [
            (target, self._query(target, stage, output.name))
            for target, stage in changed
            for output in stage.outputs
            if not target.has_answer(stage.name, output.name)
        ]

        # First without outputs that aren't built yet. Build backends that can answer
        # may show a conflict. If the metadata is promised, these outputs needn't be
        # built to lock: the build asks again.
        early = []
        for target, query in queries:
            key = (target.target.marker, query.output)
            if self.metadata_provider.missing_wheels(query) and (
                target.known.static[query.output].is_known
                or key not in state.asked_early
            ):
                state.asked_early.add(key)
                early.append((target, query))
        answers = self.metadata_provider.ask_all(
            [_without_outputs(query) for _, query in early]
        )
        is_new = False
        for (target, query), answer in zip(early, answers, strict=True):
            is_known = target.known.static[query.output].is_known
            if is_known or not answer.failed:
                pins = target.resolved[query.stage.name].pins
                noted = replace(answer, failed=False)
                self._record(target, query, noted, pins if is_known else ())
                is_new = True
        if is_new:
            return True

        answers = self.metadata_provider.ask_all([query for _, query in queries])
        for (target, query), answer in zip(queries, answers, strict=True):
            self._record(target, query, answer, target.resolved[query.stage.name].pins)
            if target.known.metadata(query.output) is None and not answer.unmet:
                unknown = "version"
                hint = "set a version in the pyproject.toml of its source"
                if self.project.rules(query.output).requires_dist is None:
                    unknown = "requirements"
                    hint = known_metadata.requires_dist_hint(query.output)
                raise MetadataError(
                    output=query.output,
                    stage=query.stage.name,
                    problem=f"its backend can't determine its {unknown} without a"
                    " build",
                    hint=hint,
                )
        return bool(changed)

    def _query(
        self, target: TargetLock, stage: Stage, output: NormalizedName
    ) -> known_metadata.BackendQuery:
        """Return the question to a backend in the environment of its stage."""
        static = target.known.static[output]
        names = (*self.graph.ancestors(stage.name), stage.name)
        return known_metadata.BackendQuery(
            stage=stage,
            output=output,
            source=static.choice.source,
            locks={name: target.resolved[name].lock for name in names},
            requires=target.known.build_requires(output),
            wants_metadata=static.metadata is None,
            target=target.target,
        )

    def _record(
        self,
        target: TargetLock,
        query: known_metadata.BackendQuery,
        answer: known_metadata.BackendAnswer,
        pins: tuple[Pin, ...],
    ) -> None:
        """Record the answer of a backend in an environment, and check it."""
        recorded = target.known.record_answer(query.output, answer, pins)
        if recorded.changes > MAX_ANSWERS:
            raise MetadataError(
                output=query.output,
                stage=query.stage.name,
                problem="its build requirements change every time they are met",
                hint="pin them in the dependencies of the stage",
            )
        metadata = target.known.metadata(query.output)
        if metadata is not None:
            output = next(it for it in query.stage.outputs if it.name == query.output)
            check_version(output, query.stage.name, target.known, metadata)


def _without_outputs(
    query: known_metadata.BackendQuery,
) -> known_metadata.BackendQuery:
    """Return a question about build requirements, without the earlier outputs."""
    name = query.stage.name
    lock = replace(
        query.locks[name], pylock=without_stage_packages(query.locks[name].pylock)
    )
    return replace(
        query,
        locks={**query.locks, name: lock},
        wants_metadata=False,
        may_fail=True,
    )


def _names(environments: Sequence[tuple[TargetLock, Stage | None]]) -> str:
    """Return the names of environments, for the debug log."""
    names = (
        f"{stage.name if stage else FINAL} ({it.target})" for it, stage in environments
    )
    return ", ".join(names) or "none"
