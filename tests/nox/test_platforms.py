"""One set of locks for this platform and for others."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest
import uv
from packaging.pylock import PackageWheel, Pylock
from packaging.tags import compatible_tags, cpython_tags, mac_platforms

from nox_buildstages.reader import parse_toml
from support.packages import make_sdist, make_wheel
from support.pair import declare, lock_texts, refused
from support.pythons import HERE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from packaging.markers import Environment
    from packaging.tags import Tag

    from support.index import Index
    from support.project import Project

SHORT = f"cp{HERE.replace('.', '')}"
MAC = "sys_platform == 'darwin' and platform_machine == 'arm64'"
WINDOWS = "sys_platform == 'win32' and platform_machine == 'AMD64'"
LINUX = f"sys_platform == 'linux' and platform_machine == '{platform.machine()}'"
MANY = f"manylinux_2_17_{platform.machine()}"
WHEELS = (MANY, "macosx_11_0_arm64", "win_amd64")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the others are")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Another kind of machine.

    Attributes:
        name: As uv has it.
        markers: Those of PEP 508 that differ from ours.
        platforms: The last parts of the tags of wheels.
    """

    name: str
    markers: Mapping[str, str]
    platforms: Iterable[str]

    @property
    def tags(self) -> list[Tag]:
        """Of the wheels that our version of CPython takes there."""
        where = [*self.platforms]
        version = sys.version_info[:2]
        own = cpython_tags(version, [SHORT], where)
        return [*own, *compatible_tags(version, SHORT, where)]

    def select(self, path: Path) -> dict[str, tuple[str, str]]:
        """Return what packaging takes of a lock there: versions and platforms."""
        lock = Pylock.from_dict(parse_toml(path.read_text("utf-8")))
        lock.validate()
        python = {
            "implementation_name": "cpython",
            "python_full_version": platform.python_version(),
            "python_version": HERE,
        }
        markers = cast("Environment", {**python, **self.markers})
        return {
            package.name: (
                str(package.version),
                file.filename.removesuffix(".whl").split("-")[-1],
            )
            for package, file in lock.select(environment=markers, tags=self.tags)
            if isinstance(file, PackageWheel)
        }


MACBOOK = Machine(
    name="aarch64-apple-darwin",
    markers={
        "os_name": "posix",
        "platform_machine": "arm64",
        "platform_system": "Darwin",
        "sys_platform": "darwin",
    },
    platforms=tuple(mac_platforms((15, 0), "arm64")),
)
PC = Machine(
    name="x86_64-pc-windows-msvc",
    markers={
        "os_name": "nt",
        "platform_machine": "AMD64",
        "platform_system": "Windows",
        "sys_platform": "win32",
    },
    platforms=("win_amd64",),
)


@pytest.fixture
def elsewhere(project: Project, index: Index) -> Project:
    """A project whose runtime has wheels for several platforms on the index.

    ``fast`` 2.0 has none for a Mac, ``tiny`` is wanted on Windows alone.
    """
    for tag in WHEELS:
        for name, version in (("solid", "1.0"), ("fast", "1.0"), ("fast", "2.0")):
            if (version, tag) != ("2.0", "macosx_11_0_arm64"):
                full = f"{SHORT}-{SHORT}-{tag}"
                make_wheel(index.folder, name, version, tag=full)
    make_wheel(index.folder, "tiny", "1.0")
    requires = ["solid", "tiny; sys_platform == 'win32'"]
    make_sdist(index.folder, "kernels", "1.0", requires=requires, static=False)
    return project


def declare_for(
    project: Project, *environments: str, dependencies: Iterable[str] = ("fast",)
) -> None:
    """Declare a stage, locked for some environments beside ours."""
    only = {"name": "only", "dependencies": [*dependencies], "outputs": ["kernels"]}
    final = {"requirements": ["kernels", "fast"]}
    table = {"environments": [*environments], "final": final, "stage": [only]}
    declare(project, table)


