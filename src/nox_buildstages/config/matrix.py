"""The matrix: axes, and the cells formed by the axes' values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from packaging.utils import canonicalize_name

from nox_buildstages.config import getters
from nox_buildstages.config.final import extra_requirements, group_requirements
from nox_buildstages.config.getters import Item, Key
from nox_buildstages.config.values import env, requirements
from nox_buildstages.config.variant import variant
from nox_buildstages.lock.files.names import without_dots
from nox_buildstages.model import (
    ENVIRONMENT,
    VARIANTS,
    Axis,
    AxisValue,
    Cell,
    Matrix,
    minor_version,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_Entry: TypeAlias = tuple[Item, Mapping[str, str]]
"""A combination in ``include`` or ``exclude``, and its item."""

MOST_COMBINATIONS = 1000
"""Before any is excluded; a job of GitHub Actions has at most 256."""

_PYTHON = "python"
_AXIS = re.compile(r"[a-z0-9][a-z0-9_-]*")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_MACHINES = ("x86_64", "aarch64")
_ALIASES = {"amd64": "x86_64", "x86-64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_RESERVED = ("logs", "simple", VARIANTS)
"""Folders of a wheelhouse; values are folders beside them."""

_ABOVE = '; write python = ["3.11", "3.12"] above the matrix first'
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
    if ENVIRONMENT in (it.name for it in axes):
        item.fault("{env} is the environment of a stage: give the axis another name")
    above = item.document.find(*map(str, item.steps[:-1]), _PYTHON)
    declared = above.value if above else ()
    versions = declared if isinstance(declared, list) else [declared]
    pythons = {minor_version(it): it for it in versions if isinstance(it, str)}
    _check_variants(item, axes, include)
    if axes:
        _check(axes, pythons, include, exclude)
    elif item.document.is_sound(*item.steps):
        item.fault('expected an axis, such as cuda-arch = ["8.0", "9.0"]')
    combinations = prod(len(axis.values) for axis in crossed) * max(len(pythons), 1)
    if combinations > MOST_COMBINATIONS:
        item.fault(
            f"its axes have {combinations:,} combinations, and more than"
            f" {MOST_COMBINATIONS:,} take too long; list those you need in include"
        )
    if not item.document.is_sound(*item.steps):
        return None
    cells = _cells(crossed, axes, pythons, include, exclude)
    used = {python for chosen in cells.values() for python in chosen}
    if not cells:
        item.fault("its exclude leaves no combination")
    elif missing := [it for it in pythons if it not in used]:
        item.fault(f"no combination is left for Python {', '.join(missing)}")
    by_python = [entry for _, entry in (*include, *exclude) if _PYTHON in entry]
    by_machine = {it.name for it in axes if any(v.machine for v in it.values)}
    return Matrix(
        axes=axes,
        cells=tuple(cells),
        pythons={
            cell: tuple(version for it, version in pythons.items() if it in chosen)
            for cell, chosen in cells.items()
        },
        common_axes=frozenset().union(by_machine, *by_python) - {_PYTHON},
        exclude=tuple(entry for _, entry in exclude),
        included=frozenset(cells) - _cells(crossed, axes, pythons, (), exclude).keys(),
    )


def _cells(
    crossed: Sequence[Axis],
    axes: Sequence[Axis],
    pythons: Collection[str],
    include: Sequence[_Entry],
    exclude: Sequence[_Entry],
) -> dict[Cell, set[str]]:
    """Return the cells, each with its Pythons; empty texts if none are declared."""
    combinations: list[Mapping[str, str]] = []
    for values in product(*(axis.values for axis in crossed)) if crossed else ():
        pairs = zip(crossed, values, strict=True)
        choices = {axis.name: value.name for axis, value in pairs}
        for python in pythons or ("",):
            combination = {**choices, _PYTHON: python}
            if not any(entry.items() <= combination.items() for _, entry in exclude):
                combinations.append(combination)
    combinations += (
        {_PYTHON: python, **entry}
        for _, entry in include
        for python in pythons or ("",)
    )
    cells: dict[Cell, set[str]] = {}
    for it in combinations:
        cell = Cell(choices=tuple((axis.name, it[axis.name]) for axis in axes))
        cells.setdefault(cell, set()).add(it[_PYTHON])
    return cells


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
    if name == _PYTHON:
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
    return tuple(
        (it, {k: minor_version(v) if k == _PYTHON else v for k, v in entry.items()})
        for it, entry in entries
        if item.document.is_sound(*it.steps)
    )


def _check_variants(
    item: Item, axes: Sequence[Axis], include: Sequence[_Entry]
) -> None:
    """Add faults to values without a variant, and to features that two axes have."""
    owners: dict[tuple[str, str], str] = {}
    for axis in axes:
        if all(value.variant is None for value in axis.values):
            continue
        for value in axis.values:
            child = item.child(axis.name, None).child(value.name, None)
            if value.variant is None:
                child.fault(
                    "variant is missing, and other values of the axis have one; write"
                    " variant = {} if its wheels need nothing special"
                )
            for namespace, features in (value.variant or {}).items():
                for feature in features:
                    owner = owners.setdefault((namespace, feature), axis.name)
                    if owner != axis.name:
                        child.fault(
                            f"its variant has {namespace}.{feature}, and so have"
                            f" values of the axis {owner!r}; only one axis may have it"
                        )
        for other, entry in include:
            name = entry.get(axis.name)
            if name not in (None, *(value.name for value in axis.values)):
                other.child(axis.name, name).fault(
                    f"the values of {axis.name} have a variant, so declare this value"
                    " there, too"
                )


def _axes_of_include(include: Sequence[_Entry]) -> tuple[Axis, ...]:
    """Return the axes of a matrix with only ``include``."""
    values: dict[str, dict[str, AxisValue]] = {}
    for _, entry in include:
        for axis, name in entry.items():
            if axis != _PYTHON:
                values.setdefault(axis, {})[name] = AxisValue(name=name)
    return tuple(
        Axis(name=axis, values=tuple(by_name.values()))
        for axis, by_name in values.items()
    )


def _check(
    axes: Sequence[Axis],
    pythons: Collection[str],
    include: Sequence[_Entry],
    exclude: Sequence[_Entry],
) -> None:
    """Add faults to the entries of ``include`` and ``exclude``."""
    values = {axis.name: [value.name for value in axis.values] for axis in axes}
    known = {**values, _PYTHON: [*pythons]} if pythons else values
    for item, entry in (*include, *exclude):
        for axis in entry.keys() - known.keys():
            hint = {_PYTHON: _ABOVE}.get(axis) or getters.did_you_mean(axis, known)
            item.child(axis, entry[axis]).fault(f"there is no axis {axis!r}{hint}")
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
    of_include = ((it, {_PYTHON: entry.get(_PYTHON, "")}) for it, entry in include)
    for item, entry in (*exclude, *of_include):
        for axis in entry.keys() & known.keys():
            if entry[axis] and entry[axis] not in known[axis]:
                hint = getters.did_you_mean(entry[axis], known[axis])
                message = f"{axis} has no value {entry[axis]!r}{hint}"
                item.child(axis, entry[axis]).fault(message)


def machine(item: Item) -> str | None:
    """Read the processor of a Linux, as markers call it."""
    if item.value in _MACHINES:
        return str(item.value)
    known = '" or "'.join(_MACHINES)
    near = _ALIASES.get(str(item.value))
    item.expect(f'"{known}"', hint=f"did you mean {near!r}?" if near else "")
    return None


def labels(item: Item) -> tuple[str, ...] | None:
    """Read the label of a runner, or several labels."""
    if isinstance(item.value, str):
        label = getters.text(item)
        return None if label is None else (label,)
    return getters.non_empty(getters.list_of(getters.text), "label")(item)


AXIS_VALUE: Mapping[str, Key] = {
    "constraints": Key(
        requirements,
        default=[],
        type="list of requirements",
        example='constraints = ["torch==2.13.*"]',
        text="Constraints on every resolution of the value's cells.",
        in_locks=True,
        has_placeholders=True,
    ),
    "requirements": Key(
        requirements,
        default=[],
        type="list of requirements",
        example='requirements = ["flash-attn==2.9.0.dev1"]',
        text="Requirements of the runtime environment of the value's cells, in addition"
        " to those of `final`.",
        in_locks=True,
        has_placeholders=True,
    ),
    "extras": Key(
        getters.list_of(extra_requirements),
        default=[],
        type="list of names",
        example='extras = ["gpu"]',
        text="Extras of this project, in addition to those of `final`.",
        in_locks=True,
    ),
    "groups": Key(
        getters.list_of(group_requirements),
        default=[],
        type="list of names",
        example='groups = ["test"]',
        text="Dependency groups of this file, in addition to those of `final`.",
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
        has_placeholders=True,
        names_environment=True,
    ),
    "machine": Key(
        machine,
        type='`"x86_64"` or `"aarch64"`',
        default_text="`x86_64` if any value of the matrix names a machine",
        example='machine = "aarch64"',
        text="The processor of a Linux that the value's cells are [locked for and built"
        " on](../how-to/matrix.md#other-processors). Sessions on other machines leave"
        " the cells out.",
        in_locks=True,
    ),
    "runs-on": Key(
        labels,
        type="string or list of strings",
        default_text="that of the workflow; GitHub's runner for `aarch64` if that is"
        " the machine",
        example='runs-on = ["self-hosted", "gpu"]',
        text="The label of the [CI runner](../how-to/matrix.md#runners-and-containers)"
        " that builds the value's cells, or several labels.",
        has_placeholders=True,
    ),
    "container": Key(
        getters.text,
        type="string",
        default_text="that of the workflow",
        example='container = "nvidia/cuda:13.0.1-devel-ubuntu24.04"',
        text="The image in which CI builds the value's cells.",
        has_placeholders=True,
    ),
    "setup": Key(
        getters.text,
        type="string",
        default_text="none",
        example='setup = "apt-get update && apt-get install -y cuda-nvcc-$CELL_CUDA"',
        text="Commands for bash that CI runs before it builds the value's cells. The"
        " cell's values are variables: `$CELL_CUDA_ARCH` is that of the axis"
        " `cuda-arch`, `$CELL_PYTHON` the Python.",
    ),
    "variant": Key(
        variant,
        type="table of `nvidia`, a table of features with lists of values",
        default_text="none",
        example='variant = { nvidia = { sm_arch = ["90_real"] } }',
        text="Experimental: what the value's wheels need from a machine, for"
        " [variant wheels](../how-to/release.md#make-variant-wheels). The features of"
        " `nvidia` are `cuda_version_lower_bound`, `cuda_version_upper_bound` and"
        " `sm_arch`. `{}` needs nothing special. If one value of an axis has the key,"
        " all have it.",
    ),
}
MATRIX: Mapping[str, Key] = {
    "AXIS": Key(
        _axis,
        type="list of strings, or table of tables",
        default_text="none",
        example='cuda-arch = ["8.0", "9.0"]',
        text="The values of an axis: letters, digits, `.`, `_`, `+` and `-`, but not"
        " `logs`, `simple` and `variants`, which are folders of a wheelhouse. In a"
        " table, each value can have the keys below. All axes together may have 1,000"
        " combinations.",
        in_locks=True,
    ),
    **{f"AXIS.VALUE.{name}": key for name, key in AXIS_VALUE.items()},
    "include": Key(
        _entries,
        default=[],
        type="list of tables of strings",
        example='include = [{ cuda-arch = "12.0" }]',
        text="Combinations in addition to those of the axes, with a value of each"
        " axis; the value may be a new one. `python` names the only Python of a"
        " combination. If there are no axes, these are all combinations.",
        in_locks=True,
    ),
    "exclude": Key(
        _entries,
        default=[],
        type="list of tables of strings",
        example='exclude = [{ cuda-arch = "8.0", torch = "2.13" }]',
        text="Combinations to leave out: cells that have all values of a table. With"
        " `python`, they are left out for that Python only. Has no effect on"
        " `include`.",
        in_locks=True,
    ),
}
