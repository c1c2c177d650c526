"""The shape of uv's settings that are combined here; uv checks the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nox_buildstages.reader import Shape, Table, list_of, mapping_of, table, text

_SOURCE_KEYS = (
    *("extra", "git", "group", "index", "marker", "path", "url"),
    *("rev", "tag", "branch", "subdirectory"),
)


def check_uv(document: Mapping[str, Any]) -> None:
    """Check ``[tool.uv]`` of a document.

    Raises:
        UnreadableError: A value is of another kind than in uv.
    """
    tools = document.get("tool")
    if isinstance(tools, Mapping) and "uv" in tools:
        Table(document).get("tool", table(lambda it: it.get("uv", check_settings)))


def check_settings(settings: object) -> None:
    """Check settings of uv, as they stand in a uv.toml.

    Raises:
        UnreadableError: A value is of another kind than in uv.
    """
    found = Table(settings)
    for key, shape in _SHAPES.items():
        found.get(key, shape, None)


def _check_index(index: Table) -> None:
    index.get("url", text)
    index.get("name", text, None)


def _check_source(source: Table) -> None:
    for key in _SOURCE_KEYS:
        source.get(key, text, None)


def _check_sources(value: object) -> object:
    entry = table(_check_source)
    return list_of(entry)(value) if isinstance(value, list) else entry(value)


_TEXTS = list_of(text)
_SHAPES: Mapping[str, Shape[object]] = {
    "find-links": _TEXTS,
    "extra-index-url": _TEXTS,
    "index-url": text,
    "cache-dir": text,
    "index": list_of(table(_check_index)),
    "constraint-dependencies": list_of(lambda it: it),
    "sources": mapping_of(_check_sources),
    "pip": check_settings,
}
