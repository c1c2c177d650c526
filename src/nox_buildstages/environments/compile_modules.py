"""Compile modules of an environment; its interpreter runs this file."""

from __future__ import annotations

import importlib.util
import py_compile
import sys
from contextlib import suppress
from pathlib import Path


def main(words: list[str]) -> None:
    """Compile modules, each a path, a path for the bytecode and a level."""
    for source, path, text in zip(words[::3], words[1::3], words[2::3], strict=True):
        level = int(text)
        wanted = importlib.util.cache_from_source(source, optimization=level or "")
        if Path(path).name == Path(wanted).name and Path(source).is_file():
            with suppress(OSError, ValueError, py_compile.PyCompileError):
                py_compile.compile(
                    source,
                    path,
                    doraise=True,
                    optimize=level,
                    invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP,
                )


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8", errors="surrogateescape")
    main(text.split("\0"))