def test_one_lock_is_for_all(elsewhere: Project, tmp_path: Path) -> None:
    """Each machine finds its own versions and wheels in it, and nothing of others.

    This platform may be named, and two runs from empty caches write the same bytes.
    """
    declare_for(elsewhere, MAC, WINDOWS)
    said = elsewhere.nox("-s", "build-stages-lock").output
    absent = f"CPython {HERE} on darwin arm64, CPython {HERE} on win32 AMD64"
    assert f"using the answers of build backends here for {absent}" in said
    only = elsewhere.folder / "build-stages/pylock.only.toml"
    final = elsewhere.folder / "build-stages/pylock.final.toml"
    mac, windows = "macosx_11_0_arm64", "win_amd64"
    pure = {"tinybackend": ("1.0", "any")}
    assert MACBOOK.select(only) == {"fast": ("1.0", mac), **pure}
    assert PC.select(only) == {"fast": ("2.0", windows), **pure}
    assert MACBOOK.select(final) == {"fast": ("1.0", mac), "solid": ("1.0", mac)}
    assert PC.select(final) == {
        "fast": ("2.0", windows),
        "solid": ("1.0", windows),
        "tiny": ("1.0", "any"),
    }
    for machine, held in ((MACBOOK, "fast==1.0"), (PC, "fast==2.0")):
        assert held in would_install(elsewhere, only, machine.name)
    (kernels,) = elsewhere.lock("only")["tool"]["nox-buildstages"]["outputs"]
    (asked,) = kernels["asked-on"]
    assert 'sys_platform == "linux"' in asked
    assert "marker" not in kernels
    locks = lock_texts(elsewhere)
    declare_for(elsewhere, LINUX, MAC, WINDOWS)
    elsewhere.nox("-s", "build-stages-lock", "--", "--check")
    shutil.rmtree(elsewhere.folder / "build-stages")
    env = {
        "NOX_BUILDSTAGES_CACHE_DIR": str(tmp_path / "anew/store"),
        "UV_CACHE_DIR": str(tmp_path / "anew/uv"),
    }
    elsewhere.nox("-s", "build-stages-lock", env=env)
    assert lock_texts(elsewhere) == locks
    built = elsewhere.nox("-s", "build-stages").output
    assert "; locking" not in built


def would_install(project: Project, lock: Path, name: str) -> str:
    """Return what uv says that it would install from a lock on another platform."""
    command = [uv.find_uv_bin(), "pip", "install", "--dry-run"]
    command += ["--preview-features", "pylock", "--python-platform", name]
    command += ["--python", sys.executable, "--target", str(project.folder / "target")]
    command += ["-r", str(lock)]
    done = subprocess.run(
        command, env=project.env, capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_mac_elsewhere_is_one_of_macos_14(elsewhere: Project, index: Index) -> None:
    """Whatever this machine builds for."""
    for tag in (MANY, "macosx_13_0_arm64", "macosx_14_0_arm64", "macosx_15_0_arm64"):
        make_wheel(index.folder, "cask", "1.0", tag=f"{SHORT}-{SHORT}-{tag}")
    declare_for(elsewhere, MAC, dependencies=["cask"])
    env = {"MACOSX_DEPLOYMENT_TARGET": "11.0"}
    elsewhere.nox("-s", "build-stages-lock", env=env)
    only = elsewhere.folder / "build-stages/pylock.only.toml"
    assert MACBOOK.select(only)["cask"] == ("1.0", "macosx_14_0_arm64")
    assert "macosx_13_0" in only.read_text("utf-8")
    assert "macosx_15_0" not in only.read_text("utf-8")


def test_a_dependency_without_a_wheel_there_is_told(
    elsewhere: Project, index: Index
) -> None:
    """With the kind of machine that has none."""
    make_wheel(index.folder, "local", "1.0", tag=f"{SHORT}-{SHORT}-{MANY}")
    declare_for(elsewhere, MAC, dependencies=["local"])
    said = refused(elsewhere, "-s", "build-stages-lock")
    assert f"stage only for CPython {HERE} on darwin arm64: " in said
    assert "local==1.0 has no wheels with a matching platform tag" in said
    assert not elsewhere.folder.joinpath("build-stages").exists()


def test_an_environment_of_no_known_platform_is_told(elsewhere: Project) -> None:
    """With its place, and those that are known."""
    declare_for(elsewhere, MAC, "sys_platform == 'plan9'")
    said = refused(elsewhere, "-s", "build-stages-lock")
    place = "tool.nox-buildstages.environments[1]"
    assert f"{place}: 'sys_platform == \"plan9\"' is true for none of" in said
    assert "linux x86_64, linux aarch64, darwin arm64" in said


def test_a_fault_in_a_marker_is_told_by_the_list_of_sessions(
    elsewhere: Project,
) -> None:
    """As every fault in the table that nothing but the table shows."""
    declare_for(elsewhere, "sys_platform = 'darwin'")
    said = refused(elsewhere, "--list")
    assert "tool.nox-buildstages.environments[0]" in said
