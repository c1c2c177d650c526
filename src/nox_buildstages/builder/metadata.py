"""Where locking has its questions answered: sources unpacked, hooks run."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.builder import editable_backend as editable_making
from nox_buildstages.builder.job import Job
from nox_buildstages.builder.prepare import occupied, prepare
from nox_buildstages.builder.stage import provide
from nox_buildstages.errors import BackendError, MetadataError, NotRunError
from nox_buildstages.lock.files.lockfile import IndexPin, LockedOutput, StagePin
from nox_buildstages.lock.resolve.metadata import BackendAnswer, requires_dist_hint
from nox_buildstages.model import PROJECT, ArchiveSource, Metadata
from nox_buildstages.run.follow import METADATA, followed
from nox_buildstages.sources import metadata as source_tree
from nox_buildstages.store.key import digest_json
from nox_buildstages.store.store import note_use
from nox_buildstages.system.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.resolve.metadata import BackendQuery
    from nox_buildstages.model import Source

_UNKNOWN = Metadata(version=Version("0"), learned="hook")


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendMetadata:
    """Runs hooks in an environment that is made equal to each stage's lock in turn.

    Attributes:
        context: Of the project; its locks are not looked at.
        environment: Returns the one to run in, for a target that is at hand.
        logs: Returns the folder of the logs of what is built for a target.
        scratch: A folder that is gone when locking is over.
        told: What was answered in other cells, where stages' wheels had to be there.
    """

    context: BuildContext
    environment: Callable[[Target], Environment]
    logs: Callable[[Target], Path]
    scratch: Path
    told: dict[Hashable, BackendAnswer] = field(default_factory=dict)
    _trees: dict[tuple[NormalizedName, Source], Path] = field(default_factory=dict)

    def tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder to read in what the source of an output, patched, declares.

        Of an archive that is all there is in it: some hold thousands of files, and
        where the backend's answer is kept, nobody needs them.
        """
        if not isinstance(source, ArchiveSource) or self.context.patches(output):
            return self._whole_tree(output, source)
        folder = Path(tempfile.mkdtemp(prefix="declared-", dir=self.scratch))
        return self.context.tools.sources.skim(source, folder / "source")

    def _whole_tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder with the source of an output, patched, to run hooks in."""
        if (output, source) not in self._trees:
            target = self.scratch / f"source-{len(self._trees)}"
            self._trees[output, source] = self.context.tools.sources.unpack(
                source, target, self.context.patches(output)
            )
        return self._trees[output, source]

    def ask(self, query: BackendQuery) -> BackendAnswer:
        """Run an output's hooks in its stage's environment.

        Wheels of earlier stages that the environment holds are built first. An
        answer is kept for as long as nothing that goes into the wheel changes. Where
        the table says what the output requires, a backend that fails has nothing to
        add: some can only speak where there is a GPU or its compiler.

        An environment that differs from that of another cell in the builds of such
        wheels alone gets the answer that was given there: hours of compiling for each
        architecture would teach nothing.

        Raises:
            BuildError: A hook failed, or such a wheel could not be built.
            NetworkError: It is to be off and can't be.
            NotRunError: Nox was told not to run.
        """
        context = self._bench_for(query)
        alike = _alike(context, query)
        if alike is None:
            return self._asked(context, query)
        if alike not in self.told:
            self.told[alike] = self._asked(context, query)
        return self.told[alike]

    def _asked(self, context: BuildContext, query: BackendQuery) -> BackendAnswer:
        environment = self.environment(query.target)
        for name in _providers(context, query.stage.name):
            provide(context, context.graph.stage(name), environment)
        context = replace(context, logs=context.tools.store.folder / "logs")
        if query.stage.name == PROJECT:
            with occupied(context.tools, environment):
                requires = editable_making.asked(context, query.output, environment)
            return BackendAnswer(requires=requires, metadata=None)
        output = LockedOutput(
            name=query.output,
            source=query.source,
            build_requires=(),
            metadata=_UNKNOWN,
        )
        kept = self._kept(context, query, output)
        note_use(kept)
        with suppress(OSError, ValueError, LookupError, TypeError):
            return _read(json.loads(kept.read_text(encoding="utf-8")))
        try:
            with occupied(context.tools, environment):
                answer = self._run(context, query, output, environment)
        except BackendError as error:
            return _without_answer(context, error)
        write_text(kept, json.dumps(_to_dict(answer)))
        return answer

    def _bench_for(self, query: BackendQuery) -> BuildContext:
        """Return the bench with the locks of an inquiry, for its target."""
        return replace(
            self.context,
            interpreter=query.target.interpreter,
            locks=query.locks,
            logs=self.logs(query.target),
            _recipes={},
            _entries={},
        )

    def _kept(
        self, context: BuildContext, query: BackendQuery, output: LockedOutput
    ) -> Path:
        recipe = context.recipe_of(query.stage, output)
        name = digest_json([recipe.key, query.wants_metadata])
        return context.tools.store.folder / "answers" / f"{name}.json"

    def _run(
        self,
        context: BuildContext,
        query: BackendQuery,
        output: LockedOutput,
        environment: Environment,
    ) -> BackendAnswer:
        stage = query.stage
        job = Job(context=context, stage=stage, output=output, environment=environment)
        network = job.sandbox
        prepare(context, stage.name, environment)
        if not environment.may_run():
            raise NotRunError(stage=stage.name, outputs=(output.name,))
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text(f"network: {network}\n", encoding="utf-8")
        several = len(context.project.pythons) > 1
        where = f" on Python {query.target.version}" if several else ""
        context.tools.report(f"asking the build backend of {output.name}{where}")
        home = self.scratch / "home"
        home.mkdir(exist_ok=True)
        tree = self._whole_tree(query.output, query.source)
        folder = Path(tempfile.mkdtemp(prefix="metadata-", dir=self.scratch))
        with job.watched(), followed(job, METADATA) as shown_job:
            backend = shown_job.backend(tree, home=home)
            requires = backend.requires()
            said = backend.metadata(folder) if query.wants_metadata else None
        if not query.wants_metadata:
            return BackendAnswer(requires=requires, metadata=None)
        if said is None:
            return BackendAnswer(
                requires=requires, metadata=source_tree.read_static_metadata(tree)
            )
        if said.name != output.name:
            raise MetadataError(
                output=output.name,
                stage=stage.name,
                problem=f"its source is the source of {said.name}",
                hint=f"name {said.name} in the outputs of stage {stage.name}",
            )
        return BackendAnswer(
            requires=requires,
            metadata=source_tree.metadata_from_core(said, learned="hook"),
        )


def _alike(context: BuildContext, query: BackendQuery) -> Hashable | None:
    """Return what an inquiry has in common with those of other cells.

    It is None where the environment holds no wheel of a stage.
    """
    pins = context.pins(query.stage.name)
    held = tuple(
        (pin.name, pin.version.public, pin.stage) if isinstance(pin, StagePin) else pin
        for pin in pins
    )
    if all(isinstance(pin, IndexPin) for pin in held):
        return None
    asked = (query.output, query.source, query.wants_metadata, query.target)
    patched = tuple(patch.sha256 for patch in context.patches(query.output))
    return (query.stage.name, *asked, patched, held)


def _providers(context: BuildContext, stage: str) -> Iterator[str]:
    """Yield the stages whose wheels an environment holds, each after its own."""
    seen: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        for pin in context.pins(name):
            if isinstance(pin, StagePin) and pin.stage not in seen:
                seen.add(pin.stage)
                yield from visit(pin.stage)
                yield pin.stage

    yield from visit(stage)


def _without_answer(context: BuildContext, error: BackendError) -> BackendAnswer:
    """Return what is taken where a backend failed and the table says enough.

    Raises:
        BackendError: It doesn't.
    """
    if context.project.rules(canonicalize_name(error.output)).requires_dist is None:
        raise replace(
            error, hint=error.hint or requires_dist_hint(error.output)
        ) from error
    context.tools.report(
        f"{error.hook} of {error.output} failed (log: {error.log}); what"
        " pyproject.toml says that it requires is taken"
    )
    return BackendAnswer(requires=(), metadata=None)


def _to_dict(answer: BackendAnswer) -> dict[str, Any]:
    said = answer.metadata
    return {
        "requires": answer.requires,
        "metadata": said
        and {
            "version": str(said.version),
            "requires-dist": said.requires_dist,
            "requires-python": said.requires_python,
            "provides-extra": said.provides_extra,
            "learned": said.learned,
        },
    }


def _read(kept: dict[str, Any]) -> BackendAnswer:
    said = kept["metadata"]
    return BackendAnswer(
        requires=tuple(kept["requires"]),
        metadata=said
        and Metadata(
            version=Version(said["version"]),
            requires_dist=tuple(said["requires-dist"]),
            requires_python=said["requires-python"],
            provides_extra=tuple(said["provides-extra"]),
            learned=said["learned"],
        ),
    )
