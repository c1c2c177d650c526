"""Writing a proposal into a pyproject.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages import toml
from nox_buildstages.config.graph import arrange
from nox_buildstages.config.project import read
from nox_buildstages.config.writing import appended
from nox_buildstages.errors import DeclarationError, ProposalError
from nox_buildstages.system.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


def write(pyproject: Path, addition: str) -> None:
    """Write more at the end of a pyproject.toml, and leave the rest as it is.

    Raises:
        ProposalError: It would not declare what is meant.
        OSError: It can't be written.
    """
    path = pyproject.resolve()
    text = appended(path.read_bytes().decode("utf-8"), addition)
    try:
        arrange(read(toml.loads(text), pyproject=pyproject))
    except (toml.TOMLDecodeError, DeclarationError) as error:
        raise ProposalError(
            problem=f"{pyproject} can't be added to at its end: {error}",
            hint="put what is proposed where it belongs by hand",
        ) from error
    with atomic_write(path, mode=path.stat().st_mode & 0o7777) as new:
        new.write_bytes(text.encode("utf-8"))
