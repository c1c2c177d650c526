"""Ask build backends for metadata while the project is locked."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.builder import editable_backend
from nox_buildstages.builder.context import SESSION
from nox_buildstages.builder.job import Job
from nox_buildstages.builder.prepare import occupy_environment, prepare_environment
from nox_buildstages.builder.stage import provide_stage
from nox_buildstages.errors import BackendError, not_run
from nox_buildstages.lock.files.lockfile import IndexPin, LockedOutput, StagePin
from nox_buildstages.lock.resolve.check_identity import check_name
from nox_buildstages.lock.resolve.known_metadata import (
    BackendAnswer,
    find_unmet,
    requires_dist_hint,
)
from nox_buildstages.model import PROJECT, ArchiveSource, Metadata
from nox_buildstages.run.follow import METADATA
from nox_buildstages.sources import metadata as source_tree
from nox_buildstages.sources.trees import METADATA_FILES
from nox_buildstages.store.key import digest_json
from nox_buildstages.store.store import note_use
from nox_buildstages.system.files import make_ignored_folder, write_text
from nox_buildstages.value import Value, replace, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.resolve.known_metadata import BackendQuery
    from nox_buildstages.model import Source
    from nox_buildstages.wheels.core_metadata import CoreMetadata

_UNKNOWN = Metadata(version=Version("0"), learned="hook")


class BackendMetadata(Value):
    """Runs hooks in an environment that is made equal to each stage's lock in turn.

    The locks of the context are ignored.
    """

    context: BuildContext
    environment: Callable[[Target], Environment]
    logs: Callable[[Target], Path]
    scratch: Path  # removed after locking
    finds_modules: bool = False
    """Whether a missing module is an error even if the table declares the metadata."""

    def tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder with the static metadata of an output's patched source.

        From an archive without patches only the metadata files are extracted: some
        archives have thousands of files, and stored answers of backends need no others.
        """
        if not isinstance(source, ArchiveSource) or self.context.patches(output):
            return self._unpack(output, source)
        folder = Path(tempfile.mkdtemp(prefix="declared-", dir=self.scratch))
        return self.context.tools.sources.unpack(
            source, folder / "source", only=METADATA_FILES
        )

    def _unpack(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder with the patched source of an output, to run hooks in."""
        sources, patches = self.context.tools.sources, self.context.patches(output)

        def unpack() -> Path:
            folder = Path(tempfile.mkdtemp(prefix="source-", dir=self.scratch))
            return sources.unpack(source, folder / "source", patches)

        question = (SESSION, "source tree", self.scratch, output, source)
        return self.context.tools.run.once(question, unpack)

    def ask_all(self, queries: Sequence[BackendQuery]) -> list[BackendAnswer]:
        """Run the hooks of several outputs, one after another."""
        return [*map(self.ask, queries)]

    def wheel_metadata(
        self, wheel: ArchiveSource, size: int | None
    ) -> CoreMetadata | None:
        """Return the METADATA of a wheel on an index, if it can be read."""
        return self.context.tools.sources.wheel_metadata(wheel, size)

    def missing_wheels(self, query: BackendQuery) -> tuple[NormalizedName, ...]:
        """Return the outputs to build before the backend can be asked, in order."""
        return self._context_for(query).missing_wheels(query.stage.name)

    def _context_for(self, query: BackendQuery) -> BuildContext:
        return replace(
            self.context,
            interpreter=query.target.interpreter,
            locks=query.locks,
            logs=self.logs(query.target),
        )

    def ask(self, query: BackendQuery) -> BackendAnswer:
        """Run the hooks of an output in the stage's environment.

        Wheels of earlier stages in the environment are built first. If only the builds
        of these wheels differ between the cells of a matrix, the first cell's answer is
        used for all: the others would compile for hours to learn nothing new.

        Raises:
            BuildError: A hook failed, or a wheel can't be built.
            BuildStagesError: The network can't be switched off.
            BuildStagesError: Nox must not run anything.
        """
        context = self._context_for(query)
        stage = query.stage.name
        held = tuple(
            (pin.name, pin.version.public, pin.stage)
            if isinstance(pin, StagePin)
            else pin
            for pin in context.pins(stage)
        )
        if all(isinstance(pin, IndexPin) for pin in held):
            return self._find_or_run(context, query)
        question: tuple[Hashable, ...] = (
            *(SESSION, "backend", stage, query.output, query.source),
            *(query.wants_metadata, query.requires, query.target, held),
            tuple(patch.sha256 for patch in context.patches(query.output)),
        )
        return context.tools.run.once(
            question, partial(self._find_or_run, context, query)
        )

    def _find_or_run(self, context: BuildContext, query: BackendQuery) -> BackendAnswer:
        """Return the stored answer of a backend, or run the hooks and store the answer.

        An answer is valid until an ingredient of the wheel changes. If a hook fails and
        the table declares the output's requirements, the backend isn't needed: some
        backends only work on a machine with a GPU or the CUDA compiler.
        """
        tools, environment = context.tools, self.environment(query.target)
        missing = self.missing_wheels(query)
        if missing:
            tools.run.report(
                f"locking has to build {', '.join(missing)} first: the build backend of"
                f" {query.output} is asked in an environment with these wheels"
            )
        _provide_stages(context, query.stage.name, environment)
        context = replace(context, logs=tools.store.folder / "logs")
        if query.stage.name == PROJECT:
            with occupy_environment(tools, environment):
                requires = editable_backend.get_build_requires(
                    context, query.output, environment
                )
            return BackendAnswer(requires=requires, metadata=None)
        output = LockedOutput(
            name=query.output, source=query.source, build_requires=(), metadata=_UNKNOWN
        )
        recipe = context.make_recipe(query.stage, output)
        # The answer to a question for metadata can be an answer without metadata.
        paths = {
            with_metadata: tools.store.folder
            / "answers"
            / f"{digest_json([recipe.key, with_metadata])}.json"
            for with_metadata in dict.fromkeys((query.wants_metadata, False))
        }
        for with_metadata, path in paths.items():
            with suppress(OSError, ValueError, LookupError, TypeError):
                answer = _load_answer(json.loads(path.read_text(encoding="utf-8")))
                if with_metadata == query.wants_metadata:
                    note_use(path)
                    return answer
                unmet = _find_unmet(context, query, answer.requires)
                if unmet:
                    note_use(path)
                    return replace(answer, unmet=unmet)
        try:
            with occupy_environment(tools, environment):
                answer = self._run_hooks(context, query, output, environment)
        except BackendError as error:
            rules = context.project.rules(canonicalize_name(error.output))
            if rules.requires_dist is None or (self.finds_modules and error.module):
                # Metadata is a way out if this machine can't run the backend.
                if error.module or (error.hint and not error.lacks_cuda):
                    raise
                declare = requires_dist_hint(error.output)
                hint = f"{error.hint}\nor {declare}" if error.hint else declare
                raise replace(error, hint=hint) from error
            tools.run.report(
                f"{error.hook} of {error.output} failed (log: {error.log}); using the"
                " requirements in pyproject.toml"
            )
            return BackendAnswer(requires=(), metadata=None)
        metadata = answer.metadata and {
            **{
                field.replace("_", "-"): it
                for field, it in to_dict(answer.metadata).items()
            },
            "version": str(answer.metadata.version),
        }
        path = paths[query.wants_metadata and not answer.unmet]
        note_use(path)
        write_text(
            path, json.dumps({"requires": answer.requires, "metadata": metadata})
        )
        return answer

    def _run_hooks(
        self,
        context: BuildContext,
        query: BackendQuery,
        output: LockedOutput,
        environment: Environment,
    ) -> BackendAnswer:
        """Run the hooks of an output; the environment is occupied.

        Every other hook needs what the first hook returns (PEP 517), so the backend
        is only asked for metadata in an environment that has it.
        """
        stage = query.stage
        job = Job(context=context, stage=stage, output=output, environment=environment)
        network = job.sandbox
        prepare_environment(context, stage.name, environment)
        if not environment.may_run():
            raise not_run(stage.name, output.name)
        make_ignored_folder(job.log.parent)
        job.log.write_text(f"network: {network}\n", encoding="utf-8")
        several = len(context.project.pythons) > 1
        python = f" on Python {query.target.version}" if several else ""
        context.tools.run.report(f"asking the build backend of {output.name}{python}")
        home = self.scratch / "home"
        home.mkdir(exist_ok=True)
        tree = self._unpack(query.output, query.source)
        folder = Path(tempfile.mkdtemp(prefix="metadata-", dir=self.scratch))
        core = None
        with job.open_backend(METADATA, tree, home=home) as backend:
            requires = backend.get_requires()
            unmet = _find_unmet(context, query, requires)
            if query.wants_metadata and not unmet:
                core = backend.prepare_metadata(folder)
        if not query.wants_metadata:
            return BackendAnswer(requires=requires, metadata=None)
        if unmet:
            return BackendAnswer(requires=requires, metadata=None, unmet=unmet)
        if core is None:
            metadata = source_tree.read_static_metadata(tree)
        else:
            check_name(output.name, stage.name, core.name)
            metadata = source_tree.metadata_from_core(core, learned="hook")
        return BackendAnswer(requires=requires, metadata=metadata)


def _find_unmet(
    context: BuildContext, query: BackendQuery, requires: tuple[str, ...]
) -> tuple[str, ...]:
    """Return what to install before an output's backend can be asked for metadata.

    A requirement that the environment was resolved with is met, and one that the table
    removes doesn't count.
    """
    rules = context.project.rules(query.output)
    wanted = [
        text for text in rules.apply_removals(requires) if text not in query.requires
    ]
    unmet = find_unmet(wanted, context.pins(query.stage.name), context.interpreter)
    return unmet or tuple(text for text in wanted if Requirement(text).extras)


def _provide_stages(context: BuildContext, name: str, environment: Environment) -> None:
    """Build the wheels of earlier stages in an environment, in order."""
    done = {name}

    def provide(name: str) -> None:
        for stage in context.stages_in(name):
            if stage not in done:
                done.add(stage)
                provide(stage)
                provide_stage(context, context.graph.stages[stage], environment)

    provide(name)


def _load_answer(stored: dict[str, Any]) -> BackendAnswer:
    """Return an answer from JSON."""
    fields = stored["metadata"]
    return BackendAnswer(
        requires=tuple(stored["requires"]),
        metadata=fields
        and Metadata(
            version=Version(fields["version"]),
            requires_dist=tuple(fields["requires-dist"]),
            requires_python=fields["requires-python"],
            provides_extra=tuple(fields["provides-extra"]),
            learned=fields["learned"],
        ),
    )
