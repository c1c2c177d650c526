"""A static package index: PEP 503 pages, and PEP 691 ones beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName
    from packaging.version import Version

API_VERSION = "1.1"
"""Of the simple repository API (PEP 629): with versions and sizes (PEP 700)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedWheel:
    """A wheel as an index tells of it.

    Attributes:
        name: Of the project.
        version: Of the wheel.
        filename: In the folder above that of the index.
        sha256: Of the file, in hex.
        size: Of the file, in bytes.
        requires_python: A PEP 440 specifier, or None.
        metadata_sha256: Of its METADATA, which lies beside it (PEP 658).
    """

    name: NormalizedName
    version: Version
    filename: str
    sha256: str
    size: int
    requires_python: str | None
    metadata_sha256: str


def pages(wheels: Iterable[IndexedWheel]) -> dict[str, str]:
    """Return the text of every page of an index, by path.

    All links are relative, so that it may lie anywhere together with the wheels.
    """
    ordered = sorted(wheels, key=lambda wheel: (wheel.name, wheel.filename))
    projects = {
        name: [*found] for name, found in groupby(ordered, lambda wheel: wheel.name)
    }
    found = {
        "index.html": _html("Simple index", map(_project_link, projects)),
        "index.json": _json({"projects": [{"name": name} for name in projects]}),
    }
    for name, files in projects.items():
        links = map(_file_link, files)
        found[f"{name}/index.html"] = _html(f"Links for {name}", links)
        found[f"{name}/index.json"] = _json(_project(name, files))
    return found


def _url(wheel: IndexedWheel) -> str:
    return f"../../{quote(wheel.filename)}"


def _html(title: str, links: Iterable[str]) -> str:
    lines = (
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta name="pypi:repository-version" content="{API_VERSION}">',
        f"<title>{title}</title>",
        "</head>",
        "<body>",
        *(f"{link}<br>" for link in links),
        "</body>",
        "</html>",
    )
    return "\n".join(lines) + "\n"


def _project_link(name: str) -> str:
    return f'<a href="{name}/">{name}</a>'


def _file_link(wheel: IndexedWheel) -> str:
    digest = f"sha256={wheel.metadata_sha256}"
    attributes = {
        "href": f"{_url(wheel)}#sha256={wheel.sha256}",
        "data-requires-python": wheel.requires_python,
        "data-core-metadata": digest,
        "data-dist-info-metadata": digest,  # as older installers know it (PEP 714)
    }
    written = " ".join(
        f'{name}="{escape(value)}"' for name, value in attributes.items() if value
    )
    return f"<a {written}>{escape(wheel.filename)}</a>"


def _json(document: dict[str, Any]) -> str:
    meta = {"meta": {"api-version": API_VERSION}}
    return json.dumps({**meta, **document}, indent=1) + "\n"


def _project(name: str, wheels: list[IndexedWheel]) -> dict[str, Any]:
    versions = sorted({wheel.version for wheel in wheels})
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "files": [_file(wheel) for wheel in wheels],
    }


def _file(wheel: IndexedWheel) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "filename": wheel.filename,
        "url": _url(wheel),
        "hashes": {"sha256": wheel.sha256},
        "size": wheel.size,
        "core-metadata": {"sha256": wheel.metadata_sha256},
        "yanked": False,
    }
    if wheel.requires_python is not None:
        entry["requires-python"] = wheel.requires_python
    return entry
