"""A package of many C++ files that ninja builds, and the objects that it compiled."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.packages import in_tree_backend, make_tree, name_file

if TYPE_CHECKING:
    from support.project import Project

NINJA = Path(sys.executable).with_name("ninja")
"""Of the environment that the tests run in."""

PATIENCE = 120.0
"""Seconds for a build to come to some point."""

_LONG = 10**8
"""Nanoseconds by which a file is surely older than a checkpoint."""

_BACKEND = """
import os, pathlib, subprocess
import tinybackend
from tinybackend import build_wheel, get_requires_for_build_wheel
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel

RULES = '''
rule cxx
  command = echo $out >> $$NATIVE_COUNT && c++ -fPIC -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = c++ -shared $in -o $out
'''

def compiled(settings):
    sources = sorted(pathlib.Path().glob("*.cc"))
    objects = [f"build/{source.stem}.o" for source in sources]
    lines = [f"build {made}: cxx {it}" for made, it in zip(objects, sources)]
    lines.append("build build/native.so: link " + " ".join(objects))
    pathlib.Path("build.ninja").write_text(RULES + chr(10).join(lines) + chr(10))
    subprocess.run([os.environ["NINJA"], "-j", os.environ["MAX_JOBS"]], check=True)
    shared = pathlib.Path("build/native.so").read_bytes()
    return {settings["name"] + "/native.so": shared}

tinybackend._compiled = compiled
"""

_PYPROJECT = in_tree_backend("setup")

_SOURCE = """
#include <map>
#include <string>

int value_{number}() {{ return std::map<std::string, int>().size() + {number}; }}
"""


def is_something_safe(project: Project) -> bool:
    """Whether a build that runs has compiled something before its last checkpoint."""
    for checkpoint in project.store.glob("builds/*/stop"):
        moment = int(checkpoint.read_text().partition("\0")[0])
        folder = checkpoint.parent
        made = [*folder.rglob("part*.o"), *folder.rglob("part*.so")]
        return any(path.stat().st_mtime_ns < moment - _LONG for path in made)
    return False


def wait_until_safe(project: Project) -> None:
    """Wait until what has been compiled would be worth going on with."""
    deadline = time.monotonic() + PATIENCE
    while not is_something_safe(project):
        assert time.monotonic() < deadline, "too little was compiled"
        time.sleep(0.02)


@dataclass(frozen=True, kw_only=True, slots=True)
class Native:
    """A package in a project's folder.

    Attributes:
        name: Of the package.
        files: How many it has.
        count: A file that gets a line for each object that is compiled.
    """

    name: str
    files: int
    count: Path

    def write(self, project: Project) -> str:
        """Write its source, and return it as a requirement."""
        members: dict[str, str | bytes] = {
            f"part{number:02}.cc": _SOURCE.format(number=number)
            for number in range(self.files)
        }
        members |= {"setup.py": _BACKEND, "pyproject.toml": _PYPROJECT}
        settings = {"tag": "py3-none-linux_x86_64"}
        tree = project.folder / self.name
        make_tree(tree, self.name, "1.0", files=members, settings=settings)
        return f"{self.name} @ ./{self.name}"

    @property
    def env(self) -> dict[str, str]:
        """What its stage has to declare; each object takes the time of a compiler."""
        count = name_file("NATIVE_COUNT", self.count)
        return {**count, "NINJA": str(NINJA), "CCACHE_DISABLE": "1"}

    def compiled(self) -> int:
        """Return how many objects were compiled since this was asked last."""
        if not self.count.exists():
            return 0
        lines = self._lines()
        self.count.unlink()
        return len(lines)

    def _lines(self) -> list[str]:
        return self.count.read_text("utf-8").splitlines()
