"""Find the lines of a pyproject.toml in which keys and values stand.

TOML parsers don't report lines. This scanner runs only if a table has problems, over
text that a parser accepted, so it has to tell tokens apart but not to validate them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from nox_buildstages import reader
from nox_buildstages.reader import location_of
from nox_buildstages.value import Record, field

if TYPE_CHECKING:
    from nox_buildstages.reader import Step

_Steps: TypeAlias = "tuple[Step, ...]"

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')"""
_KEY = re.compile(rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(
    r'''"""(?:\\.|(?!""")[^\\])*"{3,5}'''
    r"""|'''(?:(?!''').)*'{3,5}"""
    r"""|"(?:\\.|[^"\\])*"|'[^']*'|[^,\]}#\n]+""",
    re.DOTALL,
)


def find_lines(text: str) -> dict[str, int]:
    """Return the line of each location, such as ``tool.x.stage[0]``, from 1.

    Nothing is returned if the scanner finds other locations than the parser.
    """
    document = reader.parse_toml(text)
    scanner = _Scanner(text=text.removeprefix("\N{BYTE ORDER MARK}"))
    try:
        scanner.read_document()
    except (AttributeError, IndexError):  # a token that isn't known here
        return {}
    if scanner.lines.keys() != {*_walk(document, ())}:
        return {}
    return {location_of(steps): line for steps, line in scanner.lines.items()}


def _walk(value: object, steps: _Steps) -> Iterator[_Steps]:
    """Yield the steps to each value below a value."""
    pairs: Any = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for step, inner in pairs:
        yield (*steps, step)
        yield from _walk(inner, (*steps, step))


class _Scanner(Record):
    """Reads a valid document once, and notes the line of each key and element."""

    text: str
    at: int = 0
    lines: dict[_Steps, int] = field(default_factory=dict)
    sizes: dict[_Steps, int] = field(default_factory=dict)  # of arrays of tables

    def read_document(self) -> None:
        """Read tables and assignments until the end."""
        table: _Steps = ()
        while self.skip_space():
            depth = sum(self.text.startswith(it, self.at) for it in ("[", "[["))
            if not depth:
                self.read_assignment(table)
                continue
            self.at += depth
            self.skip_space()
            line, keys = self.line, self.read_key()
            self.skip_space()
            self.at += depth
            table = ()
            for position, key in enumerate(keys):
                table = (*table, key)
                self.lines.setdefault(table, line)
                if depth > 1 and position == len(keys) - 1:
                    self.sizes[table] = self.sizes.get(table, 0) + 1
                if table in self.sizes:
                    table = (*table, self.sizes[table] - 1)
                    self.lines.setdefault(table, line)

    def read_assignment(self, table: _Steps) -> None:
        """Read a key with its value."""
        line = self.line
        for key in self.read_key():
            table = (*table, key)
            self.lines.setdefault(table, line)
        self.skip_space()
        self.at += 1  # =
        self.read_value(table)

    def read_value(self, steps: _Steps) -> None:
        """Read a value, with everything in it."""
        self.skip_space()
        opening = self.text[self.at]
        if opening not in "[{":
            self.at = self.match(_SCALAR).end()
            return
        self.at += 1
        closing, index = {"[": "]", "{": "}"}[opening], 0
        while self.skip_space() != closing:
            if opening == "{":
                self.read_assignment(steps)
            else:
                self.lines[(*steps, index)] = self.line
                self.read_value((*steps, index))
                index += 1
            if self.skip_space() == ",":
                self.at += 1
        self.at += 1

    def read_key(self) -> _Steps:
        """Read a key, perhaps with dots."""
        found = self.match(_KEY)
        self.at = found.end()
        steps: _Steps = ()
        value: Any = reader.parse_toml(f"{found[0]} = 0")
        while isinstance(value, dict):
            ((key, value),) = value.items()
            steps = (*steps, key)
        return steps

    def match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Match a token that has to follow."""
        found = pattern.match(self.text, self.at)
        if found is None:
            raise IndexError(self.at)
        return found

    def skip_space(self) -> str:
        """Skip blanks, line ends and comments; return the next character."""
        self.at = self.match(_SPACE).end()
        return self.text[self.at : self.at + 1]

    @property
    def line(self) -> int:
        """The number of the current line."""
        return self.text.count("\n", 0, self.at) + 1
