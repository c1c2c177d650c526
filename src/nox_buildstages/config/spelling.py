"""What users write in a pyproject.toml, spelled for them: in messages, in files."""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from packaging.requirements import Requirement

    from nox_buildstages.model import Stage

INDENT = "  "
AGAIN = "and run it again"
"""The last line, where it would be one to copy: nox adds a full stop to it."""


def told(lines: Iterable[str]) -> str:
    """Return the text of a message's end, with words in its last line."""
    found = [*lines]
    return "\n".join([*found, AGAIN] if found[-1].startswith(INDENT) else found)


def array(texts: Iterable[str]) -> str:
    """Return an array of strings on one line."""
    return json.dumps(list(texts), ensure_ascii=False)


def as_declared(requirement: Requirement, root: Path) -> str:
    """Return a requirement as one would write it in a table.

    Args:
        requirement: Its URL is absolute where it named a folder or a file.
        root: The project's folder, to which such a URL is written relative.
    """
    url = urlsplit(requirement.url or "")
    if url.scheme != "file" or unquote(url.path) != url.path:
        return str(requirement)
    path = posixpath.relpath(url.path, root.as_posix())
    location = path if path.startswith("..") else f"./{path}"
    return str(requirement).replace(str(requirement.url), location)


def new_stage(name: str, outputs: Iterable[str]) -> Iterator[str]:
    """Yield the table of a stage that isn't there yet."""
    yield f"{INDENT}[[tool.nox-buildstages.stage]]"
    yield f"{INDENT}name = {json.dumps(name)}"
    yield f"{INDENT}outputs = {array(outputs)}"


def stage_like(
    stage: Stage, name: str, outputs: Iterable[str], root: Path
) -> Iterator[str]:
    """Yield the table of a stage that builds only some of what another one does."""
    yield f"{INDENT}[[tool.nox-buildstages.stage]]"
    yield f"{INDENT}name = {json.dumps(name)}"
    if stage.dependencies:
        texts = (as_declared(it, root) for it in stage.dependencies)
        yield f"{INDENT}dependencies = {array(texts)}"
    yield f"{INDENT}outputs = {array(outputs)}"


def package_rules(
    name: str, *, remove: Iterable[str], add: Iterable[str]
) -> Iterator[str]:
    """Yield the table that corrects the build requirements of an output."""
    rules = {"add": sorted(add), "remove": sorted(remove)}
    entries = (f"{key} = {array(names)}" for key, names in rules.items() if names)
    yield f"{INDENT}[tool.nox-buildstages.package.{name}]"
    yield f"{INDENT}build-requires = {{ {', '.join(entries)} }}"


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a name for a stage that no other one has, as near as can be to one."""
    number = 2
    free = name
    while free in taken:
        free = f"{name}-{number}"
        number += 1
    return free
