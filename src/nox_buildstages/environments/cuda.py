"""CUDA from an environment's wheels: a tree of links, and variables for the tree.

The wheels of CUDA 13 and newer contain nvcc, headers and libraries, but programs that
build look for the folders of an installed CUDA toolkit.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from nox_buildstages.environments.packages import FILES_NOTE, site_packages
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.model import NVCC
from nox_buildstages.system.files import read_text, remove_tree
from nox_buildstages.system.process import Command, helper_variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.system.process import Runner

NVCC_12 = "nvidia-cuda-nvcc-cu12"
"""The project of CUDA 12, whose wheel contains ptxas, but no nvcc."""

FIRST_ON_PYPI = 13
"""The first major version of CUDA whose nvcc is on PyPI."""

TOOLKIT_PARTS = ("nvcc", "cudart", "cccl")
"""The extras of PyPI's cuda-toolkit that bring nvcc and what its code includes."""

TOOLKIT = f"cuda-toolkit[{','.join(TOOLKIT_PARTS)}]"
"""The requirement with these extras."""

CUDA_FOLDER = "cuda-toolkit"
"""The folder in an environment for the tree."""

TOOLKIT_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDAToolkit_ROOT", "CUDACXX")
"""The variables with which programs find CUDA: three name the folder, one nvcc."""

_STUBS = {
    "libcuda": ("cuda.h", r"\bcu[A-Z]\w+"),
    "libnvidia-ml": ("nvml.h", r"\bnvml[A-Z]\w+"),
}
"""The driver's libraries, which no wheel has: their headers and functions."""

_LIBRARY = re.compile(r"(lib.+\.so)\.[\d.]+")


def link_cuda(
    environment: Environment, *, has_nvcc: bool, runner: Runner, path: str | None
) -> None:
    """Make an environment's CUDA tree fit the wheels; without nvcc, remove the tree.

    All links are relative, so a copy of the environment has a separate tree. ``path``
    is the ``PATH`` with the C compiler. The caller occupies the environment.

    Raises:
        BuildStagesError: The wheel of nvcc contains no nvcc.
    """
    tree = environment.location / CUDA_FOLDER
    links = dict(_list_links(environment, tree)) if has_nvcc else {}
    stubs = [it for it in _STUBS if f"include/{_STUBS[it][0]}" in links]
    if "lib64/stubs" in links:  # a wheel has some
        stubs = []
    files = {f"lib64/stubs/{it}.so": "" for it in stubs}
    if {**links, **files} == dict(_read_links(tree)):
        return
    # The recorded files of the environment don't include the new ones.
    environment.location.joinpath(FILES_NOTE).unlink(missing_ok=True)
    remove_tree(tree)
    for name, target in links.items():
        link = tree / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    compiler = shutil.which("cc", path=path)
    if compiler is not None:
        for stub in stubs:
            _make_stub(tree, stub, compiler, runner)


def _make_stub(tree: Path, name: str, compiler: str, runner: Runner) -> None:
    """Make a library with the functions of the driver, for the linker.

    Without the library, programs linked with the driver could only be built on a
    machine with a GPU. If the compiler can't make the library, the linker will say what
    is missing.
    """
    header, pattern = _STUBS[name]
    text = read_text(tree.joinpath("include", header), errors="replace")
    folder = tree / "lib64" / "stubs"
    folder.mkdir(parents=True, exist_ok=True)
    source, new = folder / f"{name}.c", folder / f"{name}.new"
    functions = sorted(set(re.findall(pattern, text)))
    source.write_text("".join(f"void {it}(void) {{}}\n" for it in functions))
    options = ("-shared", "-nostdlib", "-w", f"-Wl,-soname,{name}.so.1")
    argv = (compiler, *options, "-o", str(new), str(source))
    env = helper_variables(os.environ)
    if runner(Command(argv=argv, cwd=folder, env=env)).returncode == 0:
        new.rename(folder / f"{name}.so")
    source.unlink()


def _list_links(environment: Environment, tree: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of each link in the tree, and the relative target.

    Headers and libraries of other wheels of NVIDIA, such as NCCL, are in the tree, too.
    """
    found = (
        nvcc
        for packages in site_packages(environment)
        for nvcc in sorted(packages.glob("nvidia/cu*/bin/nvcc"))
    )
    nvcc = next(found, None)
    if nvcc is None:
        raise BuildStagesError(
            subject=f"environment {environment.location}",
            problem=f"its {NVCC} contains no nvcc",
            hint="lock another version:\n"
            f"  nox -s build-stages-lock -- --upgrade-package {NVCC}",
        )
    top = nvcc.parent.parent
    others = [it for it in sorted(top.parent.iterdir()) if it != top]
    for name, source, tops in (
        ("bin", "bin", (top,)),
        ("include", "include", (top, *others)),
        ("lib64", "lib", (top, *others)),
    ):
        files: dict[str, str] = {}
        for folder in filter(Path.is_dir, (it / source for it in tops)):
            target = os.path.relpath(folder, tree / name)
            for path in sorted(folder.iterdir()):
                files.setdefault(path.name, f"{target}/{path.name}")
        for it in list(files):
            if match := _LIBRARY.fullmatch(it):
                files.setdefault(match[1], it)  # for the linker
        yield from ((f"{name}/{it}", files[it]) for it in files)
    yield "lib", "lib64"
    yield "nvvm", os.path.relpath(top / "nvvm", tree)


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
    """Return variables with which a build finds only the environment's CUDA.

    If a variable names a single program or folder, a given value takes precedence; in a
    list of folders, the environment's come first. ``path`` is the default for ``PATH``.
    """
    tree = environment / CUDA_FOLDER
    folders = {
        "PATH": [tree / "bin"],
        # nvcc knows its headers, other compilers don't. Those of CCCL come after what a
        # source brings along as system headers.
        "CPATH": [tree / "include"],
        "CPLUS_INCLUDE_PATH": [tree / "include" / "cccl"],
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

    torch's local version names the CUDA; without a local version, the CUDA runtime
    required by torch does. None without torch, or if torch is for other hardware.
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
