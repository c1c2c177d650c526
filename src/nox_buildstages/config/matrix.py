"""Reading the matrix: its axes, and the cells that their values make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import (
    Item,
    Keys,
    any_table,
    did_you_mean,
    list_of,
    mapping,
    string,
    table,
    text,
    variable,
)
from nox_buildstages.config.requirements import requirement
from nox_buildstages.lock.files.names import without_dots
from nox_buildstages.model import Axis, AxisValue, Cell, Matrix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_Entry: TypeAlias = tuple[Item, Mapping[str, str]]
"""A combination that ``include`` or ``exclude`` names, and where it stands."""

_AXIS = re.compile(r"[a-z0-9][a-z0-9_-]*")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_INCLUDE, _EXCLUDE = "include", "exclude"
_TAKEN = ("logs", "simple")
"""Folders that a wheelhouse has itself, and one that cells are merged into."""

_KEYS = Keys(known=("constraints", "index", "env"))
_TOO_ALIKE = "too much like the value {0!r}: their files would have one name"


def matrix(item: Item) -> Matrix | None:
    """Read the table ``matrix``; None where something in it is wrong."""
    content = any_table(item)
    if content is None:
        return None
    children = {name: item.child(name, content[name]) for name in content}
    include, exclude = (
        _entries(children.pop(name, item.child(name, [])))
        for name in (_INCLUDE, _EXCLUDE)
    )
    crossed = [axis for it in children.values() if (axis := _axis(it)) is not None]
    axes = tuple(crossed) or _listed(include)
    if axes:
        _check(axes, include, exclude)
    elif item.document.sound(*item.steps):
        item.fault('expected an axis, such as cuda-arch = ["8.0", "9.0"]')
    if not item.document.sound(*item.steps):
        return None
    found = [*_crossed(crossed, exclude), *(entry for _, entry in include)]
    cells = tuple(dict.fromkeys(_cell(axes, it) for it in found))
    if not cells:
        item.fault("its exclude leaves no combination")
    return Matrix(axes=axes, cells=cells)


def _axis(item: Item) -> Axis | None:
    name = str(item.steps[-1])
    if name == "python":
        item.fault(
            'the Pythons are no axis of this table; write python = ["3.11", "3.12"]'
            " above it, and nox multiplies all sessions by them"
        )
        return None
    if not _AXIS.fullmatch(name):
        item.fault("an axis is named with lower-case letters, digits, '-' and '_'")
        return None
    if isinstance(item.value, Mapping):
        values = (mapping(_value, "tables")(item) or {}).values()
        found: tuple[AxisValue, ...] = tuple(values)
    else:
        names = list_of(_value_name, "strings, or a table of values")(item)
        found = tuple(AxisValue(name=name) for name in names or ())
    if not item.value:
        item.fault("expected at least one value")
    _tell_alike(item, [value.name for value in found])
    return Axis(name=name, values=found)


def _value(item: Item) -> AxisValue | None:
    name = _value_name(
        Item(value=item.steps[-1], steps=item.steps, document=item.document)
    )
    found = table(item, _KEYS)
    if name is None or found is None:
        return None
    return AxisValue(
        name=name,
        constraints=found.get("constraints", list_of(requirement), ()),
        index=found.child("index", _index),
        env=found.get("env", mapping(string, "strings", key=variable), {}),
    )


def _value_name(item: Item) -> str | None:
    value = string(item)
    if value is not None and not _VALUE.fullmatch(value):
        item.expected(
            "a value of letters, digits, '.', '_', '+' and '-', as folders are named"
            " by it",
            hint="give it such a name, and say the rest in its env:"
            ' { ampere = { env = { ARCHS = "8.0;8.6" } } }',
        )
        return None
    if value is not None and value.lower() in _TAKEN:
        item.fault(f"a wheelhouse has a folder {value.lower()!r}; choose another name")
    return value


def _index(item: Item) -> str | None:
    name = text(item)
    declared = item.document.at("tool", "uv", "index")
    entries = declared.value if declared and isinstance(declared.value, list) else ()
    known = [it["name"] for it in entries if isinstance(it, Mapping) and "name" in it]
    if name is not None and name not in known:
        hint = did_you_mean(name, known)
        item.fault(f"no [[tool.uv.index]] has the name {name!r}{hint}")
    return name


def _tell_alike(item: Item, names: Sequence[str]) -> None:
    """Add a problem for values that would share a folder or a lock file."""
    first: dict[str, str] = {}
    for index, name in enumerate(names):
        step = index if isinstance(item.value, list) else name
        other = first.setdefault(without_dots(name).lower(), name)
        if other != name or names.index(name) != index:
            item.child(step, name).fault(_TOO_ALIKE.format(other))


def _entries(item: Item) -> tuple[_Entry, ...]:
    read = mapping(_value_name, "strings")
    found = list_of(lambda it: (it, read(it) or {}), "tables")(item) or ()
    return tuple(it for it in found if it[0].document.sound(*it[0].steps))


def _listed(include: Sequence[_Entry]) -> tuple[Axis, ...]:
    """Return the axes where nothing but combinations is declared."""
    names = dict.fromkeys(name for _, entry in include for name in entry)
    return tuple(
        Axis(
            name=name,
            values=tuple(
                AxisValue(name=value)
                for value in dict.fromkeys(
                    entry[name] for _, entry in include if name in entry
                )
            ),
        )
        for name in names
    )


def _check(
    axes: Sequence[Axis], include: Sequence[_Entry], exclude: Sequence[_Entry]
) -> None:
    values = {axis.name: [value.name for value in axis.values] for axis in axes}
    for item, entry in (*include, *exclude):
        for name in entry.keys() - values.keys():
            message = f"there is no axis {name!r}{did_you_mean(name, values)}"
            item.child(name, entry[name]).fault(message)
    for item, entry in include:
        missing = [name for name in values if name not in entry]
        if missing:
            item.fault(f"{missing[0]} is missing: a combination has a value of each")
        for name in entry.keys() & values.keys():
            _check_included(item.child(name, entry[name]), entry[name], values[name])
    for item, entry in exclude:
        for name in entry.keys() & values.keys():
            if entry[name] not in values[name]:
                hint = did_you_mean(entry[name], values[name])
                message = f"{name} has no value {entry[name]!r}{hint}"
                item.child(name, entry[name]).fault(message)


def _check_included(item: Item, value: str, values: Sequence[str]) -> None:
    """See that a value, new maybe, isn't too much like another one."""
    alike = {without_dots(other).lower(): other for other in values}
    other = alike.get(without_dots(value).lower(), value)
    if other != value:
        item.fault(_TOO_ALIKE.format(other))


