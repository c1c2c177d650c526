"""Rows of text, one cell below the other."""

from __future__ import annotations

import pytest

from nox_buildstages.columns import aligned, human


def test_cells_stand_below_each_other() -> None:
    """Each column is as wide as its widest cell, and nothing trails."""
    rows = [("name", "x", ""), ("a", "longer", "end")]
    assert list(aligned(rows)) == ["name  x", "a     longer  end"]


def test_no_rows_are_no_lines() -> None:
    """A project whose every stage is gone has nothing to tell."""
    assert list(aligned([])) == []


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (250_800, "250.8 kB"),
        (34_000_000, "34.0 MB"),
        (1_200_000_000, "1.2 GB"),
        (5_000_000_000_000, "5000.0 GB"),
    ],
)
def test_sizes_are_written_as_people_write_them(size: int, expected: str) -> None:
    """In powers of 1000, as in the table."""
    assert human(size) == expected
