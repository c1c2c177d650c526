"""A proposal while it comes to be; it may not lock yet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.errors import ProposalError
from nox_buildstages.model import FINAL, PROJECT, Output, Stage
from nox_buildstages.text import free_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.utils import NormalizedName

    from nox_buildstages.errors import MatchRuntimeError
    from nox_buildstages.model import Project

ELSEWHERE = "take one of them as a wheel: another version, or an index that has one"
"""What to do where wheels that are built need each other to be built."""

_MATCHED = (canonicalize_name("torch"),)
"""What wheels are compiled against so that no other version will do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A dependency that needs a stage.

    Attributes:
        output: What is built.
        reason: Why it has to be.
        dependencies: What its stage needs beyond what it declares, in order.
        imported: Of those, what provides a module that its build imports; by module.
        dropped: Build requirements that it declares and that nothing satisfies.
        silence: Why its backend can't be asked, in lines.
    """

    output: Requirement
    reason: str
    dependencies: tuple[NormalizedName, ...] = ()
    imported: Mapping[str, NormalizedName] = field(default_factory=dict)
    dropped: tuple[NormalizedName, ...] = ()
    silence: tuple[str, ...] = ()

    @property
    def name(self) -> NormalizedName:
        """The normalized name of the project that is built."""
        return canonicalize_name(self.output.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A proposal that may not lock yet.

    Attributes:
        declared: The project as it is.
        found: The outputs that are proposed.
        groups: Names of those that share a stage; each other one has its own.
        ordered: What declared stages need that is proposed, by their names.
        matched: Projects of one version everywhere, beyond those declared.
        unmatched: Why there is no such version, in lines.
    """

    declared: Project
    found: tuple[Found, ...] = ()
    groups: tuple[tuple[NormalizedName, ...], ...] = ()
    ordered: Mapping[str, tuple[NormalizedName, ...]] = field(default_factory=dict)
    matched: tuple[NormalizedName, ...] = _MATCHED
    unmatched: tuple[str, ...] = ()

    @property
    def silent(self) -> frozenset[NormalizedName]:
        """The outputs whose backend can't be asked."""
        return frozenset(found.name for found in self.found if found.silence)

    def of(self, output: str) -> Found | None:
        """Return what is proposed for an output; None where nothing is."""
        return next((found for found in self.found if found.name == output), None)

    def building(self, stage: str) -> tuple[Found, ...]:
        """Return what a proposed stage builds; nothing where it isn't proposed."""
        return next(
            (group for group in self.grouped() if self._stage_name(group) == stage), ()
        )

    def amended(self, found: Found) -> Draft:
        """Return the same with more known of one output."""
        others = (each for each in self.found if each.name != found.name)
        ordered = sorted((*others, found), key=lambda each: each.name)
        return replace(self, found=tuple(ordered))

    def project(self) -> Project:
        """Return the project as it would be."""
        project = self.declared
        known = project.match_runtime
        return replace(
            project,
            match_runtime=(*known, *(it for it in self.matched if it not in known)),
            stages=(*self._declared_stages(), *self.stages()),
            packages={
                **project.packages,
                **{
                    found.name: replace(
                        project.rules(found.name),
                        build_requires_remove=found.dropped,
                        requires_dist=() if found.silence else None,
                    )
                    for found in self.found
                },
            },
        )

    def stages(self) -> Iterator[Stage]:
        """Yield the stages that are proposed."""
        for group in self.grouped():
            name = self._stage_name(group)
            wanted = dict.fromkeys(it for found in group for it in found.dependencies)
            yield Stage(
                name=name,
                dependencies=tuple(map(Requirement, wanted)),
                outputs=tuple(
                    Output(
                        requirement=found.output, location=f"{found.name} (proposed)"
                    )
                    for found in group
                ),
                location=f"stage {name} (proposed)",
            )

    def grouped(self) -> Iterator[tuple[Found, ...]]:
        """Yield what is built together, in the order of its first output's name."""
        shared = {name: group for group in self.groups for name in group}
        for found in self.found:
            group = shared.get(found.name, (found.name,))
            if group[0] == found.name:
                yield tuple(each for each in self.found if each.name in group)

    def _stage_name(self, group: tuple[Found, ...]) -> str:
        """Return the name of the first output; with a number if that is taken."""
        taken = {PROJECT, FINAL, *(stage.name for stage in self.declared.stages)}
        return free_name(group[0].name, taken)

    def _declared_stages(self) -> Iterator[Stage]:
        for stage in self.declared.stages:
            more = map(Requirement, self.ordered.get(stage.name, ()))
            yield replace(stage, dependencies=(*stage.dependencies, *more))


def in_order(draft: Draft, stage: str, output: NormalizedName) -> Draft | None:
    """Return a draft in which a stage comes after the one that builds an output."""
    builds = draft.building(stage)
    if not builds:
        before = draft.ordered.get(stage, ())
        is_declared = stage in {it.name for it in draft.declared.stages}
        if output in before or not is_declared:
            return None
        return replace(draft, ordered={**draft.ordered, stage: (*before, output)})
    (found,) = builds
    if found.name == output:
        raise ProposalError(
            problem=f"{output} has no wheel that may be used, and needs itself to be"
            " built",
            hint=ELSEWHERE,
        )
    if output in found.dependencies:
        return None
    return draft.amended(replace(found, dependencies=(*found.dependencies, output)))


def not_matched(draft: Draft, error: MatchRuntimeError) -> Draft | None:
    """Return a draft that doesn't ask for one version everywhere, if it was ours."""
    if error.name in draft.declared.match_runtime or error.name not in draft.matched:
        return None
    others = tuple(name for name in draft.matched if name != error.name)
    return replace(draft, matched=others, unmatched=tuple(error.lines()))
