"""Locks are made for interpreters on this machine and on other platforms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.tags import Tag

from nox_buildstages.environments.targets import (
    list_targets,
    python_versions,
    target_markers,
)
from nox_buildstages.errors import DeclarationError
from support.targets import LINUX, MAC, interpreter, project

if TYPE_CHECKING:
    from nox_buildstages.environments.targets import Target

PYTHON = Path("/bin/python")


def told(found: tuple[Target, ...]) -> list[str]:
    return [str(target) for target in found]


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        ((), ("3.11",)),
        (("3.11",), ("3.11",)),
        (("pypy3.11",), ("3.11",)),
        (("3.12.1", "3.9"), ("3.12", "3.9")),
    ],
)
def test_minor_versions_count(
    pythons: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """A single version means the session's own interpreter, in any spelling."""
    assert python_versions(project(*pythons), interpreter()) == expected


def test_available_interpreters_are_used_unchanged() -> None:
    """With the tags of this machine and the markers of the patch release."""
    here, other = interpreter(), interpreter("3.12")
    at_hand = {"3.11": (PYTHON, here), "3.12": (PYTHON, other)}
    found = list_targets(project("3.11", "3.12"), here, at_hand)
    assert [it.interpreter for it in found] == [here, other]
    assert {it.python for it in found} == {PYTHON}


def test_a_missing_python_gets_the_platform_of_this_machine() -> None:
    """A wheel for musl isn't a wheel for glibc, for any version of Python."""
    here = interpreter()
    _, absent = list_targets(project("3.11", "3.13"), here, {"3.11": (PYTHON, here)})
    assert (absent.python, absent.platform) == (None, None)
    assert absent.interpreter.tags[0] == Tag("cp313", "cp313", "musllinux_1_2_x86_64")
    assert absent.interpreter.markers["python_full_version"] == "3.13.0"
    assert absent.marker == f'python_version == "3.13" and {LINUX}'


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("sys_platform == 'linux' and platform_machine == 'x86_64'", []),
        (
            "sys_platform == 'darwin' and platform_machine == 'arm64'",
            ["CPython 3.11 on darwin arm64", "CPython 3.12 on darwin arm64"],
        ),
        (
            "sys_platform == 'win32' and python_version < '3.12'",
            ["CPython 3.11 on win32 AMD64", "CPython 3.11 on win32 ARM64"],
        ),
        (
            "platform_machine == 'aarch64'",
            ["CPython 3.11 on linux aarch64", "CPython 3.12 on linux aarch64"],
        ),
    ],
)
def test_environments_add_platforms(environment: str, expected: list[str]) -> None:
    """This machine is always included, and comes first."""
    both = project("3.11", "3.12", environments=(environment,))
    found = told(list_targets(both, interpreter(), {}))
    own = ["CPython 3.11 on linux x86_64", "CPython 3.12 on linux x86_64"]
    assert found == [*own, *expected]


@pytest.mark.parametrize(
    ("environment", "platform", "tag"),
    [
        ("sys_platform == 'darwin'", "aarch64-apple-darwin", "macosx_14_0_arm64"),
        ("sys_platform == 'win32'", "x86_64-pc-windows-msvc", "win_amd64"),
        (
            "platform_machine == 'aarch64'",
            "aarch64-manylinux_2_28",
            "manylinux_2_28_aarch64",
        ),
    ],
)
def test_another_platform_has_uv_s_name_and_tags(
    environment: str, platform: str, tag: str
) -> None:
    """Uv accepts the name, and wheels with these tags."""
    elsewhere = project(environments=(environment,))
    _, found, *_ = list_targets(elsewhere, interpreter(), {})
    assert found.platform == platform
    assert found.interpreter.tags[0] == Tag("cp311", "cp311", tag)


def test_another_linux_accepts_old_wheels() -> None:
    """manylinux2014 wheels too, by both names of the tag."""
    elsewhere = project(environments=("platform_machine == 'aarch64'",))
    _, found = list_targets(elsewhere, interpreter(), {})
    accepted = {tag.platform for tag in found.interpreter.tags}
    assert accepted == {
        *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 29)),
        *("manylinux2014_aarch64", "linux_aarch64", "any"),
    }


def test_an_unknown_platform_is_an_error() -> None:
    """The message names the place in the table and the known platforms."""
    environments = ("sys_platform == 'linux'", "sys_platform == 'emscripten'")
    elsewhere = project(environments=environments)
    with pytest.raises(DeclarationError) as caught:
        target_markers(elsewhere, interpreter())
    (problem,) = caught.value.problems
    assert problem.location == "tool.nox-buildstages.environments[1]"
    assert "emscripten" in problem.message
    assert "linux x86_64, linux aarch64, darwin arm64" in problem.message


def test_all_machines_lock_for_the_same_targets() -> None:
    """Every session and machine finds the locks of another up to date."""
    environments = (LINUX, MAC)
    both = project("3.11", "3.12", environments=environments)
    assert target_markers(both, interpreter("3.11")) == target_markers(
        both, interpreter("3.12")
    )
    assert target_markers(both, interpreter()) == sorted(
        f'python_version == "{version}" and {kind}'
        for version in ("3.11", "3.12")
        for kind in environments
    )
