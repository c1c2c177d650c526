"""The JSON schema of the table, from the declared keys: for editors and linters.

Draft 7, which validate-pyproject and SchemaStore take. It knows the forms of values;
what they mean together only the program checks.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from nox_buildstages.config.matrix import AXIS_VALUE, MATRIX
from nox_buildstages.config.reference import TABLES
from nox_buildstages.config.variant import FEATURES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nox_buildstages.config.getters import Key

_Schema: TypeAlias = dict[str, Any]

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_TEXT: _Schema = {"type": "string", "minLength": 1}
_TEXTS: _Schema = {"type": "array", "items": _TEXT}
_SOME_TEXTS: _Schema = {**_TEXTS, "minItems": 1}
_BOOLEAN: _Schema = {"type": "boolean"}


def _list_of(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _table_of(values: _Schema) -> _Schema:
    return {"type": "object", "additionalProperties": values}


def _table(*required: str, **properties: _Schema) -> _Schema:
    return {
        "type": "object",
        "properties": {name.replace("_", "-"): it for name, it in properties.items()},
        "required": [*required],
        "additionalProperties": False,
    }


def _or(schema: _Schema, *values: object) -> _Schema:
    return {"anyOf": [schema, {"enum": [*values]}]}


_STRINGS = _table_of({"type": "string"})
_ONE_OR_SEVERAL: _Schema = {"anyOf": [_TEXT, _SOME_TEXTS]}
_SETTING: _Schema = {"anyOf": [{"type": "string"}, _list_of({"type": "string"})]}
_VARIANT: _Schema = {
    "type": "object",
    "properties": {
        namespace: {
            "type": "object",
            "properties": {
                feature: {
                    **_SOME_TEXTS,
                    "items": {"type": "string", "pattern": f"^({it})$"},
                }
                for feature, (it, _) in features.items()
            },
            "minProperties": 1,
            "additionalProperties": False,
        }
        for namespace, features in FEATURES.items()
    },
    "additionalProperties": False,
}
_REMOTE = _table("url", url=_TEXT, write=_BOOLEAN)

TYPES: Mapping[str, _Schema] = {
    'list of versions, such as `["3.11", "3.14t"]`': _SOME_TEXTS,
    "list of markers": _TEXTS,
    "path": _TEXT,
    "list of names": _TEXTS,
    "list of requirements": _TEXTS,
    "list of requirements, at least one": _SOME_TEXTS,
    "a date, a time with its zone, or a span": {},  # a date of TOML, too
    "URL or path, or table of `url` and `write`": {"anyOf": [_TEXT, _REMOTE]},
    '`"auto"`, `"ccache"`, `"sccache"` or `false`': {
        "enum": ["auto", "ccache", "sccache", False]
    },
    "number": {"type": "integer", "minimum": 1},
    "boolean": _BOOLEAN,
    'boolean or `"require-off"`': _or(_BOOLEAN, "require-off"),
    'boolean or `"require"`': _or(_BOOLEAN, "require"),
    "list of modules": _TEXTS,
    "list of lists of strings": _list_of(
        {**_list_of({"type": "string"}), "minItems": 1}
    ),
    "string of `a-z`, `0-9`, `-` and `_`": {
        "type": "string",
        "pattern": "^[a-z0-9][a-z0-9_-]*$",
        "maxLength": 100,
    },
    "list of stage names": _TEXTS,
    "table of strings": _STRINGS,
    "list of programs and commands": _TEXTS,
    '`"auto"` or a number': _or({"type": "integer", "minimum": 1}, "auto"),
    'size, such as `"4GB"` or `"3.5GiB"`': {
        "type": "string",
        "pattern": r"^[0-9]+(\.[0-9]+)? ?[KMGT]i?B$",
    },
    'time, such as `"5h"`, `"1h30min"` or `"2d"`': {
        "type": "string",
        "pattern": "^([0-9]+(w|d|h|min|m|s))+$",
    },
    "table of `add`, a list of requirements, and `remove`, a list of names": _table(
        add=_TEXTS, remove=_TEXTS
    ),
    "table of strings and lists of strings": _table_of(_SETTING),
    "table of `requires-dist`, a list of requirements": _table(requires_dist=_TEXTS),
    "list of paths": _TEXTS,
    'string, such as `"torch{torch}"`': _TEXT,
    "name of a `[[tool.uv.index]]`": _TEXT,
    '`"x86_64"` or `"aarch64"`': {"enum": ["x86_64", "aarch64"]},
    "string or list of strings": _ONE_OR_SEVERAL,
    "string": _TEXT,
    "list of tables of strings": _list_of(_STRINGS),
    "table of `nvidia`, a table of features with lists of values": _VARIANT,
    "table": {"type": "object"},
    "array of tables": {"type": "array", "minItems": 1},
    "table of tables": {"type": "object"},
}
"""The schema of each type that a declared key names."""


def table_schema() -> _Schema:
    """Return the schema of ``[tool.nox-buildstages]``."""
    schema = _object(TABLES[""])
    properties = schema["properties"]
    properties["final"] |= _object(TABLES["final"])
    properties["stage"]["items"] = _object(TABLES["stage"])
    properties["package"]["additionalProperties"] = _object(TABLES["package.NAME"])
    combinations = {name: _property(MATRIX[name]) for name in ("include", "exclude")}
    axis = {"anyOf": [_SOME_TEXTS, _table_of(_object(AXIS_VALUE))]}
    properties["matrix"] |= {"properties": combinations, "additionalProperties": axis}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "urn:nox-buildstages:table",
        "title": "Build stages for nox",
        **schema,
    }


def get_schema(tool_name: str) -> _Schema:
    """Return the schema for validate-pyproject, which looks for this entry point."""
    del tool_name  # our table has one name
    return table_schema()


def render_schema() -> str:
    """Return the schema as the text of a file."""
    return f"{json.dumps(table_schema(), indent=2, ensure_ascii=False)}\n"


def _object(keys: Mapping[str, Key]) -> _Schema:
    """Return the schema of a table with declared keys."""
    return {
        "type": "object",
        "properties": {name: _property(key) for name, key in keys.items()},
        "required": [name for name, key in keys.items() if key.is_required],
        "additionalProperties": False,
    }


def _property(key: Key) -> _Schema:
    """Return the schema of a key's value."""
    described = {**TYPES[key.type], "description": _LINK.sub(r"\1", key.text)}
    return described if key.default is None else {**described, "default": key.default}
