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
