"""JSON and TOML files that others may have damaged or forged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from nox_buildstages.reader import UnreadableError, parse_json, parse_toml
from nox_buildstages.system.files import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.reader import Shape

T = TypeVar("T")


def read_json(path: Path, shape: Shape[T]) -> T:
    """Return the value of a JSON file.

    Raises:
        OSError: The file can't be opened.
        UnreadableError: It has no JSON of this shape.
    """
    content = read_file(path)
    try:
        return parse_json(content, shape)
    except UnreadableError as error:
        error.file = str(path)
        raise


def find_json(path: Path, shape: Shape[T]) -> T | None:
    """Return the value of a JSON file; None if it is missing or can't be read."""
    try:
        return read_json(path, shape)
    except (OSError, UnreadableError):
        return None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the document of a TOML file.

    Raises:
        OSError: The file can't be opened.
        UnreadableError: It isn't TOML, or is nested too deeply.
    """
    content = read_file(path)
    try:
        return parse_toml(content)
    except UnreadableError as error:
        error.file = str(path)
        raise
