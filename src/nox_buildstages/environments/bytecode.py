"""Compile the modules of an environment; its interpreter runs this file.

Whoever imports a module leaves bytecode beside it, which the next process runs in place
of the module. So bytecode from builds and programs isn't kept: the same modules are
compiled again here.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.system.process import Runner

CACHE = "__pycache__"
"""The folder for bytecode, beside the modules."""

_FILE = re.compile(
    rf"(?P<folder>.*/){CACHE}/(?P<module>[^/]+?)\.(?P<tag>[^./]+)"
    r"(\.opt-(?P<level>[12]))?\.pyc"
)
_LEFTOVER = re.compile(rf".*/{CACHE}/[^/]+\.pyc\.\d+")
"""The name of a file that Python was writing when it was killed."""


def is_bytecode(name: str) -> bool:
    """Whether Python gives such a path to bytecode, or to an unfinished file of it."""
    return bool(_FILE.fullmatch(name) or _LEFTOVER.fullmatch(name))


def renew_bytecode(
    environment: Environment, names: Iterable[str], runner: Runner
) -> None:
    """Replace bytecode, by its path in an environment, by our own of the same modules.

    Without module, or of another interpreter, it is removed.
    """
    from nox_buildstages.system.process import Command, helper_variables  # noqa: PLC0415 - the script runs alone

    location, modules = environment.location, list[str]()
    for name in names:
        path = location / name
        with suppress(OSError):  # a build that still runs may have removed it
            path.unlink()
        match = _FILE.fullmatch(name)
        if match is not None:
            source = location / f"{match['folder']}{match['module']}.py"
            modules += [str(source), str(path), match["level"] or "0"]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write("\0".join(modules))
        file.flush()
        python = (str(environment.python), "-I", "-S", "-B")
        env = helper_variables(os.environ)
        runner(Command(argv=(*python, __file__, file.name), env=env))


def main(words: list[str]) -> None:
    """Compile modules, each a path, a path for the bytecode and a level."""
    for source, path, text in zip(words[::3], words[1::3], words[2::3], strict=True):
        level = int(text)
        wanted = importlib.util.cache_from_source(source, optimization=level or "")
        if path == wanted and Path(source).is_file():
            with suppress(OSError, ValueError, py_compile.PyCompileError):
                py_compile.compile(
                    source,
                    path,
                    doraise=True,
                    optimize=level,
                    invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP,
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text(encoding="utf-8").split("\0"))
