"""Source trees declare build systems and static metadata."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from nox_buildstages.errors import SourceError
from nox_buildstages.model import Metadata
from nox_buildstages.sources.metadata import (
    BuildSystem,
    metadata_from_core,
    read_build_system,
    read_identity,
    read_static_metadata,
)
from nox_buildstages.wheels import core_metadata

if TYPE_CHECKING:
    from pathlib import Path

LEGACY = "setuptools.build_meta:__legacy__"


def tree(folder: Path, pyproject: str | None = None, pkg_info: str = "") -> Path:
    if pyproject is not None:
        (folder / "pyproject.toml").write_text(dedent(pyproject), "utf-8")
    if pkg_info:
        (folder / "PKG-INFO").write_text(dedent(pkg_info).lstrip(), "utf-8")
    return folder


# How it is built -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("pyproject", "expected"),
    [
        (None, BuildSystem(requires=("setuptools",), backend=LEGACY)),
        ("[project]\nname = 'a'", BuildSystem(requires=("setuptools",))),
        (
            "[build-system]\nrequires = ['setuptools>=61', 'wheel']",
            BuildSystem(requires=("setuptools>=61", "wheel"), backend=LEGACY),
        ),
        (
            """
            [build-system]
            requires = []
            build-backend = "own:main"
            backend-path = [".", "tools"]
            """,
            BuildSystem(requires=(), backend="own:main", backend_path=(".", "tools")),
        ),
    ],
)
def test_a_tree_declares_its_build_system(
    tmp_path: Path, pyproject: str | None, expected: BuildSystem
) -> None:
    """The default is setuptools, as before pyproject.toml existed."""
    assert read_build_system(tree(tmp_path, pyproject)) == expected


def refusal(folder: Path) -> str:
    with pytest.raises(SourceError) as caught:
        read_build_system(folder)
    assert caught.value.subject == folder.name
    assert caught.value.hint == "fix the source, or choose another version of it"
    return caught.value.problem


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("[build-system", "pyproject.toml: "),
        ("build-system = 'x'", "build-system is 'x', not a table"),
        ("[[build-system]]", "build-system is [{}], not a table"),
        ("[build-system]", "build-system.requires is missing"),
        ("[build-system]\nrequires = 'a'", "requires is 'a', not a list of strings"),
        ("[build-system]\nrequires = 1", "requires is 1, not a list of strings"),
        ("[build-system]\nrequires = [1]", "requires is [1], not a list of strings"),
        ("[build-system]\nrequires = ['a b']", "build-system.requires: "),
        (
            "[build-system]\nrequires = []\nbuild-backend = 1",
            "build-backend is 1, not a string",
        ),
        (
            "[build-system]\nrequires = []\nbackend-path = '.'",
            "backend-path is '.', not a list of strings",
        ),
    ],
)
def test_a_bad_table_is_an_error_of_the_source(
    tmp_path: Path, table: str, problem: str
) -> None:
    """Nothing is guessed, and no other kind of error is raised."""
    found = refusal(tree(tmp_path, table))
    assert found.startswith(f"its metadata can't be read: {problem}")


def test_a_pyproject_must_be_utf_8(tmp_path: Path) -> None:
    """TOML files are UTF-8."""
    (tmp_path / "pyproject.toml").write_bytes(b"# \xe4\n")
    assert "pyproject.toml: isn't UTF-8: byte 0xe4 in line 1" in refusal(tmp_path)


# What its wheel will say ---------------------------------------------------------

PKG_INFO = """\
Metadata-Version: {version}
Name: a
Version: 1.0
Requires-Python: >=3.9
Provides-Extra: Some_Extra
Requires-Dist: y
Requires-Dist: x<2,>=1
"""


def static(
    *requires: str, version: str = "1.0", python: str | None = None, extras: str = ""
) -> Metadata:
    return Metadata(
        version=Version(version),
        requires_dist=requires,
        requires_python=python,
        provides_extra=tuple(extras.split()),
        learned="static",
    )


@pytest.mark.parametrize("version", ["2.2", "2.4", "10.0"])
def test_a_pkg_info_since_2_2_is_final(tmp_path: Path, version: str) -> None:
    """PEP 643: fields that aren't dynamic are the same in every wheel."""
    folder = tree(tmp_path, pkg_info=PKG_INFO.format(version=version))
    assert read_static_metadata(folder) == static(
        "x<2,>=1", "y", python=">=3.9", extras="some-extra"
    )


