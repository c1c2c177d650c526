"""Build stages for nox: locked environments that turn sources into wheels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import TypeVar

    from nox_buildstages.builder.build import Build
    from nox_buildstages.errors import BuildStagesError

    F = TypeVar("F", bound=Callable[..., object])

__all__ = ["Build", "BuildStagesError", "register", "stage"]


def register(pyproject: str | os.PathLike[str] = "pyproject.toml") -> None:
    """Register the sessions of a project; call this function in a noxfile.

    Reads the pyproject.toml and nothing more. A faulty table ends nox with a message
    about all problems.

    Args:
        pyproject: The file, relative to the noxfile's folder.
    """
    from nox_buildstages import sessions  # noqa: PLC0415 - importing us stays cheap

    sessions.register(pyproject)


def stage(*positional: object, **keys: object) -> Callable[[F], F]:
    """Declare a stage in a noxfile, above `register`: a decorator.

    The name of the function, with ``-`` for ``_``, is the name of the stage. The
    function takes nox's session and a `Build`, and then any axes of the matrix, with
    ``_`` for ``-``, whose values it wants. It must call the `Build`.

    Args:
        positional: Nothing: each key needs a name.
        keys: The keys of a stage in the table, with ``_`` for ``-``.
    """
    from nox_buildstages import sessions  # noqa: PLC0415 - importing us stays cheap

    return sessions.decorate(positional, keys)


def __getattr__(name: str) -> object:
    """Import what a noxfile rarely names when it first does."""
    if name == "BuildStagesError":
        from nox_buildstages.errors import BuildStagesError  # noqa: PLC0415

        return BuildStagesError
    if name == "Build":
        from nox_buildstages.builder.build import Build  # noqa: PLC0415

        return Build
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
