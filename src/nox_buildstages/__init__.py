"""Build stages for nox: locked environments that turn sources into wheels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from nox_buildstages.errors import BuildStagesError

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


def __getattr__(name: str) -> object:
    """Import the base of all errors when a noxfile first names it."""
    if name == "BuildStagesError":
        from nox_buildstages.errors import BuildStagesError  # noqa: PLC0415

        return BuildStagesError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
