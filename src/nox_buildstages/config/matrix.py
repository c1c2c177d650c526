"""The matrix: axes, and the cells formed by the axes' values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

from packaging.utils import canonicalize_name

from nox_buildstages.config import getters
from nox_buildstages.config.getters import Item, Key
from nox_buildstages.config.values import env, requirements
from nox_buildstages.lock.files.names import without_dots
from nox_buildstages.model import Axis, AxisValue, Cell, Matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

_Entry: TypeAlias = tuple[Item, Mapping[str, str]]
"""A combination in ``include`` or ``exclude``, and its item."""

_AXIS = re.compile(r"[a-z0-9][a-z0-9_-]*")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_RESERVED = ("logs", "simple")
"""A folder of every wheelhouse, and the folder into which cells are merged."""

_TOO_ALIKE = "too much like the value {0!r}: their files would have one name"


def read_matrix(item: Item) -> Matrix | None:
    """Read the table ``matrix``; return None for a faulty table."""
    content = getters.raw_table(item)
    if content is None:
        return None
    children = {name: item.child(name, content[name]) for name in content}
    include, exclude = (
        _entries(children.pop(name, item.child(name, [])))
        for name in ("include", "exclude")
    )
    crossed = [axis for it in children.values() if (axis := _axis(it)) is not None]
    axes = tuple(crossed) or _axes_of_include(include)
    if axes:
        _check(axes, include, exclude)
    elif item.document.is_sound(*item.steps):
        item.fault('expected an axis, such as cuda-arch = ["8.0", "9.0"]')
    if not item.document.is_sound(*item.steps):
        return None
    combinations: list[Mapping[str, str]] = []
    for values in product(*(axis.values for axis in crossed)) if crossed else ():
        pairs = zip(crossed, values, strict=True)
        combination = {axis.name: value.name for axis, value in pairs}
        if not any(entry.items() <= combination.items() for _, entry in exclude):
            combinations.append(combination)
    combinations += (entry for _, entry in include)
    cells = (
        Cell(choices=tuple((axis.name, it[axis.name]) for axis in axes))
        for it in combinations
    )
    distinct = tuple(dict.fromkeys(cells))
    if not distinct:
        item.fault("its exclude leaves no combination")
    return Matrix(axes=axes, cells=distinct)


def select_index(
    uv: Mapping[str, Any], axis: Axis, value: AxisValue
) -> Mapping[str, Any]:
    """Return ``[tool.uv]`` with the index of a value and without the other values'.

    The value's index comes first. An explicit index also becomes the source of the
    projects constrained by the value.
    """
    others = {it.index for it in axis.values if it.index} - {value.index}
    if value.index is None and not others:
        return uv
    indexes = [it for it in uv.get("index", ()) if it.get("name") not in others]
    indexes.sort(key=lambda it: it.get("name") != value.index)
    sources: dict[str, Any] = {}
    for name, source in uv.get("sources", {}).items():
        if not isinstance(source, list):
            kept = {} if source.get("index") in others else source
        else:
            kept = [it for it in source if it.get("index") not in others]
        if kept:
            sources[name] = kept
    if any(it.get("name") == value.index and it.get("explicit") for it in indexes):
        own = {canonicalize_name(it.name) for it in value.constraints}
        sources = {k: v for k, v in sources.items() if canonicalize_name(k) not in own}
        sources |= {name: {"index": value.index} for name in sorted(own)}
    return {**uv, "index": indexes, "sources": sources}


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
        values = tuple((getters.mapping_of(axis_value, "tables")(item) or {}).values())
    else:
        names = getters.list_of(_value_name, "strings, or a table of values")(item)
        values = tuple(AxisValue(name=name) for name in names or ())
    if not item.value:
        item.fault("expected at least one value")
    first: dict[str, str] = {}
    for index, value in enumerate(values):
        other = first.setdefault(without_dots(value.name).lower(), value.name)
        if other != value.name or value.name in (it.name for it in values[:index]):
            step = index if isinstance(item.value, list) else value.name
            item.child(step, value.name).fault(_TOO_ALIKE.format(other))
    return Axis(name=name, values=values)


def axis_value(item: Item) -> AxisValue | None:
    """Read a value of an axis, from a table."""
    name = _value_name(item.with_value(item.steps[-1]))
    values = getters.read_table(item, AXIS_VALUE, is_named=True)
    if name is None or values is None:
        return None
    return AxisValue(name=name, **values)


def _value_name(item: Item) -> str | None:
    value = getters.string(item)
    if value is not None and not _VALUE.fullmatch(value):
        item.expect(
            "a value of letters, digits, '.', '_', '+' and '-', as folders are named"
            " by it",
            hint="give it such a name, and say the rest in its env:"
            ' { ampere = { env = { ARCHS = "8.0;8.6" } } }',
        )
        return None
    if value is not None and value.lower() in _RESERVED:
        item.fault(f"a wheelhouse has a folder {value.lower()!r}; choose another name")
    return value


def uv_index_name(item: Item) -> str | None:
    """Read the name of an index of ``[tool.uv]``."""
    name = getters.text(item)
    declared = item.document.find("tool", "uv", "index")
    entries = declared.value if declared and isinstance(declared.value, list) else ()
    names = (it.get("name") for it in entries if isinstance(it, Mapping))
    known = [it for it in names if isinstance(it, str)]
    if name is not None and name not in known:
        hint = getters.did_you_mean(name, known)
        item.fault(f"no [[tool.uv.index]] has the name {name!r}{hint}")
    return name


def _entries(item: Item) -> tuple[_Entry, ...]:
    """Read ``include`` or ``exclude``, without faulty entries."""
    read = getters.mapping_of(_value_name, "strings")
    entries = getters.list_of(lambda it: (it, read(it) or {}), "tables")(item) or ()
    return tuple(it for it in entries if item.document.is_sound(*it[0].steps))


def _axes_of_include(include: Sequence[_Entry]) -> tuple[Axis, ...]:
    """Return the axes of a matrix with only ``include``."""
    values: dict[str, dict[str, AxisValue]] = {}
    for _, entry in include:
        for axis, name in entry.items():
            values.setdefault(axis, {})[name] = AxisValue(name=name)
    return tuple(
        Axis(name=axis, values=tuple(by_name.values()))
        for axis, by_name in values.items()
    )


def _check(
    axes: Sequence[Axis], include: Sequence[_Entry], exclude: Sequence[_Entry]
) -> None:
    """Add faults to the entries of ``include`` and ``exclude``."""
    values = {axis.name: [value.name for value in axis.values] for axis in axes}
    for item, entry in (*include, *exclude):
        for axis in entry.keys() - values.keys():
            message = f"there is no axis {axis!r}{getters.did_you_mean(axis, values)}"
            item.child(axis, entry[axis]).fault(message)
    for item, entry in include:
        missing = [axis for axis in values if axis not in entry]
        if missing:
            item.fault(f"{missing[0]} is missing: a combination has a value of each")
        for axis in entry.keys() & values.keys():
            # The value may be a new one, but its files need a name of their own.
            alike = {without_dots(other).lower(): other for other in values[axis]}
            other = alike.get(without_dots(entry[axis]).lower(), entry[axis])
            if other != entry[axis]:
                item.child(axis, entry[axis]).fault(_TOO_ALIKE.format(other))
    for item, entry in exclude:
        for axis in entry.keys() & values.keys():
            if entry[axis] not in values[axis]:
                hint = getters.did_you_mean(entry[axis], values[axis])
                message = f"{axis} has no value {entry[axis]!r}{hint}"
                item.child(axis, entry[axis]).fault(message)


AXIS_VALUE: Mapping[str, Key] = {
    "constraints": Key(
        requirements,
        default=[],
        type="list of requirements",
        example='constraints = ["torch==2.13.*"]',
        text="Constraints on every resolution of the value's cells.",
        in_locks=True,
    ),
    "index": Key(
        uv_index_name,
        type="name of a `[[tool.uv.index]]`",
        default_text="none",
        example='index = "cu130"',
        text="Of the indexes that the values of this axis name, the value's cells use"
        " only this one, before all others. If the index is `explicit`, the projects"
        " in `constraints` are taken from it, provided something requires them"
        " directly.",
        in_locks=True,
    ),
    "env": Key(
        env,
        default={},
        type="table of strings",
        example='env = { ARCHS = "8.0;8.6" }',
        text="Environment variables for the stages that use the axis. They override"
        " those of the stage.",
        in_locks=True,
        in_key=True,
    ),
}
MATRIX: Mapping[str, Key] = {
    "AXIS": Key(
        _axis,
        type="list of strings, or table of tables",
        default_text="none",
        example='cuda-arch = ["8.0", "9.0"]',
        text="The values of an axis: letters, digits, `.`, `_`, `+` and `-`, but not"
        " `logs` and `simple`, which are folders of a wheelhouse. In a table, each"
        " value can have the keys below.",
        in_locks=True,
    ),
    **{f"AXIS.VALUE.{name}": key for name, key in AXIS_VALUE.items()},
    "include": Key(
        _entries,
        default=[],
        type="list of tables of strings",
        example='include = [{ cuda-arch = "12.0" }]',
        text="Combinations in addition to those of the axes, with a value of each"
        " axis; the value may be a new one. If there are no axes, these are all"
        " combinations.",
        in_locks=True,
    ),
    "exclude": Key(
        _entries,
        default=[],
        type="list of tables of strings",
        example='exclude = [{ cuda-arch = "8.0", torch = "2.13" }]',
        text="Combinations to leave out: cells that have all values of a table. Has no"
        " effect on `include`.",
        in_locks=True,
    ),
}
