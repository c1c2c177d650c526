"""Projects of real build backends, installed in their own runtimes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from support.pair import site_packages
from support.real import make_real_project

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

pytestmark = pytest.mark.network

MESON = """\
project('mine', 'c', version: '1.0')
py = import('python').find_installation(pure: false)
py.install_sources('mine/__init__.py', subdir: 'mine')
py.extension_module('_native', 'mine/_native.c', install: true, subdir: 'mine')
"""
NATIVE = """\
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, NULL};
PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&module); }
"""
SYSTEMS = {
    "setuptools": (["setuptools"], "setuptools.build_meta"),
    "hatchling": (["hatchling"], "hatchling.build"),
    "flit": (["flit_core>=3.4"], "flit_core.buildapi"),
    "meson": (["meson-python"], "mesonpy"),
}


def write(project: Project, system: str, *groups: str, **tool: Any) -> None:  # noqa: ANN401 - TOML
    """Write a project, with a module, whose stage builds idna."""
    requires, backend = SYSTEMS[system]
    final = {"project": True, "groups": list(groups), "imports": ["mine", "idna"]}
    stage = {"name": "pure", "outputs": ["idna==3.10"]}
    document = {
        "build-system": {"requires": requires, "build-backend": backend},
        "project": {
            "name": "mine",
            "version": "1.0",
            "description": "A test",
            "dependencies": ["idna"],
            "scripts": {"mine": "mine:main"},
        },
        "dependency-groups": {"build": ["meson", "ninja"]},
        "tool": {"nox-buildstages": {"final": final, "stage": [stage]}, **tool},
    }
    project.write(tomli_w.dumps(document))
    say(project, "one")


def say(project: Project, word: str) -> None:
    """Have the project's program say a word."""
    folder = project.folder / "mine"
    folder.mkdir(exist_ok=True)
    folder.joinpath("__init__.py").write_text(f"def main():\n    print({word!r})\n")


def said(project: Project) -> str:
    """Return what the project's program says in its runtime."""
    program = project.folder / ".nox/build-stages/bin/mine"
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("system", ["setuptools", "hatchling", "flit"])
def test_it_follows_its_source(tmp_path: Path, system: str) -> None:
    """With each backend its program is there, and says what the source says now."""
    project = make_real_project(tmp_path / "project")
    tool = {"setuptools": {"packages": ["mine"]}} if system == "setuptools" else {}
    write(project, system, **tool)
    project.nox("-s", "build-stages", timeout=300)
    assert said(project) == "one\n"
    say(project, "two")
    assert "installable" not in project.nox("-s", "build-stages").output
    assert said(project) == "two\n"
    held = site_packages(project.folder / ".nox/build-stages")
    assert not [*held.glob(f"{system}*")]


def test_meson_python_compiles_when_it_is_imported(tmp_path: Path) -> None:
    """With its tools in the runtime, at the paths at which its build found them."""
    project = make_real_project(tmp_path / "project")
    write(project, "meson", "build")
    project.folder.joinpath("meson.build").write_text(MESON)
    native = project.folder / "mine/_native.c"
    native.write_text(NATIVE)
    project.nox("-s", "build-stages", timeout=300)
    python = str(project.folder / ".nox/build-stages/bin/python")
    native.write_text(NATIVE.replace("NULL, -1", '"anew", -1'))
    command = [python, "-c", "import mine._native as it; print(it.__doc__)"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "anew\n"
