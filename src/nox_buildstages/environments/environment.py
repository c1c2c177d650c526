"""A virtual environment and the installed packages."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INSTALL_HINT = (
    "run nox without -R and --no-install, so that the environment can be updated"
)
"""The hint if nox doesn't let an environment be changed."""


def _always() -> bool:
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A virtual environment.

    Attributes:
        location: The folder of the environment.
        bin: The folder of the programs.
        python: The path of the interpreter.
        may_install: Whether nox allows changes to the environment; false with ``-R``.
        may_run: Whether nox allows programs to run; false with ``--install-only``.
        run: Runs a program in the environment, from a folder, and shows its output.
    """

    location: Path
    bin: Path
    python: Path
    may_install: Callable[[], bool] = _always
    may_run: Callable[[], bool] = _always
    run: Callable[..., object] = _always


def is_complete(location: Path) -> bool:
    """Whether a folder is a virtual environment, and not an unfinished one."""
    try:
        settings = location.joinpath("pyvenv.cfg").stat()
    except OSError:
        return False
    return settings.st_size > 0 and location.joinpath("bin", "python").exists()


def site_packages(environment: Environment) -> Iterator[Path]:
    """Yield the folders of installed packages."""
    for name in ("lib", "lib64"):
        library = environment.location / name
        if not library.is_symlink():
            yield from sorted(library.glob("python*/site-packages"))


def read_metadata(environment: Environment) -> Iterator[bytes]:
    """Yield the METADATA of every installed package."""
    for folder in site_packages(environment):
        for file in sorted(folder.glob("*.dist-info/METADATA")):
            yield file.read_bytes()


def list_files(environment: Environment) -> Iterator[str]:
    """Yield the files of every installed package, as listed in each RECORD."""
    for folder in site_packages(environment):
        for record in sorted(folder.glob("*.dist-info/RECORD")):
            with record.open(encoding="utf-8", newline="") as stream:
                yield from (row[0] for row in csv.reader(stream) if row)
