"""Shards of packages that people's build backends compile, from PyPI."""

from __future__ import annotations

import os
import re
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from support.namespaces import needs_namespaces
from support.pair import entry
from support.real import folder_with_torch, make_real_project
from support.sharded import Machines

if TYPE_CHECKING:
    from support.project import Project

pytestmark = [pytest.mark.network, needs_namespaces]

CUDA = Path("/usr/local/cuda")
BACKENDS = {
    "setuptools": ("setuptools.build_meta", '["setuptools"]'),
    "cmake": ("scikit_build_core.build", '["scikit-build-core", "cmake", "ninja"]'),
}
MODULE = """
#include <Python.h>
int f0(); int f1(); int f2(); int f3(); int f4();
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", 0, -1, 0};
PyMODINIT_FUNC PyInit_NAME() {
  return f0() + f1() + f2() + f3() + f4() < 0 ? NULL : PyModule_Create(&module);
}
"""
FILE = "#include <string>\nint f{0}() {{ return std::string(__FILE__).size(); }}\n"
KERNEL = """
__global__ void k{0}(float *a) {{ a[threadIdx.x] += {0}; }}
int f{0}() {{ float *a; cudaMalloc(&a, 4); k{0}<<<1, 1>>>(a); return {0}; }}
"""
SETUP = """
    from setuptools import Extension, setup

    files = ["module.cpp", *(f"src/f{number}.cpp" for number in range(5))]
    setup(ext_modules=[Extension("by_setuptools", files)], py_modules=[])
"""
CMAKE = """
    cmake_minimum_required(VERSION 3.24)
    project(by_cmake LANGUAGES CXX)
    find_package(Python COMPONENTS Interpreter Development.Module REQUIRED)
    add_library(core STATIC src/f0.cpp src/f1.cpp src/f2.cpp src/f3.cpp src/f4.cpp)
    set_target_properties(core PROPERTIES POSITION_INDEPENDENT_CODE ON)
    Python_add_library(by_cmake MODULE module.cpp WITH_SOABI)
    target_link_libraries(by_cmake PRIVATE core)
    install(TARGETS by_cmake DESTINATION .)
"""
CMAKE_CUDA = """
    cmake_minimum_required(VERSION 3.24)
    project(by_cmake LANGUAGES CXX CUDA)
    find_package(Python COMPONENTS Interpreter Development.Module REQUIRED)
    Python_add_library(by_cmake MODULE module.cpp
        src/f0.cu src/f1.cu src/f2.cu src/f3.cu src/f4.cu WITH_SOABI)
    install(TARGETS by_cmake DESTINATION .)
"""
# The CPU build of torch looks for no CUDA, and has the same code to compile it.
SETUP_CUDA = """
    from setuptools import setup
    from torch.utils import cpp_extension

    cpp_extension.CUDA_HOME = cpp_extension._find_cuda_home()
    files = ["module.cpp", *(f"src/f{number}.cu" for number in range(5))]
    module = cpp_extension.CppExtension(
        "by_setuptools",
        files,
        libraries=["cudart"],
        library_dirs=[cpp_extension.CUDA_HOME + "/lib64"],
        include_dirs=cpp_extension.include_paths("cuda"),
    )
    setup(
        ext_modules=[module],
        py_modules=[],
        cmdclass={"build_ext": cpp_extension.BuildExtension},
    )
"""
TABLE = """
    [tool.nox-buildstages.final]
    requirements = ["by-setuptools", "by-cmake"]
    imports = {imports}

    [[tool.nox-buildstages.stage]]
    name = "only"
    dependencies = {dependencies}
    outputs = ["by-setuptools @ ./by-setuptools", "by-cmake @ ./by-cmake"]
    env = {env}
"""


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    """Machines without a package yet."""
    folder = tmp_path / "machines"
    folder.mkdir()
    return Machines(folder=folder)


def write(project: Project, suffix: str, text: str, **builds: str) -> None:
    """Write the two packages, each of a module and five files in a folder."""
    for name, (backend, requires) in BACKENDS.items():
        tree = project.folder / f"by-{name}"
        tree.joinpath("src").mkdir(parents=True)
        system = f'[build-system]\nrequires = {requires}\nbuild-backend = "{backend}"\n'
        metadata = f'[project]\nname = "by-{name}"\nversion = "1.0"\n'
        tree.joinpath("pyproject.toml").write_text(system + metadata)
        file = {"setuptools": "setup.py", "cmake": "CMakeLists.txt"}[name]
        tree.joinpath(file).write_text(dedent(builds[name]))
        tree.joinpath("module.cpp").write_text(MODULE.replace("NAME", f"by_{name}"))
        for number in range(5):
            tree.joinpath(f"src/f{number}{suffix}").write_text(text.format(number))


def check(project: Project, machines: Machines) -> None:
    """Build in three shards, then with compilers that refuse, then without shards."""

    def run(machine: str, *words: str) -> str:
        own = machines.variables(machine)
        path = os.pathsep.join((own["PATH"], os.environ["PATH"]))
        command = ("-s", "build-stage-only", *words)
        done = project.nox(*command, env={**own, "PATH": path}, timeout=600)
        return done.output

    names = ["first", "second", "third"]
    for number, name in enumerate(names, 1):
        said = run(name, "--", "--shard", f"{number}/3")
        assert said.count(": 2 files, and 4 of other shards left out") == len(BACKENDS)
    machines.merge(*names, into="last")
    machines.refuse()
    said = run("last", "--", "--require-hit-rate", "1")
    counts = re.findall(r"ccache: (\d+) of (\d+) compilations cached", said)
    assert len(counts) == len(BACKENDS)
    assert all(found == asked for found, asked in counts), counts
    sharded = [entry(project, f"by-{it}") for it in BACKENDS]
    machines.folder.joinpath("bin/refuse").unlink()
    run("alone", "--", "--rebuild")
    for one in sharded:
        other = entry(project, one["name"])
        assert (one["key"], one["sha256"]) == (other["key"], other["sha256"])


def test_setuptools_and_cmake_compile_in_shards(
    tmp_path: Path, machines: Machines
) -> None:
    """The build finds all, compiles nothing, and makes the same wheels."""
    project = make_real_project(tmp_path / "project")
    write(project, ".cpp", FILE, setuptools=SETUP, cmake=CMAKE)
    imports = '["by_setuptools", "by_cmake"]'
    project.write(TABLE.format(imports=imports, dependencies="[]", env="{}"))
    check(project, machines)


@pytest.mark.skipif(not CUDA.is_dir(), reason="no CUDA is installed here")
def test_torch_and_cmake_compile_cuda_in_shards(
    tmp_path: Path, machines: Machines
) -> None:
    """The same with nvcc, by way of PYTORCH_NVCC and of CMake's launcher.

    Without the option, nvcc makes other bytes each time.
    """
    links = folder_with_torch()
    project = make_real_project(tmp_path / "project", UV_FIND_LINKS=links)
    write(project, ".cu", KERNEL, setuptools=SETUP_CUDA, cmake=CMAKE_CUDA)
    dependencies = '["torch==2.13.0", "setuptools", "ninja"]'
    env = (
        f'{{ CUDA_HOME = "{CUDA}", CUDACXX = "{CUDA}/bin/nvcc", CUDAARCHS = "90-real",'
        ' TORCH_CUDA_ARCH_LIST = "9.0", NVCC_APPEND_FLAGS = "--objdir-as-tempdir" }'
    )
    project.write(TABLE.format(imports="[]", dependencies=dependencies, env=env))
    check(project, machines)
