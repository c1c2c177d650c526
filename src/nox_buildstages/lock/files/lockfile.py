"""Lock files: PEP 751 with a table ``[tool.nox-buildstages]``.

The packages of a stage's lock are the stage's environment; the table's ``outputs`` are
the wheels built in the environment.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import tomli_w
from packaging.markers import Marker
from packaging.pylock import (
    PackageArchive,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)
from packaging.utils import NormalizedName
from packaging.version import Version

from nox_buildstages import toml
from nox_buildstages.declarations.upload_times import ALL, SOME
from nox_buildstages.errors import InvalidLockError, refuse_newer_format
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.lock.files.pylock import (
    TOOL,
    providing_stage,
    select_packages,
    to_document,
)
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource, Metadata
from nox_buildstages.store.key import digest_json
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nox_buildstages.model import Interpreter, Source


_T = TypeVar("_T")

FORMAT = 1
"""The version of the table ``[tool.nox-buildstages]``."""

_SERIES = re.compile(r'^series = "(.*)"$', re.MULTILINE)
"""The line of a lock file with the series."""

_HEADER = "# Made by nox-buildstages; `nox -s build-stages-lock` updates it.\n\n"


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


def list_pins(lock: Lock, interpreter: Interpreter) -> tuple[Pin, ...]:
    """Return the wheels of a lock for an interpreter, sorted by name.

    Raises:
        InvalidLockError: The lock is not for the interpreter.
    """
    subject = file_name(lock.name)
    try:
        selected = [*select_packages(lock.pylock, interpreter)]
    except PylockSelectError as error:
        raise InvalidLockError(subject=subject, problem=str(error)) from error
    pins: list[Pin] = []
    for package, file in selected:
        name, version = package.name, package.version
        stage = providing_stage(package)
        if version is not None and stage is not None:
            pins.append(StagePin(name=name, version=version, stage=stage))
            continue
        if version is None or not isinstance(file, (PackageWheel, PackageArchive)):
            problem = f"{name} is neither a wheel nor provided by a stage"
            raise InvalidLockError(subject=subject, problem=problem)
        if "sha256" not in file.hashes:
            raise InvalidLockError(subject=subject, problem=f"{name} has no sha256")
        sha256 = file.hashes["sha256"]
        pins.append(IndexPin(name=name, version=version, sha256=sha256))
    return tuple(sorted(pins, key=lambda pin: pin.name))


def dump_lock(lock: Lock) -> str:
    """Return the text of a lock file; equal locks have equal texts."""
    return _HEADER + tomli_w.dumps(write_document(lock))


def write_document(lock: Lock) -> dict[str, Any]:
    """Return the document of a lock file."""
    table: dict[str, Any] = {
        "format": FORMAT,
        "inputs": lock.inputs,
        "series": lock.series,
        **lock.dates,
    }
    if lock.declared:
        table["declared"] = {**lock.declared}
    if lock.outputs:
        table["outputs"] = [_output_table(output) for output in lock.outputs]
    return {**to_document(lock.pylock), "tool": {TOOL: table}}


def load_lock(text: str, *, name: str) -> Lock:
    """Read a lock file.

    Raises:
        InvalidLockError: The text is not TOML, not PEP 751, or lacks our table.
        BuildStagesError: A newer version wrote the file.
    """
    try:
        document = toml.loads(text)
    except ValueError as error:
        raise _unreadable(name, error) from error
    return read_document(document, name=name)


def read_document(document: Mapping[str, Any], *, name: str) -> Lock:
    """Read the document of a lock file.

    Raises:
        InvalidLockError: The document isn't PEP 751, or lacks our table.
        BuildStagesError: A newer version wrote the file.
    """
    try:
        table = document["tool"][TOOL]
        refuse_newer_format(file_name(name), table["format"], FORMAT)
        if table["format"] != FORMAT:
            problem = f"has format {table['format']}, and this version reads {FORMAT}"
            raise InvalidLockError(subject=file_name(name), problem=problem)
        return Lock(
            name=name,
            inputs=table["inputs"],
            series=table["series"],
            dates={key: table[key] for key in (ALL, SOME) if key in table},
            declared=table.get("declared", {}),
            pylock=replace(Pylock.from_dict(document), tool=None),
            outputs=tuple(map(_read_output, _list(table, "outputs", dict))),
        )
    except (ValueError, LookupError, TypeError, PylockValidationError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> InvalidLockError:
    problem = f"can't be read: {type(error).__name__}: {error}"
    return InvalidLockError(subject=file_name(name), problem=problem)


def with_series(locks: Iterable[Lock]) -> tuple[Lock, ...]:
    """Return locks with a common series, to be written together.

    The series is a digest of all locks: files with different series are from different
    runs.
    """
    without = [replace(lock, series="") for lock in locks]
    series = _series_of(map(dump_lock, without))
    return tuple(replace(lock, series=series) for lock in without)


def is_series_of(texts: Sequence[str]) -> bool:
    """Whether lock files have the series that ``with_series`` gave them, in order."""
    found = {match[1]: None for text in texts if (match := _SERIES.search(text))}
    without = (_SERIES.sub('series = ""', text, count=1) for text in texts)
    return [*found] == [_series_of(without)]


def _series_of(texts: Iterable[str]) -> str:
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


def digest(value: object) -> str:
    """Return the sha256 of a JSON-like value, whatever the order of its keys."""
    return f"sha256:{digest_json(value, default=str)}"


def _output_table(output: LockedOutput) -> dict[str, Any]:
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
