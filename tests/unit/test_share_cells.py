"""Cells of a matrix that share locks, and the names of the files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.config.project import read_cells
from nox_buildstages.lock.files import pylock, share_cells as sharing
from nox_buildstages.lock.files.lockfile import Lock
from nox_buildstages.lock.files.share_cells import CellLocks
from nox_buildstages.model import DirectorySource

if TYPE_CHECKING:
    from collections.abc import Callable

PYPROJECT = Path("/project/pyproject.toml")
TWO = {"arch": ["8.0", "9.0"], "torch": ["2.8", "2.13"]}


def lock(name: str, **versions: str) -> Lock:
    """Return a lock with some projects."""
    packages = [
        pylock.stage_package(
            project, Version(versions[project]), DirectorySource(path="x"), stage="s"
        )
        for project in map(canonicalize_name, versions)
    ]
    return Lock(name=name, inputs="", pylock=pylock.make_pylock(packages))


def locked(
    matrix: dict[str, list[str]], say: Callable[[str, dict[str, str]], dict[str, str]]
) -> list[CellLocks]:
    """Return the locks of each cell, with the versions that a function returns.

    Stage ``models`` uses all axes, ``base`` none.
    """
    named = "".join(f"{{{axis}}}" for axis in matrix)
    stages = [
        {"name": "base", "outputs": ["base"]},
        {"name": "models", "outputs": ["models"], "env": {"A": named}},
    ]
    document = {"tool": {"nox-buildstages": {"matrix": matrix, "stage": stages}}}
    projects = arrange_cells(read_cells(document, pyproject=PYPROJECT)).projects
    return [
        CellLocks(
            project=project,
            locks={
                name: lock(name, **say(name, dict(project.cell.choices)))
                for name in ("base", "models", "final")
            },
        )
        for project in projects
    ]


def nothing(_name: str, _cell: dict[str, str]) -> dict[str, str]:
    return {}


def torch(name: str, cell: dict[str, str]) -> dict[str, str]:
    return {} if name == "base" else {"torch": cell["torch"]}


def all_of_it(name: str, cell: dict[str, str]) -> dict[str, str]:
    return cell if name == "final" else {}


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (nothing, ["base", "models", "final"]),
        (torch, ["base", "models-2_8", "models-2_13", "final-2_8", "final-2_13"]),
        (
            all_of_it,
            [
                *("base", "models"),
                *("final-8_0-2_8", "final-8_0-2_13"),
                *("final-9_0-2_8", "final-9_0-2_13"),
            ],
        ),
    ],
)
def test_equal_locks_are_shared(say: Any, expected: list[str]) -> None:  # noqa: ANN401
    """File names contain only axes that distinguish locks."""
    found = sharing.name_lock_files(locked(TWO, say))
    assert [it.name for it in found] == expected
    assert len({it.series for it in found}) == 1


def test_all_axes_are_named_if_values_are_equal() -> None:
    """One value alone could belong to either axis."""
    switches = {"torch": ["1", "2"], "other": ["2", "1"]}
    found = sharing.name_lock_files(locked(switches, torch))
    assert [it.name for it in found] == [
        "base",
        *("models-1-2", "models-1-1", "models-2-2", "models-2-1"),
        *("final-1-2", "final-1-1", "final-2-2", "final-2-1"),
    ]


def test_all_axes_are_named_if_values_could_combine() -> None:
    """The lock of (y, z) would look like that of y-z, which all x share."""
    nested = {"arch": ["x", "y"], "torch": ["z", "y-z"]}

    def say(name: str, cell: dict[str, str]) -> dict[str, str]:
        return {} if name == "base" else {"torch": str(len(cell["torch"]))}

    found = sharing.name_lock_files(locked(nested, say))
    assert [it.name for it in found] == [
        "base",
        *("models-x-z", "models-x-y-z", "models-y-z", "models-y-y-z"),
        *("final-x-z", "final-x-y-z", "final-y-z", "final-y-y-z"),
    ]


def test_different_locks_of_a_shared_stage_are_an_error() -> None:
    """The error names the differences, and the way to multiply the stage."""
    cells = locked(TWO, lambda _, cell: {"torch": cell["torch"]})
    error = sharing.find_divergence(cells)
    assert error is not None
    assert error.stage == "base"
    assert str(error).splitlines() == [
        "error: stage base: its environment differs between cells that share it",
        "  in (arch=8.0, torch=2.8) and (arch=8.0, torch=2.13)",
        "    torch: 2.8, 2.13",
        "help: build it for each value of torch: use {torch} in it, such as",
        '  env = { TORCH = "{torch}" }',
    ]


def test_an_additional_project_is_a_difference() -> None:
    """Like another version."""
    cells = locked(TWO, lambda _, cell: {"x": "1"} if cell["arch"] == "9.0" else {})
    error = sharing.find_divergence(cells)
    assert error is not None
    assert error.details[1:] == ["  x: none, 1"]


def test_the_lock_of_one_cell_may_suit_all() -> None:
    """Each distinct lock is tried once; a cell keeps locks that it doesn't share."""
    cells = locked(TWO, lambda _, cell: {"torch": cell["torch"]})
    models = sharing.distinct_cells(cells, "base")
    assert [it.locks["base"] for it in models] == [
        lock("base", torch="2.8"),
        lock("base", torch="2.13"),
    ]
    preferred = [sharing.prefer_locks_of(it, models[0]) for it in cells]
    assert {str(it["base"].pylock.packages[0].version) for it in preferred} == {"2.8"}
    versions = [str(it["models"].pylock.packages[0].version) for it in preferred]
    assert versions == ["2.8", "2.13", "2.8", "2.13"]


def test_equal_cells_do_not_diverge() -> None:
    """No stage is reported."""
    assert sharing.find_divergence(locked(TWO, nothing)) is None
