"""Read ``[tool.poetry]``: dependencies, groups and extras.

https://python-poetry.org/docs/dependency-specification/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from nox_buildstages.declarations.declared import (
    REQUIREMENTS_KEY,
    Declared,
    as_list,
    as_table,
    as_texts,
    direct_requirement,
)

if TYPE_CHECKING:
    from typing import Any

ORIGIN = "[tool.poetry]"

_PART = re.compile(r"\s*(\^|~=|~|===|==|!=|<=|>=|<|>|=)?\s*v?([^\s,]+)\s*,?")


def read_poetry(table: Mapping[str, Any], *, is_pep621: bool) -> Declared:
    """Read the table; ``[project]`` has the dependencies if ``is_pep621``."""
    dependencies = dict(as_table(table.get("dependencies")))
    dependencies.pop("python", None)
    notes = []
    sources = [str(as_table(it).get("name")) for it in as_list(table.get("source"))]
    if sources:
        notes.append(
            f"[[tool.poetry.source]] {', '.join(sources)} isn't read; write"
            " [[tool.uv.index]] with name and url, and [tool.uv.sources] for packages"
            " from it"
        )
    if is_pep621:
        if dependencies:
            notes.append(
                f"[tool.poetry.dependencies] {', '.join(dependencies)} isn't read"
                " beside [project] dependencies; write [tool.uv.sources] for sources"
            )
        dependencies = {}
    groups = {
        name: _read_all(as_table(as_table(group).get("dependencies")), notes)
        for name, group in as_table(table.get("group")).items()
    }
    if "dev-dependencies" in table:
        groups["dev"] = (
            *groups.get("dev", ()),
            *_read_all(as_table(table["dev-dependencies"]), notes),
        )
    needed = {
        name: value
        for name, value in dependencies.items()
        if not (isinstance(value, Mapping) and value.get("optional"))
    }
    extras = {
        name: tuple(
            text
            for entry in as_texts(entries)
            for key in dependencies
            if canonicalize_name(key) == canonicalize_name(re.split(r"[\[ ]", entry)[0])
            for text in _read_all({key: dependencies[key]}, notes)
        )
        for name, entries in as_table(table.get("extras")).items()
    }
    return Declared(
        origin=ORIGIN,
        requirements=_read_all(needed, notes),
        extras={} if is_pep621 else extras,
        groups=groups,
        notes=tuple(dict.fromkeys(notes)),
    )


def _read_all(table: Mapping[str, object], notes: list[str]) -> tuple[str, ...]:
    """Return the requirements of a table; note all other entries."""
    found = []
    for name, value in table.items():
        for entry in value if isinstance(value, list) else [value]:
            try:
                found.append(_requirement(name, entry))
            except ValueError as error:  # noqa: PERF203 - once for each dependency
                line = f"{ORIGIN} {name} isn't read: {error}"
                notes.append(f"{line}; write it in {REQUIREMENTS_KEY}")
    return tuple(found)


def _requirement(name: str, entry: object) -> str:
    table = {"version": entry} if isinstance(entry, str) else as_table(entry)
    if not table:
        raise ValueError("it has no version")
    given = table.get("extras")
    names = ",".join(map(str, given)) if isinstance(given, list) else ""
    extras = f"[{names}]" if names else ""
    markers = [str(table["markers"])] if "markers" in table else []
    if "platform" in table:
        markers.append(f"sys_platform == '{table['platform']}'")
    if "python" in table:
        python = pep440(str(table["python"]))
        for operator, text in re.findall(r"([<>=!~]+)([^,]+)", python):
            minor = ".".join(text.strip().split(".")[:2])
            markers.append(f"python_version {operator} '{minor}'")
    marker = " and ".join(f"({it})" if " or " in it else it for it in markers)
    direct = direct_requirement(name, table, extras=extras, marker=marker)
    if direct is not None:
        return direct
    version = pep440(str(table.get("version", "*")))
    return f"{name}{extras}{version}{f' ; {marker}' if marker else ''}"


def pep440(text: str) -> str:
    """Return Poetry's version constraint as PEP 440 specifiers.

    Raises:
        ValueError: PEP 440 has no such constraint.
    """
    if "|" in text:
        raise ValueError(f"PEP 440 has no {text!r}")
    position, parts = 0, []
    text = text.strip()
    while position < len(text):
        found = _PART.match(text, position)
        if found is None:
            raise ValueError(f"{text!r} is no version constraint")
        operator, version = found.groups()
        position = found.end()
        if operator in ("^", "~"):
            parts.append(f">={version},<{_upper_bound(operator, version)}")
        elif version != "*":
            exact = operator is None or operator == "="
            parts.append(f"=={version}" if exact else f"{operator}{version}")
    return ",".join(parts)


def _upper_bound(operator: str, version: str) -> str:
    """Return the first version that ``^`` or ``~`` excludes."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    if release is None:
        raise ValueError(f"{operator}{version} is no version constraint")
    numbers = [*map(int, release[0].split("."))]
    if operator == "~":
        at = min(1, len(numbers) - 1)
    else:
        nonzero = (i for i, number in enumerate(numbers) if number)
        at = next(nonzero, len(numbers) - 1)
    return ".".join(map(str, (*numbers[:at], numbers[at] + 1)))
