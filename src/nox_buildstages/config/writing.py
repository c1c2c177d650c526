"""The only writer of TOML: tables for messages and for a pyproject.toml."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import tomli_w

from nox_buildstages.config.table import TOOL
from nox_buildstages.reader import location_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from packaging.requirements import Requirement

WIDTH = 88


def format_value(value: object) -> str:
    """Return a value as TOML on one line."""
    if isinstance(value, Mapping):
        pairs = (
            f"{location_of((key,))} = {format_value(inner)}"
            for key, inner in value.items()
        )
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return f"[{', '.join(map(format_value, value))}]"
    return tomli_w.dumps({"_": value}).removeprefix("_ = ").rstrip("\n")


def assignment(key: str, value: object) -> Iterator[str]:
    """Yield the lines of an assignment: one, or several for a long list."""
    line = f"{key} = {format_value(value)}"
    if len(line) <= WIDTH or not isinstance(value, (list, tuple)):
        yield line
    else:
        yield from tomli_w.dumps({key: value}).splitlines()


def stage_table(
    name: str, outputs: Iterable[str], dependencies: Iterable[str] = ()
) -> Iterator[str]:
    """Yield the table of a stage."""
    yield f"[[tool.{TOOL}.stage]]"
    yield from assignment("name", name)
    if wanted := list(dependencies):
        yield from assignment("dependencies", wanted)
    yield from assignment("outputs", list(outputs))


def package_table(name: str, key: str, value: object) -> Iterator[str]:
    """Yield the table of an output's rules, with a single key."""
    yield f"[tool.{TOOL}.package.{name}]"
    yield from assignment(key, value)


def build_requires_table(
    name: str, *, add: Iterable[str], remove: Iterable[str]
) -> Iterator[str]:
    """Yield the table for correcting an output's build requirements."""
    rules = {"add": sorted(add), "remove": sorted(remove)}
    given = {key: names for key, names in rules.items() if names}
    return package_table(name, "build-requires", given)


def format_requirement(requirement: Requirement, root: Path) -> str:
    """Return a requirement in the form of the table, with paths relative to a root."""
    url = urlsplit(requirement.url or "")
    if url.scheme != "file" or unquote(url.path) != url.path:
        return str(requirement)
    path = posixpath.relpath(url.path, root.as_posix())
    relative = path if path.startswith("..") else f"./{path}"
    relative += f"#{url.fragment}" if url.fragment else ""
    return str(requirement).replace(str(requirement.url), relative)


def indent(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a table, indented for a hint."""
    return (f"  {line}" for line in lines)