def _crossed(
    axes: Sequence[Axis], exclude: Sequence[_Entry]
) -> Iterator[Mapping[str, str]]:
    """Yield every combination of values that isn't excluded."""
    if not axes:
        return
    for values in product(*(axis.values for axis in axes)):
        names = (value.name for value in values)
        chosen = dict(zip((axis.name for axis in axes), names, strict=True))
        if not any(entry.items() <= chosen.items() for _, entry in exclude):
            yield chosen


def _cell(axes: Sequence[Axis], entry: Mapping[str, str]) -> Cell:
    return Cell(choices=tuple((axis.name, entry[axis.name]) for axis in axes))


def aimed(uv: Mapping[str, Any], axis: Axis, value: AxisValue) -> Mapping[str, Any]:
    """Return ``[tool.uv]`` for a value: of the indexes that an axis names, its own.

    That index comes first. Where it is an explicit one, it is the source of what the
    value constrains.
    """
    others = {it.index for it in axis.values if it.index} - {value.index}
    if value.index is None and not others:
        return uv
    indexes = [it for it in uv.get("index", ()) if it.get("name") not in others]
    indexes.sort(key=lambda it: it.get("name") != value.index)
    sources = {
        name: kept
        for name, source in uv.get("sources", {}).items()
        if (kept := _without(source, others))
    }
    if any(it.get("name") == value.index and it.get("explicit") for it in indexes):
        own = {canonicalize_name(it.name) for it in value.constraints}
        sources = {k: v for k, v in sources.items() if canonicalize_name(k) not in own}
        sources |= {name: {"index": value.index} for name in sorted(own)}
    return {**uv, "index": indexes, "sources": sources}


def _without(source: Any, indexes: set[str]) -> Any:  # noqa: ANN401 - as uv has it
    """Return a source, or several, without those that are on some indexes."""
    if isinstance(source, list):
        return [it for it in source if it.get("index") not in indexes]
    return None if source.get("index") in indexes else source
