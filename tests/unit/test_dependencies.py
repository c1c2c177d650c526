"""The dependencies between the projects of an environment."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.commands.release.dependencies import ROOT, find_dependencies
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
def test_installed_dependencies_are_found(
    installed: dict[str, list[str]], asked: list[str], expected: Graph
) -> None:
    """Markers and requested extras count; missing projects are left out."""
    found = find_dependencies(
        installed,
        [metadata(name, *requires) for name, requires in installed.items()],
        map(Requirement, asked),
        interpreter(),
    )
    assert found == expected


def test_a_project_without_readable_metadata_is_a_dependency() -> None:
    """The dependencies of that project are unknown."""
    asked = [Requirement("b[x]")]
    found = find_dependencies(["a", "b"], [metadata("a", "b")], asked, interpreter())
    assert found == {ROOT: ("b",), "a": ("b",), "b": ()}
