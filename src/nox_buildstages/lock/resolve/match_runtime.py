"""``match-runtime``: the same version of a project in all environments.

uv resolves each environment to the highest possible version, so the lowest of these
versions is the first bound. If an environment can't be resolved with the bound, each
version of an environment on its own is tried for all environments, the highest first.
Builds of a version (``2.13.0+cpu``, ``2.13.0+cu130``) are matched in the same way, for
each target separately.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from nox_buildstages.config import writing
from nox_buildstages.errors import MatchRuntimeError, ResolutionError
from nox_buildstages.lock.files.lockfile import IndexPin
from nox_buildstages.lock.resolve.environment import Bound, ResolvedEnvironment
from nox_buildstages.value import Record, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.lock.resolve.known_metadata import KnownMetadata


class VersionSearch(Record):
    """The search for a common version of a project, or a common build of a version."""

    bound: Bound | None = None
    candidates: dict[Version, str] = field(default_factory=dict)  # and environments
    tried: set[Version] = field(default_factory=set)  # for all environments
    error: MatchRuntimeError | None = None  # to raise if no candidate is left


class VersionMatcher(Record):
    """Finds bounds under which all environments have the same versions."""

    names: Sequence[NormalizedName]
    labels: Mapping[str, str] = field(default_factory=dict)  # targets by marker
    # By project and target; an empty target stands for all targets.
    searches: dict[tuple[NormalizedName, str], VersionSearch] = field(
        default_factory=dict
    )

    def bounds_for(self, target: str) -> tuple[Bound, ...]:
        """Return the bounds in force for a target."""
        bounds = (search.bound for search in self.searches.values())
        return tuple(it for it in bounds if it and it.target in ("", target))

    def without_each(self, target: str) -> Iterator[tuple[Bound, tuple[Bound, ...]]]:
        """Yield each bound for a target with all other bounds; then with none."""
        bounds = self.bounds_for(target)
        for bound in bounds:
            yield bound, tuple(other for other in bounds if other is not bound)
        if len(bounds) > 1:
            yield bounds[0], ()

    def tighten(
        self, environments: Mapping[str, Mapping[str, ResolvedEnvironment]]
    ) -> bool:
        """Set a bound for the first project whose versions differ, if any.

        Environments are given by target and stage.

        Raises:
            MatchRuntimeError: No candidate is left, or a version comes from two
                different files.
        """
        for name in self.names:
            found = {
                (target, stage): version
                for target, stages in environments.items()
                for stage, environment in stages.items()
                if (version := environment.version(name)) is not None
            }
            public = {where: Version(it.public) for where, it in found.items()}
            if len(set(public.values())) > 1:
                self._add_candidates(name, "", public)
                return True
            for target, stages in environments.items():
                builds = {where: found[where] for where in found if where[0] == target}
                if len(set(builds.values())) > 1:
                    self._add_candidates(name, target, builds)
                    return True
                files = {
                    stage: pin
                    for stage, environment in stages.items()
                    for pin in environment.pins
                    if pin.name == name and isinstance(pin, IndexPin)
                }
                if len({pin.sha256 for pin in files.values()}) > 1:
                    details = [
                        f"{stage}: {pin.version} (sha256 {pin.sha256[:12]}…)"
                        for stage, pin in files.items()
                    ]
                    raise MatchRuntimeError(name=name, details=details)
        return False

    def _add_candidates(
        self,
        name: NormalizedName,
        target: str,
        found: Mapping[tuple[str, str], Version],
    ) -> None:
        """Set a bound for a project with different versions, by target and stage."""
        if not target:
            self._forget_builds(name)
        search = self.searches.setdefault((name, target), VersionSearch())
        for where, version in found.items():
            search.candidates.setdefault(version, self._label(*where))
        lowest = min(found.values())
        # A lowest version is a bound for versions; builds have no order.
        if target or (search.bound is not None and search.bound.version <= lowest):
            details = [f"{self._label(*where)}: {found[where]}" for where in found]
            error = MatchRuntimeError(name=name, details=details)
            self._try_next(name, target, search.error or error)
        else:
            search.bound = Bound(
                name=name,
                operator="<=",
                version=lowest,
                holder=search.candidates[lowest],
            )

    def _label(self, target: str, stage: str) -> str:
        return f"{stage} for {self.labels[target]}" if target in self.labels else stage

    def reject(
        self, bound: Bound, environment: ResolvedEnvironment, error: MatchRuntimeError
    ) -> None:
        """Replace a bound without which an environment can be resolved.

        Raises:
            MatchRuntimeError: No candidate is left.
        """
        search = self.searches[bound.name, bound.target]
        version = environment.version(bound.name)
        if version is not None:
            candidate = version if bound.target else Version(version.public)
            search.candidates.setdefault(candidate, environment.lock.name)
        search.error = search.error or error
        self._try_next(bound.name, bound.target, search.error)

    def _try_next(
        self, name: NormalizedName, target: str, error: MatchRuntimeError
    ) -> None:
        """Bind a project to the highest untried candidate."""
        if not target:
            self._forget_builds(name)
        search = self.searches[name, target]
        untried = search.candidates.keys() - search.tried
        if not untried:
            raise error
        version = max(untried)
        search.tried.add(version)
        search.bound = Bound(
            name=name,
            operator="==",
            version=version,
            holder=search.candidates[version],
            target=target,
        )

    def _forget_builds(self, name: NormalizedName) -> None:
        """Forget the builds of a version, because the version changes."""
        for key in [it for it in self.searches if it[0] == name and it[1]]:
            del self.searches[key]


def match_error(
    error: ResolutionError, bound: Bound, known: KnownMetadata, graph: Graph
) -> MatchRuntimeError:
    """Return the error for a failed resolution with a bound."""
    name = bound.name
    at_most = "at most " if bound.operator == "<=" else ""
    hint = [f"change one of these, or remove {name} from match-runtime"]
    requirements = [("final", it) for it in known.project.final.requirements]
    for stage in graph.order:
        requirements += [(f"stage {stage.name}", it) for it in stage.dependencies]
        dependencies = {canonicalize_name(it.name) for it in stage.dependencies}
        for output in stage.outputs:
            rules = known.project.rules(output.name)
            added = {*map(str, rules.build_requires_add)}
            build_requires = known.build_requires(output.name)
            source = f"{output.name}, to be built"
            requirements += [(source, Requirement(text)) for text in build_requires]
            declared = map(Requirement, {*build_requires} - added)
            if any(
                canonicalize_name(it.name) == name and it.specifier for it in declared
            ):
                table = writing.build_requires_table(
                    output.name,
                    add=added if name in dependencies else {*added, name},
                    remove={*rules.build_requires_remove, name},
                )
                wrong = f"if what {output.name} declares is wrong"
                hint += [f"{wrong}, correct it in pyproject.toml:"]
                hint += writing.indent(table)
    for output_name in known.static:
        metadata = known.metadata(output_name)
        source = f"{output_name}, once built"
        for text in () if metadata is None else metadata.requires_dist:
            requirements.append((source, Requirement(text)))
    return MatchRuntimeError(
        name=name,
        details=[
            f"{bound.holder}: {at_most}{bound.version}",
            *(
                f"{source}: {requirement}"
                for source, requirement in requirements
                if canonicalize_name(requirement.name) == name and requirement.specifier
            ),
            f"with these, {error.subject} can't be locked:",
            *error.details,
        ],
        hint="\n".join(hint),
    )
