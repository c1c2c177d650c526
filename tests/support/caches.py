"""The compiler caches that tests work with: real ones."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from support.namespaces import has_namespaces


def cache_program(name: str) -> Path:
    """Return ``ccache`` or ``sccache``, first of this environment; skip without it."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"no {name}, here or on PATH")
    return Path(found)


def require_ccache() -> None:
    """Skip the test where builds can't use ccache, or see paths of their own."""
    cache_program("ccache")
    if not has_namespaces:
        pytest.skip("this system allows no network namespace")


def folder_of(folder: Path, *names: str) -> str:
    """Return a ``PATH`` with these caches, and with compilers and git of this machine.

    Args:
        folder: To make.
        *names: Of caches.
    """
    folder.mkdir()
    for name in names:
        folder.joinpath(name).symlink_to(cache_program(name))
    for name in ("cc", "gcc", "g++", "c++", "as", "ld", "sh", "nvcc", "git"):
        program = shutil.which(name)
        if program is not None:
            folder.joinpath(name).symlink_to(Path(program).resolve())
    return str(folder)
