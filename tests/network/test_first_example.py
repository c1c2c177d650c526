"""The README's first command, on real packages from PyPI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from support.packages import make_wheel
from support.project import Project

pytestmark = pytest.mark.network

EXAMPLE = Path(__file__).parents[2] / "examples" / "first"
OUTPUTS = ["cymem", "fastdtw", "murmurhash", "preshed"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The example, built, with a higher cymem within everybody's reach."""
    scratch = tmp_path_factory.mktemp("first")
    planted = scratch / "planted"
    planted.mkdir()
    make_wheel(planted, "cymem", "2.0.999", files={"cymem/planted.py": ""})
    env = {
        name: value
        for name, value in os.environ.items()
        if name != "CI" and not name.startswith(("UV_", "NOX"))
    }
    env["NOX_BUILDSTAGES_CACHE_DIR"] = str(scratch / "store")
    env["UV_FIND_LINKS"] = str(planted)
    env["NO_COLOR"] = "1"
    folder = scratch / "example"
    generated = shutil.ignore_patterns(".nox", "wheelhouse", "build-stages")
    shutil.copytree(EXAMPLE, folder, ignore=generated)
    project = Project(folder=folder, store=scratch / "store", env=env)
    project.nox("-s", "build-stages", timeout=600)
    return project


def test_the_first_command_ends_with_four_wheels(first: Project) -> None:
    """Each output is one wheel of the wheelhouse, built in this run."""
    manifest = first.manifest()["wheels"]
    assert [wheel["name"] for wheel in manifest] == OUTPUTS
    assert {wheel["status"] for wheel in manifest} == {"built"}
    assert [wheel["file"] for wheel in manifest] == first.wheels()


def test_fastdtw_is_compiled(first: Project) -> None:
    """In its stage it finds numpy and Cython, which it doesn't declare."""
    (wheel,) = first.wheelhouse.glob("fastdtw-0.3.4-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert any(name.startswith("fastdtw/_fastdtw.") for name in archive.namelist())


def test_preshed_is_built_against_the_wheels_of_the_first_stage(first: Project) -> None:
    """Its environment held those very files, though a higher cymem was in reach."""
    wheels = {wheel["name"]: wheel for wheel in first.manifest()["wheels"]}
    key = wheels["preshed"]["key"]
    record = first.store / "wheels" / key / "record.json"
    held = json.loads(record.read_text(encoding="utf-8"))["recipe"]["environment"]
    for name in ("cymem", "murmurhash"):
        assert held[name]["sha256"] == wheels[name]["sha256"]
        assert held[name]["stage"] == "native"
    assert held["cymem"]["version"] != "2.0.999"


def test_uv_and_pip_install_the_same_from_the_wheelhouse(
    first: Project, tmp_path: Path
) -> None:
    """The bound lock gives one set of packages, whoever installs it."""
    lock = str(first.wheelhouse / "pylock.toml")
    with_uv, with_pip = (_environment(tmp_path / name) for name in ("uv", "pip"))
    _run("uv", "pip", "sync", "--python", with_uv, lock)
    _run("uv", "pip", "install", "--python", with_pip, "pip>=26.1")
    _run(with_pip, "-m", "pip", "install", "--no-deps", "-r", lock)
    _run("uv", "pip", "uninstall", "--python", with_pip, "pip")
    assert _listed(with_uv) == _listed(with_pip)
    assert {name for name, _ in _listed(with_uv)} >= {*OUTPUTS, "numpy"}


def test_a_second_run_builds_nothing(first: Project) -> None:
    """Not even where the environments and the wheelhouse are gone."""
    before = {wheel["name"]: wheel["sha256"] for wheel in first.manifest()["wheels"]}
    for gone in (first.folder / ".nox", first.wheelhouse):
        shutil.rmtree(gone)
        assert "building" not in first.nox("-s", "build-stages").output
    after = first.manifest()["wheels"]
    assert {wheel["status"] for wheel in after} == {"cached"}
    assert {wheel["name"]: wheel["sha256"] for wheel in after} == before


def _environment(folder: Path) -> str:
    _run("uv", "venv", "--quiet", "--python", sys.executable, str(folder))
    return str(folder / "bin" / "python")


def _listed(python: str) -> set[tuple[str, str]]:
    text = _run("uv", "pip", "list", "--format", "json", "--python", python)
    return {(package["name"], package["version"]) for package in json.loads(text)}


def _run(*argv: str) -> str:
    program = find_uv_bin() if argv[0] == "uv" else argv[0]
    done = subprocess.run(
        [program, *argv[1:]], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
