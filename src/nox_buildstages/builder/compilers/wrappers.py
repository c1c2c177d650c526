"""Wrapper programs to run compilers by way of a compiler cache."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from nox_buildstages.builder.scripts.shard import INSIDE, SHARD
from nox_buildstages.system.files import clear_place
from nox_buildstages.system.process import helper_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMPILER = re.compile(
    r"(\w+-\w+-\w+-(\w+-)?)?"  # a triplet, such as x86_64-linux-gnu-
    r"(cc|gcc|clang|c\+\+|g\+\+|clang\+\+)"
    r"(-[0-9.]+)?"
)
"""The name of a C or C++ compiler."""

CACHES = ("ccache", "sccache")
"""The supported caches; if both are on PATH, the first is used."""

SHARD_LINE = f"""\
if [ -n "${SHARD}" ] && [ -z "${INSIDE}" ]; then exec "${SHARD}" "$0" "$@"; fi
"""
"""The line of a wrapper for shards. Every build has it, because caches look at the size
of a compiler; inside of a cache it has no effect, as a cache would keep stand-ins."""

WRAPPERS = "NOX_BUILDSTAGES_WRAPPERS"
"""The folder of the wrappers that note which compilers a build starts."""

MAP_VARIABLES = ("NOX_BUILDSTAGES_PREFIX_MAP", "NOX_BUILDSTAGES_ENVIRONMENT_MAP")
"""For the build directory and the environment: the path, ``=``, and the path that
compilers write in its place."""

_MAP = "".join(f' ${{{{{it}:+"-ffile-prefix-map=${it}"}}}}' for it in MAP_VARIABLES)
_SCRIPT = f"""\
#!/bin/sh
# {{identity}}
if [ -n "${INSIDE}" ]; then exec {{compiler}} "$@"; fi
export {INSIDE}=1
exec {{launcher}} {{compiler}} "$@"
"""
_MAPPING_SCRIPT = f"""\
#!/bin/sh
# {{identity}}
exec {{compiler}}{_MAP} "$@"
"""
_LAUNCHER = f"""\
#!/bin/sh
{SHARD_LINE}own=${{{{0%/*}}}}
case $(command -v "$1") in "$own"/* | "${{{{{WRAPPERS}:-$own}}}}"/*) exec "$@" ;; esac
export {INSIDE}=1
exec {{launcher}} "$@"
"""
"""A program with the cache's name. It runs the wrapper of a compiler directly, because
the wrapper runs the cache with the path of the compiler itself. sccache needs that
path, to send the compiler to other machines."""
_DISABLED = """\
#!/bin/sh
case $1 in -*) exit 1 ;; esac
exec "$@"
"""
"""Replaces a cache that isn't used: meson skips it because ``--version`` fails, and
other tools run their compiler by way of it."""


def make_mapping_compilers(folder: Path, path: str) -> Path:
    """Make a folder with a wrapper for each C and C++ compiler on a ``PATH``.

    A wrapper makes the compiler write the paths of the build directory and of the
    environment as in all other builds. Compilers that can't are left out. The caller
    holds a lock.
    """
    found = find_compilers(path)
    scripts = format_scripts(_MAPPING_SCRIPT, found)
    return _make_folder(folder, "paths", scripts, found, is_usable=_supports_maps)


def _supports_maps(wrapper: Path) -> bool:
    """Whether the compiler of a wrapper knows the option."""
    argv = (str(wrapper), "-E", "-x", "c", os.devnull)
    env = {**helper_variables(os.environ), MAP_VARIABLES[0]: "/a=/b"}
    completed = subprocess.run(argv, env=env, capture_output=True, check=False)
    return completed.returncode == 0


def make_compilers(folder: Path, path: str, launcher: Path) -> Path:
    """Make a folder with a wrapper for each C and C++ compiler on a ``PATH``.

    A wrapper runs the compiler by way of the cache. CMake's launchers, meson and nvcc
    may put the cache before the wrapper. If a build tool takes the wrapper for the
    compiler, the wrapper changes if the compiler changes. The folder also contains a
    program with the cache's name.

    The folder's name depends on the content. The caller holds a lock.
    """
    found, program = find_compilers(path), shlex.quote(str(launcher))
    scripts = format_scripts(_SCRIPT, found, launcher=program)
    scripts |= dict.fromkeys(CACHES, _DISABLED)
    scripts[launcher.stem] = _LAUNCHER.format(launcher=program)
    return _make_folder(folder, launcher.stem, scripts, found)


def find_compilers(path: str) -> dict[str, Path]:
    """Return the C and C++ compilers on a ``PATH`` by name."""
    found: dict[str, Path] = {}
    for top in map(Path, path.split(os.pathsep)):
        if not (top.is_absolute() and top.is_dir() and os.access(top, os.R_OK)):
            continue
        for name in filter(COMPILER.fullmatch, os.listdir(top)):  # noqa: PTH208 - many
            compiler = top / name
            # A link to a cache is no compiler.
            if (
                name not in found
                and os.access(compiler, os.X_OK)
                and compiler.resolve().name not in CACHES
            ):
                found[name] = compiler
    return found


def format_scripts(
    script: str, compilers: Mapping[str, Path], **words: str
) -> dict[str, str]:
    """Return the text of a wrapper for each compiler."""
    scripts = {}
    for compiler in sorted(compilers.values()):
        status = compiler.stat()
        scripts[compiler.name] = script.format(
            identity=f"{compiler.resolve()} {status.st_size} {status.st_mtime_ns}",
            compiler=shlex.quote(str(compiler)),
            **words,
        )
    return scripts


def make_noop_caches(folder: Path) -> Path:
    """Make a folder with programs in place of the caches; the caller holds a lock."""
    return _make_folder(folder, "none", dict.fromkeys(CACHES, _DISABLED))


def _make_folder(
    folder: Path,
    name: str,
    scripts: Mapping[str, str],
    compilers: Mapping[str, Path] = MappingProxyType({}),
    *,
    is_usable: Callable[[Path], bool] = lambda _: True,
) -> Path:
    """Make a folder of usable programs, unless the folder exists."""
    digest = hashlib.sha256("".join(scripts.values()).encode()).hexdigest()
    target = folder / f"{name}-{digest[:16]}"
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    clear_place(target, is_folder=True)
    staging = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    write_scripts(staging, scripts, compilers)
    for script in staging.iterdir():
        if not is_usable(script):
            script.unlink()
    return staging.rename(target)


def write_scripts(
    folder: Path, scripts: Mapping[str, str], compilers: Mapping[str, Path]
) -> None:
    """Write programs into a folder.

    The wrappers of compilers get the compilers' times: a cache identifies compilers by
    their time.
    """
    for program, text in scripts.items():
        script = folder / program
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)
        if program in compilers:
            modified = compilers[program].stat().st_mtime_ns
            os.utime(script, ns=(modified, modified))
