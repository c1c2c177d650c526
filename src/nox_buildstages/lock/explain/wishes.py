"""The wishes that a question is made of, and which of them don't go together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from enum import IntEnum, auto
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.errors import ResolutionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.lock.resolve.environment import EnvironmentResolver
    from nox_buildstages.lock.resolve.match_runtime import Bound
    from nox_buildstages.lock.resolve.metadata import KnownMetadata
    from nox_buildstages.lock.resolve.uv_compile import Question, Resolver
    from nox_buildstages.model import Stage

MAX_QUESTIONS = 60
"""How often uv is asked for one explanation; most take about fifteen."""

MAX_SECONDS = 15.0
"""After which no further question is begun."""


class Kind(IntEnum):
    """Where a wish comes from; the first of these are blamed first."""

    WANTED = auto()
    CONSTRAINT = auto()
    BUILD_CONSTRAINT = auto()
    BOUND = auto()
    REQUIRED = auto()
    ADDED = auto()
    DECLARED = auto()


CONSTRAINTS = (Kind.CONSTRAINT, Kind.BUILD_CONSTRAINT, Kind.BOUND)
OF_BUILDS = (Kind.ADDED, Kind.DECLARED)


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcedRequirement:
    """A wish, and where it comes from.

    Attributes:
        kind: Where from.
        text: A PEP 508 string.
        output: That declares it, or requires it once it is built.
        holder: Who holds a version back, where that is what it does.
    """

    kind: Kind
    text: str
    output: NormalizedName | None = None
    holder: str = ""

    @property
    def name(self) -> NormalizedName:
        """The project that it is about."""
        return canonicalize_name(Requirement(self.text).name)

    @property
    def is_bare(self) -> bool:
        """Whether any version of it will do."""
        return not Requirement(self.text).specifier


class EnoughError(Exception):
    """Uv was asked as often as is reasonable."""


@dataclass(kw_only=True, slots=True)
class Probe:
    """Asks the resolver for some of the wishes of a question.

    Attributes:
        resolver: Is asked.
        question: With all of the wishes.
        left: How often it may still be asked.
        until: No question is begun after that time, on the monotonic clock.
    """

    resolver: Resolver
    question: Question
    left: int = MAX_QUESTIONS
    until: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)

    def answer(self, wishes: Iterable[SourcedRequirement]) -> Pylock | None:
        """Return what has all of these wishes; None where nothing has.

        Raises:
            EnoughError: It was asked too often already, or for too long.
        """
        if not self.left or time.monotonic() > self.until:
            raise EnoughError
        self.left -= 1
        try:
            return self.resolver.resolve(self._asking(tuple(wishes)))
        except ResolutionError:
            return None

    def fails(self, wishes: Iterable[SourcedRequirement]) -> bool:
        """Whether these don't go together; raises what ``answer`` does."""
        return self.answer(wishes) is None

    def goes(self, wishes: Iterable[SourcedRequirement]) -> bool:
        """Whether these are known to go together."""
        try:
            return not self.fails(wishes)
        except EnoughError:
            return False

    def _asking(self, wishes: Sequence[SourcedRequirement]) -> Question:
        requirements = (
            wish.text
            for wish in wishes
            if wish.kind is Kind.WANTED or wish.kind in OF_BUILDS
        )
        return replace(
            self.question,
            requirements=tuple(dict.fromkeys(requirements)),
            constraints=tuple(it.text for it in wishes if it.kind in CONSTRAINTS),
            stand_ins=tuple(
                replace(
                    stand_in,
                    metadata=replace(
                        stand_in.metadata,
                        requires_dist=tuple(
                            wish.text
                            for wish in wishes
                            if wish.kind is Kind.REQUIRED
                            and wish.output == stand_in.name
                        ),
                    ),
                )
                for stand_in in self.question.stand_ins
            ),
        )


def wishes_of(
    question: Question,
    stage: Stage | None,
    drafter: EnvironmentResolver,
    bounds: Sequence[Bound],
) -> tuple[SourcedRequirement, ...]:
    """Return what a question is made of; those that are blamed first in front.

    Args:
        question: All that may be wanted in it is known.
        stage: Whose it is; None for ``final``.
        drafter: Asked it, and knows who declares what.
        bounds: That it was asked under.
    """
    facts = drafter.facts
    said = (*_requirers(stage, facts), *_constrainers(stage, facts, bounds))
    found = [replace(it, text=drafter.spelled(it.text)) for it in said]
    found += [
        SourcedRequirement(kind=Kind.REQUIRED, text=text, output=stand_in.name)
        for stand_in in question.stand_ins
        for text in stand_in.metadata.requires_dist
    ]
    return tuple(sorted(found, key=lambda said: said.kind))


def _requirers(
    stage: Stage | None, facts: KnownMetadata
) -> Iterator[SourcedRequirement]:
    own = facts.project.final.requirements if stage is None else stage.dependencies
    for requirement in own:
        yield SourcedRequirement(kind=Kind.WANTED, text=str(requirement))
    for output in () if stage is None else stage.outputs:
        added = set(map(str, facts.project.rules(output.name).build_requires_add))
        for text in facts.build_requires(output.name):
            kind = Kind.ADDED if text in added else Kind.DECLARED
            yield SourcedRequirement(kind=kind, text=text, output=output.name)


def _constrainers(
    stage: Stage | None, facts: KnownMetadata, bounds: Sequence[Bound]
) -> Iterator[SourcedRequirement]:
    for requirement in facts.project.constraints:
        yield SourcedRequirement(kind=Kind.CONSTRAINT, text=str(requirement))
    for bound in bounds:
        yield SourcedRequirement(kind=Kind.BOUND, text=str(bound), holder=bound.holder)
    for requirement in () if stage is None else facts.project.build_constraints:
        yield SourcedRequirement(kind=Kind.BUILD_CONSTRAINT, text=str(requirement))


def minimal(
    probe: Probe, wishes: Sequence[SourcedRequirement]
) -> tuple[SourcedRequirement, ...]:
    """Return wishes that don't go together, though without any of them they do.

    They are in the shortest part, from the front, that doesn't go (QuickXplain).

    Args:
        probe: Knows what goes.
        wishes: They don't.

    Raises:
        EnoughError: It would take too long to find out.
    """
    return _needed(probe, (), wishes, grown=False)


def _needed(
    probe: Probe,
    given: Sequence[SourcedRequirement],
    wishes: Sequence[SourcedRequirement],
    *,
    grown: bool,
) -> tuple[SourcedRequirement, ...]:
    """Return which of some wishes a failure needs, besides what is given."""
    if grown and probe.fails(given):
        return ()
    if len(wishes) < 2:  # noqa: PLR2004 - nothing to divide
        return tuple(wishes)
    first, second = wishes[: len(wishes) // 2], wishes[len(wishes) // 2 :]
    later = _needed(probe, (*given, *first), second, grown=True)
    sooner = _needed(probe, (*given, *later), first, grown=bool(later))
    return (*sooner, *later)
