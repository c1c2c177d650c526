"""The error for cells that can't be locked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.config.project import read_cells
from nox_buildstages.errors import LockError
from nox_buildstages.lock.explain.cells import explain_cells
from nox_buildstages.reader import parse_toml
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from nox_buildstages.model import Project

TABLE = """
[tool.nox-buildstages]
python = ["3.12", "3.14t"]
stage = [{ name = "s", outputs = ["x"] }]
[tool.nox-buildstages.matrix]
arch = ["8", "9"]
torch = ["1", "2"]
"""
BROKEN = LockError(problem="no wheel", details=[*map(str, range(20))])


def projects(more: str = "") -> tuple[Project, ...]:
    return read_cells(parse_toml(TABLE + more), pyproject=Path("/p/pyproject.toml"))


@pytest.mark.parametrize(
    ("more", "failed", "hint"),
    [
        (
            "",
            ["arch=8, torch=1 3.12"],
            ['[{ arch = "8", torch = "1", python = "3.12" }]'],
        ),
        ("", ["arch=8, torch=1 "], ['[{ arch = "8", torch = "1" }]']),
        ("", ["arch=8, torch=2 ", "arch=9, torch=2 "], ['[{ torch = "2" }]']),
        (
            "",
            ["arch=8, torch=2 3.14t", "arch=9, torch=2 3.14t"],
            ['[{ torch = "2", python = "3.14t" }]'],
        ),
        (
            'exclude = [{ arch = "9", torch = "2", python = "3.14t" }]',
            ["arch=8, torch=2 3.14t"],
            ['[{ torch = "2", python = "3.14t" }]'],
        ),
        (
            'exclude = [{ arch = "9", torch = "1" }]',
            ["arch=9, torch=2 "],
            ['[{ arch = "9" }]'],
        ),
        (
            'exclude = [{ arch = "9", torch = "1" }]',
            ["arch=8, torch=1 3.12"],
            [
                "[",
                '  { arch = "9", torch = "1" },',
                '  { torch = "1", python = "3.12" },',
                "]",
            ],
        ),
    ],
)
def test_the_smallest_line_leaves_out_what_failed(
    more: str, failed: list[str], hint: list[str]
) -> None:
    """It has the entries that are there, and leaves out nothing else."""
    found = projects(more)
    by_name = {str(project.cell): project for project in found}
    failures = []
    for text in failed:
        cell, _, python = text.rpartition(" ")
        failures.append((by_name[cell], python, BROKEN))
    error = explain_cells(failures, found)
    first, *lines = error.hint.splitlines()
    assert first == "leave them out, in [tool.nox-buildstages.matrix]:"
    assert "\n".join(lines) == "  exclude = " + "\n  ".join(hint)


def test_a_cell_of_include_is_removed_there() -> None:
    """``exclude`` has no effect on it."""
    found = projects('include = [{ arch = "7", torch = "1", python = "3.14t" }]')
    error = explain_cells([(found[-1], "3.14t", BROKEN)], found)
    assert error.hint.splitlines() == [
        "remove from include:",
        '  { arch = "7", torch = "1", python = "3.14t" }',
    ]


def test_equal_reasons_are_given_once() -> None:
    """With all their cells; a long reason is cut."""
    found = projects()
    other = replace(BROKEN, problem="other", details=())
    failures = [
        (found[0], "3.12", BROKEN),
        (found[1], "", BROKEN),
        (found[2], "", other),
    ]
    error = explain_cells(failures, found)
    assert error.problem == "3 of 4 cells can't be locked"
    assert [*error.details] == [
        "(arch=8, torch=1) on Python 3.12, (arch=8, torch=2):",
        "  no wheel",
        *(f"    {number}" for number in range(8)),
        "(arch=9, torch=1):",
        "  other",
    ]


def test_what_fails_everywhere_is_no_matter_of_cells() -> None:
    """One reason stands alone; of several, each is given, without a line."""
    found = projects()
    assert explain_cells([(it, "", BROKEN) for it in found], found) is BROKEN
    other = LockError(problem="other")
    error = explain_cells(
        [(it, "", BROKEN) for it in found[:3]] + [(found[3], "", other)], found
    )
    assert error.problem == "4 of 4 cells can't be locked"
    assert error.hint == ""
