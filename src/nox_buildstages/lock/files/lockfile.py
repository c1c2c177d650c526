"""What a lock file holds: packages, and our table ``[tool.nox-buildstages]``.

The packages of a stage's lock are the stage's environment; the table's ``outputs`` are
the wheels built in the environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_args

from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import Version

from nox_buildstages import reader
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    GitSource,
    Learned,
    Metadata,
)
from nox_buildstages.store.key import digest_json
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.markers import Marker
    from packaging.pylock import Pylock

    from nox_buildstages.model import Source


_TEXTS = reader.list_of(reader.text)
_SPECIFIERS = reader.parse_with(lambda text: str(SpecifierSet(text)))

FORMAT = 1
"""The version of the table ``[tool.nox-buildstages]``."""


class LockedOutput(Value):
    """An output in a stage's lock."""

    name: NormalizedName
    source: Source
    build_requires: tuple[str, ...]  # PEP 508 strings, sorted
    metadata: Metadata
    marker: Marker | None = None  # None for all targets of the lock
    # The targets whose backends answered for all targets, as markers; or empty.
    asked: tuple[str, ...] = ()


class Lock(Value):
    """A lock."""

    name: str  # a stage, "project" or "final"; or the stem of the file
    inputs: str  # a digest
    series: str = ""  # the same in all files written together
    dates: Mapping[str, Any] = field(default_factory=dict)  # of spans, see find_dates
    declared: Mapping[str, str] = field(default_factory=dict)
    """Only in the runtime's lock: a digest of each declaration, to name changes."""
    pylock: Pylock
    outputs: tuple[LockedOutput, ...] = ()


class IndexPin(Value):
    """A wheel from an index, a URL or a folder, identified by hash."""

    name: NormalizedName
    version: Version
    sha256: str


class StagePin(Value):
    """The wheel of a stage; unbuilt wheels have no hash."""

    name: NormalizedName
    version: Version
    stage: str


Pin: TypeAlias = IndexPin | StagePin


def digest(value: object) -> str:
    """Return the sha256 of a JSON-like value, whatever the order of its keys."""
    return f"sha256:{digest_json(value, default=str)}"


def write_output(output: LockedOutput) -> dict[str, Any]:
    """Return the table of an output."""
    source, metadata = output.source, output.metadata
    if isinstance(source, DirectorySource):
        source_table = {"directory": source.path}
    elif isinstance(source, GitSource):
        source_table = {"git": source.url, "commit": source.commit}
        if source.revision is not None:
            source_table["revision"] = source.revision
    else:
        kind = "url" if "://" in source.location else "path"
        source_table = {kind: source.location, "sha256": source.sha256}
    if source.subdirectory is not None:
        source_table["subdirectory"] = source.subdirectory
    table: dict[str, Any] = {
        "name": output.name,
        "version": str(metadata.version),
        "source": source_table,
        "build-requires": strip_logins(output.build_requires),
        "metadata": metadata.learned,
        "requires-dist": strip_logins(metadata.requires_dist),
    }
    if metadata.requires_python is not None:
        table["requires-python"] = metadata.requires_python
    if metadata.provides_extra:
        table["provides-extra"] = list(metadata.provides_extra)
    if output.marker is not None:
        table["marker"] = str(output.marker)
    if output.asked:
        table["asked-on"] = list(output.asked)
    return table


def read_outputs(
    table: reader.Table, requirement: reader.Shape[str] = reader.requirement_text
) -> tuple[LockedOutput, ...]:
    """Return the outputs in our table of a lock; ``requirement`` checks requirements.

    Raises:
        UnreadableError: The table is malformed.
    """
    requirements = reader.list_of(requirement)

    def read(table: reader.Table) -> LockedOutput:
        return LockedOutput(
            name=NormalizedName(table.get("name", reader.text)),
            source=table.get("source", reader.table(_read_source)),
            build_requires=table.get("build-requires", requirements),
            metadata=Metadata(
                version=table.get("version", reader.parse_with(Version)),
                requires_dist=table.get("requires-dist", requirements),
                requires_python=table.get("requires-python", _SPECIFIERS, None),
                provides_extra=table.get("provides-extra", _TEXTS, ()),
                learned=table.get("metadata", read_learned),
            ),
            marker=table.get("marker", reader.marker, None),
            asked=table.get("asked-on", _TEXTS, ()),
        )

    return table.get("outputs", reader.list_of(reader.table(read)), ())


def read_learned(value: object) -> Learned:
    """Read how metadata was learned."""
    for known in get_args(Learned):
        if value == known:
            return cast("Learned", value)
    raise reader.mismatch(f"one of {', '.join(get_args(Learned))}", value)


def _read_source(table: reader.Table) -> Source:
    subdirectory = table.get("subdirectory", reader.text, None)
    if "directory" in table.content:
        path = table.get("directory", reader.text)
        return DirectorySource(path=path, subdirectory=subdirectory)
    if "git" in table.content:
        return GitSource(
            url=table.get("git", reader.text),
            commit=table.get("commit", reader.text),
            subdirectory=subdirectory,
            revision=table.get("revision", reader.text, None),
        )
    is_remote = "url" in table.content
    return ArchiveSource(
        location=table.get("url" if is_remote else "path", reader.text),
        sha256=table.get("sha256", reader.text),
        subdirectory=subdirectory,
    )
