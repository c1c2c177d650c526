"""A release proves what its wheels are: real binaries, another torch, exit statuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.binaries import MACHINE, compile_library
from support.packages import make_tree, make_wheel
from support.pair import declare, refused

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

VERIFY = ("-s", "build-stages-release", "--", "--verify")
NVCC = shutil.which("nvcc")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="for Linux alone"),
]


def write(project: Project, library: bytes, **env: str) -> None:
    """Declare an output that contains a library, beside torch."""
    make_tree(
        project.folder / "kernels",
        *("kernels", "1.0"),
        files={"kernels/__init__.py": "", "kernels/ext.so": library},
        requires=["torch"],
        settings={"tag": f"py3-none-linux_{MACHINE}"},
    )
    stage = {"name": "only", "outputs": ["kernels @ ./kernels"], "env": env}
    declare(project, {"stage": [stage], "final": {"requirements": ["kernels"]}})


@pytest.fixture
def torches(index: Index, tmp_path: Path) -> Path:
    """The folder of the library of torch, of which the index has three versions."""
    tag = f"py3-none-manylinux_2_17_{MACHINE}"
    for version, code in {
        "2.11.0": "int add(void) { return 0; }",
        "2.12.1": "int mul(void) { return 0; }",
        "2.13.0": "int add(void) { return 1; } int mul(void) { return 0; }",
    }.items():
        library = compile_library(tmp_path / version / "libtorch.so", code)
        files: dict[str, str | bytes] = {
            "torch/lib/libtorch.so": library,
            "torch/__init__.py": "",
        }
        make_wheel(index.folder, "torch", version, files=files, tag=tag)
    return tmp_path / "2.13.0"


def test_another_torch_is_tried(
    project: Project, torches: Path, index: Index, tmp_path: Path
) -> None:
    """One has all symbols, one lacks one, and one that can't be fetched is unknown."""
    code = "int add(void); int twice(void) { return 2 * add(); }"
    words = ("-L", str(torches), "-ltorch")
    write(project, compile_library(tmp_path / "ext.so", code, *words))
    said = refused(project, *VERIFY, "--torch", "2.11,2.12", "--json")
    assert "torch 2.12.1: it lacks add, needed by kernels/ext.so" in said
    assert "the release: a wheel isn't what it says, so nothing is released" in said
    assert not (project.wheelhouse / "SHA256SUMS").exists()

    done = project.nox(*VERIFY, "--torch", "2.11,2.13", "--json")
    assert "fetching torch-2.11.0" not in done.output
    assert "fetching torch-2.13.0" not in done.output  # it is installed
    text = done.output[done.output.index("{\n") : done.output.rindex("\n}") + 2]
    (wheel,) = json.loads(text)["wheels"]
    states = {it["check"]: it["state"] for it in wheel["checks"]}
    assert states["torch 2.11.0"] == states["torch 2.13.0"] == "ok"
    assert (project.wheelhouse / "SHA256SUMS").exists()

    for path in index.folder.glob("torch-2.12*"):
        path.unlink()
    shutil.rmtree(project.store / "sources")
    summary = tmp_path / "summary.md"
    env = {"UV_OFFLINE": "1", "GITHUB_STEP_SUMMARY": str(summary)}
    done = project.nox(*VERIFY, "--torch", "2.12", env=env, check=None)
    assert done.returncode == 2
    assert "error: the release: a wheel couldn't be checked, so nothing" in done.output
    line = "| unknown | torch 2.12: can't be fetched: the network is off"
    assert line in summary.read_text("utf-8")


def test_each_cell_is_verified_beside_the_others(
    project: Project, torches: Path, tmp_path: Path
) -> None:
    """The cell that fails is named, and the others are released."""
    words = ("-L", str(torches), "-ltorch")
    for name, symbol in {"good": "add", "also": "mul", "bad": "nowhere"}.items():
        code = f"int {symbol}(void); int twice(void) {{ return 2 * {symbol}(); }}"
        library = compile_library(tmp_path / f"{name}.so", code, *words)
        write(project, library)
        (project.folder / "kernels").rename(project.folder / name)
    stage = {"name": "only", "outputs": ["kernels @ ./{source}"]}
    table = {"stage": [stage], "final": {"requirements": ["kernels"]}}

    declare(project, {**table, "matrix": {"source": ["good", "bad"]}})
    summary = tmp_path / "summary.md"
    env = {"GITHUB_STEP_SUMMARY": str(summary)}
    release = (*VERIFY[:2], "-j", "2", *VERIFY[2:])
    done = project.nox(*release, env=env, check=False)
    assert done.returncode == 1
    assert "symbols: the runtime lacks nowhere, needed by" in done.output
    assert (project.wheelhouse / "good/SHA256SUMS").is_file()
    assert not (project.wheelhouse / "bad/SHA256SUMS").exists()
    text = summary.read_text("utf-8")
    for source, verdict in {"good": "ok", "bad": "failed"}.items():
        of_cell = text.partition(f"#### build-stages-release(source={source})\n")[2]
        assert of_cell.splitlines()[3].split(" | ")[1] == verdict

    declare(project, {**table, "matrix": {"source": ["good", "also"]}})
    done = project.nox(*release, "--torch", "2.12", check=False)
    assert "torch 2.12.1: it lacks add, needed by kernels/ext.so" in done.output
    assert (project.wheelhouse / "also/SHA256SUMS").is_file()
    project.nox(*release)


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_code_for_another_gpu_is_refused(
    project: Project, torches: Path, tmp_path: Path
) -> None:
    """A library for 9.0 isn't one for 8.0, and nobody needs a GPU to see it."""
    assert torches
    source, library = tmp_path / "kernel.cu", tmp_path / "kernel.so"
    source.write_text("__global__ void kernel(float *x) { x[0] += 1.0f; }", "utf-8")
    words = ("-arch=sm_90", "-shared", "-Xcompiler", "-fPIC")
    subprocess.run([str(NVCC), *words, "-o", library, source], check=True)
    write(project, library.read_bytes(), TORCH_CUDA_ARCH_LIST="8.0")
    said = refused(project, *VERIFY)
    asked = "TORCH_CUDA_ARCH_LIST is 8.0"
    assert f"GPU code: sm_90, compute_90; sm_80 is missing: {asked}" in said
    write(project, library.read_bytes(), TORCH_CUDA_ARCH_LIST="9.0+PTX")
    done = project.nox(*VERIFY)
    asked = "TORCH_CUDA_ARCH_LIST is 9.0+PTX"
    assert f"GPU code   sm_90, compute_90: {asked}" in done.output
