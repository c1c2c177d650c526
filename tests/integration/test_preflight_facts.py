"""What preflight reads: a source, compilers, a machine; and the trial it runs."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.preflight.facts import Compiler, Nvcc, SourceTree, Torch
from nox_buildstages.preflight.machine_facts import (
    find_unwritable,
    has_gpu,
    read_host_compiler,
    read_nvcc,
)
from nox_buildstages.preflight.source_facts import (
    read_source,
    read_torch,
    read_torch_headers,
)
from nox_buildstages.preflight.trial_build import Trial, run_trial
from nox_buildstages.system.process import Completed, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"


def write(folder: Path, **files: str) -> Path:
    """Write files, with ``__`` for ``/`` and ``_`` for the dot in their names."""
    for name, text in files.items():
        stem, _, suffix = name.replace("__", "/").rpartition("_")
        path = folder / f"{stem}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_source(tmp_path: Path) -> None:
    """Languages are those of files outside of tests; pointers are found anywhere."""
    tree = write(
        tmp_path,
        setup_py="torch.utils.cpp_extension, '-gencode'",
        csrc__a_cu='#include <ATen/cuda/CUDAContext.h>\n#include "Python.h"\n',
        csrc__b_cpp="",
        tests__c_c="",
        tests__d_bin=LFS,
        csrc__e_h="",
    )
    (tree / ".gitmodules").write_text('[submodule "x"]\npath = csrc/cutlass\n')
    assert read_source(tree) == SourceTree(
        languages=frozenset({"C++", "CUDA"}),
        files=2,
        extends_torch=True,
        names_architectures=True,
        uses_python=True,
        has_torch_on_gpu=True,
        pointers=("tests/d.bin",),
        empty_submodules=("csrc/cutlass",),
    )


def test_a_source_that_compiles_nothing(tmp_path: Path) -> None:
    """No language, nothing to say."""
    assert read_source(write(tmp_path, setup_py="use_ninja=False")) == SourceTree(
        languages=frozenset(), is_serial=True
    )


def test_the_torch_in_an_environment(tmp_path: Path) -> None:
    """Its module and its headers say what they need; nothing is imported."""
    assert read_torch(tmp_path) is None
    assert read_torch_headers(tmp_path) == ()
    write(
        tmp_path,
        torch__version_py="__version__ = '2.13.0+cu130'\n"
        "cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n",
        torch__include__ATen__cuda__CUDAContextLight_h="#include <cstdint>\n"
        "#include <cusparse.h>\n#include <cublasLt.h>\n#include <cudss.h>\n",
    )
    assert read_torch(tmp_path) == Torch(version="2.13.0", cuda=(13, 0))
    assert read_torch_headers(tmp_path) == ("cusparse.h", "cublasLt.h")
    write(tmp_path, torch__version_py="__version__ = '2.13.0+cpu'\ncuda = None\n")
    assert read_torch(tmp_path) == Torch(version="2.13.0", cuda=None)


def test_an_nvcc_and_its_compiler(tmp_path: Path) -> None:
    """The header is the one in the folder that nvcc includes from."""
    nvcc = program(
        tmp_path,
        "cuda/bin/nvcc",
        'case $1 in --version) echo "release 12.4, V12.4.1" ;;'
        f" *) echo '#$ INCLUDES=\"-I{tmp_path}/there\"' >&2 ;; esac",
    )
    write(
        tmp_path,
        there__crt__host_config_h="#if __GNUC__ > 13\n",
        cuda__include__crt__host_config_h="#if __GNUC__ > 9\n",
    )
    program(tmp_path, "bin/g++-14", 'echo "g++-14 (Debian 14.2.0-1) 14.2.0"')
    program(tmp_path, "bin/g++-12", "")
    variables = {
        "CUDA_HOME": str(tmp_path / "cuda"),
        "PATH": str(tmp_path / "bin"),
        "NVCC_APPEND_FLAGS": "-O2 -ccbin g++-14",
    }
    expected = Nvcc(version=(12, 4), place=str(nvcc), newest_gcc=13)
    assert read_nvcc(variables, run) == expected
    assert read_host_compiler(variables, run) == Compiler(
        name="g++-14", version="14.2.0", is_gcc=True, older=("g++-12",)
    )
    assert read_host_compiler({"PATH": "", "CC": "gcc"}, run) is None


def test_a_machine(tmp_path: Path) -> None:
    """GPUs are devices; a folder that doesn't exist is made in one that does."""
    assert not has_gpu(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    assert has_gpu(tmp_path)
    assert find_unwritable([tmp_path / "new/folder"]) == ()
    file = write(tmp_path, a_txt="") / "a.txt"
    assert find_unwritable([file / "new"]) == (str(file / "new"),)


@pytest.mark.parametrize(
    ("variables", "step", "error"),
    [
        ({}, "compile", ""),
        ({"CFLAGS": "-include none.h"}, "compile", "none.h: No such file or directory"),
        ({"LDFLAGS": "-lnone"}, "link", "cannot find -lnone"),
        ({"CC": "none"}, "compile", "none isn't on PATH"),
    ],
)
def test_a_trial(
    tmp_path: Path, variables: dict[str, str], step: str, error: str
) -> None:
    """The compiler and its options are those that variables name."""

    def run_there(argv: Sequence[str], folder: Path) -> Completed:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, check=False
        )
        return Completed(
            returncode=done.returncode, stdout=done.stdout, stderr=done.stderr
        )

    trial = Trial(language="C", variables={"PATH": os.environ["PATH"], **variables})
    result, log = run_trial(trial, tmp_path / "trial", run_there)
    assert result.step == step
    assert error in result.error
    assert bool(error) == bool(result.error)
    assert log.startswith("trial of C:\nint trial(void) { return 0; }")
