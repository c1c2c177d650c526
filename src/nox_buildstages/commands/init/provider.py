"""A metadata provider for proposals, with a cache of answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nox_buildstages.errors import BackendError, MetadataError
from nox_buildstages.lock.resolve.metadata import BackendAnswer

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.resolve.metadata import BackendQuery, MetadataProvider
    from nox_buildstages.model import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedProvider:
    """Asks build backends for metadata even if an sdist declares them.

    Undeclared imports of a build show only when the build backend runs.

    Attributes:
        provider: Runs the build backends.
        skipped: Outputs whose build backends aren't asked.
        answers: The last answers, by output.
        use_answers: Whether earlier answers count, also in a new environment.
    """

    provider: MetadataProvider
    skipped: Collection[NormalizedName]
    answers: dict[NormalizedName, BackendAnswer]
    use_answers: bool

    def tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder with the unpacked source of an output."""
        return self.provider.tree(output, source)

    def ask(self, query: BackendQuery) -> BackendAnswer:
        """Run the hooks of an output in the stage's environment."""
        if query.output in self.skipped:
            return BackendAnswer(requires=(), metadata=None)
        if query.output in self.answers and self.use_answers:
            return self.answers[query.output]
        try:
            answer = self.provider.ask(replace(query, wants_metadata=True))
        except BackendError as error:
            if error.output not in self.skipped:
                raise
            raise MetadataError(
                output=query.output,
                stage=query.stage.name,
                problem=f"its build requires {error.output}, whose build failed",
            ) from error
        self.answers[query.output] = answer
        return answer
