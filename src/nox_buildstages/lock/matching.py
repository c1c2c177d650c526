"""``match-runtime``: one version of a project in every environment that holds it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.errors import MatchRuntimeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from nox_buildstages.declare.graph import Graph
    from nox_buildstages.errors import ResolutionError
    from nox_buildstages.lock.drafts import Draft
    from nox_buildstages.lock.facts import Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """The highest version of a project that every environment can have.

    Attributes:
        name: Of the project.
        version: That version.
        holder: The stage, or ``final``, that can't have a higher one.
    """

    name: NormalizedName
    version: Version
    holder: str

    def __str__(self) -> str:
        return f"{self.name}<={self.version.public}"

    def is_named_in(self, text: str) -> bool:
        """Whether a text speaks of this very bound."""
        whole = rf"(?<![\w.-]){re.escape(str(self))}(?!\.?\w)"
        return re.search(whole, text) is not None


def held_back(
    drafts: Mapping[str, Draft], bounds: Mapping[NormalizedName, Bound], facts: Facts
) -> Bound | None:
    """Return the bound that what differs between drafts asks for; None if nothing does.

    Each draft has the highest version that it can have, so none can have one above
    the lowest of them.

    Raises:
        MatchRuntimeError: They differ though that bound holds already, as builds of
            one version do: ``2.13.0+cpu`` and ``2.13.0+cu130``.
    """
    for name in facts.project.match_runtime:
        versions = {
            stage: version
            for stage, draft in drafts.items()
            if (version := draft.version(name)) is not None
        }
        if len(set(versions.values())) < 2:  # noqa: PLR2004 - two differ
            continue
        holder = min(versions, key=lambda stage: versions[stage])
        if name in bounds and bounds[name].version <= versions[holder]:
            raise MatchRuntimeError(
                name=name,
                versions={stage: str(version) for stage, version in versions.items()},
            )
        return Bound(name=name, version=versions[holder], holder=holder)
    return None


def unmatched(
    error: ResolutionError,
    bounds: Mapping[NormalizedName, Bound],
    facts: Facts,
    graph: Graph,
) -> MatchRuntimeError | None:
    """Return the same failure as a bound's fault; None where none is at fault.

    Args:
        error: Of a resolution under the bounds.
        bounds: By project.
        facts: Knows who wishes what.
        graph: The stages in order.
    """
    bound = next((b for b in bounds.values() if b.is_named_in(error.output)), None)
    if bound is None:
        return None
    return MatchRuntimeError(
        name=bound.name,
        versions={bound.holder: f"at most {bound.version}"},
        wishes=tuple(_wishes(bound.name, facts, graph)),
        stage=error.name,
        output=error.output,
    )


def _wishes(name: NormalizedName, facts: Facts, graph: Graph) -> Iterator[str]:
    """Yield who says something of a project's version, and what."""
    for who, requirement in _said(facts, graph):
        if canonicalize_name(requirement.name) == name and requirement.specifier:
            yield f"{who}: {requirement}"


def _said(facts: Facts, graph: Graph) -> Iterator[tuple[str, Requirement]]:
    for requirement in facts.project.final.requirements:
        yield "final", requirement
    for stage in graph.order:
        for requirement in facts.requirements(stage):
            yield f"stage {stage.name}", requirement
    for output in facts.promises:
        metadata = facts.metadata(output)
        for text in () if metadata is None else metadata.requires_dist:
            yield f"{output}, once built", Requirement(text)
