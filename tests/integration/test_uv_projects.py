"""Projects that are configured for uv already: locked as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.packages import make_sdist, make_tree, make_wheel
from support.sessions import run_session

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

WORKSPACE = """
[project]
name = "app"
version = "1"
dependencies = ["core"]
[tool.uv.workspace]
members = ["packages/*"]
[tool.uv.sources]
core = { workspace = true }
[[tool.nox-buildstages.stage]]
name = "ours"
"""


def packages(project: Project, name: str) -> dict[str, str | None]:
    """Return the packages of a lock file, with their versions."""
    found = project.lock(name)["packages"]
    return {package["name"]: package.get("version") for package in found}


@pytest.mark.parametrize(
    "output",
    ["core", pytest.param("core @ ./packages/core", marks=pytest.mark.slow)],
)
def test_a_member_of_the_workspace_is_an_output(project: Project, output: str) -> None:
    """By its name alone too: uv's workspace knows the folder."""
    folder = make_tree(project.folder / "packages/core", "core", "1.0")
    text = folder.joinpath("pyproject.toml").read_text("utf-8")
    declared = f'{text}\n[project]\nname = "core"\nversion = "1.0"\n'
    folder.joinpath("pyproject.toml").write_text(declared, encoding="utf-8")
    project.write(f'{WORKSPACE}outputs = ["{output}"]\n')
    run_session(project, "build-stages-lock")
    assert packages(project, "final") == {"core": "1.0"}
    (locked,) = project.lock("ours")["tool"]["nox-buildstages"]["outputs"]
    assert "packages/core" in str(locked["source"])


def test_what_uv_knows_of_builds_holds(project: Project, index: Index) -> None:
    """Constraints and more requirements for the build; less in the runtime.

    An override that removes a package from the runtime takes nothing from a build that
    names it, as in uv.
    """
    make_sdist(index.folder, "fast", "1.0", requires=["numpy", "leaf", "torch"])
    make_sdist(index.folder, "other", "1.0", build_requires=["tinybackend", "leaf"])
    for name in ("numpy", "torch", "leaf", "tool"):
        make_wheel(index.folder, name, "1.0")
        make_wheel(index.folder, name, "2.0")
    project.write("""
        [project]
        name = "app"
        version = "1"
        dependencies = ["fast", "other", "torch<2"]
        [tool.uv]
        build-constraint-dependencies = ["numpy<2"]
        exclude-dependencies = ["numpy"]
        override-dependencies = ["leaf; sys_platform == 'never'"]
        [tool.uv.extra-build-dependencies]
        fast = ["numpy", "tool", { requirement = "torch", match-runtime = true }]
        [[tool.nox-buildstages.stage]]
        name = "s"
        outputs = ["fast", "other"]
    """)
    lines = run_session(project, "build-stages-lock").stderr
    assert packages(project, "s") == {
        "leaf": "2.0",
        "numpy": "1.0",
        "tinybackend": "1.0",
        "tool": "2.0",
        "torch": "1.0",
    }
    assert packages(project, "final") == {
        "fast": "1.0",
        "other": "1.0",
        "torch": "1.0",
    }
    assert "no effect" not in lines


def test_what_has_no_effect_is_said_once(project: Project, index: Index) -> None:
    """A setting about builds, and variables that would hide declarations."""
    make_sdist(index.folder, "fast", "1.0")
    make_wheel(index.folder, "dep", "1.0")
    make_wheel(project.folder / "own", "dep", "2.0")
    project.write("""
        [project]
        name = "app"
        version = "1"
        dependencies = ["fast", "dep"]
        [tool.uv]
        no-build-isolation = true
        build-magic = 3
        sources = { dep = { path = "own/dep-2.0-py3-none-any.whl" } }
        [[tool.nox-buildstages.stage]]
        name = "s"
        outputs = ["fast"]
    """)
    env = {"UV_NO_SOURCES": "1", "UV_NO_CONFIG": "1", "UV_NO_BINARY": "0"}
    lines = run_session(project, "build-stages-lock", env=env).stderr
    for name in ("UV_NO_SOURCES", "no-build-isolation", "build-magic"):
        assert lines.count(name) == 1
    assert packages(project, "final") == {"dep": "2.0", "fast": "1.0"}
