"""One lock for three interpreters and for a platform elsewhere, with real packages."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.real import make_real_project, python_of, uv

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.network

PYTHONS = ("3.11", "3.12", "3.13")
TABLE = """
    [tool.nox-buildstages]
    python = ["3.11", "3.12", "3.13"]
    environments = ["sys_platform == 'darwin' and platform_machine == 'arm64'"]
    match-runtime = ["numpy"]

    [tool.nox-buildstages.final]
    requirements = ["fastdtw", "numpy"]

    [[tool.nox-buildstages.stage]]
    name = "native"
    dependencies = ["numpy", "cython", "setuptools"]
    outputs = ["fastdtw==0.3.4"]
    env = { CFLAGS = "-O0" }
"""


def test_what_was_locked_for_three_is_installed_from_one(tmp_path: Path) -> None:
    """The wheelhouse of 3.12 gives an environment elsewhere with a compiled fastdtw."""
    folders = [str(python_of(version)) for version in PYTHONS]
    path = os.pathsep.join([os.environ["PATH"], *folders])
    project = make_real_project(tmp_path / "project", PATH=path)
    project.write(TABLE)
    project.nox("-s", "build-stages-3.12", timeout=300)
    native = project.lock("native")
    assert len(native["environments"]) == 2 * len(PYTHONS)
    (numpy,) = {
        package["version"]
        for name in ("native", "final")
        for package in project.lock(name)["packages"]
        if package["name"] == "numpy"
    }
    wheels = [wheel["url"] for it in native["packages"] for wheel in it["wheels"]]
    for tag in ("cp313-cp313-manylinux", "cp313-cp313-macosx"):
        assert [url for url in wheels if "/numpy-" in url and tag in url]

    environment = tmp_path / "elsewhere"
    python = str(environment / "bin" / "python")
    uv("venv", "--quiet", "--python", f"{folders[1]}/python3.12", str(environment))
    lock = str(project.wheelhouse / "3.12" / "pylock.toml")
    uv("pip", "sync", "--quiet", "--preview-features", "pylock", "-p", python, lock)
    script = "import fastdtw._fastdtw, numpy; print(numpy.__version__)"
    said = subprocess.run(
        [python, "-I", "-c", script], check=True, capture_output=True, text=True
    )
    assert said.stdout.strip() == numpy
