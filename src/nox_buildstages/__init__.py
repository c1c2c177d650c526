"""Build stages for nox: locked environments that turn sources into wheels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.errors import BuildStagesError

if TYPE_CHECKING:
    import os

__all__ = ["BuildStagesError", "register"]


def register(pyproject: str | os.PathLike[str] = "pyproject.toml") -> None:
    """Register the sessions of a project; call this function in a noxfile.

    Reads the pyproject.toml and nothing more. A faulty table ends nox with a message
    about all problems.

    Args:
        pyproject: The file, relative to the noxfile's folder.
    """
    from nox_buildstages import sessions  # noqa: PLC0415 - importing us stays cheap

    sessions.register(pyproject)
