"""Read a pyproject.toml, with the settings of uv that hold for the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nox_buildstages import toml
from nox_buildstages.declarations.uv_files import combine_files
from nox_buildstages.errors import DeclarationError, Problem

if TYPE_CHECKING:
    from pathlib import Path


def read_document(path: Path) -> dict[str, Any]:
    """Return a parsed pyproject.toml; its ``[tool.uv]`` are the settings in effect.

    Raises:
        DeclarationError: The pyproject.toml or a uv.toml beside it can't be read.
    """
    return complete_document(_load(path), path)


def complete_document(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the document of a pyproject.toml with uv's settings in effect.

    Raises:
        DeclarationError: The uv.toml beside the file can't be read.
    """
    uv_toml = path.with_name("uv.toml")
    if not uv_toml.is_file():
        return document
    tools = document.get("tool", {})
    settings = combine_files(tools.get("uv", {}), _load(uv_toml))
    return {**document, "tool": {**tools, "uv": settings}}


def _load(path: Path) -> dict[str, Any]:
    try:
        return toml.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        message = f"can't be read: {error.strerror}"
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        message = (
            f"isn't UTF-8: byte 0x{error.object[error.start]:02x} in line {line};"
            " save it as UTF-8"
        )
    except ValueError as error:
        message = f"is not TOML: {error}"
    problem = Problem(location=path.name, message=message)
    raise DeclarationError(path=path, problems=(problem,))
