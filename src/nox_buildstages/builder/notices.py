"""Notice probable mistakes that don't make a build fail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.system.files import read_file, walk
from nox_buildstages.wheels.wheel import compiled_members, member_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from nox_buildstages.wheels.wheel import WheelFile

_READ_BY_TOOLS = re.compile(
    "CC|CXX|CPP|FC|F77|F90|LD|AR|CUDACXX|CUDAHOSTCXX|HIPCXX|NVCC"
    "|(C|CXX|CPP|F|FC|LD|AR|ASM|CUDA|RUST|MAKE|NVCC|NVCC_APPEND|NVCC_PREPEND)_?FLAGS"
    "|(C_INCLUDE_|CPLUS_INCLUDE_|C|LIBRARY_|LD_LIBRARY_|LD_RUN_|PKG_CONFIG_)PATH"
    "|(CUDA|CUDNN|NCCL|ROCM|HIP|MKL)_(HOME|PATH|ROOT|DIR)|BLAS|LAPACK|MAX_JOBS"
    "|TORCH_CUDA_ARCH_LIST|PYTORCH_ROCM_ARCH|USE_(CUDA|ROCM|NINJA)|FORCE_CUDA"
    "|(CMAKE|MESON|SKBUILD|CARGO|MATURIN|PYO3|SETUPTOOLS|HATCH|PDM|FLIT|CIBW)_[A-Z_]+"
)
"""Variables that compilers, build tools and build backends read by themselves."""

_OF_SHELLS = {"HOME", "LOGNAME", "OLDPWD", "PWD", "SHELL", "SHLVL", "TERM", "USER"}
"""Variables that are set everywhere, so a source that names one lacks nothing."""

_BUILD_FILES = re.compile(
    r".*\.(py|cmake)|setup\.cfg|pyproject\.toml|CMakeLists\.txt|meson\.(build|options)"
    r"|meson_options\.txt|(GNU)?[Mm]akefile|configure(\.ac)?|build\.(rs|sh)"
)
_NAMED = re.compile(rb"""["'{(]([A-Z][A-Z0-9_]+)["'})]""")

_NATIVE = re.compile(r"\.(c|cc|cpp|cxx|cu|hip|pyx|f|f90|rs)")
_NOT_BUILT = re.compile("(test|doc|example|benchmark|sample)s?|testing|build|[._].*")


def find_ignored_variables(
    outer: Mapping[str, str], seen: Collection[str], tree: Path
) -> tuple[str, ...]:
    """Return the variables set here, but hidden from a build that would read them.

    These are variables read by tools themselves, and variables named in a file at the
    top of the source about the build.
    """
    files = (it for it in tree.iterdir() if _BUILD_FILES.fullmatch(it.name))
    named = {
        match.decode()
        for file in files
        if file.is_file()
        for match in _NAMED.findall(read_file(file))
    }
    return tuple(
        sorted(
            name
            for name in outer.keys() - set(seen) - _OF_SHELLS
            if outer[name] and (name in named or _READ_BY_TOOLS.fullmatch(name))
        )
    )


def describe_pure_wheel(wheel: WheelFile, tree: Path) -> str | None:
    """Return a line about a wheel for any platform that should probably be for one."""
    if not wheel.is_pure:
        return None
    if compiled := compiled_members(wheel.path):
        return (
            f"{wheel.path.name} is for any platform by its tag, but contains compiled"
            f" code, such as {compiled[0]}; it can't be released"
        )
    shipped = {name.rpartition("/")[2] for name in member_names(wheel.path)}
    sources = sorted(it for it in _native_sources(tree) if it.name not in shipped)
    if not sources:
        return None
    example = sources[0].relative_to(tree).as_posix()
    return (
        f"{wheel.path.name} contains no compiled code, but its source has"
        f" {len(sources)} file{'s' * (len(sources) > 1)} to compile, such as {example}:"
        " its build may have lacked a dependency or a variable"
    )


def _native_sources(folder: Path) -> Iterator[Path]:
    """Yield the files to compile below a folder, without those of tests and docs."""
    for top, inner, names in walk(folder):
        inner[:] = (it for it in inner if not _NOT_BUILT.fullmatch(it))
        for path in (Path(top, it) for it in names):
            if _NATIVE.fullmatch(path.suffix) and path.is_file():
                yield path
