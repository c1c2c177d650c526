"""Which compilers a build starts, noted in a file by wrappers on the ``PATH``.

The wrappers are in the build directory, and first on ``PATH``. None sees a compiler
started by a whole path, nor nvcc and rustc. These make machine code, so the wheel
itself shows their use.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from nox_buildstages.builder.compilers.wrappers import (
    COMPILER,
    SHARD_LINE,
    find_compilers,
    format_scripts,
    write_scripts,
)
from nox_buildstages.system.files import read_file, remove_tree
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_NATIVE = re.compile(r"-m(?:arch|cpu|tune)=native\b|-xHost\b|target-cpu=native\b")
"""An option for the processor of the machine that compiles."""

_SCRIPT = """\
#!/bin/sh
# {identity}
{shard}{{
echo "${{0##*/}}"
case " $* " in
*" -march=native "*) echo "-march=native" ;;
*" -mcpu=native "*) echo "-mcpu=native" ;;
*" -mtune=native "*) echo "-mtune=native" ;;
*" -xHost "*) echo "-xHost" ;;
esac
}} 2>/dev/null >>{notes}
exec {compiler} "$@"
"""

_LIMIT = 10_000_000
"""Bytes of notes that are read; no real build has so many."""


class StartedCompilers(Value):
    """The compilers that a build has started, as far as wrappers see."""

    names: tuple[str, ...] | None = None  # sorted; None if unknown
    options: tuple[str, ...] = ()
    """The options by which they compiled for this machine's processor."""


def wrap_compilers(
    folder: Path, path: str, notes: str, seen: Callable[[str], str] = str
) -> None:
    """Put a wrapper for each C and C++ compiler on a ``PATH`` into a folder.

    ``notes`` is the file for their notes. ``seen`` returns a text with the paths that
    the build sees.
    """
    remove_tree(folder)
    folder.mkdir()
    found = find_compilers(path)
    words = {"notes": shlex.quote(notes), "shard": SHARD_LINE}
    scripts = format_scripts(_SCRIPT, found, **words)
    write_scripts(folder, {it: seen(scripts[it]) for it in scripts}, found)


def read_started(notes: Path) -> StartedCompilers:
    """Return what the wrappers of a build have noted."""
    try:
        text = read_file(notes, limit=_LIMIT).decode("ascii")
    except (OSError, UnicodeDecodeError):  # a build may write anything there
        return StartedCompilers()
    lines = {*text.splitlines()}
    options = tuple(sorted(filter(_NATIVE.fullmatch, lines)))
    names = tuple(sorted(lines.difference(options)))
    are_known = all(map(COMPILER.fullmatch, names))
    return StartedCompilers(names=names if are_known else None, options=options)


def find_native_options(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the options for this machine's processor in variables and settings."""
    return tuple(sorted({it for text in texts for it in _NATIVE.findall(text)}))
