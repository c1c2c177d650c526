"""Locking what is only proposed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nox_buildstages.errors import BackendError, MetadataError, ResolutionError
from nox_buildstages.lock.resolve.locker import UnresolvableError
from nox_buildstages.lock.resolve.metadata import BackendAnswer

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.builder.metadata import BackendMetadata
    from nox_buildstages.config.graph import Graph
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.resolve.locker import Locker
    from nox_buildstages.lock.resolve.metadata import BackendQuery, MetadataProvider
    from nox_buildstages.lock.resolve.uv_compile import Question
    from nox_buildstages.model import Interpreter, Project, Source


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedProvider:
    """A workshop that asks backends everything, and some of them nothing.

    Locking asks for no metadata where an sdist promises it; but what a build imports
    undeclared comes to light only where its backend is asked.

    Attributes:
        metadata_provider: That runs them.
        silent: Outputs whose backend isn't asked.
        answers: What they said so far.
        again: Whether those that have answered are asked once more.
    """

    metadata_provider: MetadataProvider
    silent: Collection[NormalizedName]
    answers: dict[NormalizedName, BackendAnswer]
    again: bool

    def tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder with the source of an output, to read in."""
        return self.metadata_provider.tree(output, source)

    def ask(self, query: BackendQuery) -> BackendAnswer:
        """Run an output's hooks in its stage's environment."""
        if query.output in self.silent:
            return BackendAnswer(requires=(), metadata=None)
        if query.output in self.answers and not self.again:
            return self.answers[query.output]
        try:
            answer = self.metadata_provider.ask(replace(query, wants_metadata=True))
        except BackendError as error:
            if error.output not in self.silent:
                raise
            raise MetadataError(
                output=query.output,
                stage=query.stage.name,
                problem=f"its build requires {error.output}, whose build failed",
            ) from error
        self.answers[query.output] = answer
        return answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Trials:
    """Locks projects that are only proposed, and writes nothing.

    Attributes:
        relock: The making of the locks of the project as it is.
        metadata_provider: Runs build backends; what it unpacked is used again.
        answers: What the backends said last, by output.
    """

    relock: Locker
    metadata_provider: BackendMetadata
    answers: dict[NormalizedName, BackendAnswer] = field(default_factory=dict)

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
        context = replace(self.metadata_provider.context, project=project, graph=graph)
        metadata_provider = replace(self.metadata_provider, context=context)
        asking = CachedProvider(
            metadata_provider=metadata_provider,
            silent=silent,
            answers=self.answers,
            again=again,
        )
        relock = replace(
            self.relock, project=project, graph=graph, metadata_provider=asking
        )
        try:
            return relock.make_locks()
        except UnresolvableError as failure:
            raise failure.error from failure

    def resolve(self, question: Question) -> Pylock | None:
        """Return the versions that go together; None where there are none."""
        try:
            return self.relock.resolver.resolve(question)
        except ResolutionError:
            return None
