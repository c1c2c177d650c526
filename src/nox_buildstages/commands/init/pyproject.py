"""The proposed stages as TOML, and in a pyproject.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages import toml
from nox_buildstages.config.graph import arrange
from nox_buildstages.config.project import read
from nox_buildstages.config.table import TOOL
from nox_buildstages.config.writing import assignment, format_requirement, stage_table
from nox_buildstages.declarations.documents import complete_document
from nox_buildstages.errors import DeclarationError, ProposalError
from nox_buildstages.system.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from nox_buildstages.model import Stage


def render(
    heading: Iterable[str],
    stages: Iterable[tuple[Stage, Iterable[str]]],
    *,
    match_runtime: Sequence[str] = (),
    root: Path,
) -> str:
    """Return stages as TOML, with the reasons for each as comments.

    Paths in the project's root become relative. ``match_runtime`` begins the table
    ``[tool.nox-buildstages]``, so a file with the table can't take the key.
    """
    blocks = [_comment(heading)]
    if match_runtime:
        matched = assignment("match-runtime", match_runtime)
        blocks.append([f"[tool.{TOOL}]", *matched])
    for stage, reasons in stages:
        outputs = (format_requirement(it.requirement, root) for it in stage.outputs)
        table = stage_table(stage.name, outputs, map(str, stage.dependencies))
        private = stage.private_environment
        copy = assignment("private-environment", private) if private else ()
        blocks.append([*_comment(reasons), *table, *copy])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def append(text: str, addition: str) -> str:
    """Return a file's text with an addition after it, in the file's line endings."""
    newline = "\r\n" if "\r\n" in text else "\n"
    if text and not text.endswith("\n"):
        text += newline
    gap = newline if text.strip() else ""
    return text + gap + addition.replace("\n", newline)


def write_addition(pyproject: Path, addition: str) -> None:
    """Write tables to the end of a pyproject.toml and leave the rest unchanged.

    Raises:
        ProposalError: The file wouldn't declare the same afterwards.
        OSError: The file can't be written.
    """
    path = pyproject.resolve()
    text = append(path.read_bytes().decode("utf-8"), addition)
    try:
        document = complete_document(toml.loads(text), pyproject)
        arrange(read(document, pyproject=pyproject))
    except (toml.TOMLDecodeError, DeclarationError) as error:
        raise ProposalError(
            problem=f"tables can't be appended to {pyproject}: {error}",
            hint="copy the proposed tables into the file yourself",
        ) from error
    with atomic_write(path, mode=path.stat().st_mode & 0o7777) as new:
        new.write_bytes(text.encode("utf-8"))


def _comment(lines: Iterable[str]) -> list[str]:
    """Return lines as comments; TOML allows no control characters in comments."""
    printable = (
        "".join(char if char.isprintable() else " " for char in line) for line in lines
    )
    return [f"# {line}".rstrip() for line in printable]
