"""The declarations of a tool's tables or files, as PEP 508 requirements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nox_buildstages.value import Value, field

REQUIREMENTS_KEY = "requirements in [tool.nox-buildstages.final]"
"""The place for a requirement that isn't read."""


class Declared(Value):
    """Requirements as another tool declares them; paths are relative to the project."""

    origin: str  # such as [tool.poetry]
    requirements: tuple[str, ...] = ()
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """A line for each declaration that isn't read, with what to write."""


def as_table(value: object) -> Mapping[str, Any]:
    """Return a table of another tool; an empty one if it has another form."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: object) -> Sequence[Any]:
    """Return a list of another tool; an empty one if it has another form."""
    return value if isinstance(value, list) else ()


def as_texts(value: object) -> list[str]:
    """Return the strings in a list of another tool."""
    return [it for it in as_list(value) if isinstance(it, str)]


def direct_requirement(
    name: str, table: Mapping[str, Any], *, extras: str = "", marker: str = ""
) -> str | None:
    """Return a requirement for a source in the form of Poetry and pixi, if any.

    A source is a git repository, a path or a URL.
    """
    fragment = table.get("subdirectory")
    if "git" in table:
        keys = ("rev", "tag", "branch")
        revision = next((f"@{table[key]}" for key in keys if key in table), "")
        git = str(table["git"])
        if "://" not in git:  # user@host:path
            host, _, path = git.partition(":")
            git = f"ssh://{host}/{path}"
        url = f"git+{git.removeprefix('git+')}{revision}"
    elif "url" in table:
        url = str(table["url"])
    elif "path" in table or "file" in table:
        path = str(table.get("path", table.get("file")))
        url = path if path.startswith((".", "/")) else f"./{path}"
    else:
        return None
    end = f"#subdirectory={fragment}" if fragment else ""
    condition = f" ; {marker}" if marker else ""
    return f"{name}{extras} @ {url}{end}{condition}"
