"""Lock files that nox wrote are what other tools take for PEP 751 files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import uv
from packaging.pylock import Pylock, is_valid_pylock_path

from nox_buildstages.reader import parse_toml
from support.index import Index
from support.packages import make_sdist, make_tinybackend, make_tree, make_wheel
from support.pair import declare as declare_table
from support.project import Project, hermetic_env, make_project
from support.pythons import HERE, another

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

UV = uv.find_uv_bin()
OTHER = another()
BOTH = (HERE, OTHER.version if OTHER else HERE)
NEWER = max(BOTH, key=lambda version: int(version[2:]))
NAMES = ("kernels", "models", "final")
IN_FINAL = {
    "archived": "1.0",
    "committed": "1.0",
    "fast": "1.0",
    "folder": "1.0",
    "kernel": "1.0",
    "numpy": "2.0",
}


def git(folder: Path, *args: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    command = ["git", *identity, "-C", str(folder), *args]
    subprocess.run(command, check=True, capture_output=True)


def publish(index: Index) -> None:
    """Put what the project wants on the index, and a namesake of an output."""
    make_tinybackend(index.folder)
    for version in ("1.0", "2.0"):
        make_wheel(index.folder, "numpy", version)
    make_wheel(index.folder, "fast", "1.0")
    make_wheel(index.folder, "kernel", "9.0")
    make_sdist(
        index.folder, "kernel", "1.0", requires=["numpy", "fast; extra == 'speed'"]
    )


def declare(project: Project) -> None:
    """Write the project, with an output of each kind."""
    for name in ("folder", "committed"):
        make_tree(project.folder / "vendor" / name, name, "1.0")
    repository = project.folder / "vendor/committed"
    git(repository, "init", "-q", "-b", "main")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "first")
    odd = make_sdist(project.folder / "vendor", "archived", "1.0")
    odd.rename(project.folder / "vendor/v1.0.tar.gz")
    project.write(f"""
        [tool.nox-buildstages]
        match-runtime = ["numpy"]

        [tool.nox-buildstages.final]
        requirements = ["kernel[speed]", "folder", "committed", "archived"]

        [[tool.nox-buildstages.stage]]
        name = "kernels"
        dependencies = ["numpy"]
        outputs = ["kernel==1.0", "folder @ ./vendor/folder"]

        [[tool.nox-buildstages.stage]]
        name = "models"
        dependencies = ["kernel"]
        outputs = [
            "committed @ git+{repository.as_uri()}@main",
            "archived @ ./vendor/v1.0.tar.gz",
        ]
    """)


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, caches: Path
) -> Iterator[Project]:
    """Return a project whose locks and whose wheelhouse a real nox has made."""
    folder = tmp_path_factory.mktemp("installs")
    with Index(folder / "index") as index:
        publish(index)
        env = hermetic_env(folder / "scratch", caches, index)
        project = make_project(folder / "project", env)
        declare(project)
        project.nox("-s", "build-stages-lock")
        project.nox("-s", "build-stages")
        yield project


def run(*argv: str, env: Mapping[str, str]) -> str:
    done = subprocess.run(argv, env=env, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory, caches: Path) -> Iterator[Project]:
    """Return a project whose locks are for two Pythons, and for a Mac."""
    if OTHER is None:
        pytest.skip("there is one Python here")
    folder = tmp_path_factory.mktemp("merged")
    with Index(folder / "index") as index:
        make_tinybackend(index.folder)
        make_wheel(index.folder, "numpy", "1.0")
        make_wheel(index.folder, "numpy", "2.0", requires_python=f">={NEWER}")
        make_sdist(index.folder, "kernel", "1.0", requires=["numpy"])
        env = hermetic_env(folder / "scratch", caches, index)
        env["PATH"] = OTHER.on_path(env["PATH"])
        project = make_project(folder / "project", env)
        mac = "sys_platform == 'darwin' and platform_machine == 'arm64'"
        stage = {"name": "kernels", "dependencies": ["numpy"], "outputs": ["kernel"]}
        final = {"requirements": ["kernel"]}
        table = {"python": [*BOTH], "environments": [mac], "final": final}
        declare_table(project, {**table, "stage": [stage]})
        project.nox("-s", "build-stages-lock")
        yield project


@dataclass(frozen=True, kw_only=True, slots=True)
class Venv:
    """An environment."""

    python: Path
    env: Mapping[str, str]

    def pip(self, command: str, *args: str) -> None:
        """Run one of uv's commands on it."""
        here = ("-q", "--preview-features", "pylock", "--python", str(self.python))
        run(UV, "pip", command, *here, *args, env=self.env)

    def holds(self) -> dict[str, str]:
        """Return what is in it."""
        listing = ("pip", "list", "--format", "json", "--python", str(self.python))
        found = json.loads(run(UV, *listing, env=self.env))
        return {package["name"]: package["version"] for package in found}


@pytest.fixture
def venv(tmp_path: Path, written: Project) -> Venv:
    """Return an empty one."""
    return empty(tmp_path / "venv", sys.executable, written.env)


def empty(folder: Path, python: str, env: Mapping[str, str]) -> Venv:
    run(UV, "venv", "-q", "-p", python, str(folder), env=env)
    return Venv(python=folder / "bin/python", env=env)


def with_pip(venv: Venv) -> str:
    """Put a pip that knows PEP 751 into an environment, and return its Python."""
    outer = {**os.environ, "UV_CACHE_DIR": venv.env["UV_CACHE_DIR"]}
    Venv(python=venv.python, env=outer).pip("install", "pip>=26.1")
    return str(venv.python)


