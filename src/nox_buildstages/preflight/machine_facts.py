"""Facts about this machine: nvcc, compilers, GPUs, memory, disks and folders."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.errors import CommandError
from nox_buildstages.preflight.facts import Compiler, Memory, Nvcc
from nox_buildstages.system.files import read_text
from nox_buildstages.system.process import Command, version_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nox_buildstages.preflight.facts import Version
    from nox_buildstages.system.machine import Machine
    from nox_buildstages.system.process import Runner

COMPILER_VARIABLES = (
    *("PATH", "CUDA_HOME", "CUDA_PATH", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"),
    *("NVCC_CCBIN", "CUDAHOSTCXX", "CC"),
)
"""The variables that choose nvcc and the C++ compiler that it calls."""

_RELEASE = re.compile(r"release (\d+)\.(\d+)")
_NEWEST_GCC = re.compile(r"^#if __GNUC__ > (\d+)", re.MULTILINE)
_INCLUDES = re.compile(r'"-I([^"]+)"')
_GCC = re.compile(r"g(cc|\+\+)|\bGCC\b|Free Software Foundation")
_NUMBER = re.compile(r"\b(\d+\.\d+(\.\d+)?)\b")
_CCBIN = re.compile(r"-(?:ccbin|-compiler-bindir)[ =](\S+)")


def find_nvcc(variables: Mapping[str, str]) -> Path | None:
    """Return torch's choice of the CUDA compiler; None without CUDA."""
    home = variables.get("CUDA_HOME") or variables.get("CUDA_PATH")
    found = shutil.which("nvcc", path=variables.get("PATH"))
    if home or not found:
        found = str(Path(home or "/usr/local/cuda", "bin", "nvcc"))
    return Path(found) if os.access(found, os.X_OK) else None


def read_nvcc(variables: Mapping[str, str], runner: Runner) -> Nvcc | None:
    """Return the nvcc that a build with some variables would use."""
    path = find_nvcc(variables)
    if path is None:
        return None
    version = _RELEASE.search(_ask(runner, variables, str(path), "--version"))
    dry = _ask(runner, variables, str(path), "--dryrun", "-c", "trial.cu")
    folders = (*_INCLUDES.findall(dry), str(path.resolve().parents[1] / "include"))
    newest = None
    for folder in folders:
        with suppress(OSError):
            header = read_text(Path(folder, "crt", "host_config.h"), errors="replace")
            if newest := _NEWEST_GCC.search(header):
                break
    return Nvcc(
        version=(int(version[1]), int(version[2])) if version else None,
        place=str(path),
        newest_gcc=int(newest[1]) if newest else None,
    )


def read_host_compiler(variables: Mapping[str, str], runner: Runner) -> Compiler | None:
    """Return the C++ compiler that nvcc calls in a build; None if there is none."""
    flags = (variables.get(f"NVCC_{it}_FLAGS", "") for it in ("PREPEND", "APPEND"))
    named = _CCBIN.search(" ".join(flags))
    choices = ("NVCC_CCBIN", "CUDAHOSTCXX", "CC")
    chosen = next((variables[it] for it in choices if variables.get(it)), "g++")
    name = named[1] if named else shlex.split(chosen)[0]
    path = shutil.which(name, path=variables.get("PATH"))
    if path is None:
        return None
    text = _ask(runner, variables, path, "--version")
    version = _NUMBER.search(text)
    if version is None:
        return None
    return Compiler(
        name=name,
        version=version[1],
        is_gcc=bool(_GCC.search(text)) and "clang" not in text,
        older=tuple(
            f"g++-{number}"
            for number in range(5, int(version[1].partition(".")[0]))
            if shutil.which(f"g++-{number}", path=variables.get("PATH"))
        ),
    )


def read_ccache(program: Path | None, runner: Runner) -> Version | None:
    """Return the version of a compiler cache; None if it isn't ccache."""
    if program is None or program.stem != "ccache":
        return None
    found = _NUMBER.search(_ask(runner, os.environ, str(program), "--version"))
    major, minor = found[1].split(".")[:2] if found else ("0", "0")
    return int(major), int(minor)


def _ask(runner: Runner, variables: Mapping[str, str], *argv: str) -> str:
    """Return the output of a program; empty if the program can't start."""
    command = version_command(argv[0], variables)
    with suppress(CommandError):
        completed = runner(Command(argv=argv, cwd=command.cwd, env=command.env))
        return completed.stdout + completed.stderr
    return ""


def has_gpu(root: Path = Path("/")) -> bool:
    """Whether this machine has an NVIDIA GPU that builds can see."""
    return any(
        it for name in ("nvidia[0-9]*", "dxg") for it in root.glob(f"dev/{name}")
    )


def read_memory(machine: Machine) -> Memory:
    """Return the memory and the cores of the machine."""
    return Memory(
        limit=machine.memory_limit(),
        free=machine.free_memory(),
        cores=machine.cores(),
    )


def free_space(folder: Path) -> int:
    """Return the free bytes for a folder, which may not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def find_unwritable(folders: Iterable[Path]) -> tuple[str, ...]:
    """Return the folders that can't be written to, or can't be made."""
    existing = {it: _existing(it) for it in folders}
    return tuple(
        str(it)
        for it, around in existing.items()
        if not (around.is_dir() and os.access(around, os.W_OK))
    )


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest existing folder around."""
    return next(it for it in (folder, *folder.parents) if it.exists())
