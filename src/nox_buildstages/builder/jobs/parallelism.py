"""How a build can run several compilers at once, and how it learns how many."""

from __future__ import annotations

import hashlib
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.builder.jobs.slots import job_variables
from nox_buildstages.errors import CommandError
from nox_buildstages.system.files import read_text, write_text
from nox_buildstages.system.process import run_checked, version_command

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from nox_buildstages.sources.metadata import BuildSystem
    from nox_buildstages.system.process import Runner

_MAKE = (re.compile(r"GNU Make (\d{1,9})\.(\d{1,9})"), (4, 4))
_NINJA = (re.compile(r"(\d{1,9})\.(\d{1,9})"), (1, 13))
_SINCE = {
    "make": _MAKE,
    "gmake": _MAKE,
    "ninja": _NINJA,
    "ninja-build": _NINJA,
    "samu": (re.compile("(?!)"), (0, 0)),  # in no version
    "cargo": (re.compile(r"cargo (\d{1,9})\.(\d{1,9})"), (1, 70)),
}
"""Programs that run compilers, and since when each reads tokens from a named pipe. Of
the older ones, make stops with an error, and others ignore the pipe."""

_JOB_VARIABLES = job_variables(1).keys() - {"NVCC_THREADS"}

_NUMBER = re.compile(
    r"MAX_JOBS|BUILD_PARALLEL_LEVEL|NUM_BUILD_JOBS|NINJAFLAGS|MAKEFLAGS|\bnproc\b"
    r"|cpu_count|sched_getaffinity|numpy\.distutils|parallel *= *\d"
    r"""|(^|["'\s])(-j|--jobs|--parallel)($|["'\s={%\d])"""
)
"""Signs that a build wants a number of jobs, or has one of its own."""

_OTHER_TOOLS = re.compile(
    r"\b(n?make|configure|jobs)\b|[cq]make|ninja|meson|scons|bazel|\b[\w.-]+\.sh\b"
    r"|scikit|maturin|cargo|\brust|torch|parallel|concurrent|multiprocessing"
)
"""Signs that something else than the build backend runs compilers."""

_BUILD_FILES = re.compile(
    r".*\.(py|cmake|sh|toml)|setup\.cfg|CMakeLists\.txt|meson\.build|build\.rs"
    r"|(GNU)?[Mm]akefile"
)
_SCRIPTS = re.compile(r".*\.py|setup\.cfg")

_SERIAL_BACKENDS = {
    *("setuptools.build_meta", "setuptools.build_meta:__legacy__"),
    *("flit_core.buildapi", "hatchling.build", "pdm.backend", "uv_build"),
    "poetry.core.masonry.api",
}
"""Build backends that compile one file at a time themselves."""


def needs_number(
    tree: Path, declared: Collection[str], arguments: Iterable[str]
) -> bool:
    """Whether a build ignores a jobserver, because something has a number of jobs.

    This may be a declared variable, an argument in the config settings, or a file at
    the top of the source: flash-attn computes ``MAX_JOBS`` if it isn't set.
    """
    return (
        not _JOB_VARIABLES.isdisjoint(declared)
        or any(map(_NUMBER.search, arguments))
        or any(map(_NUMBER.search, _read_files(tree, _BUILD_FILES)))
    )


def is_serial(tree: Path, system: BuildSystem) -> bool:
    """Whether a build surely runs one compiler at a time."""
    return (
        system.backend in _SERIAL_BACKENDS
        and not system.backend_path
        and not any(map(_OTHER_TOOLS.search, system.requires))
        and not any(map(_OTHER_TOOLS.search, _read_files(tree, _SCRIPTS)))
    )


def knows_server(
    path: str, outer: Mapping[str, str], *, runner: Runner, cache: Path
) -> bool:
    """Whether all build tools on a ``PATH`` read tokens from a named pipe.

    The folder ``cache`` keeps the versions of the programs.
    """
    for name, (pattern, since) in _SINCE.items():
        found = shutil.which(name, path=path)
        if found is None:
            continue
        match = pattern.match(_ask_version(Path(found), outer, runner, cache))
        if match is None or (int(match[1]), int(match[2])) < since:
            return False
    return True


def _ask_version(
    program: Path, outer: Mapping[str, str], runner: Runner, cache: Path
) -> str:
    """Return the output for ``--version``; empty after a failure."""
    status = program.stat()
    stamp = (program, status.st_size, status.st_mtime_ns, status.st_ino)
    answer = cache / f"{hashlib.sha256(repr(stamp).encode()).hexdigest()}.json"
    with suppress(OSError):
        return read_text(answer)
    try:
        version = run_checked(runner, version_command(str(program), outer))
    except CommandError:
        return ""
    with suppress(OSError):
        write_text(answer, version)
    return version


def _read_files(tree: Path, names: re.Pattern[str]) -> Iterator[str]:
    """Yield the text of the files at the top of a source with some names."""
    for file in tree.iterdir():
        if names.fullmatch(file.name) and file.is_file():
            yield read_text(file, errors="replace")
