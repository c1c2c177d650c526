"""Another machine: an environment with pip, and no index."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uv

from support.pair import site_packages

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

UV = uv.find_uv_bin()


def run(*argv: object, env: Mapping[str, str], cwd: Path) -> str:
    """Run a program that has to succeed, and return what it said."""
    done = subprocess.run(
        list(map(str, argv)),
        env=env,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclass(frozen=True, kw_only=True, slots=True)
class Elsewhere:
    """An environment with pip, on a machine that knows no index.

    Attributes:
        folder: That it is in, and that programs run in.
        env: All that programs see.
    """

    folder: Path
    env: Mapping[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "venv/bin/python"

    def pip(self, *args: object) -> None:
        """Install with pip."""
        self.run(self.python, "-m", "pip", "install", "-q", *args)

    def uv(self, *args: object) -> None:
        """Install with uv."""
        self.run(UV, "pip", "install", "-q", "-p", self.python, *args)

    def uv_sync(self, *args: object) -> None:
        """Make the environment equal to a lock with uv, but for pip."""
        self.run(UV, "pip", "sync", "-q", "-p", self.python, *args)

    def uninstall(self, *names: str) -> None:
        """Uninstall projects."""
        self.run(UV, "pip", "uninstall", "-q", "-p", self.python, *names)

    def run(self, *argv: object) -> str:
        """Run a program that has to succeed, and return what it said."""
        return run(*argv, env=self.env, cwd=self.folder)

    def held(self) -> list[str]:
        """Return the projects that are installed."""
        found = site_packages(self.folder / "venv").glob("*.dist-info")
        names = {path.name.partition("-")[0] for path in found}
        return sorted(names - {"pip", "setuptools", "wheel"})


def make_elsewhere(folder: Path, env: Mapping[str, str]) -> Elsewhere:
    """Make such an environment.

    Args:
        folder: That it is made in.
        env: Variables, which may name an index; that it doesn't learn.
    """
    known = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")
    own = {name: env[name] for name in env if name not in known}
    own |= {"UV_CACHE_DIR": str(folder / "uv"), "PIP_NO_CACHE_DIR": "1"}
    run(sys.executable, "-m", "virtualenv", "-q", "venv", env=own, cwd=folder)
    return Elsewhere(folder=folder, env=own)
