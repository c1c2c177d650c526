"""CUDA from an environment's wheels: a tree of links, and variables that name it.

The wheels of CUDA 13 and newer contain nvcc, headers and libraries, but programs that
build look for the folders of an installed CUDA toolkit.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from packaging.version import Version

from nox_buildstages.environments.packages import FILES_NOTE, site_packages
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.system.files import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.environments.environment import Environment

NVCC = "nvidia-cuda-nvcc"
"""The project whose wheel contains nvcc."""

NVCC_12 = "nvidia-cuda-nvcc-cu12"
"""The project of CUDA 12, whose wheel contains ptxas, but no nvcc."""

CUDA_FOLDER = "cuda-toolkit"
"""The folder in an environment for the tree."""

TOOLKIT_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDAToolkit_ROOT", "CUDACXX")
"""The variables with which programs find CUDA: three name the folder, one nvcc."""

_LIBRARY = re.compile(r"(lib.+\.so)\.[\d.]+")


def link_cuda(environment: Environment, *, has_nvcc: bool) -> None:
    """Make the CUDA tree of an environment fit its wheels; without nvcc, remove it.

    All links are relative, so a copy of the environment has a tree of its own. The
    caller occupies the environment.

    Raises:
        BuildStagesError: The wheel of nvcc contains no nvcc.
    """
    tree = environment.location / CUDA_FOLDER
    links = dict(_list_links(environment, tree)) if has_nvcc else {}
    if links == dict(_read_links(tree)):
        return
    # The recorded files of the environment don't include the new links.
    environment.location.joinpath(FILES_NOTE).unlink(missing_ok=True)
    remove_tree(tree)
    for name, target in links.items():
        link = tree / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def _list_links(environment: Environment, tree: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of each link in the tree, and the relative target."""
    for packages in site_packages(environment):
        for nvcc in sorted(packages.glob("nvidia/cu*/bin/nvcc")):
            top = nvcc.parent.parent
            for folder, name in (("bin", "bin"), ("lib", "lib64")):
                found = os.path.relpath(top / folder, tree / name)
                files = sorted(it.name for it in (top / folder).iterdir())
                yield from ((f"{name}/{it}", f"{found}/{it}") for it in files)
                for it in files:
                    match = _LIBRARY.fullmatch(it)
                    if match is not None and match[1] not in files:
                        yield f"{name}/{match[1]}", it  # for the linker
            yield "lib", "lib64"
            for name in ("include", "nvvm"):
                yield name, os.path.relpath(top / name, tree)
            return
    raise BuildStagesError(
        subject=f"environment {environment.location}",
        problem=f"its {NVCC} contains no nvcc",
        hint=f"lock another version:\n"
        f"  nox -s build-stages-lock -- --upgrade-package {NVCC}",
    )


def _read_links(tree: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the target of each link in a tree; other files have none."""
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - of os.walk
            if os.path.islink(path):  # noqa: PTH114
                yield os.path.relpath(path, tree), os.readlink(path)  # noqa: PTH115
            elif name in files:
                yield os.path.relpath(path, tree), ""


def add_cuda(
    variables: Mapping[str, str], environment: Path, *, path: str
) -> dict[str, str]:
    """Return variables with which a build finds the CUDA of its environment alone.

    Of the variables that name one program or folder, the given ones take precedence;
    in a list of folders, the environment's come first. ``path`` is the default for
    ``PATH``.
    """
    tree = environment / CUDA_FOLDER
    folders = {
        "PATH": [tree / "bin"],
        # nvcc adds both to its own includes, C++ compilers know neither.
        "CPATH": [tree / "include", tree / "include" / "cccl"],
        "LIBRARY_PATH": [tree / "lib64", tree / "lib64" / "stubs"],
    }
    given = {"PATH": path, **variables}
    lists = {
        name: os.pathsep.join((*map(str, places), *filter(None, [given.get(name)])))
        for name, places in folders.items()
    }
    return {
        **dict.fromkeys(TOOLKIT_VARIABLES, str(tree)),
        "CUDACXX": str(tree / "bin" / "nvcc"),
        **variables,
        **lists,
    }


def nvcc_cuda(versions: Mapping[str, str]) -> str | None:
    """Return the CUDA of the nvcc among some packages, such as 13.0; None without."""
    return _minor(versions[NVCC]) if NVCC in versions else None


def torch_cuda(versions: Mapping[str, str]) -> str | None:
    """Return the CUDA of the torch among some packages, such as 13.0.

    torch's local version names it; without one, the CUDA runtime that torch requires
    does. None without torch, or if torch is for other hardware.
    """
    torch = versions.get("torch")
    if torch is None:
        return None
    local = Version(torch).local
    if local is not None:
        match = re.match(r"cu(\d+)(\d)(?!\d)", local)
        return f"{match[1]}.{match[2]}" if match else None
    for name, version in versions.items():
        if re.fullmatch(r"nvidia-cuda-runtime(-cu\d+)?", name):
            return _minor(version)
    return None


def _minor(version: str) -> str:
    return ".".join(map(str, Version(version).release[:2]))
