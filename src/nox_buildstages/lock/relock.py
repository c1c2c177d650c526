"""The order of it all: from the table to lock files that agree with each other.

A stage's environment can only be resolved when the outputs it holds are known; what
an output requires is often known only to its build backend, which has to run in its
stage's environment; and one version of what matches the runtime has to suit all. So
it goes round: resolve what can be resolved, hold back what differs, let the first
stage that has something to learn learn it, until nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from nox_buildstages.errors import (
    MatchRuntimeError,
    MetadataError,
    ResolutionError,
)
from nox_buildstages.lock.choose import choose
from nox_buildstages.lock.drafts import Drafter
from nox_buildstages.lock.facts import Facts, survey
from nox_buildstages.lock.lockfile import numbered
from nox_buildstages.lock.matching import held_back, unmatched

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.declare.graph import Graph
    from nox_buildstages.lock.drafts import Draft
    from nox_buildstages.lock.facts import Answer
    from nox_buildstages.lock.lockfile import Lock
    from nox_buildstages.lock.matching import Bound
    from nox_buildstages.lock.resolver import Resolver
    from nox_buildstages.model import Project, Source, Stage

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


class Workshop(Protocol):
    """Where sources are unpacked and build backends run."""

    def tree(self, source: Source) -> Path:
        """Return a folder with the source, to read in."""

    def ask(self, inquiry: Inquiry) -> Answer:
        """Run an output's hooks in its stage's environment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """The lock files that there were; their versions are kept where they can be.

    Attributes:
        texts: By stage.
        sources: What the outputs were built from, as a PEP 751 text; None for nothing.
    """

    texts: Mapping[str, str]
    sources: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Relock:
    """One making of all lock files.

    Attributes:
        project: What is declared.
        graph: Its stages in order.
        resolver: Answers which versions go together.
        workshop: Runs build backends.
        inputs: The digest of everything this depends on.
        earlier: The lock files that there were.
    """

    project: Project
    graph: Graph
    resolver: Resolver
    workshop: Workshop
    inputs: str
    earlier: Earlier

    def locks(self) -> tuple[Lock, ...]:
        """Return the lock of every stage, in order, and that of ``final``.

        Raises:
            LockError: There are none.
            SourceError: A source can't be had.
            BuildError: A hook failed, or a wheel it needs could not be built.
        """
        try:
            return self._settled()
        except MatchRuntimeError as error:
            # An earlier version of it was kept, which may be what stands in the way.
            if not self.earlier.texts or self.resolver.upgrades(error.name):
                raise
            resolver = self.resolver.upgrading(error.name)
        return replace(self, resolver=resolver).locks()

    def _settled(self) -> tuple[Lock, ...]:
        facts = self._surveyed()
        drafter = Drafter(
            graph=self.graph,
            resolver=self.resolver,
            facts=facts,
            inputs=self.inputs,
            earlier=self.earlier.texts,
        )
        bounds: dict[NormalizedName, Bound] = {}
        while True:
            drafts = self._drafts(drafter, bounds)
            bound = held_back(drafts, bounds, facts)
            stage = self._unsettled(drafts, facts)
            if bound is not None:
                bounds[bound.name] = bound
            elif stage is not None:
                self._learn(stage, drafts, facts)
            else:
                return numbered(draft.lock for draft in drafts.values())

    def _surveyed(self) -> Facts:
        chosen = choose(self.project, self.resolver, earlier=self.earlier.sources)
        return Facts(
            project=self.project,
            promises={
                name: survey(chosen[name], self.workshop.tree(chosen[name].source))
                for name in chosen
            },
        )

    def _drafts(
        self, drafter: Drafter, bounds: Mapping[NormalizedName, Bound]
    ) -> dict[str, Draft]:
        try:
            return drafter.drafts([str(bound) for bound in bounds.values()])
        except ResolutionError as error:
            unsuited = unmatched(error, bounds, drafter.facts, self.graph)
            if unsuited is None:
                raise
            raise unsuited from error

    def _unsettled(self, drafts: Mapping[str, Draft], facts: Facts) -> Stage | None:
        """Return the first stage whose backends haven't spoken in its environment."""
        for stage in self.graph.order:
            for output in stage.outputs:
                asked = facts.asked.get(output.name)
                if asked is None or asked.pins != drafts[stage.name].pins:
                    return stage
        return None

    def _learn(self, stage: Stage, drafts: Mapping[str, Draft], facts: Facts) -> None:
        names = (*self.graph.ancestors(stage.name), stage.name)
        locks = {name: drafts[name].lock for name in names}
        for output in stage.outputs:
            promise = facts.promises[output.name]
            inquiry = Inquiry(
                stage=stage,
                output=output.name,
                source=promise.chosen.source,
                locks=locks,
                wants_metadata=promise.metadata is None,
            )
            answer = self.workshop.ask(inquiry)
            asked = facts.learn(output.name, answer, drafts[stage.name].pins)
            if facts.metadata(output.name) is None:
                configured = self.project.rules(output.name).requires_dist is not None
                raise _unclear(inquiry, configured=configured)
            if asked.times > MAX_ASKS:
                raise MetadataError(
                    output=inquiry.output,
                    stage=inquiry.stage.name,
                    problem="its build requirements change each time they are met",
                    mend=("pin them in the dependencies of its stage",),
                )


def _unclear(inquiry: Inquiry, *, configured: bool) -> MetadataError:
    """Say what a backend without metadata hook leaves open, and how to say it."""
    if configured:
        problem = "its backend can't say its version without building it"
        mend: tuple[str, ...] = (
            "give it a version in the pyproject.toml of its source",
        )
    else:
        problem = "its backend can't say what it requires without building it"
        mend = (
            "say it in pyproject.toml:",
            f"  [tool.nox-buildstages.package.{inquiry.output}]",
            '  metadata = { requires-dist = ["…"] }',
            "with the requirements that it has at run time, or [] for none",
        )
    return MetadataError(
        output=inquiry.output, stage=inquiry.stage.name, problem=problem, mend=mend
    )
