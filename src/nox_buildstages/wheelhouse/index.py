"""A static package index: PEP 503 pages in HTML, and PEP 691 pages in JSON."""

from __future__ import annotations

import hashlib
import json
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName
    from packaging.version import Version

API_VERSION = "1.1"
"""The version of the simple repository API (PEP 629), with PEP 700's fields."""


class IndexEntry(Value):
    """A wheel in an index, which is a folder beside the wheel; or another file."""

    name: NormalizedName
    version: Version
    filename: str
    sha256: str
    size: int  # in bytes
    requires_python: str | None
    metadata: bytes | None = field(repr=False)  # published beside a wheel (PEP 658)

    @property
    def url(self) -> str:
        """The URL of the wheel, relative to the page of its project."""
        return f"../../{quote(self.filename)}"

    @property
    def metadata_sha256(self) -> str:
        """The hash of METADATA, in hex; empty if there is none."""
        return hashlib.sha256(self.metadata).hexdigest() if self.metadata else ""


def index_pages(wheels: Iterable[IndexEntry]) -> dict[str, str]:
    """Return the text of every page of an index, by path.

    All links are relative, so that the index can be moved together with the wheels.
    """
    ordered = sorted(wheels, key=lambda wheel: (wheel.name, wheel.filename))
    projects = {
        name: [*found] for name, found in groupby(ordered, lambda wheel: wheel.name)
    }
    links = [f'<a href="{name}/">{name}</a>' for name in projects]
    names = [{"name": name} for name in projects]
    pages = {
        "index.html": _html_page("Simple index", links),
        "index.json": _json_page({"projects": names}),
    }
    for name, files in projects.items():
        versions = sorted({wheel.version for wheel in files})
        project = {
            "name": name,
            "versions": [str(version) for version in versions],
            "files": [_json_file(wheel) for wheel in files],
        }
        links = [_html_link(wheel) for wheel in files]
        pages[f"{name}/index.html"] = _html_page(f"Links for {name}", links)
        pages[f"{name}/index.json"] = _json_page(project)
    return pages


def _html_page(title: str, links: Iterable[str]) -> str:
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


def _html_link(wheel: IndexEntry) -> str:
    """Return the link to a wheel with the attributes of PEP 503 and PEP 658."""
    digest = wheel.metadata and f"sha256={wheel.metadata_sha256}"
    attributes = {
        "href": f"{wheel.url}#sha256={wheel.sha256}",
        "data-requires-python": wheel.requires_python,
        "data-core-metadata": digest,
        "data-dist-info-metadata": digest,  # the name for older installers (PEP 714)
    }
    text = " ".join(
        f'{name}="{escape(value)}"' for name, value in attributes.items() if value
    )
    return f"<a {text}>{escape(wheel.filename)}</a>"


def _json_page(document: dict[str, Any]) -> str:
    meta = {"meta": {"api-version": API_VERSION}}
    return json.dumps({**meta, **document}, indent=1) + "\n"


def _json_file(wheel: IndexEntry) -> dict[str, Any]:
    """Return the description of a wheel with the fields of PEP 691 and PEP 700."""
    entry: dict[str, Any] = {
        "filename": wheel.filename,
        "url": wheel.url,
        "hashes": {"sha256": wheel.sha256},
        "size": wheel.size,
        **(
            {"core-metadata": {"sha256": wheel.metadata_sha256}}
            if wheel.metadata
            else {}
        ),
        "yanked": False,
    }
    if wheel.requires_python is not None:
        entry["requires-python"] = wheel.requires_python
    return entry
