"""Find the likely cause of a failure in the log of a build."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nox_buildstages.builder.home import HomeSettings
from nox_buildstages.model import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    "a compiler was killed, most likely because memory ran out: run fewer at once,"
    ' with memory-per-job = "8GB" for stage {stage}, or jobs = 1'
)

_COMPILER = r"([\w-]+-)?(gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(-[\d.]+)?"

_ALONE = (
    "a compiler was killed, most likely because memory ran out, with one job only: use"
    " a machine with more memory, or build less, such as fewer GPU architectures"
)

_FULL_DISK = r"No space left on device"

_HINTS = (
    (
        r"No module named '?(?P<what>\w+)",
        (
            f"its build imports the module {{what}}: {_DEPENDENCY}"
            " (or the project's name, if that differs)"
        ),
    ),
    (
        _FULL_DISK,
        (
            "a disk is full: free some space, or build on another disk, with"
            " NOX_BUILDSTAGES_BUILD_DIR"
        ),
    ),
    (_MEMORY, _FOR_MEMORY),
    (
        r"detected CUDA version \((?P<what>[\d.]+)\) mismatches",
        (
            "nvcc is of CUDA {what}, and torch of another version: set CUDA_HOME to"
            f" the matching CUDA toolkit, and {_CUDA_HOME}"
        ),
    ),
    (
        (
            r"CUDA_HOME environment variable is not set|nvcc.{0,20}(not found|No such)"
            r"|No such file or directory: '[^']*\bnvcc'|[Ff]ailed to find nvcc"
            r"|[Cc]ould not find nvcc|No CMAKE_CUDA_COMPILER could be found"
        ),
        f"nvcc isn't found: set CUDA_HOME to the CUDA toolkit, and {_CUDA_HOME}",
    ),
    (
        r"rustup could not choose a version",
        "rustup has no default toolchain: set one, with rustup default stable",
    ),
    (
        r"toolchain '(?P<what>[^']+)' (is not installed|may not be able)",
        "rustup lacks a toolchain: install it, with rustup toolchain install {what}",
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
        "the C or C++ compiler is missing: install one, and see that it is on PATH",
    ),
    (
        r"discovered in a flat-layout: .*'wheelhouse'",
        (
            "setuptools takes the wheelhouse for a package of this project: list the"
            ' packages, with packages = ["…"] in [tool.setuptools], or hide the'
            ' wheelhouse, with wheelhouse = ".wheelhouse" in [tool.nox-buildstages]'
        ),
    ),
    (
        r"fatal error: '?Python\.h'?( file not found|: No such file)",
        (
            "the headers of Python are missing: install python3-dev or python3-devel,"
            " or use a Python that includes them"
        ),
    ),
)
"""Patterns and their hints, the first match wins; ``{what}`` is a group."""


_OFFLINE = (
    (
        r"name resolution|Name or service not known|nodename nor servname"
        r"|Could(n.t| not) resolve host|unable to resolve host|getaddrinfo failed"
        r"|Network is unreachable|No address associated with hostname"
        r"|urlopen error|Failed to establish a new connection|dns error"
    ),
    (
        "its build uses the network, which is off while backends run: add the files"
        " to its source, or set network = true for stage {stage}"
    ),
)
_OFFLINE_MIRROR = (
    "its build uses the network, which is off while backends run, and doesn't reach"
    " {mirrors}: add the files to its source, for example with cargo vendor"
)
_LOGIN = (
    r"\b40[13]\b|[Aa]uthenticat|could not read (Username|Password)|no token found"
    r"|[Pp]ermission denied \(publickey"
)
_NO_LOGIN = (
    "a server asks for a login, and builds get none from your home: add the files to"
    " the source of the output, or name a variable with the login in pass-env of stage"
    " {stage}, such as CARGO_REGISTRIES_NAME_TOKEN"
)
"""Messages of urllib, requests, pip, curl, wget, git, cargo and Go without network."""


_NO_MODULE = re.compile(r"No module named '?(\w+)")


def missing_module(lines: Iterable[str]) -> str | None:
    """Return the name of a missing top-level module, from a log; or None.

    The last name counts: after an ``ImportError``, code may try another module.
    """
    found = _NO_MODULE.findall("\n".join(lines))
    return found[-1] if found else None


def is_out_of_memory(lines: Iterable[str]) -> bool:
    """Whether a log shows a process killed for lack of memory."""
    return any(re.search(_MEMORY, line.rstrip()) for line in lines)


def is_full_disk(lines: Iterable[str]) -> bool:
    """Whether a log shows a full disk."""
    return any(re.search(_FULL_DISK, line) for line in lines)


def memory_hint(stage: str, *, jobs: int) -> str:
    """Return the hint for a build killed for lack of memory."""
    return _FOR_MEMORY.format(stage=stage) if jobs > 1 else _ALONE


def find_hint(
    lines: Iterable[str],
    *,
    stage: str,
    offline: bool = False,
    settings: HomeSettings | None = None,
) -> str:
    """Return the likely cause of a failure and a fix; empty if unknown.

    ``settings`` are those that the build had of the user's home.
    """
    text = "\n".join(lines)
    downloads = _download_hints(settings or HomeSettings(), offline=offline)
    hints: list[tuple[str, str]] = [*_HINTS, *downloads]
    for pattern, words in hints:
        found = [*re.finditer(pattern, text, re.MULTILINE)]
        if not found:
            continue
        hint = words
        if stage == PROJECT:
            hint = hint.replace(_TO_STAGE, "to requires in [build-system]")
            if "{stage}" in hint:
                return ""  # the project itself has no stage with such a setting
        # The last match counts: the program recovered from earlier ones.
        return hint.format(what=found[-1].groupdict().get("what", ""), stage=stage)
    return ""


def _download_hints(
    settings: HomeSettings, *, offline: bool
) -> Iterator[tuple[str, str]]:
    """Yield the patterns and hints for failed downloads.

    The public servers are no advice if the user's home names others.
    """
    names = _escape(settings.left_out)
    rest = f"\nsettings that builds don't get: {names}" if names else ""
    mirrors = _escape(settings.mirrors)
    if offline:
        pattern, words = _OFFLINE
        words = _OFFLINE_MIRROR.replace("{mirrors}", mirrors) if mirrors else words
        yield pattern, words + rest
    elif names:
        yield _LOGIN, _NO_LOGIN + rest


def _escape(words: Iterable[str]) -> str:
    """Return words for a hint, which is a format string."""
    return ", ".join(words).replace("{", "{{").replace("}", "}}")
