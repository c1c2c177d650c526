"""Fetch the runtime's wheels from indexes into the wheelhouse."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.pylock import PackageWheel

from nox_buildstages.lock.files import pylock
from nox_buildstages.model import FINAL, ArchiveSource
from nox_buildstages.system.files import remove_tree
from nox_buildstages.wheelhouse import checksums
from nox_buildstages.wheelhouse.directory import has_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext


def vendor_wheels(
    context: BuildContext, folder: Path
) -> dict[NormalizedName, PackageWheel]:
    """Fetch the runtime's wheels from indexes, URLs and folders into one folder.

    The returned wheels are as a lock in that folder names them, by project.

    Raises:
        SourceError: A wheel isn't available.
        HashMismatchError: A wheel isn't the locked file.
    """
    sources, scratch = context.tools.sources, folder / ".fetching"
    wanted: dict[NormalizedName, tuple[Path, ArchiveSource]] = {}
    for package, artifact in pylock.select_index_packages(
        context.pylock(FINAL), context.interpreter
    ):
        location = artifact.url or artifact.path or ""
        name = (
            artifact.filename
            if isinstance(artifact, PackageWheel)
            else PurePosixPath(unquote(urlsplit(location).path)).name
        )
        source = ArchiveSource(location=location, sha256=artifact.hashes["sha256"])
        wanted[package.name] = (folder / name, source)
    # The sums are written first, so that the files of an interrupted release are known.
    sums = {path.name: source.sha256 for path, source in wanted.values()}
    checksums.write_sums(folder, {**checksums.read_sums(folder), **sums})
    found = {}
    for name, (path, source) in wanted.items():
        if not has_sha256(path, source.sha256):
            context.tools.run.report(f"fetching {path.name}")
            scratch.mkdir(exist_ok=True)
            try:
                new = scratch / path.name
                sources.fetch_archive(source, new)
                new.replace(path)
            finally:
                remove_tree(scratch)
        found[name] = PackageWheel(
            name=path.name,
            path=path.name,
            size=path.stat().st_size,
            hashes={"sha256": source.sha256},
        )
    return found
