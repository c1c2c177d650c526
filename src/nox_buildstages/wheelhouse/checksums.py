"""Write and withdraw the files of a published folder: index and checksums."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from nox_buildstages.system.files import read_text, remove_if_same, write_if_changed
from nox_buildstages.wheelhouse.index import IndexEntry, index_pages
from nox_buildstages.wheels import core_metadata
from nox_buildstages.wheels.wheel import read_metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

SUMS = "SHA256SUMS"  # how the next release knows the files of this release
INDEX = "simple"
PROVENANCE = "provenance.jsonl"
SBOM = "sbom.cdx.json"
DESCRIPTION = "-variants.json"  # after NAME-VERSION

_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<name>[^/\\]+)")
_OURS = (".whl", ".whl.metadata", PROVENANCE, SBOM, DESCRIPTION)


def read_index_entry(path: Path, sha256: str) -> IndexEntry:
    """Read the index entry of a wheel with a known hash, or raise a WheelError."""
    project, version, _, _ = parse_wheel_filename(path.name)
    metadata = read_metadata(path)
    return IndexEntry(
        name=project,
        version=version,
        filename=path.name,
        sha256=sha256,
        size=path.stat().st_size,
        requires_python=core_metadata.parse_requires_python(metadata),
        metadata=metadata,
    )


def index_files(wheels: Collection[IndexEntry]) -> dict[str, bytes]:
    """Return the pages of the index and the METADATA file of each wheel, by path."""
    pages = index_pages(wheels)
    return {
        **{f"{it.filename}.metadata": it.metadata for it in wheels if it.metadata},
        **{f"{INDEX}/{path}": pages[path].encode() for path in pages},
    }


def write_release(
    folder: Path, files: Mapping[str, bytes], others: Mapping[str, str]
) -> None:
    """Write changed files, remove files of the former release, and write the sums.

    The sums list the files, and other published files by their sha256.
    """
    before = read_sums(folder)
    for name, content in files.items():
        write_if_changed(folder / name, content)
    own = {name: files[name] for name in files if "/" not in name}
    sums = {**others, **{it: hashlib.sha256(own[it]).hexdigest() for it in own}}
    for name in before.keys() - sums.keys():
        if name.endswith(_OURS):
            remove_if_same(folder / name, before[name])
    _remove_pages(folder / INDEX, files.keys())
    write_sums(folder, sums)


def withdraw_release(folder: Path) -> None:
    """Remove the files of a release, except for the wheels."""
    for name, sha256 in read_sums(folder).items():
        if name.endswith(_OURS) and not name.endswith(".whl"):
            remove_if_same(folder / name, sha256)
    pages = folder / INDEX
    _remove_pages(pages, ())
    for path in (pages / "index.html", pages / "index.json", folder / SUMS):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # the folder is missing, or holds files of the user
        pages.rmdir()


def read_sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of the former release, by name."""
    with suppress(OSError, UnicodeDecodeError):
        lines = read_text(folder / SUMS).splitlines()
        matches = filter(None, map(_SUM.fullmatch, lines))
        return {found["name"]: found["sha256"] for found in matches}
    return {}


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write the sha256 of each file of a release."""
    text = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    write_if_changed(folder / SUMS, text.encode())


def _remove_pages(folder: Path, files: Iterable[str]) -> None:
    """Remove the pages of projects that left the index."""
    kept = {folder.parent / name for name in files}
    found = (*folder.glob("*/index.html"), *folder.glob("*/index.json"))
    for page in {*found} - kept:
        page.unlink()
        with suppress(OSError):  # the folder holds the other page, or a user's file
            page.parent.rmdir()
