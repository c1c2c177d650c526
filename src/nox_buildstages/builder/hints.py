"""From what a build backend said to the likely cause, and what mends it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nox_buildstages.model import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

_TO_STAGE = "to the dependencies of stage {stage}"
_DEPENDENCY = f'add "{{what}}" {_TO_STAGE}'
_CUDA_HOME = 'pass-env = ["CUDA_HOME"] for stage {stage}'

_MEMORY = (
    r"(fatal )?error: Killed\b|unable to execute command: Killed|^Killed$"
    r"|(died due to|terminated with) signal 9|died with <Signals\.SIGKILL"
    r"|signal: 9, SIGKILL|^killed by signal 9$|^exit status 137$"
    r"|\[code=137\]|\*\*\* \[.*\] (Error 137|Killed)$"
    r"|^MemoryError\b|virtual memory exhausted|out of memory allocating"
    r"|LLVM ERROR: out of memory"
)
_FOR_MEMORY = (
    "a compiler was killed, most likely for memory: let fewer run at once,"
    ' memory-per-job = "8GB" for stage {stage}, or jobs = 1'
)

_COMPILER = r"([\w-]+-)?(gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(-[\d.]+)?"

_ALONE = (
    "a compiler was killed, most likely for memory, and there was one job already: it"
    " takes more memory, or a build of less, such as fewer GPU architectures"
)

_FULL_DISK = r"No space left on device"

_HINTS = (
    (
        r"No module named '?(?P<what>\w+)",
        (
            f"its build wants the module {{what}}: {_DEPENDENCY}"
            " (or the project's name, where that is another)"
        ),
    ),
    (
        _FULL_DISK,
        "a disk is full: make room; NOX_BUILDSTAGES_CACHE_DIR moves the store",
    ),
    (_MEMORY, _FOR_MEMORY),
    (
        r"detected CUDA version \((?P<what>[\d.]+)\) mismatches",
        (
            "nvcc is of CUDA {what} and torch of another: let CUDA_HOME name the one"
            f" that matches, and {_CUDA_HOME}"
        ),
    ),
    (
        (
            r"CUDA_HOME environment variable is not set|nvcc.{0,20}(not found|No such)"
            r"|No such file or directory: '[^']*\bnvcc'|[Ff]ailed to find nvcc"
            r"|[Cc]ould not find nvcc|No CMAKE_CUDA_COMPILER could be found"
        ),
        f"nvcc isn't found: let CUDA_HOME name the CUDA toolkit, and {_CUDA_HOME}",
    ),
    (
        (
            r"[Nn]inja is required|[Cc]ould not (find|detect) [Nn]inja"
            r"|unable to find a build program corresponding to \"Ninja\""
            r"|No such file or directory: '([^']*/)?ninja'"
            r"|\bninja: (command )?not found"
        ),
        "ninja is missing: " + _DEPENDENCY.replace("{what}", "ninja"),
    ),
    (
        (
            rf"No such file or directory: '{_COMPILER}'"
            rf"|command '{_COMPILER}' failed: No such file"
            rf"|^make.*: {_COMPILER}: No such file"
            rf"|\b{_COMPILER}: (command )?not found|linker `{_COMPILER}` not found"
            rf"|Unknown compiler\(s\): .*'{_COMPILER}'"
            r"|No CMAKE_C(XX)?_COMPILER could be found"
        ),
        "the C or C++ compiler is missing: install it; it is looked for on PATH",
    ),
    (
        r"discovered in a flat-layout: .*'wheelhouse'",
        (
            "setuptools takes the wheelhouse for a package of this project: name its"
            ' own ones, packages = ["…"] in [tool.setuptools], or keep the wheels out'
            ' of its sight, wheelhouse = ".wheelhouse" in [tool.nox-buildstages]'
        ),
    ),
    (
        r"fatal error: '?Python\.h'?( file not found|: No such file)",
        (
            "the headers of Python are missing: install them, as python3-dev or"
            " python3-devel, or use a Python that has them"
        ),
    ),
)
"""Patterns of a log, and what to say; ``{what}`` is the pattern's group."""


_OFFLINE = (
    (
        r"name resolution|Name or service not known|nodename nor servname"
        r"|Could(n.t| not) resolve host|unable to resolve host|getaddrinfo failed"
        r"|Network is unreachable|No address associated with hostname"
        r"|urlopen error|Failed to establish a new connection|dns error"
    ),
    (
        "its build wants the network, which is off while backends run: have what it"
        " fetches in its source, or network = true for stage {stage}"
    ),
)
"""What urllib, requests, pip, curl, wget, git, cargo and Go say where no network is."""


_NO_MODULE = re.compile(r"No module named '?(\w+)")


def missing_module(lines: Iterable[str]) -> str | None:
    """Return the module, without its submodule, that a log says is missing; or None.

    Of several it is the last: one before was caught, and something else tried.

    Args:
        lines: Of a hook's log.
    """
    found = _NO_MODULE.findall("\n".join(lines))
    return found[-1] if found else None


def is_out_of_memory(lines: Iterable[str]) -> bool:
    """Whether a log tells of something that was killed because memory ran out.

    Args:
        lines: Of a build's log, each with or without its end.
    """
    return any(re.search(_MEMORY, line.rstrip()) for line in lines)


def is_full_disk(lines: Iterable[str]) -> bool:
    """Whether a log tells of a disk with no room left.

    Args:
        lines: Of a build's log.
    """
    return any(re.search(_FULL_DISK, line) for line in lines)


def memory_hint(stage: str, *, jobs: int) -> str:
    """Return what mends it that memory was too small for a stage's build.

    Args:
        stage: Whose build it was.
        jobs: That it had.
    """
    return _FOR_MEMORY.format(stage=stage) if jobs > 1 else _ALONE


def find_hint(lines: Iterable[str], *, stage: str, offline: bool = False) -> str:
    """Return the likely cause of a failure and what mends it; None if none is known.

    Args:
        lines: Of a build's log.
        stage: Whose build it was.
        offline: Whether it reached no network.
    """
    text = "\n".join(lines)
    for pattern, words in _HINTS:
        found = [*re.finditer(pattern, text, re.MULTILINE)]
        if found:  # of several the last: those before were caught
            what = found[-1].groupdict().get("what", "")
            return _addressed(words, what, stage)
    pattern, words = _OFFLINE
    if offline and re.search(pattern, text):
        return _addressed(words, "", stage)
    return ""


def _addressed(words: str, what: str, stage: str) -> str:
    """Return a hint for a stage; empty if it doesn't apply to the project itself."""
    if stage == PROJECT:
        words = words.replace(_TO_STAGE, "to requires in [build-system]")
        if "{stage}" in words:
            return ""
    return words.format(what=what, stage=stage)