def lock(project: Project, name: str) -> Path:
    return project.folder / f"build-stages/pylock.{name}.toml"


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_is_valid(written: Project, name: str) -> None:
    """Its name and its contents are as PEP 751 says."""
    path = lock(written, name)
    assert is_valid_pylock_path(path)
    found = Pylock.from_dict(parse_toml(path.read_text("utf-8")))
    found.validate()
    assert found.packages


def test_nothing_but_wheels_comes_from_an_index(written: Project) -> None:
    """Every package has wheels with hashes, or a stage that provides it."""
    for name in NAMES:
        for package in written.lock(name)["packages"]:
            stage = package.get("tool", {}).get("nox-buildstages", {}).get("stage")
            assert (stage is None) == ("wheels" in package)
            for wheel in package.get("wheels", ()):
                assert wheel["hashes"].keys() == {"sha256"}


def test_outputs_are_locked_with_their_sources(written: Project) -> None:
    """Of each kind, by hash where it has one, and by relative paths."""
    outputs = {
        output["name"]: output
        for name in ("kernels", "models")
        for output in written.lock(name)["tool"]["nox-buildstages"]["outputs"]
    }
    assert outputs["kernel"]["source"].keys() == {"url", "sha256"}
    assert outputs["folder"]["source"] == {"directory": "vendor/folder"}
    assert outputs["committed"]["source"].keys() == {"git", "commit", "revision"}
    assert outputs["archived"]["source"].keys() == {"path", "sha256"}
    assert outputs["archived"]["source"]["path"] == "vendor/v1.0.tar.gz"
    assert outputs["kernel"]["metadata"] == "static"
    assert outputs["kernel"]["build-requires"] == ["tinybackend"]
    assert outputs["folder"]["metadata"] == "hook"


def test_uv_makes_a_stages_environment(written: Project, venv: Venv) -> None:
    """What the lock says is what there is then, no more and no less."""
    venv.pip("sync", str(lock(written, "kernels")))
    assert venv.holds() == {"numpy": "2.0", "tinybackend": "1.0"}


def test_uv_takes_a_lock_for_requirements(written: Project, venv: Venv) -> None:
    """It adds to an environment what the lock says."""
    venv.pip("install", "-r", str(lock(written, "kernels")))
    assert venv.holds() == {"numpy": "2.0", "tinybackend": "1.0"}


def test_uv_makes_something_of_the_final_lock(written: Project, venv: Venv) -> None:
    """It knows no stages, and builds the outputs from the sources that are named."""
    venv.pip("sync", str(lock(written, "final")))
    assert venv.holds() == IN_FINAL


def test_the_wheelhouse_gives_the_final_environment(
    written: Project, venv: Venv, tmp_path: Path
) -> None:
    """The bound lock holds the same, from wheels alone, wherever the folder lies."""
    moved = tmp_path / "moved"
    written.wheelhouse.rename(moved)
    try:
        venv.pip("sync", "--no-build", str(moved / "pylock.toml"))
    finally:
        moved.rename(written.wheelhouse)
    python = written.folder / ".nox/build-stages/bin/python"
    final = Venv(python=python, env=written.env)
    assert venv.holds() == final.holds() == IN_FINAL


def test_locking_again_changes_no_byte(written: Project) -> None:
    """Two runs on the same inputs write the same."""
    before = {name: lock(written, name).read_bytes() for name in NAMES}
    output = written.nox("-s", "build-stages-lock").output
    assert "the lock files are up to date" in output
    assert {name: lock(written, name).read_bytes() for name in NAMES} == before


@pytest.mark.network
@pytest.mark.parametrize("which", ["stage", "wheelhouse"])
def test_pip_takes_them_too(written: Project, venv: Venv, which: str) -> None:
    """A pip that knows PEP 751 makes the same of them as uv."""
    python = with_pip(venv)
    path = {
        "stage": lock(written, "kernels"),
        "wheelhouse": written.wheelhouse / "pylock.toml",
    }[which]
    run(python, "-m", "pip", "install", "-q", "-r", str(path), env=written.env)
    found = venv.holds()
    del found["pip"]
    held = {"stage": {"numpy": "2.0", "tinybackend": "1.0"}, "wheelhouse": IN_FINAL}
    assert found == held[which]


@pytest.mark.parametrize("version", BOTH)
def test_uv_takes_from_a_lock_for_several_what_is_for_it(
    merged: Project, tmp_path: Path, version: str
) -> None:
    """Each Python gets its own versions; nothing is changed by the other ones."""
    venv = empty(tmp_path / "venv", version, merged.env)
    numpy = "2.0" if version == NEWER else "1.0"
    venv.pip("sync", str(lock(merged, "kernels")))
    assert venv.holds() == {"numpy": numpy, "tinybackend": "1.0"}
    venv.pip("sync", str(lock(merged, "final")))
    assert venv.holds() == {"kernel": "1.0", "numpy": numpy}


@pytest.mark.network
@pytest.mark.parametrize("version", BOTH)
def test_so_does_pip(merged: Project, tmp_path: Path, version: str) -> None:
    """It builds what is there as an sdist, and takes wheels for the rest."""
    venv = empty(tmp_path / "venv", version, merged.env)
    python = with_pip(venv)
    final = str(lock(merged, "final"))
    run(python, "-m", "pip", "install", "-q", "-r", final, env=merged.env)
    found = venv.holds()
    del found["pip"]
    assert found == {"kernel": "1.0", "numpy": "2.0" if version == NEWER else "1.0"}
