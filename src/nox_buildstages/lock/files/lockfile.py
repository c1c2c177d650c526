"""What a lock file holds: packages, and our table ``[tool.nox-buildstages]``.

The packages of a stage's lock are the stage's environment; the table's ``outputs`` are
the wheels built in the environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from packaging.markers import Marker
from packaging.utils import NormalizedName
from packaging.version import Version

from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource, Metadata
from nox_buildstages.store.key import digest_json
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.pylock import Pylock

    from nox_buildstages.model import Source


_T = TypeVar("_T")

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


def read_outputs(table: Mapping[str, Any]) -> tuple[LockedOutput, ...]:
    """Return the outputs in our table of a lock, or raise any built-in exception."""
    return tuple(map(_read_output, _list(table, "outputs", dict)))


def _read_output(table: Mapping[str, Any]) -> LockedOutput:
    source_table = table["source"]
    subdirectory = source_table.get("subdirectory")
    if "directory" in source_table:
        source: Source = DirectorySource(
            path=source_table["directory"], subdirectory=subdirectory
        )
    elif "git" in source_table:
        source = GitSource(
            url=source_table["git"],
            commit=source_table["commit"],
            subdirectory=subdirectory,
            revision=source_table.get("revision"),
        )
    else:
        is_remote = "url" in source_table
        source = ArchiveSource(
            location=source_table["url" if is_remote else "path"],
            sha256=source_table["sha256"],
            subdirectory=subdirectory,
        )
    return LockedOutput(
        name=NormalizedName(table["name"]),
        source=source,
        build_requires=_list(table, "build-requires", str, optional=False),
        metadata=Metadata(
            version=Version(table["version"]),
            requires_dist=_list(table, "requires-dist", str, optional=False),
            requires_python=table.get("requires-python"),
            provides_extra=_list(table, "provides-extra", str),
            learned=table["metadata"],
        ),
        marker=Marker(table["marker"]) if "marker" in table else None,
        asked=tuple(table.get("asked-on", ())),
    )


def _list(
    table: Mapping[str, Any], key: str, kind: type[_T], *, optional: bool = True
) -> tuple[_T, ...]:
    """Return a list of values of a type; an optional list may be missing."""
    value = table.get(key, []) if optional else table[key]
    if not isinstance(value, list) or not all(isinstance(it, kind) for it in value):
        noun = "strings" if kind is str else "tables"
        raise TypeError(f"{key!r} is no list of {noun}")
    return tuple(value)
