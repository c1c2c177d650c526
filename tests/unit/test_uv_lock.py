"""Which versions a uv.lock has for a runtime environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from nox_buildstages.declarations.uv_lock import UV_LOCK, UvLock, find_uv_lock

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.markers import Environment

INDEX = 'source = { registry = "https://example.org/simple" }'
CPU = 'source = { registry = "cpu" }'
OLD, NEW = "python_full_version < '3.12'", "python_full_version >= '3.12'"
IS_CPU = "extra == 'extra-6-my-app-cpu'"
NO_CPU = "extra != 'extra-6-my-app-cpu' or extra == 'extra-6-my-app-gpu'"
TEXT = f"""
version = 1
revision = 5
resolution-markers = ["{NEW}", "{OLD}"]

[[package]]
name = "my-app"
version = "1"
source = {{ virtual = "." }}
dependencies = [
    {{ name = "num-lib", version = "1.0", {INDEX}, marker = "{OLD}" }},
    {{ name = "num-lib", version = "2.0", {INDEX}, marker = "{NEW}" }},
    {{ name = "tool", extra = ["fast"] }},
    {{ name = "winlib", marker = "sys_platform == 'win32'" }},
    {{ name = "member" }},
]

[package.optional-dependencies]
cpu = [{{ name = "torch", version = "2.9+cpu", {CPU} }}]
gpu = [{{ name = "torch", version = "2.9", {INDEX} }}]

[package.dev-dependencies]
dev = [{{ name = "ext" }}]

[[package]]
name = "member"
source = {{ editable = "libs/member" }}
dependencies = [{{ name = "deep" }}]

[[package]]
name = "num-lib"
version = "1.0"
{INDEX}
resolution-markers = ["{OLD}"]

[[package]]
name = "num-lib"
version = "2.0"
{INDEX}
resolution-markers = ["{NEW}"]

[[package]]
name = "tool"
version = "3"
source = {{ git = "https://example.org/tool?rev=main#0123" }}

[package.optional-dependencies]
fast = [{{ name = "speed" }}]

[[package]]
name = "ext"
version = "1.0"
{INDEX}
dependencies = [
    {{ name = "torch", version = "2.9", {INDEX}, marker = "{NO_CPU}" }},
    {{ name = "torch", version = "2.9+cpu", {CPU}, marker = "{IS_CPU}" }},
    {{ name = "more", marker = "extra == 'group-6-my-app-dev'" }},
]
sdist = {{ url = "https://example.org/ext-1.0.tar.gz", hash = "sha256:12" }}
""" + "".join(
    f'\n[[package]]\nname = "{name}"\nversion = "{version}"\n{source}\n'
    for name, version, source in [
        *(("torch", "2.9", INDEX), ("torch", "2.9+cpu", CPU), ("winlib", "1", INDEX)),
        *(("deep", "1", INDEX), ("speed", "1", INDEX), ("more", "1", INDEX)),
    ]
)


def select(
    *requirements: str,
    python: str = "3.11.7",
    extras: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    folder: Path,
) -> dict[str, str]:
    (folder / UV_LOCK).write_text(TEXT, "utf-8")
    environment = {**default_environment(), "python_full_version": python}
    lock = find_uv_lock(folder)
    assert lock is not None
    found = lock.select(
        map(Requirement, requirements),
        cast("Environment", {**environment, "sys_platform": "linux"}),
        extras=extras,
        groups=groups,
    )
    assert all(name == package.name for name, package in found.items())
    return {name: package.version for name, package in found.items()}


def test_the_fork_of_a_target(tmp_path: Path) -> None:
    """Of several versions that one counts whose markers are true."""
    for python, version in (("3.11.7", "1.0"), ("3.12.1", "2.0")):
        for wanted in ("num_lib", "NUM.lib>=9"):
            found = select(wanted, python=python, folder=tmp_path)
            assert found == {"num-lib": version}


def test_a_version_that_nothing_in_the_file_names(tmp_path: Path) -> None:
    """A requirement that isn't the project's gets the fork's, or none."""
    found = select("ext", "new", python="3.12.1", folder=tmp_path)
    assert found == {"ext": "1.0", "torch": "2.9"}


def test_what_requirements_lead_to(tmp_path: Path) -> None:
    """Extras and members of a workspace lead on; other platforms' packages don't."""
    found = select("tool[fast]", "winlib", "member", folder=tmp_path)
    assert found == {"tool": "3", "speed": "1", "deep": "1"}


@pytest.mark.parametrize(("extra", "version"), [("cpu", "2.9+cpu"), ("gpu", "2.9")])
def test_conflicting_extras(extra: str, version: str, tmp_path: Path) -> None:
    """The version is that of the extra, wherever something requires it."""
    for requirements in (("torch",), ("ext",)):
        found = select(*requirements, extras=(extra,), folder=tmp_path)
        assert found["torch"] == version
    found = select("ext", "torch", extras=(extra,), groups=("dev",), folder=tmp_path)
    assert found == {"ext": "1.0", "torch": version, "more": "1"}


def test_the_file_of_a_workspace(tmp_path: Path) -> None:
    """It lies above; a file there that doesn't know the project is a stranger's."""
    (tmp_path / UV_LOCK).write_text(TEXT, "utf-8")
    lock = find_uv_lock(tmp_path / "libs/member")
    assert lock is not None
    assert lock.project["name"] == "member"
    assert find_uv_lock(tmp_path / "libs/other") is None
    (tmp_path / UV_LOCK).write_text("version = 9", "utf-8")
    assert find_uv_lock(tmp_path / "libs/member") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version = 2", "it has version 2, and we read 1"),
        ("", "it has version None"),
        ("<<<<<<< HEAD", "line 1"),
        ("version = 1\npackage = [1]", "it has an unknown form"),
        ('version = 1\n[[package]]\nname = "a"', "it has an unknown form"),
        ("version = 1\npackage = 1", "it has an unknown form"),
    ],
)
def test_a_file_that_is_not_understood(text: str, reason: str, tmp_path: Path) -> None:
    """The reason says why."""
    (tmp_path / UV_LOCK).write_text(text, "utf-8")
    with pytest.raises(ValueError, match=reason):
        UvLock.read(tmp_path / UV_LOCK)
