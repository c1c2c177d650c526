"""CUDA compiled with nvcc of PyPI, on a machine whose CUDA fails when it is called."""

from __future__ import annotations

import re
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from support.namespaces import can_forbid
from support.real import (
    TORCH,
    folder_with_torch,
    make_real_project,
    uv,
)

SYSTEM = Path("/usr/local/cuda")

pytestmark = pytest.mark.network

TABLE = """
    [tool.nox-buildstages.final]
    requirements = ["by-cmake", "by-setuptools", "by-torch"]
    imports = []

    [[tool.nox-buildstages.stage]]
    name = "kernels"
    dependencies = [
        "cuda-toolkit[nvcc,cudart,cccl]==13.0.*",
        "torch==2.13.0", "ninja", "setuptools",
    ]
    outputs = [
        "by-cmake @ ./by-cmake",
        "by-setuptools @ ./by-setuptools",
        "by-torch @ ./by-torch",
    ]
    pass-env = ["CUDA_HOME", "CUDACXX"]
    tools = ["nvcc"]
    env = { CUDAARCHS = "90-real", TORCH_CUDA_ARCH_LIST = "9.0" }
"""
KERNEL = """
#include <cuda/std/version>

__global__ void add(float *a, const float *b) { a[threadIdx.x] += b[threadIdx.x]; }

extern "C" int go() {
  float *a;
  if (cudaMalloc(&a, 4) != cudaSuccess) return 1;
  add<<<1, 1>>>(a, a);
  return 0;
}
"""
MODULE = """
#include <Python.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

extern "C" int go();
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", 0, -1, 0};
PyMODINIT_FUNC PyInit_NAME() { go(); return PyModule_Create(&module); }
"""
SOURCES = {
    "by-setuptools": {
        "pyproject.toml": """
            [build-system]
            requires = ["setuptools"]
            build-backend = "setuptools.build_meta"
        """,
        "setup.py": """
            import subprocess
            from setuptools import Extension, setup

            options = ["-arch=sm_90", "-Xcompiler", "-fPIC"]
            subprocess.run(["nvcc", *options, "-c", "k.cu", "-o", "k.o"], check=True)
            module = Extension(
                "by_setuptools",
                ["module.cpp"],
                extra_objects=["k.o"],
                libraries=["cudart", "cuda"],
                extra_link_args=["-Wl,--no-as-needed"],
            )
            setup(name="by-setuptools", version="1.0", ext_modules=[module])
        """,
        "module.cpp": MODULE.replace("NAME", "by_setuptools"),
    },
    "by-cmake": {
        "pyproject.toml": """
            [build-system]
            requires = ["scikit-build-core", "cmake", "ninja"]
            build-backend = "scikit_build_core.build"

            [project]
            name = "by-cmake"
            version = "1.0"
        """,
        "CMakeLists.txt": """
            cmake_minimum_required(VERSION 3.24)
            project(by_cmake LANGUAGES CXX CUDA)
            find_package(CUDAToolkit REQUIRED)
            add_library(by_cmake SHARED k.cu)
            target_link_libraries(by_cmake PRIVATE CUDA::cudart CUDA::cuda_driver)
            install(TARGETS by_cmake DESTINATION by_cmake)
        """,
    },
    # The CPU build of torch looks for no CUDA, and has the same code to find it.
    "by-torch": {
        "pyproject.toml": """
            [build-system]
            requires = ["setuptools"]
            build-backend = "setuptools.build_meta"
        """,
        "setup.py": """
            from setuptools import setup
            from torch.utils import cpp_extension

            cpp_extension.CUDA_HOME = cpp_extension._find_cuda_home()
            module = cpp_extension.CppExtension(
                "by_torch",
                ["module.cpp", "k.cu"],
                libraries=["cudart"],
                include_dirs=cpp_extension.include_paths("cuda"),
            )
            setup(
                name="by-torch",
                version="1.0",
                ext_modules=[module],
                cmdclass={"build_ext": cpp_extension.BuildExtension},
            )
        """,
        "module.cpp": MODULE.replace("NAME", "by_torch"),
    },
}
STAND_IN = """\
#!/bin/sh
echo "$0 $@" >> {called}
exit 1
"""
HIDE = f'mount --bind "$0" {SYSTEM} && exec "$@"'


@can_forbid
def test_the_cuda_of_the_machine_is_never_used(tmp_path: Path) -> None:
    """By setuptools, CMake or torch, whatever variables and folders name it (O7)."""
    folder = tmp_path / "project"
    project = make_real_project(folder, UV_FIND_LINKS=folder_with_torch())
    project.write(TABLE)
    for name, files in SOURCES.items():
        tree = project.folder / name
        tree.mkdir()
        for path, text in {**files, "k.cu": KERNEL}.items():
            tree.joinpath(path).write_text(dedent(text))
    called = tmp_path / "called"
    nvcc = tmp_path / "cuda/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(STAND_IN.format(called=called))
    nvcc.chmod(0o755)
    if SYSTEM.is_dir():
        hide = ("unshare", "--map-root-user", "--mount", "sh", "-c", HIDE)
        project = replace(project, prefix=(*hide, str(nvcc.parents[1])))
    said = project.nox(
        *("-s", "build-stages"),
        env={
            "CUDA_HOME": str(nvcc.parents[1]),
            "CUDACXX": str(nvcc),
            "PATH": f"{nvcc.parent}:{project.env['PATH']}",
        },
        timeout=600,
    ).output
    assert "builds ignore CUDA_HOME, CUDACXX" in said
    assert not called.exists()
    packages = {it["name"]: it for it in project.lock("kernels")["packages"]}
    assert packages["torch"]["version"] == TORCH
    assert packages["nvidia-cuda-nvcc"]["wheels"][0]["hashes"]["sha256"]
    target = ("--target", str(tmp_path / "tools"))
    uv("pip", "install", "--quiet", *target, "nvidia-cuda-cuobjdump")
    (cuobjdump,) = tmp_path.glob("tools/nvidia/cu13/bin/cuobjdump")
    wheels = sorted(project.wheelhouse.glob("*.whl"))
    assert len(wheels) == len(SOURCES)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            (library,) = (it for it in archive.namelist() if it.endswith(".so"))
            path = archive.extract(library, tmp_path)
        listed = subprocess.check_output([cuobjdump, "--list-elf", path], text=True)
        assert set(re.findall(r"sm_\d+", listed)) == {"sm_90"}
