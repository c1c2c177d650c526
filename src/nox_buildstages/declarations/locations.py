"""Paths in uv's settings, which are relative to the file that has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def with_paths_from(settings: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return uv's settings with the paths below another folder."""
    moved = dict(settings)
    for key in ("find-links", "extra-index-url"):
        if key in moved:
            moved[key] = [locate(entry, root) for entry in moved[key]]
    for key in ("index-url", "cache-dir"):
        if key in moved:
            moved[key] = locate(moved[key], root)
    if "pip" in moved:
        moved["pip"] = with_paths_from(moved["pip"], root)
    if "index" in moved:
        moved["index"] = [
            {**index, "url": locate(index["url"], root)} for index in moved["index"]
        ]
    if "sources" in moved:
        moved["sources"] = {
            name: _locate_source(source, root)
            for name, source in moved["sources"].items()
        }
    return moved


def locate(location: str, root: Path) -> str:
    """Return a URL unchanged, or a path below another folder."""
    return location if _SCHEME.match(location) else str(root / location)


def _locate_source(source: Any, root: Path) -> Any:  # noqa: ANN401 - uv's own schema
    if isinstance(source, list):
        return [_locate_source(entry, root) for entry in source]
    if "path" in source and "git" not in source:
        return {**source, "path": str(root / source["path"])}
    if isinstance(source.get("workspace"), str):
        return {**source, "workspace": str(root / source["workspace"])}
    return source
