"""What in an environment requires what."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.commands.release.dependencies import ASKED, required
from nox_buildstages.wheels.core_metadata import CoreMetadata
from support.targets import interpreter

Graph = dict[str, tuple[str, ...]]


def metadata(name: str, *requires: str) -> CoreMetadata:
    return CoreMetadata(
        metadata_version="2.4",
        name=canonicalize_name(name),
        version=Version("1"),
        requires_dist=requires,
    )


@pytest.mark.parametrize(
    ("installed", "asked", "expected"),
    [
        ({"a": ["b>=1"], "b": []}, ["A"], {"": ("a",), "a": ("b",), "b": ()}),
        ({"a": ["b"]}, ["a", "c"], {"": ("a",), "a": ()}),
        (
            {"a": ["b; python_version < '3'", "c; python_version > '3'"], "b": []}
            | {"c": []},
            ["a", "b; sys_platform == 'win32'"],
            {"": ("a",), "a": ("c",), "b": (), "c": ()},
        ),
        (
            {"a": ["b; extra == 'x'", "c; extra == 'Y.z'"], "b": [], "c": []},
            ["a"],
            {"": ("a",), "a": (), "b": (), "c": ()},
        ),
        (
            {"a": ["b; extra == 'x'", "c; extra == 'y-z'"], "b": [], "c": []},
            ["a[Y_z]"],
            {"": ("a",), "a": ("c",), "b": (), "c": ()},
        ),
        (
            {"a": ["a[x]; extra == 'all'", "b; extra == 'x'"], "b": ["a[all]"]},
            ["a[all]"],
            {"": ("a",), "a": ("b",), "b": ("a",)},
        ),
        ({}, [], {"": ()}),
    ],
)
def test_what_is_required_and_there_is_told(
    installed: dict[str, list[str]], asked: list[str], expected: Graph
) -> None:
    """As far as markers hold and extras are asked for, by whomever."""
    found = required(
        installed,
        [metadata(name, *requires) for name, requires in installed.items()],
        map(Requirement, asked),
        interpreter(),
    )
    assert found == expected


def test_what_cannot_be_read_is_still_required() -> None:
    """What it requires itself isn't known."""
    asked = [Requirement("b[x]")]
    found = required(["a", "b"], [metadata("a", "b")], asked, interpreter())
    assert found == {ASKED: ("b",), "a": ("b",), "b": ()}
