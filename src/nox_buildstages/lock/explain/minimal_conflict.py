"""The requirements in a question to uv, and the smallest conflict among them."""

from __future__ import annotations

import time
from enum import IntEnum, auto
from typing import TYPE_CHECKING, Protocol, TypeVar

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.errors import ResolutionError
from nox_buildstages.value import Record, Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packaging.pylock import Pylock

    from nox_buildstages.lock.resolve.environment import Bound, EnvironmentResolver
    from nox_buildstages.lock.resolve.uv_compile import Question, Resolver
    from nox_buildstages.model import Stage

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

MAX_QUESTIONS = 60
"""The maximum number of questions to uv for one explanation; most need about 15."""

MAX_SECONDS = 15.0
"""The time after which no further question is asked."""


class Origin(IntEnum):
    """The origin of a requirement; the first origins are blamed first."""

    WANTED = auto()
    CONSTRAINT = auto()
    BUILD_CONSTRAINT = auto()
    BOUND = auto()
    REQUIRED = auto()
    ADDED = auto()
    DECLARED = auto()


CONSTRAINTS = (Origin.CONSTRAINT, Origin.BUILD_CONSTRAINT, Origin.BOUND)
BUILD_REQUIRES = (Origin.ADDED, Origin.DECLARED)


class SourcedRequirement(Value):
    """A requirement with an origin."""

    origin: Origin
    text: str
    output: NormalizedName | None = None  # with this build or runtime requirement
    holder: str = ""  # the environment with the version of a bound

    @property
    def name(self) -> NormalizedName:
        """The required project."""
        return canonicalize_name(Requirement(self.text).name)

    @property
    def is_bare(self) -> bool:
        """Whether every version satisfies the requirement."""
        return not Requirement(self.text).specifier


class ProbeLimitError(Exception):
    """The maximum number of questions, or the maximum time, is reached."""


class ProbeLimits(Record):
    """How many questions to uv are left for an explanation, and until when."""

    left: int = MAX_QUESTIONS
    # The time of the last question, on the monotonic clock.
    until: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)

    def count(self) -> None:
        """Count a question.

        Raises:
            ProbeLimitError: No further question may be asked.
        """
        if not self.left or time.monotonic() > self.until:
            raise ProbeLimitError
        self.left -= 1


class ConflictProbe(Protocol[T_contra]):
    """Finds out whether some of many requirements conflict."""

    def conflicts(self, requirements: Iterable[T_contra]) -> bool:
        """Whether requirements conflict."""


class Probe(ProbeLimits):
    """Asks uv about subsets of the requirements in a question."""

    resolver: Resolver
    question: Question

    def answer(self, requirements: Iterable[SourcedRequirement]) -> Pylock | None:
        """Return uv's answer for some requirements; None if they conflict.

        Raises:
            ProbeLimitError: No further question may be asked.
        """
        self.count()
        subset = tuple(requirements)
        texts = (
            it.text
            for it in subset
            if it.origin is Origin.WANTED or it.origin in BUILD_REQUIRES
        )
        required = [it for it in subset if it.origin is Origin.REQUIRED]
        stand_ins = []
        for stand_in in self.question.stand_ins:
            requires = tuple(it.text for it in required if it.output == stand_in.name)
            metadata = replace(stand_in.metadata, requires_dist=requires)
            stand_ins.append(replace(stand_in, metadata=metadata))
        question = replace(
            self.question,
            requirements=tuple(dict.fromkeys(texts)),
            constraints=tuple(it.text for it in subset if it.origin in CONSTRAINTS),
            stand_ins=tuple(stand_ins),
        )
        try:
            return self.resolver.resolve(question)
        except ResolutionError:
            return None

    def conflicts(self, requirements: Iterable[SourcedRequirement]) -> bool:
        """Whether requirements conflict.

        Raises:
            ProbeLimitError: No further question may be asked.
        """
        return self.answer(requirements) is None

    def is_known_to_resolve(self, requirements: Iterable[SourcedRequirement]) -> bool:
        """Whether uv has resolved requirements; False if uv can't be asked."""
        try:
            return not self.conflicts(requirements)
        except ProbeLimitError:
            return False


def requirements_in_question(
    question: Question,
    stage: Stage | None,
    resolver: EnvironmentResolver,
    bounds: Sequence[Bound],
) -> tuple[SourcedRequirement, ...]:
    """Return the requirements in a question, in the order of blame."""
    project, known = resolver.project, resolver.known
    texts = [(Origin.CONSTRAINT, it) for it in project.constraints]
    if stage is None:
        texts += [(Origin.WANTED, it) for it in project.final.requirements]
    else:
        texts += [(Origin.WANTED, it) for it in stage.dependencies]
        texts += [(Origin.BUILD_CONSTRAINT, it) for it in project.build_constraints]
    found = [SourcedRequirement(origin=it, text=str(text)) for it, text in texts]
    for bound in bounds:
        holder = bound.holder
        found.append(
            SourcedRequirement(origin=Origin.BOUND, text=str(bound), holder=holder)
        )
    for output in () if stage is None else stage.outputs:
        added = set(map(str, project.rules(output.name).build_requires_add))
        for text in known.build_requires(output.name):
            origin = Origin.ADDED if text in added else Origin.DECLARED
            found.append(
                SourcedRequirement(origin=origin, text=text, output=output.name)
            )
    for stand_in in question.stand_ins:
        for text in stand_in.metadata.requires_dist:
            origin, name = Origin.REQUIRED, stand_in.name
            found.append(SourcedRequirement(origin=origin, text=text, output=name))
    found = [replace(it, text=resolver.without_output_url(it.text)) for it in found]
    return tuple(sorted(found, key=lambda it: it.origin))


def minimal_conflict(
    probe: ConflictProbe[T],
    requirements: Sequence[T],
    given: Sequence[T] = (),
    *,
    has_grown: bool = False,
) -> tuple[T, ...]:
    """Return the requirements needed for a conflict, beside the given requirements.

    They are in the shortest conflicting part from the front (QuickXplain).

    Raises:
        ProbeLimitError: The search would take too long.
    """
    if has_grown and probe.conflicts(given):
        return ()
    if len(requirements) < 2:  # noqa: PLR2004 - nothing to divide
        return tuple(requirements)
    middle = len(requirements) // 2
    first, second = requirements[:middle], requirements[middle:]
    later = minimal_conflict(probe, second, (*given, *first), has_grown=True)
    sooner = minimal_conflict(probe, first, (*given, *later), has_grown=bool(later))
    return (*sooner, *later)
