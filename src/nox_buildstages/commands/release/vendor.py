"""The runtime's wheels that no stage builds, brought into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.pylock import PackageWheel

from nox_buildstages.lock.files import pylock
from nox_buildstages.model import FINAL, ArchiveSource
from nox_buildstages.sources.sources import fetch_archive
from nox_buildstages.system.files import remove_tree, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from packaging.pylock import PackageArchive
    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext, Tools


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexWheel:
    """A wheel from elsewhere, as the final lock has it.

    Attributes:
        name: Of the project.
        filename: Of the wheel.
        source: Where it is, and its hash.
    """

    name: NormalizedName
    filename: str
    source: ArchiveSource


def from_indexes(context: BuildContext) -> Iterator[IndexWheel]:
    """Yield the runtime's wheels from indexes, URLs and folders."""
    for package, artifact in pylock.select_index_packages(
        context.pylock(FINAL), context.interpreter
    ):
        source = ArchiveSource(
            location=artifact.url or artifact.path or "",
            sha256=artifact.hashes["sha256"],
        )
        yield IndexWheel(name=package.name, filename=_filename(artifact), source=source)


def brought(wheel: IndexWheel, tools: Tools, folder: Path) -> PackageWheel:
    """Return a wheel as a lock in a folder names it, which is there then.

    Raises:
        SourceError: It can't be had.
        HashMismatchError: It isn't the one that was locked.
    """
    path = folder / wheel.filename
    if not path.is_file() or sha256_of(path) != wheel.source.sha256:
        tools.report(f"fetching {wheel.filename}")
        _fetch(wheel.source, tools, path)
    return PackageWheel(
        name=path.name,
        path=path.name,
        size=path.stat().st_size,
        hashes={"sha256": wheel.source.sha256},
    )


def _fetch(source: ArchiveSource, tools: Tools, path: Path) -> None:
    """Write a wheel; what is left of it where we are killed is in the way of none."""
    url = tools.sources.absolute_url(source.location)
    folder = path.parent / ".fetching"
    folder.mkdir(exist_ok=True)
    try:
        file = folder / path.name
        fetch_archive(source, url, file, tools.sources.credentials.login_for(url))
        file.replace(path)
    finally:
        remove_tree(folder)


def _filename(file: PackageArchive | PackageWheel) -> str:
    if isinstance(file, PackageWheel):
        return file.filename
    return PurePosixPath(unquote(urlsplit(file.url or file.path or "").path)).name