@pytest.mark.parametrize(
    "field", ["Requires-Dist", "requires-python", "Provides-Extra"]
)
def test_a_dynamic_field_is_not_final(tmp_path: Path, field: str) -> None:
    """Only the build backend knows the requirements of a wheel."""
    pkg_info = PKG_INFO.format(version="2.4") + f"Dynamic: {field}\n"
    assert read_static_metadata(tree(tmp_path, pkg_info=pkg_info)) is None


def test_other_dynamic_fields_do_not_matter(tmp_path: Path) -> None:
    """The description may be dynamic."""
    pkg_info = PKG_INFO.format(version="2.4") + "Dynamic: Description\n"
    assert read_static_metadata(tree(tmp_path, pkg_info=pkg_info)) is not None


@pytest.mark.parametrize("version", ["1.0", "1.2", "2.1"])
def test_an_old_pkg_info_is_not_final(tmp_path: Path, version: str) -> None:
    """Before 2.2 a wheel could have other metadata."""
    pkg_info = PKG_INFO.format(version=version)
    assert read_static_metadata(tree(tmp_path, pkg_info=pkg_info)) is None


PROJECT = """
[project]
name = "a"
version = "1.0"
requires-python = ">= 3.9"
dependencies = ["y", "x >=1, <2; python_version < '4'"]
[project.optional-dependencies]
Some_Extra = [
  "z",
  "w; sys_platform == 'linux'",
  "v; os_name == 'nt' or os_name == 'posix'",
]
"""
REQUIRES = (
    'v; (os_name == "nt" or os_name == "posix") and extra == "some-extra"',
    'w; sys_platform == "linux" and extra == "some-extra"',
    'x<2,>=1; python_version < "4"',
    "y",
    'z; extra == "some-extra"',
)


def test_a_project_table_is_final(tmp_path: Path) -> None:
    """PEP 621; a requirement of an extra keeps its own marker."""
    assert read_static_metadata(tree(tmp_path, PROJECT)) == static(
        *REQUIRES, python=">=3.9", extras="some-extra"
    )


def test_a_project_table_is_believed_over_an_old_pkg_info(tmp_path: Path) -> None:
    """An old PKG-INFO isn't final; its version still counts."""
    pkg_info = "Metadata-Version: 2.1\nName: a\nVersion: 1.0.post1\n"
    assert read_static_metadata(tree(tmp_path, PROJECT, pkg_info)) == static(
        *REQUIRES, version="1.0.post1", python=">=3.9", extras="some-extra"
    )


def test_a_dynamic_version_comes_from_the_sdist(tmp_path: Path) -> None:
    """With setuptools-scm only PKG-INFO has the version."""
    project = "[project]\nname = 'a'\ndynamic = ['version']\ndependencies = ['x']"
    pkg_info = "Metadata-Version: 2.1\nName: a\nVersion: 3.1\n"
    assert read_static_metadata(tree(tmp_path, project, pkg_info)) == static(
        "x", version="3.1"
    )


@pytest.mark.parametrize(
    "pyproject",
    [
        None,
        "[build-system]\nrequires = []",
        "[project]\nname = 'a'\ndynamic = ['version']",
        "[project]\nname = 'a'\nversion = '1'\ndynamic = ['dependencies']",
        "[project]\nname = 'a'\nversion = '1'\ndynamic = ['optional-dependencies']",
        "[project]\nname = 'a'\nversion = '1'\ndynamic = ['requires-python']",
    ],
)
def test_a_tree_may_have_no_static_metadata(
    tmp_path: Path, pyproject: str | None
) -> None:
    """The build backend is asked for dynamic or missing metadata."""
    assert read_static_metadata(tree(tmp_path, pyproject)) is None


