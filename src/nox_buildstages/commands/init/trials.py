"""Locking what is only proposed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nox_buildstages.errors import BackendError, MetadataError, ResolutionError
from nox_buildstages.lock.resolve.metadata import Answer

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.builder.metadata import StageWorkshop
    from nox_buildstages.config.graph import Graph
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.resolve.locker import Inquiry, Relock, Workshop
    from nox_buildstages.lock.resolve.uv_compile import Question
    from nox_buildstages.model import Interpreter, Project, Source


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """A workshop that asks backends everything, and some of them nothing.

    Locking asks for no metadata where an sdist promises it; but what a build imports
    undeclared comes to light only where its backend is asked.

    Attributes:
        workshop: That runs them.
        silent: Outputs whose backend isn't asked.
        answers: What they said so far.
        again: Whether those that have answered are asked once more.
    """

    workshop: Workshop
    silent: Collection[NormalizedName]
    answers: dict[NormalizedName, Answer]
    again: bool

    def tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder with the source of an output, to read in."""
        return self.workshop.tree(output, source)

    def ask(self, inquiry: Inquiry) -> Answer:
        """Run an output's hooks in its stage's environment."""
        if inquiry.output in self.silent:
            return Answer(requires=(), metadata=None)
        if inquiry.output in self.answers and not self.again:
            return self.answers[inquiry.output]
        try:
            answer = self.workshop.ask(replace(inquiry, wants_metadata=True))
        except BackendError as error:
            if error.output not in self.silent:
                raise
            raise MetadataError(
                output=inquiry.output,
                stage=inquiry.stage.name,
                problem=f"its build wants the wheel of {error.output}, and that failed",
                mend=(),
            ) from error
        self.answers[inquiry.output] = answer
        return answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Trials:
    """Locks projects that are only proposed, and writes nothing.

    Attributes:
        relock: The making of the locks of the project as it is.
        workshop: Runs build backends; what it unpacked is used again.
        answers: What the backends said last, by output.
    """

    relock: Relock
    workshop: StageWorkshop
    answers: dict[NormalizedName, Answer] = field(default_factory=dict)

    @property
    def interpreter(self) -> Interpreter:
        """What is locked for."""
        return self.relock.resolver.target.interpreter

    def locks(
        self,
        project: Project,
        graph: Graph,
        silent: Collection[NormalizedName],
        *,
        again: bool,
    ) -> tuple[Lock, ...]:
        """Return a project's locks.

        Args:
            project: As it is proposed.
            graph: Its stages in order.
            silent: Outputs whose backends aren't asked anything.
            again: Whether those that have answered are asked in each environment that
                they come into; it may take a build of what that environment holds.

        Raises:
            BuildStagesError: There are none.
        """
        bench = replace(self.workshop.bench, project=project, graph=graph)
        workshop = replace(self.workshop, bench=bench)
        asking = Asking(
            workshop=workshop, silent=silent, answers=self.answers, again=again
        )
        relock = replace(self.relock, project=project, graph=graph, workshop=asking)
        return replace(relock, explaining=False).locks()

    def resolve(self, question: Question) -> Pylock | None:
        """Return the versions that go together; None where there are none."""
        try:
            return self.relock.resolver.resolve(question)
        except ResolutionError:
            return None
