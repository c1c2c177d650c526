"""Lock files: PEP 751 with our facts under ``[tool.nox-buildstages]``.

A stage's file lists what its environment holds; under ``outputs`` stands what is
built in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import tomli_w
from packaging.markers import Marker
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)
from packaging.utils import NormalizedName
from packaging.version import Version

from nox_buildstages import toml
from nox_buildstages.errors import InvalidLockError
from nox_buildstages.indexes.logins import strip_logins
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.lock.files.pylock import TOOL, provider, select
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource, Metadata
from nox_buildstages.store.key import digest_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nox_buildstages.model import Interpreter, Source

_T = TypeVar("_T")

FORMAT = 1
"""Of the table ``[tool.nox-buildstages]``; a lock of another one is stale."""

_KINDS: dict[type, str] = {str: "strings", dict: "tables"}

_HEADER = "# Made by nox-buildstages; `nox -s build-stages-lock` makes it anew.\n\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedOutput:
    """An output as its stage's lock pins it.

    Attributes:
        name: Of the project.
        source: What it is built from.
        build_requires: PEP 508 strings that its build asked for, sorted.
        metadata: What its wheel will say.
        marker: For which targets that is so; None for all of the lock's.
        asked: Where its backend was asked, as markers; elsewhere the same is taken for
            granted. Empty where it was asked wherever it had to be.
    """

    name: NormalizedName
    source: Source
    build_requires: tuple[str, ...]
    metadata: Metadata
    marker: Marker | None = None
    asked: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """One lock file.

    Attributes:
        name: Of the stage, or ``final``.
        inputs: The digest of all that the locks were made from.
        series: One for all files that were written together.
        pylock: What the environment holds.
        outputs: What is built in it; none for ``final``.
    """

    name: str
    inputs: str
    series: str = ""
    pylock: Pylock
    outputs: tuple[LockedOutput, ...] = ()

    def __hash__(self) -> int:
        return hash((self.name, self.series))


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexPin:
    """A wheel from an index, a URL or a folder, by hash."""

    name: NormalizedName
    version: Version
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePin:
    """The wheel that a stage provides, whichever bytes it comes to have."""

    name: NormalizedName
    version: Version
    stage: str


Pin: TypeAlias = IndexPin | StagePin


@lru_cache(maxsize=1024)
def pins(lock: Lock, interpreter: Interpreter) -> tuple[Pin, ...]:
    """Return what a lock's environment holds for an interpreter, sorted by name.

    Raises:
        InvalidLockError: The lock is not for this interpreter.
    """
    try:
        selected = select(lock.pylock, interpreter)
        found = [_pin(package, artifact) for package, artifact in selected]
    except PylockSelectError as error:
        raise InvalidLockError(
            subject=file_name(lock.name), problem=str(error)
        ) from error
    return tuple(sorted(found, key=lambda pin: pin.name))


def dumps(lock: Lock) -> str:
    """Return a lock as the text of its file; equal locks give equal text."""
    table: dict[str, Any] = {
        "format": FORMAT,
        "inputs": lock.inputs,
        "series": lock.series,
    }
    if lock.outputs:
        table["outputs"] = [_output_table(output) for output in lock.outputs]
    document = {**lock.pylock.to_dict(), "tool": {TOOL: table}}
    return _HEADER + tomli_w.dumps(document)


def loads(text: str, *, name: str) -> Lock:
    """Read a lock file.

    Raises:
        InvalidLockError: It is not TOML, not PEP 751, or not one of ours.
    """
    try:
        document = toml.loads(text)
        table = document["tool"][TOOL]
        if table["format"] != FORMAT:
            problem = f"has format {table['format']}, and this version reads {FORMAT}"
            raise InvalidLockError(subject=file_name(name), problem=problem)
        return Lock(
            name=name,
            inputs=table["inputs"],
            series=table["series"],
            pylock=replace(Pylock.from_dict(document), tool=None),
            outputs=tuple(map(_read_output, _list(table, "outputs", dict))),
        )
    except (ValueError, LookupError, TypeError, PylockValidationError) as error:
        problem = f"can't be read: {type(error).__name__}: {error}"
        raise InvalidLockError(subject=file_name(name), problem=problem) from error


def numbered(locks: Iterable[Lock]) -> tuple[Lock, ...]:
    """Give locks that are written together the digest of them all.

    Files of different series were not written by one run, whatever they say.
    """
    unnumbered = [replace(lock, series="") for lock in locks]
    text = "".join(map(dumps, unnumbered))
    series = hashlib.sha256(text.encode()).hexdigest()[:16]
    return tuple(replace(lock, series=series) for lock in unnumbered)


def digest(value: object) -> str:
    """Return the sha256 of a JSON-like value, whatever the order of its keys."""
    return f"sha256:{digest_json(value, default=str)}"


def _pin(package: Package, artifact: object) -> Pin:
    stage = provider(package)
    version = package.version
    if stage is not None and version is not None:
        return StagePin(name=package.name, version=version, stage=stage)
    if version is None or not isinstance(artifact, (PackageWheel, PackageArchive)):
        msg = f"{package.name} is neither a wheel nor provided by a stage"
        raise PylockSelectError(msg)
    if "sha256" not in artifact.hashes:
        msg = f"{package.name} has no sha256"
        raise PylockSelectError(msg)
    return IndexPin(
        name=package.name, version=version, sha256=artifact.hashes["sha256"]
    )


def _output_table(output: LockedOutput) -> dict[str, Any]:
    metadata = output.metadata
    table: dict[str, Any] = {
        "name": output.name,
        "version": str(metadata.version),
        "source": _source_table(output.source),
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
    return LockedOutput(
        name=NormalizedName(table["name"]),
        source=_read_source(table["source"]),
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
    """Return a list of values of one type, an empty one where it may be left out."""
    value = table.get(key, []) if optional else table[key]
    if not isinstance(value, list) or not all(isinstance(it, kind) for it in value):
        raise TypeError(f"{key!r} is no list of {_KINDS[kind]}")
    return tuple(value)


def _source_table(source: Source) -> dict[str, str]:
    if isinstance(source, DirectorySource):
        return {"directory": source.path}
    if isinstance(source, GitSource):
        table = {"git": source.url, "commit": source.commit}
        if source.revision is not None:
            table["revision"] = source.revision
    else:
        kind = "url" if "://" in source.location else "path"
        table = {kind: source.location, "sha256": source.sha256}
    if source.subdirectory is not None:
        table["subdirectory"] = source.subdirectory
    return table


def _read_source(table: Mapping[str, str]) -> Source:
    if "directory" in table:
        return DirectorySource(path=table["directory"])
    subdirectory = table.get("subdirectory")
    if "git" in table:
        return GitSource(
            url=table["git"],
            commit=table["commit"],
            subdirectory=subdirectory,
            revision=table.get("revision"),
        )
    return ArchiveSource(
        location=table["url"] if "url" in table else table["path"],
        sha256=table["sha256"],
        subdirectory=subdirectory,
    )
