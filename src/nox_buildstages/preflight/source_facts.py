"""Facts about an unpacked source, and about the torch in an environment."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.environments.cuda import torch_cuda
from nox_buildstages.preflight.facts import SourceTree, Torch
from nox_buildstages.sources.trees import find_empty_submodules
from nox_buildstages.system.files import open_file, read_file, read_text, walk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.lock.files.lockfile import Pin
    from nox_buildstages.preflight.facts import Language, Version

_LANGUAGES: dict[str, Language] = {
    **dict.fromkeys((".c", ".pyx"), "C"),
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".C"), "C++"),
    ".cu": "CUDA",
}
_LFS = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_SIZE = range(100, 1024)
_NOT_BUILT = re.compile("(test|doc|example|benchmark|sample)s?|testing|[._].*")
_INCLUDED = re.compile(
    rb"#\s*include\s*[<\"](?:(?P<gpu>ATen/cuda/)|Python\.h|pybind11/|nanobind/|numpy/"
    rb"|torch/(?:extension|python)|boost/python)"
)
"""An include of a torch header that needs CUDA, or of one that needs Python's."""

_ARCHITECTURES = re.compile(r"gencode|compute_\d|sm_\d|TORCH_CUDA_ARCH_LIST")
_DEFINED = re.compile(r"^(__version__|cuda)\b[^=\n]*= *'?([^'\n]*)'?$", re.MULTILINE)


def read_source(tree: Path) -> SourceTree:
    """Return the facts about the source of a project."""
    languages: set[Language] = set()
    pointers: list[str] = []
    files, uses_python, has_torch_on_gpu = 0, False, False
    for folder, names, members in walk(tree):
        names[:] = (it for it in names if it != ".git")
        relative = Path(folder).relative_to(tree)
        is_built = not any(map(_NOT_BUILT.fullmatch, relative.parts))
        for path in (Path(folder, it) for it in members):
            language = _LANGUAGES.get(path.suffix) if is_built else None
            with suppress(OSError):
                if path.is_symlink():
                    continue
                if path.stat().st_size in _LFS_SIZE and _begins(path, _LFS):
                    pointers.append(str(path.relative_to(tree)))
                elif language is not None:
                    languages.add(language)
                    files += 1
                    uses_python |= path.suffix == ".pyx"
                    if not (uses_python and has_torch_on_gpu):
                        for it in _INCLUDED.finditer(read_file(path)):
                            has_torch_on_gpu |= it["gpu"] is not None
                            uses_python |= it["gpu"] is None
    setup = "\n".join(
        read_text(it, errors="replace")
        for it in tree.iterdir()
        if it.is_file() and it.suffix in {".py", ".txt", ".cmake"}
    )
    return SourceTree(
        languages=frozenset(languages),
        files=files,
        extends_torch="cpp_extension" in setup,
        is_serial=bool(re.search(r"use_ninja *= *False", setup)),
        asks_for_gpu="FORCE_CUDA" in setup and "is_available" in setup,
        names_architectures=bool(_ARCHITECTURES.search(setup)),
        uses_python=uses_python,
        has_torch_on_gpu=has_torch_on_gpu,
        is_sdist=(tree / "PKG-INFO").is_file(),
        pointers=tuple(sorted(pointers)),
        empty_submodules=find_empty_submodules(tree),
    )


def _begins(path: Path, beginning: bytes) -> bool:
    with open_file(path) as file:
        return file.read(len(beginning)) == beginning


def read_torch(packages: Path) -> Torch | None:
    """Return the torch in a folder of packages, as its own module says."""
    try:
        text = read_text(packages / "torch" / "version.py")
    except OSError:
        return None
    found = dict(_DEFINED.findall(text))
    version = found.get("__version__", "").partition("+")[0]
    return Torch(version=version, cuda=parse_cuda(found.get("cuda")))


def read_torch_headers(packages: Path) -> tuple[str, ...]:
    """Return the headers of CUDA that torch's own headers for extensions include."""
    header = packages / "torch/include/ATen/cuda/CUDAContextLight.h"
    with suppress(OSError):
        text = read_text(header, errors="replace")
        return tuple(re.findall(r"#include <(cu(?:sparse|blas|solver)\w*\.h)>", text))
    return ()


def torch_of(pins: Iterable[Pin]) -> Torch | None:
    """Return the torch in a lock."""
    versions = {str(it.name): str(it.version) for it in pins}
    if "torch" not in versions:
        return None
    version = versions["torch"].partition("+")[0]
    return Torch(version=version, cuda=parse_cuda(torch_cuda(versions)))


def parse_cuda(text: str | None) -> Version | None:
    """Return a version of CUDA such as 13.0; None for anything else."""
    found = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", text or "")
    return (int(found[1]), int(found[2])) if found else None
