"""Find interpreters, and ask them for markers, wheel tags and ABI."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import packaging
from packaging.markers import Environment
from packaging.tags import Tag

from nox_buildstages import reader
from nox_buildstages.declarations.settings import uv_variables
from nox_buildstages.errors import CommandError
from nox_buildstages.model import Interpreter
from nox_buildstages.reader import UnreadableError
from nox_buildstages.system.files import file_stamp, keep_text, read_file
from nox_buildstages.system.machine import libc
from nox_buildstages.system.process import Command, helper_variables, run_checked

if TYPE_CHECKING:
    from nox_buildstages.system.process import Runner

_COMPILATION = (
    *("CC", "CXX", "AR", "ARFLAGS", "RANLIB", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "OPT"),
    *("BASECFLAGS", "BASECPPFLAGS", "EXTRA_CFLAGS", "PY_CFLAGS", "PY_CPPFLAGS"),
    *("PY_LDFLAGS", "CCSHARED", "CFLAGSFORSHARED", "CONFIGURE_CFLAGS", "LDFLAGS"),
    *("CONFIGURE_LDFLAGS", "LDSHARED", "LDCXXSHARED", "BLDSHARED", "LINKFORSHARED"),
    *("LIBS", "SYSLIBS", "LIBM", "LOCALMODLIBS", "LIBRARY", "LDLIBRARY", "LDVERSION"),
    *("INSTSONAME", "SHLIB_SUFFIX", "EXT_SUFFIX", "MACOSX_DEPLOYMENT_TARGET"),
    *("Py_DEBUG", "Py_ENABLE_SHARED", "Py_GIL_DISABLED", "Py_TRACE_REFS"),
    *("Py_REF_DEBUG", "WITH_PYMALLOC", "WITH_DOC_STRINGS", "MULTIARCH"),
)
"""The variables of sysconfig with which extension modules are compiled."""

_DESCRIBE = f"""
import hashlib, json, os, sys, sysconfig
from packaging.markers import default_environment
from packaging.tags import sys_tags
variables = {{it: str(sysconfig.get_config_var(it)) for it in {_COMPILATION!r}}}
compilation = json.dumps(variables, sort_keys=True)
prefixes = {{sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix}}
prefixes |= {{os.path.realpath(it) for it in prefixes}}
for prefix in sorted(prefixes, key=len, reverse=True):
    compilation = compilation.replace(prefix + os.sep, "PREFIX" + os.sep)
