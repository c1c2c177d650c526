"""Outputs that the documentation shows, compared with those of real runs.

A fenced block takes part if its info string names a world, which is a project that a
function of ``support.worlds`` makes. The blocks of a page that name one world are steps
in one folder and one shell, in their order:

- ``console WORLD``: the commands after ``$`` run, and print what is shown below them.
  Without any ``$``, each line is a command, and none may fail. ``console WORLD $
  COMMAND`` runs another command first.
- ``text WORLD $ COMMAND``: the command runs, and what is shown is part of its output.
  Blocks that follow each other with the same command show one run of it. ``json`` in
  place of ``text`` only changes the colours.
- ``text WORLD COLUMNS $ COMMAND``: the command runs on a terminal of that width. What
  is shown is part of what the terminal shows at some moment, and no line wraps.
  What follows a prompt, ``…# `` or ``[Y/n]``, is typed.
- ``text WORLD COLUMNS ^C WORDS $ COMMAND``: Ctrl-C is pressed when the terminal shows
  the words.
- ``toml WORLD``: its tables are written to the pyproject.toml, in place of those that
  have the same header and name.
- ``console uncompared: WHY``, or with another kind: the output can't come from a test.

A line ``…`` stands for any number of lines, and ``…`` in a line for any text. Times,
sizes, versions, keys and the folders of paths may differ; empty lines don't count.
What a compiler cache had counts if the block shows it for any build.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from support import terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

FENCE = re.compile(
    r"^```(console|text|json|toml) ([a-z][a-z0-9-]*)"
    r"(?: (\d+))?(?: \^C (.+?))?(?: \$ (.+))?$"
)
ELLIPSIS = "…"
ANY_LINES = r"(?:.*\n)*?"
ALIKE = 0.6
HIDDEN = (
    (r"http://127\.0\.0\.1:\d+/\S*/", "https://…/"),
    (r"[\w./…-]+/bucket-of-a-test", "s3://our-bucket/nox-buildstages"),
)
"""What is shown in place of a test's servers."""
CACHE_USE = re.compile(r" \(s?ccache: [^)]*\)")
"""What a compiler cache had, which counts in blocks that show it."""
PROMPT = "$ "
TYPED = re.compile(r"(?:\S*# |.*\[Y/n\] ?)(.*)")
"""A prompt on a terminal, and what is typed there."""
END = "\x01"
TIME = r"(?:an? |\d+(?:\.\d+)? ?)(?:seconds?|minutes?|hours?|ms|s|min|h)\b"
VARYING = (
    (r"https?://\S+/", "…/"),
    (r"(?<![\w.…])~?/(?:[\w.+-]+/)+", "…/"),  # the folders of a path
    (r"…/(?:[\w.+-]+/)+", "…/"),
    (rf"last time: {TIME}(?: {TIME})*", ""),
    (r"(to build: .*?), (?:about|which took) .*", r"\1"),
    (rf"(?: after| in| \(took|, took) {TIME}(?: {TIME})*\)?", ""),
    (rf"(?<=[ (])(?:about |~)?{TIME}(?: {TIME})*", "#"),
    (r"^\d{4}(?:-\d\d){2} [\d:,]{12} \d+ ", "# "),  # of the debug log
    (r"\b\d{4}(?:-\d\d){2} \d\d:\d\d\b", "#"),
    (r'("(?:seconds|cores|memory(?:-per-job)?)": )[\d.]+', r"\1#"),
    (r'("(?:size|process|build|jobs)": )\d+', r"\1#"),
    (r'"\d{4}-\d\d-\d\dT[\d:.]+Z"', "#"),
    (r"\bprocess \d+", "process #"),
    (r"\d+ of \d+ lines", "# lines"),
    (r"\b\d+/(\d+ (?:files|steps))\b", r"#/\1"),
    (r" \d+(?:\.\d+)? ?(?:[kMG]i?B|B|bytes)\b", " #"),
    (r"\b(?:[0-9a-f]{8}|[0-9a-f]{12,64})\b", "#"),
    (r"\bcp(?:ython-)?\d+\b", "cp#"),
    (r"\d+(?:\.\d+)+(?:\+\w+)?", "#"),
    (r"\b\d+ jobs?\b", "# jobs"),
    (r"─+", "─"),
    (r"[━╸╌]+", "━"),
    (r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "⠋"),
    (r"\s+", " "),
)
"""What may differ from run to run, and what is compared in its place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A block of a page.

    Attributes:
        kind: ``console``, ``text`` or ``toml``.
        world: The name of its world.
        columns: The width of the terminal; 0 for none.
        stop_at: What the terminal shows when Ctrl-C is pressed.
        command: After the name of the world.
        first: The index of its first line in the page.
        lines: Of the block.
    """

    kind: str
    world: str
    columns: int
    stop_at: str
    command: str
    first: int
    lines: tuple[str, ...]

    def commands(self) -> list[tuple[str, list[str]]]:
        """Return each command with the lines that it is to print."""
        if self.kind == "toml":
            return []
        if self.kind == "text":
            return [(self.command, [ELLIPSIS, *self.lines, ELLIPSIS])]
        starts = [i for i, line in enumerate(self.lines) if line.startswith(PROMPT)]
        if not starts:
            return [(line, [ELLIPSIS]) for line in self.lines]
        return [
            (self.lines[start].removeprefix(PROMPT), list(self.lines[start + 1 : end]))
            for start, end in zip(starts, [*starts[1:], len(self.lines)], strict=True)
        ]

    def keys(self) -> list[tuple[str, str]]:
        """Return what is typed on the terminal, and at what; Ctrl-D ends a shell."""
        if self.stop_at:
            return [(re.escape(self.stop_at), terminal.CTRL_C)]
        typed = [f"{it[1]}\n" for it in map(TYPED.fullmatch, self.lines) if it]
        return [(r"(# |\[Y/n\] )\Z", it) for it in (*typed, terminal.CTRL_D)]

    def run(self, shell: Shell) -> list[str]:
        """Run the commands, or write the tables; return what each command printed."""
        if self.kind != "text":
            shell.seen.clear()
        if self.kind == "console" and self.command:
            shell.run(self.command)
        if self.kind == "toml":
            pyproject = Path(shell.run("pwd")[1].strip()) / "pyproject.toml"
            document = with_tables(pyproject.read_text("utf-8"), "\n".join(self.lines))
            pyproject.write_text(document, "utf-8")
        outputs = []
        for command, shown in self.commands():
            key = (command, self.columns)
            if self.kind != "text" or key not in shell.seen:
                if self.columns:
                    shell.watch(command, self.columns, self.keys())
                else:
                    status, output = shell.run(command)
                    assert status == 0 or shown != [ELLIPSIS], f"{command}\n{output}"
                    shell.seen[key] = [output]
            seen = [*map(shell.hide, shell.seen[key])]
            if not CACHE_USE.search("\n".join(shown)):
                seen = [CACHE_USE.sub("", it) for it in seen]
            fitting = (it for it in reversed(seen) if matches(shown, it))
            outputs.append(next(fitting, None) or most_like(shown, seen))
        return outputs

    def rewritten(self, outputs: Sequence[str]) -> list[str]:
        """Return the block's lines with what its commands print now."""
        if self.kind != "text" and not any(it.startswith(PROMPT) for it in self.lines):
            return [*self.lines]
        lines = []
        for (command, shown), output in zip(self.commands(), outputs, strict=True):
            if self.kind == "console":
                lines.append(f"{PROMPT}{command}")
            is_same = matches(shown, output)
            lines += shown if is_same else updated(shown, output.splitlines())
        return lines[1:-1] if self.kind == "text" else lines


