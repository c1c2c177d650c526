"""Compiler caches with the build backends that people use, from PyPI."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from support.caches import cache_program
from support.namespaces import needs_namespaces
from support.real import make_real_project

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

pytestmark = [pytest.mark.network, needs_namespaces]

BUILD = ("-s", "build-stages")
MODULE = """\
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", __FILE__, -1, 0};
PyMODINIT_FUNC PyInit_NAME(void) { return PyModule_Create(&module); }
"""
OTHER = 'extern "C" const char *other(void) { return __FILE__; }\n'
SETUP = """\
from setuptools import Extension, setup

setup(ext_modules=[Extension("NAME", ["module.c", "other.cpp"])], py_modules=[])
"""
CMAKE = """\
cmake_minimum_required(VERSION 3.20)
project(NAME C CXX)
find_package(Python COMPONENTS Interpreter Development.Module REQUIRED)
Python_add_library(NAME MODULE module.c other.cpp WITH_SOABI)
install(TARGETS NAME DESTINATION .)
"""
MESON = """\
project('NAME', 'c', 'cpp', version: '1.0')
python = import('python').find_installation(pure: false)
python.extension_module('NAME', 'module.c', 'other.cpp', install: true)
"""
BACKENDS = {
    "with_setuptools": ("setuptools", "setuptools.build_meta", "setup.py", SETUP),
    "with_cmake": (
        "scikit-build-core",
        "scikit_build_core.build",
        "CMakeLists.txt",
        CMAKE,
    ),
    "with_meson": ("meson-python", "mesonpy", "meson.build", MESON),
}
TABLE = """\
[tool.nox-buildstages]
compiler-cache = "{cache}"

[tool.nox-buildstages.final]
requirements = ["with-setuptools", "with-cmake", "with-meson"]
imports = ["with_setuptools", "with_cmake", "with_meson"]

[[tool.nox-buildstages.stage]]
name = "native"
dependencies = ["cmake", "ninja"]
outputs = [
  "with-setuptools @ ./with_setuptools",
  "with-cmake @ ./with_cmake",
  "with-meson @ ./with_meson",
]
env = {{ CHANGED = "{changed}" }}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with three extensions in C and C++."""
    project = make_real_project(tmp_path / "project")
    for name, (requires, backend, file, text) in BACKENDS.items():
        tree = project.folder / name
        tree.mkdir()
        metadata = f'[project]\nname = "{name}"\nversion = "1.0"\n'
        system = f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = '
        tree.joinpath("pyproject.toml").write_text(f'{system}"{backend}"\n{metadata}')
        tree.joinpath(file).write_text(text.replace("NAME", name))
        tree.joinpath("module.c").write_text(MODULE.replace("NAME", name))
        tree.joinpath("other.cpp").write_text(OTHER)
    return project


@pytest.mark.parametrize("cache", ["ccache", "sccache"])
def test_setuptools_cmake_and_meson_compile_with_it(
    project: Project, cache: str
) -> None:
    """After a change of the key all is found; the bytes are those without a cache."""
    path = os.pathsep.join((str(cache_program(cache).parent), os.environ["PATH"]))
    for changed in ("1", "2"):
        project.write(TABLE.format(cache=cache, changed=changed))
        words = () if changed == "1" else ("--", "--check-reproducible")
        done = project.nox(*BUILD, *words, env={"PATH": path}, timeout=300)
    counts = re.findall(
        rf"\({cache}: (\d+) of (\d+) compilations cached\)", done.output
    )
    assert len(counts) == len(BACKENDS)
    assert all(found == asked for found, asked in counts), counts
    assert done.output.count("nox > reproducible: ") == len(BACKENDS)
