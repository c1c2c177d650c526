"""What we do with PEP 751 locks beyond `packaging.pylock`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
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
)
from packaging.specifiers import SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path, PurePath

    from packaging.tags import Tag
    from packaging.utils import NormalizedName

    from nox_buildstages.model import Interpreter, Source
    from nox_buildstages.store.store import StoredWheel

File = TypeVar("File", PackageArchive, PackageWheel)

TOOL = "nox-buildstages"
"""Of the tables that are ours, and what made the lock."""


def make(
    packages: Iterable[Package],
    *,
    environments: Iterable[Marker] | None = None,
    requires_python: SpecifierSet | None = None,
) -> Pylock:
    """Return a lock of ours, its packages sorted by name."""
    return Pylock(
        lock_version=Version("1.0"),
        environments=None if environments is None else list(environments),
        requires_python=requires_python,
        created_by=TOOL,
        packages=sorted(packages, key=lambda package: package.name),
    )


def provided(
    name: NormalizedName, version: Version, source: Source, *, stage: str
) -> Package:
    """Return the entry of a package that a stage provides.

    It names the source, its paths relative to the lock file, so that any installer
    can make something of it; and the stage, whose wheel we take instead.
    """
    return Package(
        name=name,
        version=version,
        tool={TOOL: {"stage": stage}},
        **_source_fields(name, version, source),
    )


def provider(package: Package) -> str | None:
    """Return the stage that provides a package; None where an index does."""
    stage = (package.tool or {}).get(TOOL, {}).get("stage")
    return None if stage is None else str(stage)


def source(package: Package) -> Source | None:
    """Return the source that an entry names; None where it has wheels only."""
    if package.directory is not None:
        return DirectorySource(path=package.directory.path)
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
        sha256=archive.hashes["sha256"],
        subdirectory=getattr(archive, "subdirectory", None),
    )


def sdist_version(name: NormalizedName, source: Source) -> Version | None:
    """Return the version that the file name of a project's sdist says, if it is one."""
    if not isinstance(source, ArchiveSource):
        return None
    file_name = source.location.rpartition("/")[2].partition("#")[0]
    try:
        project, version = parse_sdist_filename(file_name)
    except InvalidSdistFilename:
        return None
    return version if project == name else None


def select(
    pylock: Pylock, interpreter: Interpreter
) -> Iterator[tuple[Package, object]]:
    """Yield what a lock installs for an interpreter: packages, each with its artifact.

    Raises:
        PylockSelectError: The lock is not for this interpreter.
    """
    ranks = _ranks(interpreter)
    wheels = (wheel for package in pylock.packages for wheel in package.wheels or ())
    tags = {tag for wheel in wheels for tag in _tags(wheel.filename)}
    fitting = sorted(tags & ranks.keys(), key=ranks.__getitem__)
    return pylock.select(environment=interpreter.markers, tags=fitting)


def indexed(
    pylock: Pylock, interpreter: Interpreter
) -> Iterator[tuple[Package, PackageArchive | PackageWheel]]:
    """Yield what of a lock no stage provides, each package with its wheel.

    Raises:
        PylockSelectError: The lock is not for this interpreter.
    """
    for package, artifact in select(pylock, interpreter):
        if provider(package) is None and isinstance(
            artifact, (PackageArchive, PackageWheel)
        ):
            yield package, artifact


@lru_cache(maxsize=8)
def _ranks(interpreter: Interpreter) -> dict[Tag, int]:
    """Return the tags that an interpreter accepts, each with its place."""
    return {tag: rank for rank, tag in enumerate(dict.fromkeys(interpreter.tags))}


@lru_cache(maxsize=4096)
def _tags(file_name: str) -> frozenset[Tag]:
    """Return the tags of a wheel; the same ones are in many locks."""
    return parse_wheel_filename(file_name)[3]


@lru_cache(maxsize=8)
def _marker(text: str) -> Marker:
    """Return a marker; all locks of an interpreter have the same one."""
    return Marker(text)


def restrict(pylock: Pylock, interpreter: Interpreter) -> Pylock:
    """Return a lock with the wheels an interpreter accepts, and those only.

    It was resolved for that interpreter's platform and minor version alone, so
    it says so (``requires-python`` and ``environments``).
    """
    tags = _ranks(interpreter).keys()

    def restricted(package: Package) -> Package:
        if not package.wheels:
            return package
        fitting = [
            wheel
            for wheel in package.wheels
            if not tags.isdisjoint(_tags(wheel.filename))
        ]
        return Package(
            name=package.name,
            version=package.version,
            requires_python=package.requires_python,
            index=package.index,
            wheels=fitting or package.wheels,
        )

    return make(
        map(restricted, pylock.packages),
        environments=[_marker(interpreter.kind)],
        requires_python=SpecifierSet(interpreter.requires_python),
    )


