"""The reader of JSON and TOML: a value, or an error with the place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nox_buildstages import reader
from nox_buildstages.reader import UnreadableError, parse_json, parse_toml
from nox_buildstages.system.documents import find_json, read_toml

if TYPE_CHECKING:
    from pathlib import Path

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
        ("[NaN]", "has the number NaN, which is not JSON"),
        ("[0, 1e999]", "[1]: is inf, which is not JSON"),
        (DEEP, "is nested too deeply"),
        ("[" * 99 + "]" * 99, "[0][0][0]: is nested too deeply"),
        ('{"a": {"b c": "\\ud800"}}', 'a."b c": has half a character (a surrogate)'),
        ('["\\u0000"]', "[0]: has a NUL"),
        ('{"\\u0000": 1}', '"\\u0000": has a NUL'),
        ("[" + "9" * 20 + "]", "[0]: has more than 64 bits"),
        (b"\xff", "isn't UTF-8: byte 0xff in line 1; save it as UTF-8"),
        (b"[\n\xa0]", "isn't UTF-8: byte 0xa0 in line 2; save it as UTF-8"),
    ],
)
def test_json_that_cannot_be_read_names_the_place(
    content: str | bytes, problem: str
) -> None:
    """Whatever is wrong, there is one kind of error."""
    with pytest.raises(UnreadableError) as caught:
        parse_json(content, reader.plain)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a = 1\na = 2", "is not TOML: Cannot overwrite a value"),
        (f"a = {DEEP}", "is nested too deeply"),
        (f"{'.'.join('a' * 60)} = {{ {'.'.join('b' * 9)} = 1 }}", "a.a.a: is nested"),
        (f"\n{'.'.join('a' * 99999)} = 1", "line 2 has a key of too many parts"),
        ("a = { " + " . ".join(['" b"'] * 99999) + " = 1 }", "line 1 has a key of"),
        (f"a = {'9' * 5000}", "is not TOML: "),
        (f"a.b = [1, {{ c = 0x{'f' * 5000} }}]", "a.b[1].c: has more than 64 bits"),
        ('a = ["\\u0000"]', "a[0]: has a NUL"),
        (b"a = '\xff'", "isn't UTF-8: byte 0xff in line 1"),
    ],
)
def test_toml_that_cannot_be_read_names_the_place(
    content: str | bytes, problem: str
) -> None:
    """Also numbers and names that Python accepts and nothing else does."""
    with pytest.raises(UnreadableError) as caught:
        parse_toml(content)
    assert str(caught.value).startswith(problem)


def test_a_byte_order_mark_is_ignored() -> None:
    """Editors on Windows write one."""
    assert parse_toml("\ufeffa = 1") == parse_toml(b"\xef\xbb\xbfa = 1") == {"a": 1}
    assert parse_json(b"\xef\xbb\xbf[]", reader.plain) == []


@pytest.mark.parametrize(
    ("shape", "value", "problem"),
    [
        (reader.text, 1, ": expected a string, found 1"),
        (reader.boolean, "x", ": expected true or false, found the string 'x'"),
        (reader.integer, True, ": expected a whole number, found True"),
        (reader.integer, 2**63, f": expected a whole number, found {2**63}"),
        (reader.count, -1, ": expected a number that isn't negative, found -1"),
        (reader.seconds, 1e300, ": expected a number of seconds, found 1e+300"),
        (reader.list_of(reader.text), {}, ": expected a list, found a table"),
        (
            reader.list_of(reader.text),
            ["a", []],
            "[1]: expected a string",
        ),
        (reader.mapping_of(reader.count), {"a": "b"}, ".a: expected a whole number"),
        (reader.requirement, "!", ": Expected package name"),
        (reader.marker, "(" * 999, ": has too many parentheses"),
        (reader.parse_with(int), "x", ": invalid literal for int()"),
        (reader.table(lambda it: it.get("a", reader.text)), {}, ".a: is missing"),
    ],
)
def test_a_value_of_another_shape_is_described(
    shape: reader.Shape[object], value: object, problem: str
) -> None:
    """The message says what was expected and what is there."""
    with pytest.raises(UnreadableError) as caught:
        reader.Table({"x": value}).get("x", shape)
    assert str(caught.value).startswith(f"x{problem}")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Whatever stands in its place; who can make the file again just finds none."""
    os.mkfifo(tmp_path / "pipe")
    tmp_path.joinpath("folder").mkdir()
    tmp_path.joinpath("loop").symlink_to("loop")
    tmp_path.joinpath("text").write_bytes(b"=")
    for name in ("pipe", "folder", "loop", "missing", "text"):
        assert find_json(tmp_path / name, reader.text) is None
        with pytest.raises((OSError, UnreadableError), match=str(tmp_path / name)):
            read_toml(tmp_path / name)
