"""PEP 751 locks: additions to `packaging.pylock`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import tomli_w
from packaging.markers import Marker
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockValidationError,
)
from packaging.specifiers import SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    NormalizedName,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource
from nox_buildstages.reader import Table, UnreadableError, list_of, table, text
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from packaging.tags import Tag

    from nox_buildstages.model import Interpreter, Source
    from nox_buildstages.store.store import StoredWheel

TOOL = "nox-buildstages"
"""The name of our ``[tool]`` tables, and the value of ``created-by``."""


def make_pylock(
    packages: Iterable[Package],
    *,
    environments: Iterable[Marker] | None = None,
    requires_python: SpecifierSet | None = None,
) -> Pylock:
    """Return a lock with packages, sorted by name."""
    return Pylock(
        lock_version=Version("1.0"),
        environments=None if environments is None else list(environments),
        requires_python=requires_python,
        created_by=TOOL,
        packages=sorted(packages, key=lambda package: package.name),
    )


def read_pylock(document: Mapping[str, Any]) -> Pylock:
    """Return the lock of a document, without the tables of tools at its end.

    Raises:
        UnreadableError: The document isn't a lock (PEP 751).
    """
    try:
        pylock = Pylock.from_dict(document)
    except PylockValidationError as error:
        raise UnreadableError(str(error)) from error
    packages = Table({"packages": [*pylock.packages]})
    packages.get("packages", list_of(_check_package))
    return replace(pylock, tool=None)


def _check_package(package: Package) -> None:
    """Check what PEP 751 leaves open: our own table, and the names of files."""
    if package.tool is not None:
        Table(package.tool).get(TOOL, table(lambda it: it.get("stage", text)), None)
    for wheel in package.wheels or ():
        parse_wheel_filename(wheel.filename)
    for file in (package.archive, package.sdist, *(package.wheels or ())):
        urlsplit((file and file.url) or "")


def dump_pylock(pylock: Pylock) -> str:
    """Return the text of a lock."""
    return tomli_w.dumps(to_document(pylock))


def to_document(pylock: Pylock) -> dict[str, Any]:
    """Return what ``Pylock.to_dict`` returns, without its copy of every text."""
    document: dict[str, Any] = _to_toml(pylock)
    return document


def _to_toml(value: Any) -> Any:  # noqa: ANN401 - a part of a lock
    if isinstance(value, (str, Mapping)):
        return value
    if isinstance(value, (Version, Marker, SpecifierSet)):
        return str(value)
    if isinstance(value, Sequence):
        return [*map(_to_toml, value)]
    if is_dataclass(value):
        parts = ((name, getattr(value, name)) for name in value.__dataclass_fields__)
        return {
            name.replace("_", "-"): _to_toml(part)
            for name, part in parts
            if part is not None
        }
    return value


def stage_package(
    name: NormalizedName, version: Version, source: Source, *, stage: str
) -> Package:
    """Return the entry for the wheel of a stage.

    The entry names the stage, for nox-buildstages, and the source with paths relative
    to the lock file, for other installers.
    """
    if isinstance(source, DirectorySource):
        directory = PackageDirectory(path=source.path, subdirectory=source.subdirectory)
        fields: dict[str, Any] = {"directory": directory}
    elif isinstance(source, GitSource):
        vcs = PackageVcs(
            type="git",
            url=source.url,
            commit_id=source.commit,
            subdirectory=source.subdirectory,
            requested_revision=source.revision,
        )
        fields = {"vcs": vcs}
    else:
        is_remote = "://" in source.location
        file: dict[str, Any] = {
            "url": source.location if is_remote else None,
            "path": None if is_remote else source.location,
            "hashes": {"sha256": source.sha256},
        }
        if source.subdirectory is None and sdist_version(name, source) == version:
            fields = {"sdist": PackageSdist(**file)}
        else:
            archive = PackageArchive(**file, subdirectory=source.subdirectory)
            fields = {"archive": archive}
    tool = {TOOL: {"stage": stage}}
    return Package(name=name, version=version, tool=tool, **fields)


def providing_stage(package: Package) -> str | None:
    """Return the stage of a package; None for a package of an index."""
    stage = (package.tool or {}).get(TOOL, {}).get("stage")
    return None if stage is None else str(stage)


def source_of(package: Package) -> Source | None:
    """Return the source of a package; None if the entry has wheels only."""
    if package.directory is not None:
        return DirectorySource(
            path=package.directory.path, subdirectory=package.directory.subdirectory
        )
    if package.vcs is not None:
        return GitSource(
            url=package.vcs.url or package.vcs.path or "",
            commit=package.vcs.commit_id,
            subdirectory=package.vcs.subdirectory,
            revision=package.vcs.requested_revision,
        )
    archive = package.archive or package.sdist
    if archive is None:
        return None
    return ArchiveSource(
        location=archive.url or archive.path or "",
        sha256=archive.hashes.get("sha256", ""),
        subdirectory=getattr(archive, "subdirectory", None),
    )


def sdist_version(name: NormalizedName, source: Source) -> Version | None:
    """Return the version in the file name of a project's sdist, if any."""
    if not isinstance(source, ArchiveSource):
        return None
    file_name = source.location.rpartition("/")[2].partition("#")[0]
    try:
        project, version = parse_sdist_filename(file_name)
    except InvalidSdistFilename:
        return None
    return version if project == name else None


