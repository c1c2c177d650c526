"""Placeholders: ``{axis}`` in a table stands for the value of an axis in a cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from nox_buildstages.config.getters import Item, did_you_mean

if TYPE_CHECKING:
    from nox_buildstages.model import Cell

_Places: TypeAlias = "Mapping[str, _Places] | None"
"""Where placeholders may be, by key; None where all below is searched for them."""

_EACH = "*"
_LOCAL_VERSION, _CHECKS, _CONSTRAINTS = "local-version", "checks", "constraints"
_PLACES: _Places = {
    "final": {"requirements": None, _CHECKS: None},
    "stage": {_EACH: {"env": None, "dependencies": None, "outputs": None}},
    "package": {
        _EACH: {
            "build-requires": None,
            "config-settings": None,
            "env": None,
            _LOCAL_VERSION: None,
            "metadata": None,
            "patches": None,
        }
    },
}
_NAME = "[a-z0-9][a-z0-9_-]*"
_WRITTEN = re.compile(rf"\{{\{{({_NAME})\}}\}}|\{{({_NAME})\}}")
"""A text in doubled braces, which stands for itself, or a placeholder."""

_NOTHING = "0"
"""For what is no axis: it may be a name, a version and a folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Substitution:
    """Puts the values of a cell into a table.

    Attributes:
        cell: Whose values.
        takes_any: Whether it isn't known which axes there are.
        named: The axes that a stage or a package names, by the way to it from the
            table: ``("stage", 0)``.
    """

    cell: Cell
    takes_any: bool = False
    named: dict[tuple[str | int, ...], set[str]] = field(default_factory=dict)

    def of(self, item: Item) -> Any:  # noqa: ANN401 - what TOML holds
        """Return the table with values; what is no axis is told.

        Args:
            item: The table ``[tool.nox-buildstages]``.
        """
        return self._within(item, _PLACES, len(item.steps))

    def _within(self, item: Item, places: _Places, depth: int) -> Any:  # noqa: ANN401
        value = item.value
        if isinstance(value, str):
            if places is not None:
                return self._kept(value, item)
            return self._swapped(value, item, depth)
        if isinstance(value, list):
            below = places if places is None else places.get(_EACH, {})
            children = (item.child(*pair) for pair in enumerate(value))
            return [self._within(child, below, depth) for child in children]
        if not isinstance(value, Mapping):
            return value
        return {
            key: self._within(
                item.child(key, value[key]),
                places if places is None else places.get(key, places.get(_EACH, {})),
                depth,
            )
            for key in value
        }

    def _kept(self, text: str, item: Item) -> str:
        """Return a text in which axes mean nothing; that one is in it is told."""
        values = dict(self.cell.choices)
        if not values:
            return text

        def told(match: re.Match[str]) -> str:
            if match[2] not in values:
                return match[0]
            item.fault(_no_place(match[2], item))
            return _NOTHING

        return _WRITTEN.sub(told, text)

    def _swapped(self, text: str, item: Item, depth: int) -> str:
        values = dict(self.cell.choices)
        location = item.steps[depth : depth + 2]

        def swapped(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if location[-1] == _CHECKS and (literal or name) not in values:
                return match[0]  # a program has braces, too
            if literal is not None:
                return f"{{{literal}}}"
            if name in values:
                self.named.setdefault(location, set()).add(name)
                return values[name]
            if item.steps[-1] == _LOCAL_VERSION:  # a locked package may have that name
                return match[0]
            if not self.takes_any:
                item.fault(_unknown(name, [*values]))
            return _NOTHING

        return _WRITTEN.sub(swapped, text)


def _no_place(name: str, item: Item) -> str:
    mend = "env, dependencies, outputs, requirements, checks and packages may name it"
    if _CONSTRAINTS in item.steps:
        value = '{ "VALUE" = { constraints = ["…"] } }'
        mend = f"its values may bring constraints: matrix.{name} = {value}"
    return f"{{{name}}} is not replaced here; {mend}"


def _unknown(name: str, axes: list[str]) -> str:
    hint = did_you_mean(name, axes) if axes else "; there is no matrix"
    return f"no axis has the name {name!r}{hint} ({{{{{name}}}}} is that text itself)"
