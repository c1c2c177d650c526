"""Locking extensions of torch, as they are on PyPI; nothing is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.real import (
    TORCH,
    folder_with_torch,
    make_real_project,
)

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

pytestmark = pytest.mark.network

TABLE = """
    [tool.nox-buildstages]
    match-runtime = ["torch"]
    constraints = ["torch==2.13.0"]

    [tool.nox-buildstages.final]
    requirements = ["{name}", "torch"]

    [[tool.nox-buildstages.stage]]
    name = "kernels"
    dependencies = ["setuptools", "wheel", "ninja", "packaging", "psutil", "torch"]
    outputs = ["{name}=={version}"]
    env = {{ FLASH_ATTENTION_SKIP_CUDA_BUILD = "TRUE", TORCH_CUDA_ARCH_LIST = "9.0" }}
"""
CORRECTED = """
    [tool.nox-buildstages.package.grouped-gemm]
    build-requires = { remove = ["torch"] }
"""
STATED = """
    metadata = { requires-dist = [
        'absl-py ; extra == "dev"', 'absl-py ; extra == "all"',
    ] }
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that knows torch's CPU build and PyPI."""
    return make_real_project(tmp_path / "project", UV_FIND_LINKS=folder_with_torch())


def locked(project: Project) -> dict[str, str]:
    """Lock, and return what was learned of the output; see that there is one torch."""
    project.nox("-s", "build-stages-lock", timeout=300)
    for name in ("kernels", "final"):
        packages = project.lock(name)["packages"]
        found = [it["version"] for it in packages if it["name"] == "torch"]
        assert found == [TORCH]
    (output,) = project.lock("kernels")["tool"]["nox-buildstages"]["outputs"]
    return dict(output)


@pytest.mark.parametrize(
    ("name", "version"), [("flash-attn", "2.8.3.post2"), ("torch-scatter", "2.1.2")]
)
def test_a_backend_that_imports_torch_is_asked_where_torch_is(
    project: Project, name: str, version: str
) -> None:
    """Its metadata is that of its hook, and a second run changes nothing."""
    project.write(TABLE.format(name=name, version=version))
    output = locked(project)
    assert (output["version"], output["metadata"]) == (version, "hook")
    again = project.nox("-s", "build-stages-lock").output
    assert "asking the build backend" not in again
    assert "the lock files are up to date" in again


def test_a_wrong_declaration_is_told_with_both_sides_and_settled(
    project: Project,
) -> None:
    """With the line that the error shows grouped-gemm sees the torch of its stage.

    Its backend speaks only where torch has CUDA, so the table must speak for it here.
    """
    project.write(TABLE.format(name="grouped-gemm", version="0.3.0"))
    said = project.nox("-s", "build-stages-lock", check=False).output
    assert "grouped-gemm 0.3.0 declares torch<2.8,>=2.7.0" in said
    assert "torch==2.13.0" in said
    for line in CORRECTED.split("\n"):
        assert line.strip() in said
    text = project.pyproject.read_text("utf-8")
    project.write(f"{text}{CORRECTED}")
    failed = project.nox("-s", "build-stages-lock", check=False).output
    assert "CUDA_HOME environment variable is not set" in failed
    assert "metadata = { requires-dist = [" in failed
    project.write(f"{text}{CORRECTED}{STATED}")
    assert locked(project)["metadata"] == "config"