@lru_cache(maxsize=8)
def _rank_tags(interpreter: Interpreter) -> dict[Tag, int]:
    """Return the accepted tags with their ranks; a thousand tags for each lock."""
    return {tag: rank for rank, tag in enumerate(dict.fromkeys(interpreter.tags))}


def select_packages(
    pylock: Pylock, interpreter: Interpreter
) -> Iterator[tuple[Package, object]]:
    """Yield the packages of a lock for an interpreter, with their files.

    Raises:
        PylockSelectError: The lock is not for the interpreter.
    """
    # packaging compares each tag with each wheel: most interpreters accept a thousand.
    ranks = _rank_tags(interpreter)
    wheels = (wheel for package in pylock.packages for wheel in package.wheels or ())
    tags = {tag for it in wheels for tag in parse_wheel_filename(it.filename)[3]}
    accepted = sorted(tags & ranks.keys(), key=ranks.__getitem__)
    return pylock.select(environment=interpreter.markers, tags=accepted)


def select_index_packages(
    pylock: Pylock, interpreter: Interpreter
) -> Iterator[tuple[Package, PackageArchive | PackageWheel]]:
    """Yield the packages of a lock from indexes, with their wheels.

    Raises:
        PylockSelectError: The lock is not for the interpreter.
    """
    for package, file in select_packages(pylock, interpreter):
        if providing_stage(package) is None and isinstance(
            file, (PackageArchive, PackageWheel)
        ):
            yield package, file


def restrict_to(pylock: Pylock, interpreter: Interpreter) -> Pylock:
    """Return a lock with the wheels for an interpreter only.

    uv resolved the lock for the interpreter's platform and minor version only, so the
    result says so (``requires-python`` and ``environments``).
    """
    tags = _rank_tags(interpreter).keys()
    packages = []
    for package in pylock.packages:
        if package.wheels:
            accepted = [
                wheel
                for wheel in package.wheels
                if not tags.isdisjoint(parse_wheel_filename(wheel.filename)[3])
            ]
            packages.append(
                Package(
                    name=package.name,
                    version=package.version,
                    requires_python=package.requires_python,
                    index=package.index,
                    wheels=accepted or package.wheels,
                )
            )
        else:
            packages.append(package)
    return make_pylock(
        packages,
        environments=[Marker(interpreter.kind)],
        requires_python=SpecifierSet(interpreter.requires_python),
    )


def with_local_paths(pylock: Pylock, root: PurePath) -> Pylock:
    """Return a lock with relative paths in place of ``file:`` URLs in a folder."""
    packages = []
    for package in pylock.packages:
        wheels = []
        for wheel in package.wheels or ():
            path = path_within(wheel.url or "", root)
            wheels.append(
                wheel if path is None else replace(wheel, url=None, path=path)
            )
        is_local = path_within(package.index or "", root) is not None
        index = None if is_local else package.index
        packages.append(replace(package, index=index, wheels=wheels or None))
    return replace(pylock, packages=packages)


def path_within(location: str, root: PurePath) -> str | None:
    """Return the path of a ``file:`` URL in a folder; None for any other location."""
    url = urlsplit(location)
    path = PurePosixPath(unquote(url.path))
    if url.scheme != "file" or not path.is_relative_to(root.as_posix()):
        return None
    return path.relative_to(root.as_posix()).as_posix()


def move_paths(
    pylock: Pylock, move: Callable[[str], str], *, is_bound: bool = False
) -> Pylock:
    """Return a lock with other paths of files.

    Unless the packages of stages are wheels (see ``bind_wheels``), the paths of their
    sources stay.
    """
    packages = []
    for package in pylock.packages:
        if is_bound or providing_stage(package) is None:
            archive = package.archive
            if archive is not None and archive.path is not None:
                archive = replace(archive, path=move(archive.path))
            wheels = [
                it if it.path is None else replace(it, path=move(it.path))
                for it in package.wheels or ()
            ]
            packages.append(replace(package, archive=archive, wheels=wheels or None))
        else:
            packages.append(package)
    return replace(pylock, packages=packages)


def without_stage_packages(pylock: Pylock) -> Pylock:
    """Return a lock without the packages that stages provide."""
    packages = [it for it in pylock.packages if providing_stage(it) is None]
    return replace(pylock, packages=packages)


def replace_with_wheels(
    pylock: Pylock, wheels: Mapping[NormalizedName, PackageWheel]
) -> Pylock:
    """Return a lock with wheels at paths in place of packages of indexes."""
    packages = (
        replace(package, index=None, archive=None, wheels=[wheels[package.name]])
        if package.name in wheels
        else package
        for package in pylock.packages
    )
    return replace(pylock, packages=[*packages])


def bind_wheels(
    pylock: Pylock, wheels: Mapping[NormalizedName, StoredWheel], *, folder: Path
) -> Pylock:
    """Return a lock in which the packages of stages are wheels at paths.

    Paths in the folder are relative (PEP 751 ``packages.wheels.path``).
    """
    packages = []
    for package in pylock.packages:
        if providing_stage(package) is None:
            packages.append(package)
            continue
        wheel = wheels[package.name]
        path = wheel.path
        if path.is_relative_to(folder):
            path = path.relative_to(folder)
        file = PackageWheel(
            name=path.name,
            path=path.as_posix(),
            size=wheel.size,
            hashes={"sha256": wheel.sha256},
        )
        packages.append(
            Package(
                name=package.name,
                version=wheel.version,
                marker=package.marker,
                wheels=[file],
                tool=package.tool,
            )
        )
    return replace(pylock, packages=packages)