class Shell:
    """A bash that keeps its folder and variables from command to command.

    Attributes:
        folders: What is shown in place of folders of this machine.
        seen: All that commands of ``text`` blocks showed, by command and columns.
    """

    def __init__(
        self, folder: Path, env: Mapping[str, str], folders: Mapping[Path, str]
    ) -> None:
        self.folders = folders
        self.seen: dict[tuple[str, int], list[str]] = {}
        self._env = env
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
        stdin.write(
            f"{{ {command}\n}} </dev/null\nstatus=$?; echo; echo {END} $status\n"
        )
        stdin.flush()
        lines: list[str] = []
        while not (line := stdout.readline()).startswith(END):
            assert line, f"{command}: the shell ended"
            lines.append(line)
        return int(line.split()[1]), "".join(lines).removesuffix("\n")

    def watch(
        self, command: str, columns: int, keys: Sequence[tuple[str, str]]
    ) -> None:
        """Run a command on a terminal, and see all that it shows."""
        folder = Path(self.run("pwd")[1].strip())
        seen, screen = terminal.watch(
            command, folder, self._env, columns=columns, keys=keys
        )
        # A path stays one word, however long it is.
        wrapped = [it for it in screen.too_long if " " in it.strip()]
        assert not wrapped, "\n".join(("wrapped:", *wrapped))
        self.seen[command, columns] = seen

    def hide(self, output: str) -> str:
        """Return an output without the places of this machine."""
        for folder, name in self.folders.items():
            output = output.replace(str(folder), name)
        for pattern, replacement in HIDDEN:
            output = re.sub(pattern, replacement, output)
        return output


