"""Sizes, times, tables and differences as people read them."""

from __future__ import annotations

import pytest

from nox_buildstages.text import align, diff, format_size, format_time, wrap_line


def test_cells_stand_below_each_other() -> None:
    """Each column is as wide as its widest cell, and nothing trails."""
    rows = [("name", "x", ""), ("a", "longer", "end")]
    assert list(align(rows)) == ["name  x", "a     longer  end"]


def test_no_rows_are_no_lines() -> None:
    """A project whose every stage is gone has nothing to tell."""
    assert list(align([])) == []


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (250_800, "250.8 kB"),
        (34_000_000, "34.0 MB"),
        (1_200_000_000, "1.2 GB"),
        (5_000_000_000_000, "5.0 TB"),
    ],
)
def test_sizes_are_written_as_people_write_them(size: int, expected: str) -> None:
    """In powers of 1000, as in the table."""
    assert format_size(size) == expected


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "59 s"),
        (60, "1 min"),
        (90_000, "25 h"),
        (61, "1 min 1 s"),
        (18_000, "5 h"),
        (5_430, "1 h 30 min 30 s"),
    ],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    """In hours, minutes and seconds, as far as there are any."""
    assert format_time(seconds) == words


def test_a_difference_names_both_sides() -> None:
    """What is on one side only has None on the other; equal values are left out."""
    old = {"a": 1, "b": 2, "c": 3}
    new = {"b": 2, "c": 4, "d": 5}
    assert list(diff(old, new)) == [("a", 1, None), ("c", 3, 4), ("d", None, 5)]


def test_a_long_line_is_wrapped_between_words() -> None:
    """Later lines are indented; a path that is too long stays whole."""
    line = "wrote to build-stages: pylock.native.toml"
    wrapped = ["wrote to build-stages:", "  pylock.native.toml"]
    assert wrap_line(line, 24, indent="  ") == wrapped
    assert wrap_line(line, 41, indent="  ") == [line]
    assert wrap_line("in /a/long/path-of-words", 9, indent="") == [
        "in",
        "/a/long/path-of-words",
    ]
