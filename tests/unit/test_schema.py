"""The JSON schema of the table accepts what the program accepts, and refuses faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from validate_pyproject.api import Validator
from validate_pyproject.errors import ValidationError

from nox_buildstages.config.matrix import MATRIX
from nox_buildstages.config.reference import TABLES
from nox_buildstages.config.schema import TYPES, render_schema
from nox_buildstages.reader import parse_toml

ROOT = Path(__file__).parents[2]
STAGE = '[[tool.nox-buildstages.stage]]\nname = "one"\noutputs = ["a"]\n'
EXAMPLES = sorted((ROOT / "examples").rglob("pyproject.toml"))


@pytest.fixture(scope="module")
def validate() -> Validator:
    """What validate-pyproject does with the plugins that are installed."""
    return Validator()


def keyed(table: str, line: str) -> str:
    """Return a document with a line of a table in it."""
    name = table.replace("NAME", "a")
    head = f"[tool.nox-buildstages{name and '.'}{name}]\n"
    if table == "stage":
        return f"{STAGE}{line}" if line.partition(" ")[0] not in STAGE else STAGE
    return f"{head}{line.replace('AXIS.VALUE', 'axis.x')}\n{STAGE}"


def test_the_file_is_what_the_declared_keys_say() -> None:
    """A changed declaration needs `python docs/update_reference.py`."""
    file = ROOT / "docs" / "reference" / "nox-buildstages.schema.json"
    assert file.read_text("utf-8") == render_schema()


def test_each_type_has_a_schema() -> None:
    """The words of the reference are the types of the schema; axes have their own."""
    types = {key.type for keys in TABLES.values() for key in keys.values()}
    assert types - TYPES.keys() == {MATRIX["AXIS"].type}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda it: it.parent.name)
def test_each_example_is_accepted(path: Path, validate: Validator) -> None:
    """validate-pyproject finds the schema by its entry point."""
    validate(parse_toml(path.read_bytes()))


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (table, key.example)
        for table, keys in TABLES.items()
        for name, key in keys.items()
        if key.example and not name.startswith("AXIS.")
    ],
)
def test_the_example_of_each_key_is_accepted(
    table: str, line: str, validate: Validator
) -> None:
    """What the reference shows is right in an editor, too."""
    validate(parse_toml(keyed(table, line)))


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("", "pythons = ['3.11']"),
        ("", "python = '3.11'"),
        ("", "compiler-cache = true"),
        ("", "remote-store = { write = true }"),
        ("final", "checks = ['pytest']"),
        ("stage", "dependencies = 'torch'"),
        ("stage", "jobs = 0"),
        ("stage", "network = 'off'"),
        ("stage", "memory-per-job = '4 gigabytes'"),
        ("stage", "timeout = 5"),
        ("stage", "env = { X = 1 }"),
        ("package.NAME", "build-requires = { plus = [] }"),
        ("matrix", "axis = { x = { machine = 'arm' } }"),
    ],
)
def test_a_fault_is_refused(table: str, line: str, validate: Validator) -> None:
    """Unknown keys and values of another form are seen before nox runs."""
    with pytest.raises(ValidationError):
        validate(parse_toml(keyed(table, line)))


def test_a_stage_needs_a_name_and_outputs(validate: Validator) -> None:
    """The reserved and required parts are known."""
    document: dict[str, Any] = {"tool": {"nox-buildstages": {"stage": [{}]}}}
    with pytest.raises(ValidationError):
        validate(document)
