"""Ask build backends for a proposal: each once, and stages side by side."""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING

from nox_buildstages.errors import BackendError, BuildStagesError, MetadataError
from nox_buildstages.lock.files.pylock import sdist_version
from nox_buildstages.lock.resolve.known_metadata import BackendAnswer
from nox_buildstages.sources import metadata as source_tree
from nox_buildstages.system.files import read_file
from nox_buildstages.system.process import run_in_parallel
from nox_buildstages.value import Record, Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from nox_buildstages.builder.backend_metadata import BackendMetadata
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.resolve.known_metadata import BackendQuery
    from nox_buildstages.model import ArchiveSource, Source
    from nox_buildstages.wheels.core_metadata import CoreMetadata


_KNOWN_MODULES = {"torch", "numpy", "Cython", "pybind11", "pip"}
"""Modules that many a setup.py imports without declaring them.

Others may be files of the source: only a build backend can say what is missing.
"""


class NewSourcesError(Exception):
    """Sources were read that the draft doesn't take into account yet."""


class SourceFacts(Value):
    """The declarations of a source."""

    requires: tuple[str, ...]  # declared build requirements
    requires_dist: tuple[str, ...]  # if the source declares them
    imports: tuple[str, ...]  # well-known modules that its setup.py imports
    version: Version | None  # if the source declares it


class Answers(Record):
    """The answers of sources and build backends, and the environments of those."""

    sources: dict[NormalizedName, SourceFacts] = field(default_factory=dict)
    is_news: bool = False  # whether the draft lacks what sources say
    by_output: dict[NormalizedName, BackendAnswer] = field(default_factory=dict)
    environments: dict[NormalizedName, Environment] = field(default_factory=dict)
    """By the first output of a stage."""
    failures: list[BuildStagesError] = field(default_factory=list)
    """The errors of the last questions."""


class SharedProvider(Value):
    """Asks build backends even if an sdist declares all metadata.

    Undeclared imports of a build show only when the build backend runs. An answer
    counts in every later environment, because another question would take long.
    """

    provider: BackendMetadata
    skipped: Collection[NormalizedName]  # their build backends aren't asked
    proposed: Collection[NormalizedName]
    answers: Answers

    def tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder with the declarations of an output's source."""
        tree = self.provider.tree(output, source)
        if output in self.proposed and output not in self.answers.sources:
            self.answers.is_news = True
            metadata = source_tree.read_static_metadata(tree)
            version = metadata.version if metadata else sdist_version(output, source)
            self.answers.sources[output] = SourceFacts(
                requires=source_tree.read_build_system(tree).requires,
                requires_dist=metadata.requires_dist if metadata else (),
                imports=tuple(find_imports(tree / "setup.py")),
                version=version,
            )
        return tree

    def wheel_metadata(
        self, wheel: ArchiveSource, size: int | None
    ) -> CoreMetadata | None:
        """Return the METADATA of a wheel on an index, if it can be read."""
        return self.provider.wheel_metadata(wheel, size)

    def missing_wheels(self, query: BackendQuery) -> tuple[NormalizedName, ...]:
        """Return no outputs: every backend is to be asked in its whole environment."""
        del query
        return ()

    def ask_all(self, queries: Sequence[BackendQuery]) -> list[BackendAnswer]:
        """Ask the backends of each stage in an environment of its own.

        Raises:
            NewSourcesError: The draft has to take new sources into account first.
            BuildStagesError: The first of the failures.
        """
        if self.answers.is_news:
            raise NewSourcesError
        self.answers.failures.clear()
        by_stage: dict[str, list[BackendQuery]] = {}
        for query in queries:
            known = self.answers.by_output.get(query.output)
            has_answer = known is not None and not known.unmet
            if query.output not in self.skipped and not has_answer:
                by_stage.setdefault(query.stage.name, []).append(query)
        run_in_parallel(
            partial(self._ask_stage, self._environment(stage[0]), stage)
            for stage in by_stage.values()
        )
        if self.answers.failures:
            raise self.answers.failures[0]
        nothing = BackendAnswer(requires=(), metadata=None)
        return [
            nothing
            if query.output in self.skipped
            else self.answers.by_output[query.output]
            for query in queries
        ]

    def _environment(self, query: BackendQuery) -> Environment:
        """Return the environment of a stage: the session's for the first stage."""
        environments, first = self.answers.environments, query.stage.outputs[0].name
        if first not in environments:
            own = self.provider.environment(query.target)
            environment = own
            own.may_install(), own.may_run()  # nox is asked once, and not by threads
            if environments:
                location = self.provider.scratch / f"environment-{len(environments)}"
                tools = self.provider.context.tools
                tools.syncer.create(location, own.python)
                python = location / "bin" / own.python.name
                environment = replace(
                    own, location=location, bin=python.parent, python=python
                )
            environments[first] = environment
        return environments[first]

    def _ask_stage(
        self, environment: Environment, queries: Sequence[BackendQuery]
    ) -> None:
        """Ask the backends of a stage, and record answers and failures."""
        scratch = self.provider.scratch / queries[0].stage.name
        scratch.mkdir(exist_ok=True)

        def own(_target: Target) -> Environment:
            return environment

        provider = replace(
            self.provider, environment=own, scratch=scratch, finds_modules=True
        )
        for query in queries:
            try:
                answer = provider.ask(replace(query, wants_metadata=True))
            except BackendError as error:  # noqa: PERF203 - it takes seconds
                failure: BuildStagesError = error
                if error.output in self.skipped:
                    failure = MetadataError(
                        output=query.output,
                        stage=query.stage.name,
                        problem=f"its build requires {error.output}, whose build"
                        " failed",
                    )
                self.answers.failures.append(failure)
            except BuildStagesError as error:
                self.answers.failures.append(error)
            else:
                if not query.wants_metadata:  # its sdist declares the metadata
                    answer = replace(answer, unmet=())
                self.answers.by_output[query.output] = answer


def find_imports(setup: Path) -> Iterator[str]:
    """Yield the well-known modules without which a setup.py can't run."""
    try:
        body = ast.parse(read_file(setup)).body
    except (OSError, SyntaxError, ValueError):
        return
    names: dict[str, None] = {}
    for statement in body:  # those in functions and ``try`` may not be needed
        if isinstance(statement, ast.Import):
            names |= dict.fromkeys(it.name.partition(".")[0] for it in statement.names)
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            names[(statement.module or "").partition(".")[0]] = None
    yield from (name for name in names if name in _KNOWN_MODULES)
