"""The example of a stage in Python, with setuptools from PyPI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from support.project import Project

pytestmark = pytest.mark.network

EXAMPLE = Path(__file__).parents[2] / "examples" / "python-stage"


def test_the_example_compiles_the_code_that_it_generates(tmp_path: Path) -> None:
    """A change of the generator is a change of the source, so the wheel is built."""
    folder, store = tmp_path / "example", tmp_path / "store"
    generated = shutil.ignore_patterns(".nox", "wheelhouse", "build-stages")
    shutil.copytree(EXAMPLE, folder, ignore=generated)
    env = {name: it for name, it in os.environ.items() if not name.startswith("NOX")}
    env |= {"NOX_BUILDSTAGES_CACHE_DIR": str(store), "CI": ""}
    project = Project(folder=folder, store=store, env=env)
    assert "\n144\n" in project.nox("-s", "build-stages", timeout=300).output
    generator = folder / "tables" / "generate.py"
    generator.write_text(generator.read_text().replace("**2", "**3"))
    assert "\n1728\n" in project.nox("-s", "build-stages", timeout=300).output
