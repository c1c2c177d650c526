"""Other Pythons of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import uv

_MINORS = (14, 13, 12, 11, 10)

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The minor version of the Python that runs the tests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Python:
    """An interpreter.

    Attributes:
        version: Its minor version, such as ``3.12``.
        program: Its path.
    """

    version: str
    program: Path

    def on_path(self, path: str) -> str:
        """Return a ``PATH`` on which it is found, behind what is there."""
        return os.pathsep.join((path, str(self.program.parent)))


FREE_THREADED = "3.14t"
_STAND_IN = r"""#!/bin/sh
exec "{python}" -c '
import os, sys
words = sys.argv[1:]
code = words.index("-c") + 1
words[code] = open("{prelude}").read() + words[code]
os.execv(sys.executable, [sys.executable, *words])
' "$@"
"""
_PRELUDE = """
import collections, platform, sys, sysconfig, warnings
_names = "major minor micro releaselevel serial"
sys.version_info = collections.namedtuple("version_info", _names)(3, 14, 0, "final", 0)
sys.hexversion, sys._base_executable = 0x30E00F0, {program!r}
sys.executable = sys._base_executable
platform.python_version = lambda: "3.14.0"
platform.python_version_tuple = lambda: ("3", "14", "0")
warnings.deprecated = lambda *_, **__: lambda function: function  # of Python 3.13
_variables = sysconfig.get_config_vars()
_abi = "cpython-314t-" + _variables["SOABI"].split("-", 2)[2]
_variables.update(Py_GIL_DISABLED=1, SOABI=_abi, EXT_SUFFIX="." + _abi + ".so")
_variables.update(py_version_nodot="314", py_version_short="3.14")
"""


def stand_in(folder: Path) -> Python:
    """Make a program that answers all questions as a CPython 3.14t does.

    It is our Python, which says of itself that it is that one. It can't be the Python
    of an environment.
    """
    base = f"{sys.base_prefix}/bin/python{HERE}"  # uv takes no virtual environment
    program, prelude = folder / "python3.14t", folder / "prelude.py"
    prelude.write_text(_PRELUDE.format(program=str(program)))
    program.write_text(_STAND_IN.format(python=base, prelude=prelude))
    program.chmod(0o755)
    return Python(version=FREE_THREADED, program=program)


@cache
def free_threaded() -> Python | None:
    """Return a real CPython 3.14t of this machine, if there is one."""
    return _find(FREE_THREADED, {**os.environ})


@cache
def another() -> Python | None:
    """Return a Python of another minor version than ours; None where there is none.

    It is looked for as uv does, and among the versions that pyenv has.
    """
    folders = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    own = [os.environ["PATH"], *map(str, sorted(folders.glob("versions/*/bin")))]
    env = {**os.environ, "PATH": os.pathsep.join(own)}
    versions = (f"3.{minor}" for minor in _MINORS)
    found = (_find(version, env) for version in versions if version != HERE)
    return next((python for python in found if python is not None), None)


def _find(version: str, env: dict[str, str]) -> Python | None:
    options = ("--system", "--no-python-downloads", "--no-config")
    command = [uv.find_uv_bin(), "python", "find", *options, version]
    done = subprocess.run(command, env=env, capture_output=True, check=False, text=True)
    if done.returncode:
        return None
    return Python(version=version, program=Path(done.stdout.strip()))
