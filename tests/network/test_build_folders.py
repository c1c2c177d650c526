"""Real build tools, stopped in the middle: what was compiled isn't compiled again."""

from __future__ import annotations

import os
import signal
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from support.native import wait_until_safe
from support.packages import name_file
from support.pair import built, declare
from support.real import make_real_project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from support.project import Project

pytestmark = pytest.mark.network

FILES = 20
HELD = 12
COMPILER = f"""#!/bin/sh
case "$*" in *" -c "*part*.cc*|*part*.cc*" -c "*) echo "$*" >> "$COUNT" ;; esac
while [ -e "$COUNT.hold" ] && [ "$(wc -l < "$COUNT")" -ge {HELD} ]; do sleep 0.1; done
exec c++ "$@"
"""
"""A compiler that counts what it compiles of ours, and stops there if it is held."""

PYPROJECT = """
[build-system]
requires = {requires}
build-backend = "{backend}"

[project]
name = "native"
version = "1.0"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A way to build a package of many C++ files.

    Attributes:
        backend: Of PEP 517.
        requires: What it is built with, from PyPI.
        files: What tells it what to build, by name.
    """

    backend: str
    requires: Sequence[str]
    files: Mapping[str, str]


SCIKIT_BUILD = Kind(
    backend="scikit_build_core.build",
    requires=["scikit-build-core", "cmake", "ninja"],
    files={
        "CMakeLists.txt": """
            cmake_minimum_required(VERSION 3.15...3.31)
            project(native LANGUAGES CXX)
            file(GLOB parts CONFIGURE_DEPENDS *.cc)
            add_library(native MODULE ${parts})
            install(TARGETS native DESTINATION native)
        """,
    },
)
MESON = Kind(
    backend="mesonpy",
    requires=["meson-python", "ninja"],
    files={
        "meson.build": """
project('native', 'cpp', version: '1.0')
python = import('python').find_installation(pure: false)
sources = []
foreach number : range({files})
  sources += 'part@0@.cc'.format(number)
endforeach
python.extension_module('native', sources, install: true)
        """.replace("{files}", str(FILES)),
    },
)
SETUPTOOLS = Kind(
    backend="setuptools.build_meta",
    requires=["setuptools"],
    files={
        "setup.py": """
from glob import glob
from setuptools import Extension, setup

setup(ext_modules=[Extension(it[:-3], [it]) for it in sorted(glob("part*.cc"))])
        """,
    },
)

PART = """
#include <map>
#include <string>

int value_{number}() {{ return std::map<std::string, int>().size() + {number}; }}
"""


def write_native(folder: Path, kind: Kind) -> None:
    folder.mkdir()
    texts = {f"part{number}.cc": PART.format(number=number) for number in range(FILES)}
    texts |= kind.files
    texts["pyproject.toml"] = PYPROJECT.format(
        requires=[*kind.requires], backend=kind.backend
    )
    for name, text in texts.items():
        (folder / name).write_text(text)


def compiled(count: Path) -> int:
    """Return how many of our files were compiled since this was asked last."""
    lines = count.read_text().splitlines() if count.exists() else []
    count.unlink(missing_ok=True)
    return len(lines)


def stop(project: Project, count: Path) -> None:
    """Kill nox and its group in the middle of compiling, however fast that is."""
    hold = count.with_name(f"{count.name}.hold")
    hold.touch()
    with project.start("-s", "build-stages") as nox:
        wait_until_safe(project)
        os.killpg(nox.pid, signal.SIGKILL)
        nox.wait()
    hold.unlink()


@pytest.mark.parametrize(
    "kind", [SCIKIT_BUILD, MESON, SETUPTOOLS], ids=lambda kind: kind.backend
)
def test_a_killed_build_goes_on(tmp_path: Path, kind: Kind) -> None:
    """And gives the wheel that a build from the beginning gives."""
    count = tmp_path / "counts/count"
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    project = make_real_project(tmp_path / "project")
    write_native(project.folder / "native", kind)
    stage = {
        "name": "only",
        "outputs": ["native @ ./native"],
        "jobs": 1,
        "compiler-cache": False,  # what is compiled is counted
        "env": {
            "CC": str(compiler),
            "CXX": str(compiler),
            **name_file("COUNT", count),
        },
    }
    declare(project, {"final": {"requirements": ["native"]}, "stage": [stage]})
    project.nox("-s", "build-stages-lock", timeout=300)
    compiled(count)
    stop(project, count)
    first = compiled(count)
    done = project.nox("-s", "build-stages", timeout=300)
    rest = compiled(count)
    assert ", resuming an interrupted build" in done.output
    assert built(done) == ["native"]
    assert rest < FILES <= first + rest
    words = ("--", "--check-reproducible")
    again = project.nox("-s", "build-stages", *words, timeout=300)
    assert "reproducible: native" in again.output
    (wheel,) = project.wheelhouse.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith(".so")]
