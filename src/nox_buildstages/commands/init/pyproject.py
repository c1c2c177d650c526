"""The proposed tables as TOML, and in a pyproject.toml.

New tables go to the end of the file. A key of a table that the file has already goes
into that table; nothing else of the file changes.
"""

from __future__ import annotations

import copy
import textwrap
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nox_buildstages import reader
from nox_buildstages.config.graph import arrange
from nox_buildstages.config.project import read
from nox_buildstages.config.writing import (
    assignment,
    format_requirement,
    format_value,
    stage_table,
)
from nox_buildstages.declarations.documents import complete_document
from nox_buildstages.errors import DeclarationError, ProposalError
from nox_buildstages.reader import Step, location_of
from nox_buildstages.system.files import atomic_write
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.model import Stage

_WIDTH = 86
"""The width of a comment without ``#``."""


class Change(Value):
    """A key of a table with a new value; the table may be missing."""

    table: tuple[Step, ...]  # from the document's root
    key: str
    value: Any
    comment: tuple[str, ...] = ()  # the reason, in lines above the key

    def lines(self, table: tuple[Step, ...]) -> Iterator[str]:
        """Yield the lines for a table, which may be one above."""
        steps = (*self.table[len(table) :], self.key)
        for text in self.comment:
            yield from _comment(textwrap.wrap(text, _WIDTH))
        yield from assignment(location_of(steps), self.value)

    def apply(self, document: Any) -> None:  # noqa: ANN401 - a parsed document
        """Set the value in a parsed document."""
        for step in self.table:
            table = document
            document = (
                table[step] if isinstance(step, int) else table.setdefault(step, {})
            )
        document[self.key] = self.value


def change_document(
    document: Mapping[str, Any], changes: Iterable[Change]
) -> dict[str, Any]:
    """Return a copy of a parsed document with changes."""
    changed = copy.deepcopy(dict(document))
    for change in changes:
        change.apply(changed)
    return changed


class ChangedText(Value):
    """The text of a pyproject.toml with changes in its tables, and new tables."""

    text: str
    new_tables: Mapping[tuple[Step, ...], tuple[Change, ...]]
    inserted: tuple[Change, ...]  # into tables of the text


def change_text(text: str, changes: Iterable[Change]) -> ChangedText:
    """Return a text with each change in its table, if the text has that table."""
    new_tables: dict[tuple[Step, ...], tuple[Change, ...]] = {}
    inserted = []
    for change in changes:
        expected = change_document(reader.parse_toml(text), [change])
        new_table = append(text, _new_table(change.table, [change]))
        # A table above takes the key with dots only if there can't be a new table,
        # and the whole table in place of one on a line.
        depth, *above = range(len(change.table), 0, -1)
        *outer, last = change.table
        whole = replace(change, table=tuple(outer), key=str(last), value=expected)
        for step in change.table:
            whole = replace(whole, value=whole.value[step])
        candidates = (
            *_insert(text, change, depth),
            new_table,
            *(it for depth in above for it in _insert(text, change, depth)),
            *(it for depth in above for it in _insert(text, whole, depth)),
        )
        found = new_table
        for candidate in candidates:
            with suppress(reader.UnreadableError):
                if reader.parse_toml(candidate) == expected:
                    found = candidate
                    break
        if found == new_table:
            new_tables[change.table] = (*new_tables.get(change.table, ()), change)
        else:
            text = found
            inserted.append(change)
    return ChangedText(text=text, new_tables=new_tables, inserted=tuple(inserted))


def _insert(text: str, change: Change, depth: int) -> Iterator[str]:
    """Yield texts, one of which may have a change in the table of some first steps."""
    lines = text.splitlines(keepends=True)
    newline = "\r\n" if "\r\n" in text else "\n"
    numbers: dict[tuple[Step, ...], int] = {}
    tables: dict[tuple[Step, ...], int] = {}  # the first line below each header
    for at, line in enumerate(lines):
        header = _header(line)
        if header is not None:
            steps, is_array = header
            if is_array:
                numbers[steps] = numbers.get(steps, -1) + 1
                steps = (*steps, numbers[steps])
            tables[steps] = at + 1
    start = tables.get(change.table[:depth])
    if start is None:
        return
    end = min((it for it in tables.values() if it > start), default=len(lines))
    key = location_of((*change.table[depth:], change.key))
    written = change.lines(change.table[:depth])
    assigned = "".join(f"{line}{newline}" for line in written)
    # In place of an assignment, which may have several lines.
    for first in range(start, end):
        if lines[first].split("=")[0].strip() == key:
            for last in range(first + 1, end + 1):
                yield "".join((*lines[:first], assigned, *lines[last:]))
    yield "".join((*lines[:start], assigned, *lines[start:]))


def _header(line: str) -> tuple[tuple[Step, ...], bool] | None:
    """Return the steps of a table's header, and whether it is one of an array."""
    if not line.lstrip().startswith("["):
        return None
    try:
        value: Any = reader.parse_toml(line)
    except reader.UnreadableError:
        return None
    steps: tuple[Step, ...] = ()
    while isinstance(value, dict) and value:
        ((key, value),) = value.items()
        steps = (*steps, key)
    return steps, isinstance(value, list)


def render(
    heading: Iterable[str],
    stages: Iterable[tuple[Stage, Iterable[str]]],
    *,
    tables: Mapping[tuple[Step, ...], Sequence[Change]] | None = None,
    root: Path,
) -> str:
    """Return stages as TOML, with the reasons for each as comments.

    Paths in the project's root become relative. The tables of packages come last.
    """
    blocks = [_comment(heading)]
    rules: list[list[str]] = []
    for steps, changes in sorted((tables or {}).items()):
        block = _new_table(steps, changes).splitlines()
        (rules if steps[2:3] == ("package",) else blocks).append(block)
    for stage, reasons in stages:
        outputs = (format_requirement(it.requirement, root) for it in stage.outputs)
        table = stage_table(stage.name, outputs, map(str, stage.dependencies))
        private = stage.private_environment
        copied = assignment("private-environment", private) if private else ()
        blocks.append([*_comment(reasons), *table, *copied])
    blocks += rules
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _new_table(steps: Iterable[Step], changes: Iterable[Change]) -> str:
    """Return a table with some keys."""
    lines = [f"[{location_of(steps)}]"]
    for change in changes:
        lines += change.lines(change.table)
    return "".join(f"{line}\n" for line in lines)


def describe_change(change: Change) -> str:
    """Return the text for a table in the file."""
    table = change.table
    name = f"[{location_of(table)}]"
    if isinstance(table[-1], int):
        name = f"[[{location_of(table[:-1])}]], number {table[-1] + 1}"
    return f"{name}: {change.key} = {format_value(change.value)}"


def append(text: str, addition: str) -> str:
    """Return a file's text with an addition after it, in the file's line endings."""
    newline = "\r\n" if "\r\n" in text else "\n"
    if text and not text.endswith("\n"):
        text += newline
    gap = newline if text.strip() else ""
    return text + gap + addition.replace("\n", newline)


def write_proposal(pyproject: Path, text: str) -> None:
    """Write the new text of a pyproject.toml.

    Raises:
        ProposalError: The text is no pyproject.toml that can be read.
        OSError: The file can't be written.
    """
    path = pyproject.resolve()
    try:
        document = complete_document(reader.parse_toml(text), pyproject)
        arrange(read(document, pyproject=pyproject))
    except (reader.UnreadableError, DeclarationError) as error:
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