def steps_of(text: str) -> list[Step]:
    """Return the blocks of a page that take part."""
    found, lines = [], text.splitlines()
    for number, line in enumerate(lines):
        if fence := FENCE.match(line):
            first = number + 1
            end = lines.index("```", first)
            kind, world, columns, stop_at, command = fence.groups()
            step = Step(
                kind=kind.replace("json", "text"),
                world=world,
                columns=int(columns or 0),
                stop_at=stop_at or "",
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
        if line.strip() == ELLIPSIS
        else re.escape(line).replace(ELLIPSIS, ".*") + r"\n"
        for line in _normal_lines(shown)
    )
    real = "".join(f"{line}\n" for line in _normal_lines(output.splitlines()))
    return re.fullmatch(pattern, real) is not None


def most_like(shown: Sequence[str], outputs: Sequence[str]) -> str:
    """Return the output that is most like what is shown."""
    if len(outputs) == 1:
        return outputs[0]
    wanted = " ".join(_normal_lines(shown)).split()

    def likeness(output: str) -> float:
        words = " ".join(_normal_lines(output.splitlines())).split()
        return SequenceMatcher(None, wanted, words, autojunk=False).ratio()

    return max(outputs, key=likeness)


def updated(shown: Sequence[str], real: list[str]) -> list[str]:
    """Return the lines of an output that correspond to those shown.

    Each passage between two lines ``…`` begins with the line that is most like its
    first one, and ends with the line that is most like its last one. If there are no
    such lines, the passage is all that follows. What isn't omitted at the beginning and
    at the end is shown.
    """
    lines: list[str] = []
    position = 0
    for is_omitted, group in groupby(shown, lambda line: line.strip() == ELLIPSIS):
        passage = list(group)
        if is_omitted:
            lines += passage
            continue
        start = _most_like(passage[0], real, position, position) if lines else 0
        position = _most_like(passage[-1], real, start, len(real) - 1) + 1
        lines += real[start:position]
    return lines if not shown or shown[-1] == ELLIPSIS else lines + real[position:]


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


def _most_like(line: str, real: Sequence[str], start: int, default: int) -> int:
    """Return the index of the line that is most like another one."""
    ratios = [
        SequenceMatcher(None, _normal(line), _normal(it)).ratio() for it in real[start:]
    ]
    best = max(ratios, default=0.0)
    return start + ratios.index(best) if best > ALIKE else default


def _normal_lines(lines: Sequence[str]) -> list[str]:
    """Return lines without what may differ, and without those that hold no words."""
    return [line for line in map(_normal, lines) if line.strip("│ ")]


def _normal(line: str) -> str:
    for pattern, replacement in VARYING:
        line = re.sub(pattern, replacement, line)
    return line.rstrip()
