"""TOML for messages and files: what is written reads back as it was."""

from __future__ import annotations

from typing import Any

import pytest

from nox_buildstages.config.writing import (
    assignment,
    build_requires_table,
    format_value,
    indent,
    package_table,
    stage_table,
)
from nox_buildstages.reader import parse_toml


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('a "quoted" \\ name', '"a \\"quoted\\" \\\\ name"'),
        ("Tübingen", '"Tübingen"'),
        ("\x7f", '"\\u007f"'),
        (["a", "b"], '["a", "b"]'),
        ([], "[]"),
        ({"add": ["a"], "remove": []}, '{ add = ["a"], remove = [] }'),
        ({"cmake.define.A": "1"}, '{ "cmake.define.A" = "1" }'),
        (4, "4"),
    ],
)
def test_a_value_has_one_line(value: object, text: str) -> None:
    """Strings, lists and tables alike, and TOML reads them back."""
    assert format_value(value) == text
    assert parse_toml(f"x = {text}") == {"x": value}


def test_a_long_list_has_several_lines() -> None:
    """Each element gets a line, if one line can't hold all of them."""
    names = [f"a-rather-long-name-{number}" for number in range(5)]
    lines = [*assignment("x", names)]
    assert len(lines) == 7
    assert parse_toml("\n".join(lines)) == {"x": names}


@pytest.mark.parametrize(
    ("lines", "table"),
    [
        (stage_table("a", ["a==1"]), {"stage": [{"name": "a", "outputs": ["a==1"]}]}),
        (
            stage_table("a", ["a==1"], ["torch"]),
            {"stage": [{"name": "a", "dependencies": ["torch"], "outputs": ["a==1"]}]},
        ),
        (
            build_requires_table("a", add={"c", "b"}, remove=()),
            {"package": {"a": {"build-requires": {"add": ["b", "c"]}}}},
        ),
        (
            package_table("a", "metadata", {"requires-dist": []}),
            {"package": {"a": {"metadata": {"requires-dist": []}}}},
        ),
    ],
)
def test_tables(lines: Any, table: dict[str, Any]) -> None:  # noqa: ANN401 - iterator
    """A table of a stage leaves out an empty list of dependencies."""
    text = "\n".join(indent(lines))
    assert parse_toml(text) == {"tool": {"nox-buildstages": table}}
