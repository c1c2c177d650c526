"""What tests on real packages from PyPI have in common."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from support.project import make_project, outer_env

if TYPE_CHECKING:
    from support.project import Project

TORCH = "2.13.0+cpu"
"""The only torch that a test may take: others are gigabytes."""


def make_real_project(folder: Path, **env: str) -> Project:
    """Make a project that knows this machine's indexes, with a store of its own.

    Its compiler cache is its own too.

    Args:
        folder: To make.
        **env: Variables over those of this process.
    """
    caches = {"CCACHE_DIR": f"{folder}-ccache", "SCCACHE_DIR": f"{folder}-sccache"}
    return make_project(folder, {**outer_env(), **caches, "NO_COLOR": "1", **env})


def folder_with_torch() -> str:
    """Return the folder that has torch's CPU build for this Python; skip without it."""
    python = "cp{}{}".format(*sys.version_info)
    named = (os.environ.get(name, "") for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"))
    folders = " ".join(named).replace(",", " ").split()
    for folder in folders:
        if any(Path(folder).glob(f"torch-{TORCH}-{python}-{python}-*.whl")):
            return folder
    pytest.skip(f"no torch {TORCH} for {python} in UV_FIND_LINKS or PIP_FIND_LINKS")


def python_of(version: str) -> Path:
    """Return the folder of an interpreter's programs; skip the test without it."""
    name = f"python{version}"
    roots = Path(os.environ.get("PYENV_ROOT", "")).glob(f"versions/{version}*/bin")
    places = [*(str(root) for root in roots), *os.environ["PATH"].split(os.pathsep)]
    for place in places:
        program = shutil.which(name, path=place)
        if program is not None and _runs(program):
            return Path(place)
    pytest.skip(f"no {name}")


def uv(*argv: str) -> str:
    """Run uv, and return what it printed."""
    done = subprocess.run(
        [find_uv_bin(), *argv], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _runs(program: str) -> bool:
    asked = [program, "-c", ""]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0