settings = {{
    it.__file__: os.stat(it.__file__).st_mtime_ns
    for name, it in sys.modules.items()
    if name.startswith("_sysconfigdata") and getattr(it, "__file__", None)
}}
answer = json.dumps({{
    "markers": default_environment(),
    "tags": [[t.interpreter, t.abi, t.platform] for t in sys_tags()],
    "abi": sysconfig.get_config_var("SOABI") or sysconfig.get_config_var("EXT_SUFFIX"),
    "platform": sysconfig.get_platform(),
    "compilers": [sysconfig.get_config_var(it) or "" for it in ("CC", "CXX")],
    "compilation": hashlib.sha256(compilation.encode()).hexdigest()[:16],
    "settings": settings,
}})
"""

_MARK = "answer of nox-buildstages: "
"""Precedes the answer on the last line of the output: a program may print more."""

_PROBE = f"""
import sys
sys.path.insert(0, sys.argv[1])
{_DESCRIBE}
print("{_MARK}", answer, sep="")
"""


_SHIMS = (
    *("PYENV_ROOT", "PYENV_VERSION", "ASDF_DATA_DIR", "ASDF_PYTHON_VERSION"),
    *("MISE_DATA_DIR", "MISE_PYTHON_VERSION"),
)
"""Variables by which programs on PATH choose the Python that they run."""


def probe_interpreter(python: Path, *, runner: Runner, cache: Path) -> Interpreter:
    """Return the properties of an interpreter.

    The folder ``cache`` keeps the answer, which is valid until the program behind
    ``python``, or the file with its settings for compilers, changes.

    Raises:
        CommandError: The interpreter doesn't run, or doesn't answer.
    """
    # Our own packaging, because the interpreter may have none. Without -S, files .pth
    # in the environment, which are other people's code, would run here.
    library = str(Path(packaging.__file__).parents[1])
    command = Command(
        argv=(str(python), "-I", "-S", "-c", _PROBE, library),
        env=helper_variables(os.environ),
    )
    answer = cache / f"{identify_interpreter(python)}.json"
    with suppress(OSError, UnreadableError):
        known, settings = _parse_answer(read_file(answer))
        if settings == {it: Path(it).stat().st_mtime_ns for it in settings}:
            return known
    if python.resolve() == Path(sys.executable).resolve():
        # The program of this process, perhaps in another virtual environment.
        namespace: dict[str, str] = {}
        exec(_DESCRIBE, namespace)  # noqa: S102
        text = namespace["answer"]
    else:
        text = run_checked(runner, command).rpartition(_MARK)[2]
    try:
        found = _parse_answer(text)[0]
    except UnreadableError as error:
        reason = f"its answer about itself can't be read: {error}"
        raise CommandError(command=str(python), reason=reason) from error
    keep_text(answer, text)
    return found


def find_interpreter(version: str, *, uv: Path, runner: Runner) -> Path | None:
    """Return an interpreter of a minor version on this machine, or None."""
    argv = (str(uv), "python", "find", "--system", "--no-python-downloads", version)
    shims = {name: os.environ[name] for name in _SHIMS if name in os.environ}
    env = {**uv_variables(os.environ), **shims}
    completed = runner(Command(argv=argv, env=env))
    return None if completed.returncode else Path(completed.stdout.strip())


def identify_interpreter(python: Path) -> str:
    """Return a hash that changes if the interpreter's properties may change.

    Raises:
        CommandError: The interpreter isn't there.
    """
    _, size, modified, _, settings = stamp_interpreter(python)
    program = os.path.realpath(python)
    parts = (packaging.__version__, program, str(size), str(modified), settings, libc())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def stamp_interpreter(python: Path) -> tuple[int, int, int, int, str]:
    """Return the stamp of an interpreter, and the settings of its environment.

    Interpreters with equal stamps are the same program in equal environments.

    Raises:
        CommandError: The interpreter isn't there.
    """
    try:
        inode, size, modified, changed = file_stamp(python)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise CommandError(command=str(python), reason=reason) from error
    settings = ""
    with suppress(FileNotFoundError, NotADirectoryError):
        path = python.parent.parent / "pyvenv.cfg"
        settings = path.read_text(encoding="utf-8")
    return inode, size, modified, changed, settings


def _parse_answer(text: str | bytes) -> tuple[Interpreter, dict[str, int]]:
    """Return an interpreter, and the times of the files with its settings."""

    def read(answer: reader.Table) -> tuple[Interpreter, dict[str, int]]:
        markers = answer.get("markers", reader.mapping_of(reader.text))
        for name in Environment.__annotations__.keys() - {"extra"} - markers.keys():
            raise UnreadableError("is missing", "markers", name)
        interpreter = Interpreter(
            markers=cast("Environment", markers),
            tags=answer.get("tags", reader.list_of(_read_tag)),
            abi=answer.get("abi", reader.text),
            platform=answer.get("platform", reader.text),
            compilation=answer.get("compilation", reader.text),
            compilers=answer.get("compilers", reader.list_of(reader.text)),
        )
        times = reader.mapping_of(reader.integer)
        return interpreter, answer.get("settings", times)

    return reader.parse_json(text, reader.table(read))


def _read_tag(value: object) -> Tag:
    interpreter, abi, platform = _TEXTS(value)
    return Tag(interpreter, abi, platform)


_TEXTS = reader.list_of(reader.text)
