"""``match-runtime``: one version of a project in every environment that holds it.

Each environment is drafted with the highest version that it can have, so none can
have one above the lowest of them: that is the first bound. Where an environment can't
be resolved with it, each version that some environment would have by itself is tried
as the one for all, the highest first. Builds of one version, ``2.13.0+cpu`` and
``2.13.0+cu130``, are matched in the same way, for each target by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.config import writing
from nox_buildstages.errors import MatchRuntimeError
from nox_buildstages.lock.files.lockfile import IndexPin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.errors import ResolutionError
    from nox_buildstages.lock.resolve.environment import ResolvedEnvironment
    from nox_buildstages.lock.resolve.metadata import KnownMetadata

Drafts: TypeAlias = "Mapping[str, Mapping[str, ResolvedEnvironment]]"
"""By target the drafts by stage."""

_What: TypeAlias = "tuple[NormalizedName, str]"
"""A project, and the target that a bound is for; empty for every target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What a project's version is held to in every environment.

    Attributes:
        name: Of the project.
        operator: ``<=``, or ``==`` for a version that is tried.
        version: With its local part where builds are matched.
        holder: The stage, or ``final``, that would have this version by itself, and
            for which target where there are several.
        target: For which it holds; empty for all of them.
    """

    name: NormalizedName
    operator: str
    version: Version
    holder: str
    target: str = ""

    def __str__(self) -> str:
        if self.target and self.version.local is None:
            return f"{self.name}==={self.version}"  # == would let every build in
        return f"{self.name}{self.operator}{self.version}"


@dataclass(kw_only=True, slots=True)
class Matching:
    """The bounds that are found while drafts are made.

    Attributes:
        names: What has to match.
        places: What targets are called, where there are several.
        bounds: In force.
    """

    names: Sequence[NormalizedName]
    places: Mapping[str, str] = field(default_factory=dict)
    bounds: dict[_What, Bound] = field(default_factory=dict)
    _seen: dict[_What, dict[Version, str]] = field(default_factory=dict)
    _tried: dict[_What, set[Version]] = field(default_factory=dict)
    _first: dict[_What, MatchRuntimeError] = field(default_factory=dict)

    def for_target(self, target: str) -> tuple[str, ...]:
        """Return the bounds for a target as PEP 508 strings."""
        return tuple(map(str, self.bounds_for(target)))

    def bounds_for(self, target: str) -> tuple[Bound, ...]:
        """Return the bounds for a target."""
        return tuple(it for it in self.bounds.values() if it.target in ("", target))

    def without_each(self, target: str) -> Iterator[tuple[Bound, tuple[str, ...]]]:
        """Yield each bound for a target, with the other ones; and one without any."""
        bounds = self.bounds_for(target)
        for bound in bounds:
            yield bound, tuple(str(other) for other in bounds if other is not bound)
        if len(bounds) > 1:
            yield bounds[0], ()

    def tightened(self, drafts: Drafts) -> bool:
        """Look for what differs between drafts; return whether a bound was set for it.

        Raises:
            MatchRuntimeError: Nothing is left to be tried, or a version is taken from
                two files.
        """
        return any(self._match(name, drafts) for name in self.names)

    def refused(
        self, bound: Bound, draft: ResolvedEnvironment, error: MatchRuntimeError
    ) -> None:
        """Take note that an environment can't be resolved with a bound.

        Args:
            bound: In force.
            draft: What that environment would be without it.
            error: To be raised when nothing else is left to be tried.

        Raises:
            MatchRuntimeError: Nothing is.
        """
        version = draft.version(bound.name)
        if version is not None:
            self._see(bound, draft.lock.name, version)
        first = self._first.setdefault((bound.name, bound.target), error)
        self._try_next(bound.name, bound.target, first)

    def _match(self, name: NormalizedName, drafts: Drafts) -> bool:
        found = {
            (target, stage): version
            for target, stages in drafts.items()
            for stage, draft in stages.items()
            if (version := draft.version(name)) is not None
        }
        public = {place: Version(version.public) for place, version in found.items()}
        if len(set(public.values())) > 1:
            return self._tighten(name, "", public)
        for target in drafts:
            own = {place: found[place] for place in found if place[0] == target}
            if len(set(own.values())) > 1:
                return self._tighten(name, target, own)
            self._check_files(name, drafts[target])
        return False

    def _tighten(
        self,
        name: NormalizedName,
        target: str,
        found: Mapping[tuple[str, str], Version],
    ) -> bool:
        what = (name, target)
        if not target:
            self._forget_builds(name)
        for place, version in found.items():
            self._seen.setdefault(what, {}).setdefault(version, self._named(*place))
        lowest = min(found.values())
        bound = self.bounds.get(what)
        if target or (bound is not None and bound.version <= lowest):
            first = self._first.get(what, self._differing(name, found))
            self._try_next(name, target, first)
        else:
            holder = self._seen[what][lowest]
            self.bounds[what] = Bound(
                name=name, operator="<=", version=lowest, holder=holder
            )
        return True

    def _named(self, target: str, stage: str) -> str:
        """Return what an environment is called."""
        place = self.places.get(target)
        return stage if place is None else f"{stage} for {place}"

    def _differing(
        self, name: NormalizedName, found: Mapping[tuple[str, str], Version]
    ) -> MatchRuntimeError:
        versions = {self._named(*place): str(found[place]) for place in found}
        return MatchRuntimeError(name=name, versions=versions)

    def _see(self, bound: Bound, stage: str, version: Version) -> None:
        seen = version if bound.target else Version(version.public)
        what = (bound.name, bound.target)
        self._seen.setdefault(what, {}).setdefault(seen, stage)

    def _try_next(
        self, name: NormalizedName, target: str, error: MatchRuntimeError
    ) -> None:
        what = (name, target)
        if not target:
            self._forget_builds(name)
        tried = self._tried.setdefault(what, set())
        left = self._seen.get(what, {}).keys() - tried
        if not left:
            raise error
        version = max(left)
        tried.add(version)
        self.bounds[what] = Bound(
            name=name,
            operator="==",
            version=version,
            holder=self._seen[what][version],
            target=target,
        )

    def _forget_builds(self, name: NormalizedName) -> None:
        """Forget what was found of builds: they will be those of another version."""
        memory: list[dict[_What, Any]] = [self.bounds, self._seen]
        memory += [self._tried, self._first]
        for known in memory:
            for what in [it for it in known if it[0] == name and it[1]]:
                del known[what]

    def _check_files(
        self, name: NormalizedName, stages: Mapping[str, ResolvedEnvironment]
    ) -> None:
        """See that a version is the same wheel in every environment of a target."""
        held = {
            stage: pin
            for stage, draft in stages.items()
            for pin in draft.pins
            if pin.name == name and isinstance(pin, IndexPin)
        }
        if len({pin.sha256 for pin in held.values()}) > 1:
            versions = {
                stage: f"{pin.version} (sha256 {pin.sha256[:12]}…)"
                for stage, pin in held.items()
            }
            raise MatchRuntimeError(name=name, versions=versions)


def unmatched(
    error: ResolutionError, bound: Bound, facts: KnownMetadata, graph: Graph
) -> MatchRuntimeError:
    """Return the failure of a resolution as the fault of a bound.

    Args:
        error: Of a resolution under that bound.
        bound: Without which it resolves.
        facts: Knows who wishes what.
        graph: The stages in order.
    """
    at_most = "at most " if bound.operator == "<=" else ""
    return MatchRuntimeError(
        name=bound.name,
        versions={bound.holder: f"{at_most}{bound.version}"},
        wishes=tuple(_wishes(bound.name, facts, graph)),
        stage=f"{error.name} for {error.target}" if error.target else error.name,
        output=error.output,
        hint=writing.hint_text(_corrections(bound.name, facts, graph)),
    )


def _corrections(
    name: NormalizedName, facts: KnownMetadata, graph: Graph
) -> Iterator[str]:
    """Yield what can be changed, and how to take away what outputs declare."""
    yield f"change one of these, or take {name} out of match-runtime"
    for stage in graph.order:
        wanted = {canonicalize_name(it.name) for it in stage.dependencies}
        for output in stage.outputs:
            rules = facts.project.rules(output.name)
            added = {*map(str, rules.build_requires_add)}
            declared = {*facts.build_requires(output.name)} - added
            said = (Requirement(text) for text in declared)
            if any(canonicalize_name(it.name) == name and it.specifier for it in said):
                wrong = f"what {output.name} declares is wrong"
                yield f"if {wrong}, settle it in pyproject.toml:"
                table = writing.build_requires_table(
                    output.name,
                    add=added if name in wanted else {*added, name},
                    remove={*rules.build_requires_remove, name},
                )
                yield from writing.indent(table)


def _wishes(name: NormalizedName, facts: KnownMetadata, graph: Graph) -> Iterator[str]:
    """Yield who says something of a project's version, and what."""
    for who, requirement in _said(facts, graph):
        if canonicalize_name(requirement.name) == name and requirement.specifier:
            yield f"{who}: {requirement}"


def _said(facts: KnownMetadata, graph: Graph) -> Iterator[tuple[str, Requirement]]:
    for requirement in facts.project.final.requirements:
        yield "final", requirement
    for stage in graph.order:
        for requirement in stage.dependencies:
            yield f"stage {stage.name}", requirement
        for output in stage.outputs:
            for text in facts.build_requires(output.name):
                yield f"{output.name}, to be built", Requirement(text)
    for name in facts.promises:
        metadata = facts.metadata(name)
        for text in () if metadata is None else metadata.requires_dist:
            yield f"{name}, once built", Requirement(text)
