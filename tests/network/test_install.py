"""The README's commands to install, in a project that needs stages."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from support.real import make_real_project

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.network

ROOT = Path(__file__).parents[2]
NEEDY = """
[project]
name = "mine"
version = "1.0"
requires-python = ">=3.10"
dependencies = ["chumpy==0.70"]
"""
"""A project that uv can't lock: the build of chumpy imports pip undeclared."""


def run(folder: Path, env: Mapping[str, str], *argv: str) -> str:
    """Run a command, and return its output."""
    return subprocess.run(
        argv, cwd=folder, env=env, check=True, capture_output=True, text=True
    ).stdout


def test_uv_installs_it_beside_a_project_that_uv_cannot_build(tmp_path: Path) -> None:
    """In an environment of its own, where nothing of the project is installed."""
    (line,) = (
        line
        for line in ROOT.joinpath("README.md").read_text("utf-8").splitlines()
        if line.startswith("uv ")
    )
    assert line in ROOT.joinpath("docs/index.md").read_text("utf-8")
    program, *words = shlex.split(
        line.replace("git+<URL of this repository>", ROOT.as_uri())
    )
    assert program == "uv"
    project = make_real_project(tmp_path / "mine")
    project.write(NEEDY)
    env = {
        **project.env,
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
    }
    run(project.folder, env, find_uv_bin(), *words)
    said = run(
        project.folder, env, str(tmp_path / "bin/nox"), "-s", "build-stages-init"
    )
    assert 'outputs = ["chumpy==0.70"]' in said
