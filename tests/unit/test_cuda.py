"""CUDA from the wheels of an environment: the tree of links, and the variables."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.environments.cuda import (
    CUDA_FOLDER,
    add_cuda,
    link_cuda,
    nvcc_cuda,
    torch_cuda,
)
from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.packages import FILES_NOTE
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.system.process import run

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = "lib/python3.11/site-packages"
FILES = (
    *("bin/nvcc", "bin/nvcc.profile", "bin/crt/link.stub"),
    *("include/cuda.h", "include/cccl/cub.h", "nvvm/bin/cicc"),
    *("lib/libcudart.so.13", "lib/libnvrtc-builtins.so.13.0", "lib/libcudadevrt.a"),
    *("lib/libown.so", "lib/libown.so.1", "lib/stubs/libcuda.so"),
)


def make_environment(location: Path) -> Environment:
    """Make an environment with the files of the wheels of CUDA 13."""
    for name in FILES:
        path = location / PACKAGES / "nvidia/cu13" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return Environment(
        location=location, bin=location / "bin", python=location / "bin/python"
    )


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return make_environment(tmp_path / "env")


def link(environment: Environment, *, has_nvcc: bool = True) -> None:
    """Make the tree."""
    path = os.environ["PATH"]
    link_cuda(environment, has_nvcc=has_nvcc, runner=run, path=path)


def list_tree(environment: Environment) -> dict[str, str]:
    """Return the paths in the tree, each with the text of the file behind it."""
    tree = environment.location / CUDA_FOLDER
    found = {}
    for folder, _, files in os.walk(tree, followlinks=True):
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), tree)  # noqa: PTH118
            found[path] = (tree / path).read_text()
    return found


def test_the_tree_has_what_a_cuda_toolkit_has(environment: Environment) -> None:
    """Programs, headers, libraries in both folders, with the names that linkers want.

    A name that a wheel has stays what it is. Other libraries of NVIDIA are there, too.
    """
    nvidia = environment.location / PACKAGES / "nvidia"
    nvidia.joinpath("__init__.py").touch()
    others = {
        "nccl/include/nccl.h": "include/nccl.h",
        "nccl/lib/libnccl.so.2": "lib/libnccl.so",
        "zero/include/cuda.h": "",
        "zero/bin/tool": "",
    }
    for name in others:
        nvidia.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        nvidia.joinpath(name).write_text(name)
    link(environment)
    expected = {
        **{it: it for it in FILES},
        **{place: name for name, place in others.items() if place},
        "lib/libnccl.so.2": "nccl/lib/libnccl.so.2",
        "lib/libcudart.so": "lib/libcudart.so.13",
        "lib/libnvrtc-builtins.so": "lib/libnvrtc-builtins.so.13.0",
    }
    expected |= {
        it.replace("lib/", "lib64/"): expected[it]
        for it in expected
        if it.startswith("lib/")
    }
    assert list_tree(environment) == expected


def test_the_tree_stays_until_the_wheels_differ(environment: Environment) -> None:
    """A new tree makes the list of the environment's files invalid, an old one not."""
    note = environment.location / FILES_NOTE
    note.touch()
    link(environment)
    assert not note.exists()
    note.touch()
    link(environment)
    assert note.exists()
    library = environment.location / PACKAGES / "nvidia/cu13/lib/libcudart.so.13"
    library.rename(library.with_name("libcudart.so.14"))
    link(environment)
    assert list_tree(environment)["lib64/libcudart.so"] == "lib/libcudart.so.13"
    assert "lib64/libcudart.so.13" not in list_tree(environment)
    assert not note.exists()
    link(environment, has_nvcc=False)
    assert not environment.location.joinpath(CUDA_FOLDER).exists()


@pytest.mark.parametrize("damage", ["bin/nvcc", "lib64/libcudart.so", "nvvm"])
@pytest.mark.parametrize("how", ["removed", "a file", "another link"])
def test_a_damaged_tree_is_made_again(
    environment: Environment, damage: str, how: str
) -> None:
    """A killed run may leave a part of it."""
    link(environment)
    whole = list_tree(environment)
    path = environment.location / CUDA_FOLDER / damage
    path.unlink()
    if how == "a file":
        path.write_text("")
    elif how == "another link":
        path.symlink_to("/usr/local/cuda")
    link(environment)
    assert list_tree(environment) == whole


