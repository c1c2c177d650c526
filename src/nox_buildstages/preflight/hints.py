"""How to fix what checks find: a sentence, and lines of pyproject.toml."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nox_buildstages.config.writing import format_value
from nox_buildstages.environments.cuda import FIRST_ON_PYPI, TOOLKIT_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.preflight.facts import Facts, Version

_EXTRAS = (
    ("cublas", r"cublas\w*\.h(pp)?|cublas|cublasLt"),
    ("cusparse", r"cusparse\w*\.h|cusparse"),
    ("cusolver", r"cusolver\w*\.h|cusolver\w*"),
    ("cufft", r"cufft\w*\.h|cufftw?"),
    ("curand", r"curand\w*\.h|curand"),
    ("nvrtc", r"nvrtc\.h|nvrtc"),
    ("nvjitlink", r"nvJitLink\.h|nvJitLink"),
    ("nvjpeg", r"nvjpeg\.h|nvjpeg"),
    ("npp", r"npp\w*\.h|npp\w+"),
    ("cupti", r"cupti\w*\.h|cupti"),
    ("cufile", r"cufile\.h|cufile"),
    ("nvtx", r"nvtx3?/.*|nvToolsExt\w*\.h"),
    ("profiler", r"cuda_profiler_api\.h|cudaProfiler\.h"),
    ("cccl", r"(thrust|cub|cuda|nv|cooperative_groups)/.*"),
    ("crt", r"crt/.*"),
    ("cudart", r"cuda\w*\.hp{0,2}|vector_types\.h|cudart|cudart_static|cudadevrt"),
)
"""Extras of PyPI's cuda-toolkit, with the headers and libraries that each brings."""

_OTHERS = (
    ("nvidia-cudnn-cu{major}", r"cudnn\w*\.h|cudnn\w*"),
    ("nvidia-nccl-cu{major}", r"nccl\.h|nccl"),
    ("nvidia-cusparselt-cu{major}", r"cusparseLt\.h|cusparseLt"),
)

_MISSING = re.compile(
    r"fatal error: (?P<header>\S+): No such file"
    r"|cannot open source file \"(?P<source>[^\"]+)\""
    r"|(cannot find|unable to find library) -l(?P<library>[\w+.-]+)"
)


def set_in_stage(facts: Facts, key: str, value: object) -> str:
    """Return the lines that set a key of the stage of a build."""
    return (
        "[[tool.nox-buildstages.stage]]"
        f"        # {facts.stage}\n{key} = {format_value(value)}"
    )


def cuda_toolkit(extras: Iterable[str], cuda: Version) -> str:
    """Return the requirement for parts of PyPI's CUDA toolkit."""
    major, minor = cuda
    return f"cuda-toolkit[{','.join(extras)}]=={major}.{minor}.*"


def add_nvcc(facts: Facts, cuda: Version, *extras: str | None) -> str:
    """Return how a stage gets an nvcc, and other parts, of a CUDA version."""
    major, minor = cuda
    if major < FIRST_ON_PYPI:
        return (
            f"install CUDA {major}.{minor}, whose nvcc isn't on PyPI, and name it:\n"
            + set_in_stage(
                facts, "env", {"CUDA_HOME": f"/usr/local/cuda-{major}.{minor}"}
            )
        )
    known = facts.known.cuda_libraries
    usual = dict.fromkeys((*TOOLKIT_PARTS, *filter(None, extras), *known))
    return (
        "build with the CUDA of PyPI: add it to the dependencies of the stage"
        f"{', and remove CUDA_HOME from its env' * facts.names_cuda}:\n"
        + set_in_stage(facts, "dependencies", [cuda_toolkit(usual, cuda)])
    )


def find_missing(error: str) -> str | None:
    """Return the header or the library that the message of a compiler misses."""
    found = _MISSING.search(error)
    if found is None:
        return None
    return found["header"] or found["source"] or found["library"]


def find_cuda_extra(name: str) -> str | None:
    """Return the part of PyPI's CUDA toolkit with a header or a library."""
    return _find(name, _EXTRAS)


def find_cuda_package(name: str, cuda: Version) -> str | None:
    """Return the project beside PyPI's CUDA toolkit with a header or a library."""
    found = _find(name, _OTHERS)
    return None if found is None else found.format(major=cuda[0])


def _find(name: str, table: Iterable[tuple[str, str]]) -> str | None:
    found = (it for it, pattern in table if re.fullmatch(pattern, name))
    return next(found, None)
