"""What a folder of wheels takes to be published: an index, and sums of it all."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from nox_buildstages.system.files import remove_if_same, write_if_changed
from nox_buildstages.wheelhouse.index import IndexedWheel, pages
from nox_buildstages.wheels import core_metadata
from nox_buildstages.wheels.wheel import read_metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

SUMS = "SHA256SUMS"
"""Also tells the next release which files this one has written."""

INDEX = "simple"
PROVENANCE = "provenance.jsonl"
SBOM = "sbom.cdx.json"

_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<name>[^/\\]+)")
_OURS = (".whl", ".whl.metadata", PROVENANCE, SBOM)


def listed(path: Path, sha256: str) -> tuple[IndexedWheel, bytes]:
    """Return a wheel of that hash as an index tells of it, and its METADATA.

    Raises:
        WheelError: It isn't a wheel, or has none.
    """
    project, version, _, _ = parse_wheel_filename(path.name)
    metadata = read_metadata(path)
    wheel = IndexedWheel(
        name=project,
        version=version,
        filename=path.name,
        sha256=sha256,
        size=path.stat().st_size,
        requires_python=core_metadata.parse_requires_python(metadata),
        metadata_sha256=_sha256(metadata),
    )
    return wheel, metadata


def index(wheels: Collection[tuple[IndexedWheel, bytes]]) -> dict[str, bytes]:
    """Return the pages of the index, and the METADATA that lies beside each wheel."""
    found = pages(wheel for wheel, _ in wheels)
    return {
        **{f"{wheel.filename}.metadata": metadata for wheel, metadata in wheels},
        **{f"{INDEX}/{path}": found[path].encode() for path in found},
    }


def write(folder: Path, files: Mapping[str, bytes], others: Mapping[str, str]) -> None:
    """Write what is another than it was, remove what isn't true any more; sums last.

    Args:
        folder: That is published.
        files: By name, what they are to hold.
        others: By name, the sha256 of those that are there already.
    """
    before = read_sums(folder)
    for name, content in files.items():
        write_if_changed(folder / name, content)
    own = {name: files[name] for name in files if "/" not in name}
    sums = {**others, **{name: _sha256(own[name]) for name in own}}
    for name in before.keys() - sums.keys():
        if name.endswith(_OURS):
            remove_if_same(folder / name, before[name])
    _remove_pages(folder / INDEX, files.keys())
    put_sums(folder, sums)


def read_sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a former release, as it says, by name."""
    with suppress(OSError, UnicodeDecodeError):
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        matches = filter(None, map(_SUM.fullmatch, lines))
        return {found["name"]: found["sha256"] for found in matches}
    return {}


def withdraw(folder: Path) -> None:
    """Remove all that a release wrote, but for the wheels."""
    for name, sha256 in read_sums(folder).items():
        if name.endswith(_OURS) and not name.endswith(".whl"):
            remove_if_same(folder / name, sha256)
    pages = folder / INDEX
    _remove_pages(pages, ())
    for path in (pages / "index.html", pages / "index.json", folder / SUMS):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # something of the user's, or there is none
        pages.rmdir()


def put_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write the sums of a folder's files."""
    text = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    write_if_changed(folder / SUMS, text.encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _remove_pages(folder: Path, files: Iterable[str]) -> None:
    """Remove the pages of projects that aren't in the index any more."""
    kept = {folder.parent / name for name in files}
    found = (*folder.glob("*/index.html"), *folder.glob("*/index.json"))
    for page in {*found} - kept:
        page.unlink()
        with suppress(OSError):  # its other page, or something of the user's
            page.parent.rmdir()
