"""Ask build backends for metadata while the project is locked."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.version import Version

from nox_buildstages import reader
from nox_buildstages.builder import editable_backend
from nox_buildstages.builder.context import SESSION
from nox_buildstages.builder.job import Job
from nox_buildstages.builder.prepare import occupy_environment, prepare_environment
from nox_buildstages.builder.sandbox.files import BuildFiles
from nox_buildstages.builder.stage import provide_stage
from nox_buildstages.environments.snapshot import EnvironmentGuard
from nox_buildstages.errors import BackendError, ChangedEnvironmentError, not_run
from nox_buildstages.lock.files.lockfile import (
    IndexPin,
    LockedOutput,
    StagePin,
    read_learned,
)
from nox_buildstages.lock.files.selection import select_lock
from nox_buildstages.lock.resolve.check_identity import check_name
from nox_buildstages.lock.resolve.known_metadata import (
    BackendAnswer,
    find_unmet,
    requires_dist_hint,
)
from nox_buildstages.model import PROJECT, ArchiveSource, Metadata
from nox_buildstages.sources import metadata as source_tree
from nox_buildstages.sources.trees import METADATA_FILES
from nox_buildstages.store.key import digest_json
from nox_buildstages.store.store import note_use
from nox_buildstages.system.documents import find_json
from nox_buildstages.system.files import keep_text, make_ignored_folder
from nox_buildstages.system.process import run_in_parallel
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
        """Run the hooks of several outputs: those of a stage side by side.

        Wheels of earlier stages in the environment are built first. If only the builds
        of these wheels differ between the cells of a matrix, the first cell's answer is
        used for all: the others would compile for hours to learn nothing new.

        Raises:
            BuildError: A hook failed, or a wheel can't be built.
            BuildStagesError: The network can't be switched off.
            BuildStagesError: Nox must not run anything.
        """
        # The environment is made for each stage in turn.
        by_stage = groupby(queries, lambda it: (it.stage.name, it.target))
        return [it for _, group in by_stage for it in self._ask_stage([*group])]

    def ask(self, query: BackendQuery) -> BackendAnswer:
        """Run the hooks of an output, see ``ask_all``."""
        return self.ask_all([query])[0]

    def wheel_metadata(
        self, wheel: ArchiveSource, size: int | None
    ) -> CoreMetadata | None:
        """Return the METADATA of a wheel on an index, if it can be read."""
        return self.context.tools.sources.wheel_metadata(wheel, size)

    def missing_wheels(self, query: BackendQuery) -> tuple[NormalizedName, ...]:
        """Return the outputs to build before the backend can be asked, in order."""
        return self._context_for(query).missing_wheels(query.stage.name)

    def _context_for(self, query: BackendQuery) -> BuildContext:
        interpreter = query.target.interpreter
        is_own = interpreter == self.context.interpreter
        return replace(
            self.context,
            interpreter=interpreter,
            environment=self.context.environment if is_own else None,
            locks={it: select_lock(query.locks[it], interpreter) for it in query.locks},
            logs=self.logs(query.target),
        )

    def _ask_stage(self, queries: Sequence[BackendQuery]) -> list[BackendAnswer]:
        """Run the hooks of outputs of a stage side by side, unless answers are known.

        An answer is valid until an ingredient of the wheel changes.
        """
        first = queries[0]
        context, stage = self._context_for(first), first.stage.name
        tools, environment = context.tools, self.environment(first.target)
        asked: dict[Hashable, BackendAnswer]
        asked = tools.run.once((SESSION, "backend answers"), dict)
        questions = [self._question(context, query) for query in queries]
        new = [
            (number, query)
            for number, query in enumerate(queries)
            if questions[number] not in asked
        ]
        if new:
            missing = context.missing_wheels(stage)
            if missing:
                outputs = ", ".join(query.output for _, query in new)
                tools.run.report(
                    f"locking has to build {', '.join(missing)} first: the build"
                    f" backend of {outputs} is asked in an environment with these"
                    " wheels"
                )
            _provide_stages(context, stage, environment)
        keys = {
            number: context.make_recipe(query.stage, _unknown_output(query)).key
            for number, query in new
            if stage != PROJECT  # its files change all the time
        }
        answers = {
            number: answer
            for number, query in new
            if number in keys
            and (answer := self._find_answer(context, query, keys[number])) is not None
        }
        unknown = [(number, query) for number, query in new if number not in answers]
        if unknown:
            with occupy_environment(tools, environment):
                prepare_environment(context, first.stage, environment)
                if not environment.may_run():
                    raise not_run(stage, *(query.output for _, query in unknown))
                guard = EnvironmentGuard(environment=environment, syncer=tools.syncer)
                calls = [
                    partial(self._ask_backend, context, query, guard, keys.get(number))
                    for number, query in unknown
                ]
                # A private environment is a copy that the next one replaces.
                are_apart = first.stage.private_environment or len(calls) == 1
                try:
                    if not are_apart:
                        found = run_in_parallel(calls)
                except ChangedEnvironmentError:
                    # Which of them changed it shows if each runs alone.
                    prepare_environment(context, first.stage, environment)
                    are_apart = True
                if are_apart:
                    found = [call() for call in calls]
            answers |= zip((number for number, _ in unknown), found, strict=True)
        for number, answer in answers.items():
            asked[questions[number]] = answer
        return [asked[question] for question in questions]

    def _question(self, context: BuildContext, query: BackendQuery) -> Hashable:
        """Return what the answer for an output depends on, whatever the cell."""
        held = tuple(
            (pin.name, pin.version.public, pin.stage)
            if isinstance(pin, StagePin)
            else pin
            for pin in context.pins(query.stage.name)
        )
        if all(isinstance(pin, IndexPin) for pin in held):
            return object()  # the store knows the answer for each cell
        return (
            *(query.stage.name, query.output, query.source, query.wants_metadata),
            *(query.requires, query.target, held),
            tuple(patch.sha256 for patch in context.patches(query.output)),
        )

    def _find_answer(
        self, context: BuildContext, query: BackendQuery, key: str
    ) -> BackendAnswer | None:
        """Return the stored answer of a backend for a recipe, if there is one.

        An answer with metadata answers a question without. An answer without metadata
        answers a question for metadata if requirements are missing.
        """
        for with_metadata in (query.wants_metadata, not query.wants_metadata):
            path = self._answer_path(key, with_metadata=with_metadata)
            answer = find_json(path, reader.table(_read_answer))
            if answer is None or (answer.failed and not query.may_fail):
                continue
            if not query.wants_metadata:
                answer = replace(answer, metadata=None)
            elif not with_metadata:
                unmet = _find_unmet(context, query, answer.requires)
                if not unmet:
                    continue
                answer = replace(answer, unmet=unmet)
            note_use(path)
            return answer
        return None

    def _answer_path(self, key: str, *, with_metadata: bool) -> Path:
        """Return the file in the store for the answer of a backend."""
        name = f"{digest_json([key, with_metadata])}.json"
        return self.context.tools.store.folder / "answers" / name

    def _ask_backend(
        self,
        context: BuildContext,
        query: BackendQuery,
        guard: EnvironmentGuard,
        key: str | None,
    ) -> BackendAnswer:
        """Run the hooks of an output in a prepared environment; store the answer.

        If a hook fails and the table declares the output's requirements, the backend
        isn't needed: some backends only work on a machine with a GPU or the CUDA
        compiler. Without a key, only the hook for an editable wheel runs.
        """
        context = replace(context, logs=context.tools.store.folder / "logs")
        if key is None:
            requires = editable_backend.get_build_requires(
                context, query.output, guard.environment
            )
            return BackendAnswer(requires=requires, metadata=None)
        try:
            answer = self._run_hooks(context, query, guard)
        except BackendError as error:
            answer = BackendAnswer(requires=(), metadata=None, failed=query.may_fail)
            if not query.may_fail:
                self._check_failure(query, error)
                return answer
            is_passing = error.full_disk or error.out_of_memory
            if error.reason != "exit status 1" or is_passing:
                return answer
        path = self._answer_path(
            key, with_metadata=query.wants_metadata and not answer.unmet
        )
        note_use(path)
        keep_text(path, json.dumps(_dump_answer(answer)))
        return answer

    def _check_failure(self, query: BackendQuery, error: BackendError) -> None:
        """Raise the error of a hook, unless the table declares the metadata."""
        context = self.context
        rules = context.project.rules(query.output)
        if rules.requires_dist is None or (self.finds_modules and error.module):
            # Metadata is a way out if this machine can't run the backend.
            if error.module or (error.hint and not error.may_work_elsewhere):
                raise error
            tree = self.tree(query.output, query.source)
            if source_tree.read_identity(tree).version is None:
                raise error  # the table can't declare the version
            hint = requires_dist_hint(error.output)
            if error.hint:  # without CUDA
                problem = error.hint.partition(": ")[0]
                hint = f"{problem}: to lock without it, {hint}"
            raise replace(error, hint=hint) from error
        context.tools.run.report(
            f"{error.hook} of {error.output} failed (log: {error.log}); using the"
            " requirements in pyproject.toml"
        )

    def _run_hooks(
        self,
        context: BuildContext,
        query: BackendQuery,
        guard: EnvironmentGuard,
    ) -> BackendAnswer:
        """Run the hooks of an output in a prepared environment.

        Every other hook needs what the first hook returns (PEP 517), so the backend
        is only asked for metadata in an environment that has it.
        """
        stage, output = query.stage, _unknown_output(query)
        job = Job(
            context=context,
            stage=stage,
            output=output,
            environment=guard.environment,
            guard=guard,
        )
        sandbox = job.sandbox
        make_ignored_folder(job.log.parent)
        head = f"network: {sandbox}\nfiles: {sandbox.files}\n"
        job.log.write_text(head, encoding="utf-8")
        several = len(context.project.pythons) > 1
        python = f" on Python {query.target.version}" if several else ""
        context.tools.run.report(f"asking the build backend of {output.name}{python}")
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.scratch))
        tree = self._unpack(query.output, query.source)
        unpacked = self.scratch / tree.relative_to(self.scratch).parts[0]
        folder = Path(tempfile.mkdtemp(prefix="metadata-", dir=self.scratch))
        core = None
        with (
            context.tools.run.step("ask", job.place, log=str(job.log)),
            job.open_backend(
                "ask", tree, BuildFiles(home=home, writable=(unpacked, folder))
            ) as backend,
        ):
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


def _unknown_output(query: BackendQuery) -> LockedOutput:
    """Return the output of a question, whose metadata isn't known yet."""
    return LockedOutput(
        name=query.output, source=query.source, build_requires=(), metadata=_UNKNOWN
    )


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


def _dump_answer(answer: BackendAnswer) -> dict[str, Any]:
    """Return an answer for JSON."""
    if answer.failed:
        return {"failed": True}
    metadata = answer.metadata and {
        **{name.replace("_", "-"): it for name, it in to_dict(answer.metadata).items()},
        "version": str(answer.metadata.version),
    }
    return {"requires": answer.requires, "metadata": metadata}


_REQUIREMENTS = reader.list_of(reader.requirement_text)


def _read_metadata(table: reader.Table) -> Metadata:
    return Metadata(
        version=table.get("version", reader.parse_with(Version)),
        requires_dist=table.get("requires-dist", _REQUIREMENTS),
        requires_python=table.get("requires-python", reader.nullable(reader.text)),
        provides_extra=table.get("provides-extra", reader.list_of(reader.text)),
        learned=table.get("learned", read_learned),
    )


def _read_answer(stored: reader.Table) -> BackendAnswer:
    """Return an answer from JSON."""
    if "failed" in stored.content:
        return BackendAnswer(requires=(), metadata=None, failed=True)
    return BackendAnswer(
        requires=stored.get("requires", _REQUIREMENTS),
        metadata=stored.get("metadata", reader.nullable(reader.table(_read_metadata))),
    )
