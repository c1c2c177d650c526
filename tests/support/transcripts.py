"""Outputs that the documentation shows, compared with those of real runs.

A fenced block takes part if its info string names a world, which is a project that a
function of ``support.worlds`` makes. The blocks of a page that name one world are steps
in one folder and one shell, in their order:

- ``console WORLD``: the commands after ``$`` run, and print what is shown below them.
  Without any ``$``, each line is a command, and none may fail.
- ``text WORLD $ COMMAND``: the command runs, and what is shown is part of its output.
- ``toml WORLD``: its tables are written to the pyproject.toml, in place of those that
  have the same header and name.

A line ``…`` stands for any number of lines, and ``…`` in a line for any text. Times,
sizes, versions, keys and the folders of paths may differ.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Self

FENCE = re.compile(r"^```(console|text|toml) ([a-z][a-z0-9-]*)(?: \$ (.+))?$")
ELLIPSIS = "…"
ANY_LINES = r"(?:.*\n)*?"
TIME = r"(?:an? |\d+(?:\.\d+)? ?)(?:seconds?|minutes?|hours?|ms|s|min|h)\b"
VARYING = (
    (r"(?<![\w.…])~?/(?:[\w.+-]+/)+", "…/"),  # the folders of a path
    (r"…/(?:[\w.+-]+/)+", "…/"),
    (rf" (?:after|in|\(took) {TIME}(?: {TIME})*\)?", ""),
    (rf" (?:about |~)?{TIME}(?: {TIME})*", " #"),
    (r"\d+ of \d+ lines", "# lines"),
    (r" \d+(?:\.\d+)? ?(?:[kMG]i?B|B)\b", " #"),
    (r"\b[0-9a-f]{12,64}\b", "#"),
    (r"\bcp\d+\b", "cp#"),
    (r"\d+(?:\.\d+)+(?:\+\w+)?", "#"),
    (r"\b\d+ jobs?\b", "# jobs"),
    (r"([─━])+", r"\1"),
    (r"\s+", " "),
)
"""What may differ from run to run, and what is compared in its place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A block of a page.

    Attributes:
        kind: ``console``, ``text`` or ``toml``.
        world: The name of its world.
        command: Of a ``text`` block.
        first: The index of its first line in the page.
        lines: Of the block.
    """

    kind: str
    world: str
    command: str
    first: int
    lines: tuple[str, ...]

    def commands(self) -> Iterator[tuple[str, list[str] | None]]:
        """Yield each command with the lines that it is to print; None for any."""
        if self.kind == "text":
            yield self.command, [ELLIPSIS, *self.lines, ELLIPSIS]
        elif not any(line.startswith("$ ") for line in self.lines):
            for line in "\n".join(self.lines).replace("\\\n", "").splitlines():
                yield line, None
        else:
            starts = [i for i, it in enumerate(self.lines) if it.startswith("$ ")]
            for start, end in zip(starts, [*starts[1:], len(self.lines)], strict=True):
                yield self.lines[start][2:], list(self.lines[start + 1 : end])

    def rewritten(self, outputs: Sequence[str]) -> list[str]:
        """Return the block's lines with what its commands print now."""
        lines = []
        for (command, shown), output in zip(self.commands(), outputs, strict=True):
            if self.kind == "console":
                lines.append(f"$ {command}")
            if shown and matches(shown, output):
                lines += shown
            elif shown:
                lines += updated(shown, output.splitlines())
        return lines[1:-1] if self.kind == "text" else lines


class Shell:
    """A bash that keeps its folder and variables from command to command."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["/bin/bash", "--norc", "--noprofile"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._bash.kill()
        self._bash.communicate()

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; return its status, and what it printed."""
        stdin, stdout = self._bash.stdin, self._bash.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{{ {command}\n}} </dev/null\necho; echo \x01 $?\n")
        stdin.flush()
        lines: list[str] = []
        while not (line := stdout.readline()).startswith("\x01"):
            assert line, f"{command}: the shell ended"
            lines.append(line)
        return int(line.split()[1]), "".join(lines).removesuffix("\n")


def steps_of(text: str) -> list[Step]:
    """Return the blocks of a page that take part."""
    found, lines = [], text.splitlines()
    for number, line in enumerate(lines):
        if fence := FENCE.match(line):
            first = number + 1
            end = lines.index("```", first)
            kind, world, command = fence.groups()
            step = Step(
                kind=kind,
                world=world,
                command=command or "",
                first=first,
                lines=tuple(lines[first:end]),
            )
            found.append(step)
    return found


def matches(shown: Sequence[str], output: str) -> bool:
    """Return whether an output is what is shown, apart from what may differ."""
    pattern = "".join(
        ANY_LINES
        if line == ELLIPSIS
        else re.escape(_normal(line)).replace(ELLIPSIS, ".*") + r"\n"
        for line in shown
    )
    real = "".join(f"{_normal(line)}\n" for line in output.splitlines())
    return re.fullmatch(pattern, real) is not None


def updated(shown: Sequence[str], real: list[str]) -> list[str]:
    """Return the lines of an output that correspond to those shown.

    Each passage between two lines ``…`` begins with the line that is most like its
    first one, and ends with the line that is most like its last one.
    """
    lines: list[str] = []
    position = 0
    for line in shown:
        if line == ELLIPSIS:
            lines.append(line)
            continue
        is_first = not lines or lines[-1] == ELLIPSIS
        ratios = [_likeness(line, it) for it in real[position:]]
        if not ratios or max(ratios) < 0.6:
            continue
        best = position + ratios.index(max(ratios))
        lines += real[best : best + 1] if is_first else real[position : best + 1]
        position = best + 1
    return lines


def with_tables(document: str, tables: str) -> str:
    """Return a TOML document with some tables replaced or added."""
    spans = _tables(document)
    for identity, table in _tables(tables).items():
        spans[identity] = table
    return "\n".join(spans.values())


def _tables(text: str) -> dict[str, str]:
    """Return the text of each table by its header and, in an array, its name."""
    found = {}
    for table in re.split(r"^(?=\[)", text, flags=re.MULTILINE):
        name = re.search(r"^name = .*", table, re.MULTILINE)
        header = table.splitlines()[0] if table else ""
        is_array = header.startswith("[[")
        identity = f"{header} {name[0]}" if is_array and name else header
        if table.strip():
            found[identity] = table.rstrip("\n") + "\n"
    return found


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, _normal(one), _normal(other)).ratio()


def _normal(line: str) -> str:
    for pattern, replacement in VARYING:
        line = re.sub(pattern, replacement, line)
    return line.rstrip()
