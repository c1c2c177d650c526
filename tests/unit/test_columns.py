"""Rows of text, one cell below the other."""

from __future__ import annotations

from nox_buildstages.columns import aligned


def test_cells_stand_below_each_other() -> None:
    """Each column is as wide as its widest cell, and nothing trails."""
    rows = [("name", "x", ""), ("a", "longer", "end")]
    assert list(aligned(rows)) == ["name  x", "a     longer  end"]


def test_no_rows_are_no_lines() -> None:
    """A project whose every stage is gone has nothing to tell."""
    assert list(aligned([])) == []