def test_a_project_without_dependencies_has_none(tmp_path: Path) -> None:
    """PEP 621: a field is empty if it is neither listed nor dynamic."""
    project = "[project]\nname = 'a'\nversion = '1'"
    assert read_static_metadata(tree(tmp_path, project)) == static(version="1")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("project = []", "project is [], not a table"),
        ("[project]\nversion = 1", "version is 1, not a string"),
        ("[project]\nversion = 'x y'", "Invalid version: 'x y'"),
        ("[project]\nversion = '1'\ndynamic = 'dependencies'", "dynamic is "),
        ("[project]\nversion = '1'\ndependencies = 'x'", "dependencies is 'x', not"),
        ("[project]\nversion = '1'\ndependencies = ['x y']", "Expected "),
        ("[project]\nversion = '1'\nrequires-python = 3", "requires-python is 3, not"),
        ("[project]\nversion = '1'\nrequires-python = 'x'", "Invalid specifier: 'x'"),
        (
            "[project]\nversion = '1'\noptional-dependencies = ['x']",
            "optional-dependencies is ['x'], not a table",
        ),
        (
            "[project]\nversion = '1'\noptional-dependencies.x = 'y'",
            "x is 'y', not a list of strings",
        ),
        ("[project", "pyproject.toml: "),
    ],
)
def test_invalid_metadata_is_an_error(tmp_path: Path, table: str, problem: str) -> None:
    """The error names the place instead of ignoring the metadata."""
    with pytest.raises(SourceError) as caught:
        read_static_metadata(tree(tmp_path, table))
    found = caught.value.problem
    assert found.startswith(f"its metadata can't be read: {problem}")


def test_a_bad_pkg_info_is_an_error(tmp_path: Path) -> None:
    """The metadata of an sdist isn't ignored."""
    with pytest.raises(SourceError, match="Version is missing"):
        read_static_metadata(
            tree(tmp_path, pkg_info="Metadata-Version: 2.4\nName: a\n")
        )


def test_metadata_names_its_origin() -> None:
    """The lock records how metadata was determined."""
    said = core_metadata.parse_metadata(PKG_INFO.format(version="2.1").encode())
    found = metadata_from_core(said, learned="hook")
    assert found.learned == "hook"
    assert found.requires_dist == ("x<2,>=1", "y")
    assert found.provides_extra == ("some-extra",)


@pytest.mark.parametrize(
    ("files", "name", "version", "plugin"),
    [
        ({}, None, None, None),
        ({"PKG-INFO": "Name: A_b\nVersion: 1.4\n"}, "a-b", "1.4", None),
        ({"PKG-INFO": "not metadata"}, None, None, None),
        (
            {"pyproject.toml": '[project]\nname = "a"\nversion = "2"\n'},
            "a",
            "2",
            None,
        ),
        ({"pyproject.toml": '[project]\nname = "a"\n'}, "a", None, None),
        ({"setup.py": "setup(use_scm_version=True)"}, None, None, "setuptools-scm"),
        ({"pyproject.toml": "[tool.setuptools_scm]"}, None, None, "setuptools-scm"),
        ({"setup.py": "setup(pbr=True)"}, None, None, "pbr"),
    ],
)
def test_a_tree_says_what_it_is(
    tmp_path: Path,
    files: dict[str, str],
    name: str | None,
    version: str | None,
    plugin: str | None,
) -> None:
    """In PKG-INFO or the table, as far as anybody can tell without running it."""
    for file, text in files.items():
        (tmp_path / file).write_text(text, "utf-8")
    identity = read_identity(tmp_path)
    assert identity.name == name
    assert identity.version == (None if version is None else Version(version))
    assert (identity.version_plugin or (None,))[0] == plugin
