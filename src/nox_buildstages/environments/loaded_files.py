"""Import modules, and list the files that are loaded then; an interpreter runs this.

``loaded_files.py RESULT FILE MODULE…`` imports modules until the file is loaded, and
loads it alone if none of them does. The file may be empty. Modules that can't be
imported may have loaded other files, so they are no failure.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from contextlib import suppress
from pathlib import Path

_PATH = 5
"""The column of the path in the kernel's list."""


def load_command(
    python: str, result: Path, file: str, modules: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the command that lists what is loaded, with an interpreter."""
    return (python, "-I", __file__, str(result), file, *modules)


def loaded_files() -> set[str]:
    """Return the paths of the files that this process has loaded."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    paths = (line.split(maxsplit=_PATH)[_PATH:] for line in lines)
    return {path[0] for path in paths if path and path[0].startswith("/")}


def main(result: str, file: str, *modules: str) -> None:
    """Load the modules, or the file; write what is loaded to a file, line by line."""
    for name in modules:
        if file in loaded_files():
            break
        with suppress(Exception, SystemExit):
            importlib.import_module(name)
    if file:
        with suppress(OSError):
            ctypes.CDLL(file)
    Path(result).write_text("\n".join(sorted(loaded_files())), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