def test_a_copy_of_an_environment_has_a_tree_of_its_own(
    environment: Environment, tmp_path: Path
) -> None:
    """No link leads back to the first one."""
    link(environment)
    whole = list_tree(environment)
    copy = tmp_path / "copy"
    shutil.copytree(environment.location, copy, symlinks=True)
    shutil.rmtree(environment.location)
    assert list_tree(make_environment(copy)) == whole


def test_programs_link_with_the_driver(environment: Environment) -> None:
    """It comes with a GPU, but the header names its functions."""
    packages = environment.location / PACKAGES / "nvidia/cu13"
    shutil.rmtree(packages / "lib/stubs")
    packages.joinpath("include/cuda.h").write_text("CUresult CUDAAPI cuInit(int);")
    link(environment)
    note = environment.location / FILES_NOTE
    note.touch()
    link(environment)
    assert note.exists()
    source = environment.location / "a.c"
    source.write_text("int cuInit(int); int main(void) { return cuInit(0); }")
    stubs = environment.location / CUDA_FOLDER / "lib64/stubs"
    assert [it.name for it in stubs.iterdir()] == ["libcuda.so"]
    env = {**os.environ, "LIBRARY_PATH": str(stubs)}
    command = ["cc", str(source), "-lcuda", "-o", str(source.with_suffix(""))]
    subprocess.run(command, env=env, check=True)
    assert b"libcuda.so.1" in source.with_suffix("").read_bytes()


def test_a_wheel_without_nvcc_is_an_error(environment: Environment) -> None:
    """The build would use the system's."""
    nvcc = environment.location / PACKAGES / "nvidia/cu13/bin/nvcc"
    nvcc.unlink()
    with pytest.raises(BuildStagesError, match="contains no nvcc") as caught:
        link(environment)
    assert "--upgrade-package nvidia-cuda-nvcc" in str(caught.value)


def test_the_variables_name_the_tree(tmp_path: Path) -> None:
    """Its folders come first, and what the table says of one program stays."""
    tree = f"{tmp_path}/{CUDA_FOLDER}"
    found = add_cuda({}, tmp_path, path="/usr/bin")
    assert found == {
        "CUDACXX": f"{tree}/bin/nvcc",
        "CUDAToolkit_ROOT": tree,
        "CUDA_HOME": tree,
        "CUDA_PATH": tree,
        "PATH": f"{tree}/bin:/usr/bin",
        "CPATH": f"{tree}/include",
        "CPLUS_INCLUDE_PATH": f"{tree}/include/cccl",
        "LIBRARY_PATH": f"{tree}/lib64:{tree}/lib64/stubs",
    }
    declared = {"CUDACXX": "/x", "PATH": "/mine", "CPATH": "/y", "A": "1"}
    assert add_cuda(declared, tmp_path, path="/usr/bin") == {
        **found,
        "CUDACXX": "/x",
        "A": "1",
        "PATH": f"{tree}/bin:/mine",
        "CPATH": f"{found['CPATH']}:/y",
    }


@pytest.mark.parametrize(
    ("versions", "nvcc", "torch"),
    [
        ({}, None, None),
        ({"nvidia-cuda-nvcc": "13.0.88", "torch": "2.13.0+cpu"}, "13.0", None),
        ({"torch": "2.13.0+cu130"}, None, "13.0"),
        ({"torch": "2.6.0+cu118", "nvidia-cuda-runtime": "13.0.96"}, None, "11.8"),
        ({"torch": "2.13.0+rocm7.2"}, None, None),
        ({"torch": "2.13.0", "nvidia-cuda-runtime": "13.0.96"}, None, "13.0"),
        ({"torch": "2.8.0", "nvidia-cuda-runtime-cu12": "12.8.90"}, None, "12.8"),
        ({"torch": "2.13.0", "nvidia-cuda-nvcc-cu12": "12.9.86"}, None, None),
        ({"nvidia-cuda-runtime": "13.0.96"}, None, None),
    ],
)
def test_which_cuda_nvcc_and_torch_are_of(
    versions: dict[str, str], nvcc: str | None, torch: str | None
) -> None:
    """Torch says so by its local version, or by the runtime that it requires."""
    assert (nvcc_cuda(versions), torch_cuda(versions)) == (nvcc, torch)
