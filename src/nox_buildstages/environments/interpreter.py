"""What an interpreter is: markers, wheel tags, ABI; asked of it once."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import packaging
from packaging.tags import Tag

from nox_buildstages.errors import CommandError
from nox_buildstages.model import Interpreter
from nox_buildstages.system.files import file_stamp, write_text
from nox_buildstages.system.process import Command, run_checked

if TYPE_CHECKING:
    from nox_buildstages.system.files import FileStamp
    from nox_buildstages.system.process import Runner

_PROBE = """
import json, sys, sysconfig
sys.path.insert(0, sys.argv[1])
from packaging.markers import default_environment
from packaging.tags import sys_tags
json.dump({
    "markers": default_environment(),
    "tags": [[t.interpreter, t.abi, t.platform] for t in sys_tags()],
    "abi": sysconfig.get_config_var("SOABI") or sysconfig.get_config_var("EXT_SUFFIX"),
    "platform": sysconfig.get_platform(),
}, sys.stdout)
"""


def probe_interpreter(python: Path, *, runner: Runner, cache: Path) -> Interpreter:
    """Return what an interpreter says of itself.

    The answer is kept in the folder ``cache`` for as long as the program behind
    ``python`` stays the same file.

    Raises:
        CommandError: It doesn't run.
    """
    try:
        answer = cache / f"{_identity(python)}.json"
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise CommandError(command=str(_question(python)), reason=reason) from error
    try:
        return _kept(answer, file_stamp(answer))
    except (OSError, ValueError, LookupError, TypeError):
        text = run_checked(runner, _question(python))
    write_text(answer, text)
    return _read(json.loads(text))


def find_interpreter(version: str, *, uv: Path, runner: Runner) -> Path | None:
    """Return an interpreter of this machine, as uv finds it; None where there is none.

    Args:
        version: Such as ``3.12``.
        uv: The program.
        runner: Runs it.
    """
    argv = (str(uv), "python", "find", "--system", "--no-python-downloads", version)
    completed = runner(Command(argv=argv))
    return None if completed.returncode else Path(completed.stdout.strip())


@lru_cache(maxsize=16)
def _kept(answer: Path, _stamp: FileStamp) -> Interpreter:
    """Return a kept answer; every session of a process asks for it."""
    return _read(json.loads(answer.read_text(encoding="utf-8")))


def _question(python: Path) -> Command:
    library = Path(packaging.__file__).parents[1]
    return Command(argv=(str(python), "-I", "-c", _PROBE, str(library)))


def _identity(python: Path) -> str:
    program = python.resolve()
    status = program.stat()
    settings = python.parent.parent / "pyvenv.cfg"
    parts = (
        packaging.__version__,
        str(program),
        str(status.st_size),
        str(status.st_mtime_ns),
        settings.read_text(encoding="utf-8") if settings.is_file() else "",
        _libc(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):  # not glibc, not POSIX
        return ""


def _read(answer: dict[str, Any]) -> Interpreter:
    return Interpreter(
        markers=answer["markers"],
        tags=tuple(Tag(*parts) for parts in answer["tags"]),
        abi=answer["abi"],
        platform=answer["platform"],
    )
