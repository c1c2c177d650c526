"""Compiled files: libraries, GPU code, and a package that needs two libraries."""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

from support.packages import in_tree_backend, make_tree, make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.index import Index
    from support.project import Project

HERE = f"cp{sys.version_info.major}{sys.version_info.minor}"
"""The Python that runs the tests, as the tags of wheels have it."""

MACHINE = platform.machine()

_SOURCE = """
#include <Python.h>
#include <stdlib.h>

extern int ours(void), theirs(void);

static PyObject *value(PyObject *self, PyObject *args) {
  return PyLong_FromLong(getenv("NOWHERE") ? 0 : ours() + theirs());
}
static PyMethodDef methods[] = {{"value", value, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "ext", 0, -1, methods};
PyMODINIT_FUNC PyInit_ext(void) { return PyModule_Create(&module); }
"""

_BACKEND = """
import os, pathlib, subprocess, sysconfig
import tinybackend, torch
from tinybackend import build_wheel, get_requires_for_build_wheel
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel

def compiled(settings):
    libraries = (
        os.environ["LIBRARIES"] + "/libours.so.1",
        os.path.dirname(torch.__file__) + "/lib/libtorch.so",
    )
    rpaths = (os.environ["LIBRARIES"], "$ORIGIN/../torch/lib")
    include = "-I" + sysconfig.get_paths()["include"]
    command = ["cc", "-shared", "-fPIC", include, "-o", "ext.so", "ext.c", *libraries]
    subprocess.run([*command, *("-Wl,-rpath," + it for it in rpaths)], check=True)
    return {"kernels/ext.so": pathlib.Path("ext.so").read_bytes()}

tinybackend._compiled = compiled
"""

_PICKY = """
from importlib.metadata import distribution

wheel = distribution("kernels").read_text("WHEEL")
assert "manylinux" not in wheel, "not as it was built"
"""


def compile_library(path: Path, code: str, *words: str) -> bytes:
    """Compile a library from a source in C, and return its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".c").write_text(code, "utf-8")
    command = ["cc", "-shared", "-fPIC", "-o", str(path), str(path.with_suffix(".c"))]
    subprocess.run([*command, *words], check=True)
    return path.read_bytes()


def gpu_code(kind: int, number: int, flags: int = 0, payload: bytes = b"code") -> bytes:
    """Return code for a GPU as nvcc writes it: PTX is of kind 1, and SASS of kind 2."""
    form = "<HHIQ12xI8xQ16x"
    return struct.pack(form, kind, 0x101, 64, len(payload), number, flags) + payload


def fat_binary(*codes: bytes) -> bytes:
    """Return a container of code for GPUs."""
    content = b"".join(codes)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


def with_gpu_code(code: str, *codes: bytes) -> str:
    """Return a source in C whose library has a fat binary."""
    numbers = ",".join(map(str, fat_binary(*codes)))
    section = rf".section .nv_fatbin,\"a\"\n.byte {numbers}\n.text"
    return f'{code}\n__asm__("{section}");\n'


def compile_two_libraries(folder: Path) -> dict[Path, bytes]:
    """Compile a library of this machine and one of torch; return them by path."""
    found = {}
    for name, function, value in (
        ("here/libours.so.1", "ours", 40),
        ("libtorch.so", "theirs", 2),
    ):
        path = folder / name
        code = f"int {function}(void) {{ return {value}; }}"
        found[path] = compile_library(path, code, f"-Wl,-soname,{path.name}")
    return found


def make_linked(
    project: Project, index: Index, libraries: Mapping[Path, bytes]
) -> dict[str, str]:
    """Make a source of kernels that needs both; return the variables of its build."""
    ours, theirs = libraries
    ours.parent.mkdir(exist_ok=True)
    ours.write_bytes(libraries[ours])
    files = {
        "torch/lib/libtorch.so": libraries[theirs],
        f"torch/own/{ours.name}": libraries[ours],  # where no loader looks
    }
    tag = f"py3-none-manylinux_2_17_{MACHINE}"
    make_wheel(index.folder, "torch", "1.0", files=files, tag=tag)
    make_tree(
        project.folder / "kernels",
        *("kernels", "1.0"),
        files={
            "ext.c": _SOURCE,
            "setup.py": _BACKEND,
            "pyproject.toml": in_tree_backend("setup", "torch"),
            "kernels/__init__.py": "",
            "kernels/picky.py": _PICKY,
        },
        requires=["torch"],
        settings={"tag": f"{HERE}-{HERE}-linux_{MACHINE}"},
    )
    return {"LIBRARIES": str(ours.parent)}