def localized(pylock: Pylock, root: PurePath) -> Pylock:
    """Return a lock in which wheels in a folder's files are named by path.

    Args:
        pylock: Any.
        root: The folder, absolute, to which the paths are relative. What lies
            elsewhere keeps its URL.
    """

    def here(package: Package) -> Package:
        local = path_within(package.index or "", root) is not None
        return replace(
            package,
            index=None if local else package.index,
            wheels=[_localized(wheel, root) for wheel in package.wheels or ()] or None,
        )

    return replace(pylock, packages=[here(package) for package in pylock.packages])


def path_within(location: str, root: PurePath) -> str | None:
    """Return where in a folder a ``file:`` URL points to; None for elsewhere."""
    url = urlsplit(location)
    path = PurePosixPath(unquote(url.path))
    if url.scheme != "file" or not path.is_relative_to(root.as_posix()):
        return None
    return path.relative_to(root.as_posix()).as_posix()


def _localized(wheel: PackageWheel, root: PurePath) -> PackageWheel:
    path = path_within(wheel.url or "", root)
    return wheel if path is None else replace(wheel, url=None, path=path)


def moved(pylock: Pylock, move: Callable[[str], str]) -> Pylock:
    """Return a lock whose wheels in files are named by other paths.

    Args:
        pylock: Any; what stages provide is left as it is.
        move: From a path to the path that takes its place.
    """
    packages = (
        package if provider(package) is not None else _moved(package, move)
        for package in pylock.packages
    )
    return replace(pylock, packages=[*packages])


def rebased(bound: Pylock, move: Callable[[str], str]) -> Pylock:
    """Return a bound lock whose wheels in files, all of them, are named by other paths.

    Args:
        bound: As ``bind`` makes it.
        move: From a path to the path that takes its place.
    """
    packages = [_moved(package, move) for package in bound.packages]
    return replace(bound, packages=packages)


def _moved(package: Package, move: Callable[[str], str]) -> Package:
    def to(file: File) -> File:
        return file if file.path is None else replace(file, path=move(file.path))

    return replace(
        package,
        archive=None if package.archive is None else to(package.archive),
        wheels=[to(wheel) for wheel in package.wheels or ()] or None,
    )


def at_hand(pylock: Pylock, wheels: Mapping[NormalizedName, PackageWheel]) -> Pylock:
    """Return a lock in which packages from elsewhere are wheels at paths.

    Args:
        pylock: Any.
        wheels: Of packages that no stage provides, as the lock is to name them.
    """
    packages = (
        replace(package, index=None, archive=None, wheels=[wheels[package.name]])
        if package.name in wheels
        else package
        for package in pylock.packages
    )
    return replace(pylock, packages=[*packages])


def bind(
    pylock: Pylock, wheels: Mapping[NormalizedName, StoredWheel], *, folder: Path
) -> Pylock:
    """Return a lock in which each provided package is a wheel at a path.

    Args:
        pylock: With packages that stages provide.
        wheels: Those packages' wheels.
        folder: Where the result will be written; wheels in it are named
            relative to it (PEP 751 ``packages.wheels.path``).
    """

    def bound(package: Package) -> Package:
        if provider(package) is None:
            return package
        wheel = wheels[package.name]
        path = wheel.path
        if path.is_relative_to(folder):
            path = path.relative_to(folder)
        return Package(
            name=package.name,
            version=wheel.version,
            marker=package.marker,
            wheels=[
                PackageWheel(
                    name=path.name,
                    path=path.as_posix(),
                    size=wheel.size,
                    hashes={"sha256": wheel.sha256},
                )
            ],
            tool=package.tool,
        )

    return make(
        map(bound, pylock.packages),
        environments=pylock.environments,
        requires_python=pylock.requires_python,
    )


def dumps(pylock: Pylock) -> str:
    """Return a lock as the text of its file."""
    return tomli_w.dumps(dict(pylock.to_dict()))


def _source_fields(
    name: NormalizedName, version: Version, source: Source
) -> dict[str, Any]:
    if isinstance(source, DirectorySource):
        return {"directory": PackageDirectory(path=source.path)}
    if isinstance(source, GitSource):
        return {
            "vcs": PackageVcs(
                type="git",
                url=source.url,
                commit_id=source.commit,
                subdirectory=source.subdirectory,
                requested_revision=source.revision,
            )
        }
    remote = "://" in source.location
    where: dict[str, Any] = {
        "url": source.location if remote else None,
        "path": None if remote else source.location,
        "hashes": {"sha256": source.sha256},
    }
    if source.subdirectory is None and sdist_version(name, source) == version:
        return {"sdist": PackageSdist(**where)}
    return {"archive": PackageArchive(**where, subdirectory=source.subdirectory)}
