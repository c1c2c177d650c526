"""The compilers of a build, found by their names, with something in front of them."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_COMPILER = re.compile(
    r"(\w+-\w+-\w+-(\w+-)?)?"  # a triplet, such as x86_64-linux-gnu-
    r"(cc|gcc|clang|c\+\+|g\+\+|clang\+\+)"
    r"(-[0-9.]+)?"
)
CACHES = ("ccache", "sccache")
"""Those that are known; where both are there, the first is taken."""

_INSIDE = "NOX_BUILDSTAGES_COMPILING"
"""Set for all that a cache runs: what it compiles with is what is there."""

_SCRIPT = f"""\
#!/bin/sh
# {{identity}}
if [ -n "${_INSIDE}" ]; then exec {{compiler}} "$@"; fi
export {_INSIDE}=1
exec {{launcher}} {{compiler}} "$@"
"""
_LAUNCHER = f"""\
#!/bin/sh
export {_INSIDE}=1
exec {{launcher}} "$@"
"""
_UNUSED = """\
#!/bin/sh
case $1 in -*) exit 1 ;; esac
exec "$@"
"""
"""For a cache that isn't the one: meson takes it for none, others do without."""


def wrapped(folder: Path, path: str, launcher: Path) -> Path:
    """Return a folder with a program for each C and C++ compiler, of the same name.

    It calls the compiler by way of a compiler cache, unless a cache called it: CMake's
    launchers and meson put one before it too, and nvcc compiles with it. To such a
    cache it is the compiler, so it changes when the compiler does. The cache is in the
    folder by its own name.

    What was found says where the folder is. One process at a time may make it.

    Args:
        folder: Of all such folders.
        path: Where the compilers are looked for, as ``PATH`` has it.
        launcher: The cache, which gets a compiler and its arguments.
    """
    found = sorted(_compilers(path))
    scripts = {it.name: _script(it, launcher) for it in found}
    scripts |= dict.fromkeys(CACHES, _UNUSED)
    scripts[launcher.stem] = _LAUNCHER.format(launcher=shlex.quote(str(launcher)))
    place = _place(folder, launcher.stem, scripts)
    if not place.is_dir():
        _make(place, scripts)
        for compiler in found:  # by its time a cache knows one from another
            modified = compiler.stat().st_mtime_ns
            os.utime(place / compiler.name, ns=(modified, modified))
    return place


def without(folder: Path) -> Path:
    """Return a folder with programs by the names of the caches that are none.

    One process at a time may make it.

    Args:
        folder: Of all such folders.
    """
    scripts = dict.fromkeys(CACHES, _UNUSED)
    place = _place(folder, "none", scripts)
    if not place.is_dir():
        _make(place, scripts)
    return place


def _place(folder: Path, name: str, scripts: Mapping[str, str]) -> Path:
    digest = hashlib.sha256("".join(scripts.values()).encode()).hexdigest()
    return folder / f"{name}-{digest[:16]}"


def _script(compiler: Path, launcher: Path) -> str:
    status = compiler.stat()
    return _SCRIPT.format(
        identity=f"{compiler.resolve()} {status.st_size} {status.st_mtime_ns}",
        compiler=shlex.quote(str(compiler)),
        launcher=shlex.quote(str(launcher)),
    )


def nvcc(variables: Mapping[str, str]) -> Path | None:
    """Return the CUDA compiler, found as torch finds it; None where there is none.

    Args:
        variables: Of the build.
    """
    home = variables.get("CUDA_HOME") or variables.get("CUDA_PATH")
    found = shutil.which("nvcc", path=variables.get("PATH"))
    if home or not found:
        found = str(Path(home or "/usr/local/cuda", "bin", "nvcc"))
    return Path(found) if os.access(found, os.X_OK) else None


def _compilers(path: str) -> Iterator[Path]:
    """Yield the compilers, the first of each name; links to a cache are none."""
    seen: set[str] = set()
    for folder in map(Path, path.split(os.pathsep)):
        if not (
            folder.is_absolute() and folder.is_dir() and os.access(folder, os.R_OK)
        ):
            continue
        for compiler in folder.iterdir():
            name = compiler.name
            if name in seen or not _COMPILER.fullmatch(name):
                continue
            if os.access(compiler, os.X_OK) and compiler.resolve().name not in CACHES:
                seen.add(name)
                yield compiler


def _make(place: Path, scripts: Mapping[str, str]) -> None:
    """Make a folder of programs, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    for name, text in scripts.items():
        script = staging / name
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)
    staging.rename(place)
