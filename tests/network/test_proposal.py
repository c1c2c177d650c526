"""`build-stages-init` on real packages from PyPI: what it writes builds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.reader import parse_toml
from support.project import make_project

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.network

PYPROJECT = """\
[project]
name = "existing"
version = "1.0"
dependencies = [
    "preshed",  # has wheels, and is told not to use them
    "chumpy",   # has none, and its setup.py imports pip
]

[tool.uv]
no-binary-package = ["preshed"]
"""


def test_a_project_without_a_table_is_given_one_that_builds(tmp_path: Path) -> None:
    """After it was written, locking and building need nothing else."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name != "CI" and not name.startswith(("UV_", "NOX"))
    }
    project = make_project(tmp_path / "project", {**env, "NO_COLOR": "1"})
    project.write(PYPROJECT)
    project.nox("-s", "build-stages-init", "--", "--write", timeout=300)
    written = project.pyproject.read_text("utf-8")
    assert written.startswith(PYPROJECT.partition("no-binary-package")[0])
    tools = parse_toml(written)["tool"]
    assert tools["uv"].keys() == {"override-dependencies", "no-binary-package"}
    table = tools["nox-buildstages"]
    assert [stage["name"] for stage in table["stage"]] == ["chumpy", "preshed"]
    added = table["package"]["chumpy"]["build-requires"]["add"]
    assert added == ["setuptools", "pip"]  # by its recipe
    project.nox("-s", "build-stages-lock", "build-stages", timeout=600)
    built = [wheel["name"] for wheel in project.manifest()["wheels"]]
    assert built == ["chumpy", "preshed"]
