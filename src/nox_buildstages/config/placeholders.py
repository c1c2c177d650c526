"""Placeholders: ``{axis}`` in a table stands for the value of an axis in a cell.

``{env}`` stands for the environment of a stage. It stays in the strings until a build
runs, because it is another path on each machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from nox_buildstages.config.final import FINAL
from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.config.matrix import AXIS_VALUE
from nox_buildstages.config.table import PACKAGE, STAGE
from nox_buildstages.model import ENVIRONMENT, variable_of
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from nox_buildstages.config.getters import Item, Key
    from nox_buildstages.model import Cell

_Allowed: TypeAlias = "Mapping[str, _Allowed] | Key"
"""The keys below which placeholders are allowed; a key allows them in all strings."""

_ANY = "*"
_WRITTEN = re.compile(r"\{\{([a-z0-9][a-z0-9_-]*)\}\}|\{([a-z0-9][a-z0-9_-]*)\}")
"""A name in doubled braces, which is literal text, or a placeholder."""

_ANYTHING = "0"
"""In place of an unknown axis: a valid name, version and folder."""


def _placeholder_keys(keys: Mapping[str, Key]) -> _Allowed:
    return {name: key for name, key in keys.items() if key.has_placeholders}


_TABLE: _Allowed = {
    "final": _placeholder_keys(FINAL),
    "stage": {_ANY: _placeholder_keys(STAGE)},
    "package": {_ANY: _placeholder_keys(PACKAGE)},
    "matrix": {_ANY: {_ANY: _placeholder_keys(AXIS_VALUE)}},
}
_BROUGHT = ("constraints", "extras", "groups")
"""Keys without placeholders, which an axis value may have for its cells instead."""


class Substitution(Value):
    """Puts the values of a cell into a table."""

    cell: Cell
    takes_any: bool = False
    """Whether any axis is accepted, because the matrix is faulty."""
    named: dict[tuple[str | int, ...], set[str]] = field(default_factory=dict)
    """The axes named below steps from the table, for example ``("stage", 0)``."""

    def replace(self, item: Item) -> Any:  # noqa: ANN401 - a TOML value
        """Return the table ``[tool.nox-buildstages]`` with all placeholders replaced.

        An unknown axis, and a placeholder elsewhere, are faults.
        """
        return self._walk(item, _TABLE, len(item.steps))

    def _walk(self, item: Item, allowed: _Allowed, depth: int) -> Any:  # noqa: ANN401
        value = item.value
        if isinstance(value, str):
            if isinstance(allowed, Mapping):
                return self._refuse(value, item)
            return self._substitute(value, item, depth, allowed)
        if isinstance(value, list):
            below = allowed.get(_ANY, {}) if isinstance(allowed, Mapping) else allowed
            children = (item.child(*pair) for pair in enumerate(value))
            return [self._walk(child, below, depth) for child in children]
        if not isinstance(value, Mapping):
            return value
        result = {}
        for key, content in value.items():
            below = allowed
            if isinstance(allowed, Mapping):
                below = allowed.get(key, allowed.get(_ANY, {}))
            result[key] = self._walk(item.child(key, content), below, depth)
        return result

    def _refuse(self, text: str, item: Item) -> str:
        """Add a fault for each axis in a text without placeholders."""

        def refuse(match: re.Match[str]) -> str:
            name = match[2]
            is_variable = text[: match.start()].endswith("$")  # of a shell
            if name == ENVIRONMENT and not is_variable:
                return _refuse_environment(item)
            if is_variable or name not in dict(self.cell.choices):
                return match[0]
            hint = (
                "env, dependencies, outputs, requirements, checks and packages may"
                " name it"
            )
            key = next((it for it in _BROUGHT if it in item.steps), None)
            if item.steps[-1] == "setup":
                hint = f"it has the variable ${variable_of(name)}"
            elif key is not None and "matrix" not in item.steps:
                value = f'{{ "VALUE" = {{ {key} = ["…"] }} }}'
                hint = f"its values may bring {key}: matrix.{name} = {value}"
            item.fault(f"{{{name}}} is not replaced here; {hint}", is_only=True)
            return _ANYTHING

        return _WRITTEN.sub(refuse, text)

    def _substitute(self, text: str, item: Item, depth: int, key: Key) -> str:
        values = dict(self.cell.choices)
        table = item.steps[depth : depth + 2]

        def substitute(match: re.Match[str]) -> str:
            literal, name = match.groups()
            is_left = (
                key.names_environment  # filled when a build runs
                if ENVIRONMENT in (literal, name)
                else table[-1] == "checks" and (literal or name) not in values
            )
            if is_left:
                return match[0]
            if literal is not None:
                return f"{{{literal}}}"
            if name in values:
                self.named.setdefault(table, set()).add(name)
                return values[name]
            if _names_packages(item):
                return match[0]
            if name == ENVIRONMENT:
                return _refuse_environment(item)
            if not self.takes_any:
                hint = did_you_mean(name, values)
                if key.names_environment and ENVIRONMENT in name:
                    hint = f"; the stage's environment is {{{ENVIRONMENT}}}"
                elif not values:
                    hint = "; there is no matrix"
                item.fault(
                    f"no axis has the name {name!r}{hint}"
                    f" ({{{{{name}}}}} is that text itself)",
                    is_only=True,
                )
            return _ANYTHING

        return _WRITTEN.sub(substitute, text)


def _names_packages(item: Item) -> bool:
    """Whether a name in a text may be that of a locked package."""
    is_added = item.steps[-3:-1] == ("requires-dist", "add")
    return is_added or item.steps[-1] == "local-version"


def _refuse_environment(item: Item) -> str:
    """Add a fault for ``{env}`` in any other key."""
    item.fault(
        "{env} is the environment of a stage, which only env and config-settings may"
        " name",
        is_only=True,
    )
    return _ANYTHING
