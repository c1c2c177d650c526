"""Find the reason for a build's failure in the build's log.

The log is read once, in bounded memory. Errors of compilers, linkers and build tools
become blocks: a line in a known format, and the explanation below. Every traceback
is reduced to the last frame and the exception.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Literal, TypeAlias

from nox_buildstages.value import Record, Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Belongs: TypeAlias = Callable[[str, list[str]], bool]

MAX_LINES = 20
"""The number of lines that are shown."""
MAX_ERRORS = 3
"""The number of errors that are shown; compilers report many after the first."""
_EXCERPT = 5
"""The number of lines of an excerpt."""
_MAX_WIDTH = 300
"""The number of characters of a line that are shown."""
_MAX_MESSAGE = 12
"""The number of lines of an exception's message that are shown."""
_MAX_SOURCE = 5
"""The number of lines of an error with lines of source code."""
_MAX_WEAK = 6
"""The number of lines above the log's end that are shown if they look like errors."""
_END = 60
"""After this number of lines, a traceback isn't the end of a build."""

_PLACE = r".{1,300}?(?::\d+(?::\d+)?|\(\d+(?:,\d+)?\))\s?:"
_AT = re.compile(_PLACE)
_ERROR = re.compile(
    rf"""
    {_PLACE}\ (?:(?:fatal|catastrophic|internal\ compiler)\ )?(?i:error)\b.*?:\s
    | \S+\.(?:go|proto|thrift|capnp|fbs):\d+:\d+:\ (?!warning)
    | (?:[\w./+~-]+|<[\w-]+>):\ (?:(?:fatal|internal\ compiler)\ )?
      (?:error|fatal|ERROR):\ \S
    | (?:nvcc|ptxas|nvlink|cicc|fatbinary|cudafe\+\+)\ (?:fatal|error)\s*:
    | .*(?:undefined\ reference\ to|multiple\ definition\ of)\b
    | .*(?:cannot\ find\ -l|relocation\ R_\w+\ against|file\ not\ recognized)
    | (?:\S*/)?ld(?:\.\w+)?:\ (?:library|symbol|framework)\b.*not\ found
    | Undefined\ symbols\ for\ architecture
    | \w*make(?:\[\d+\])?:\ \*\*\*\ (?!\[)
    | (?:NV|PG)[A-Z+]+-[SF]-\d+ | nv\S+-(?:Error|Fatal)-
    """,
    re.VERBOSE,
)
"""An error of a compiler, a linker or a build tool; source lines may follow."""
_SOURCE = re.compile(r"\s+\S|\d+ +\|")
_RUST = re.compile(r"error(\[E\d+\])?: ")  # setuptools' errors too
_CMAKE = re.compile(r"CMake Error\b")
_FORTRAN = re.compile(r"(Fatal )?Error: ")
_CYTHON_BEGIN = "Error compiling Cython file:"
_CYTHON = re.compile(r"\S+\.(pyx|pxd|pxi|py):\d+:\d+: ")
_MATURIN = re.compile(r".? ?maturin failed$")

_CONSEQUENCE = re.compile(
    r"returned (a )?non-?zero|(exit|return)(ed with)? (status|code)\b|ld returned \d"
    r"|failed with (exit )?(code|status)|died with <Signals|linker command failed"
    r"|could not compile|aborting due to|build stopped|[Ee]rror compiling objects"
    r"|too many errors|\b(Compile|Link|SKBuild|FailedProcess)Error\b|^SystemExit"
    r"|[Ff]ailed (building|to (build|compile|run command))|Cargo build finished"
    r"|[Bb]uild(ing)? (step )?failed|([Cc]onfiguration|[Cc]ompilation|maturin) failed"
)
"""Words about the failure of another program, whose own error is the cause."""
_COMPILER = re.compile(r"[Cc]ompil|\b(gcc|g\+\+|cc|c\+\+|nvcc|clang|LinkError)\b")
_SELF_EXPLAINING = re.compile(
    r"(?m)^([\w.]*\.)?(ModuleNotFound|Import|Attribute|Type|Name|Syntax|Indentation|Key"
    r"|UnboundLocal|UnicodeDecode|FileNotFound|Permission|Index|Recursion)Error\b"
)
"""Exceptions of Python code itself: no error of another program is the cause."""
_CONNECTORS = {
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
}

_SUSPICIOUS = (
    *("error", "fatal", "fail", "undefined", " not ", "n't ", "no such", "no module"),
    *("no package", "cannot", "unable", "multiple def", "panicked", "relocation"),
    *("***", "killed", "require", "missing", "must be", ".go:", "no space", "-s-"),
    *(".proto:", ".thrift:", ".capnp:", ".fbs:"),
    *("-f-", "unreachable", "resolution", ".py", "installed", "mismatch", "unknown"),
    *("be found", "been removed", "flat-layout", "memory", "signal", "401", "403"),
    *("authenticat", "toolchain"),
)
"""Every error contains one of these; a fast test for long logs."""
_WEAK = re.compile(
    r"(?i:not found\b|no such file|no module named|no package|\bfatal\b|\bkilled\b"
    r"|\bcould ?n[o']t\b|\bcan ?n[o']t\b|\bcan't\b|\bunable to\b|not supported"
    r"|must be (installed|set)|is (required|missing)|no space left|not set\b"
    r"|unreachable|name resolution|not known|panicked|\berror\b(?![-.\w/])"
    r"|\bfailed\b)"
)
"""Words of an error in no known format."""
_HARMLESS = re.compile(r"--? |checking |\s*(\S*/)?(warning|note|info|debug)\b|\s*#")
_STEP = re.compile(
    r"\s*\[\s*\d+(/\d+\]|%\])|-- (?!Output captured)"
    r"|(running|building|copying|creating) \w|\s*Compiling \S+ v\d"
    r"|(ccache |sccache )?(\S*/)?([\w-]+-)?"
    r"(gcc|g\+\+|cc|c\+\+|clang|clang\+\+|nvcc|gfortran|icx|icpx|ifx)(-\d+)? .*-[co] "
)
"""The start of a step: the build continued after the errors before it."""
_NINJA_STEP = re.compile(r"\[\d+/\d+\] |ninja: ")
_STOP = re.compile(
    r"\w*make(\[\d+\])?: \*\*\* \[|error: could not compile |-- Configuring incomplete"
)
"""The words of a build tool that the step before failed."""

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r"\s+File \".*\", line \d+")
_STYLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class Causes(Value):
    """The lines of a log about the reason for a failure."""

    lines: tuple[str, ...]  # at most MAX_LINES
    is_certain: bool
    """Whether the lines are errors in a known format, rather than the log's end."""
    excerpt: tuple[str, ...]  # the first errors, or what looks like one
    is_compile_error: bool = False  # whether the errors are those of a compiler


def find_causes(log: Iterable[str]) -> Causes:
    """Return the lines of a log about the reason for the failure.

    These are, in this order of preference: errors of a step reported as failed by a
    build tool; the last errors of a compiler or another tool; an exception of
    Python code; the end of the log.
    """
    summary = _Summary()
    stripped = (line.rstrip() for line in log)
    # Without colours and control characters.
    lines = (it if it.isprintable() else _STYLE.sub("", it) for it in stripped)
    for item in _find_steps(_find_errors(_reduce_tracebacks(lines))):
        summary.add(item)
    return summary.causes()


class _Item(Value, kw_only=False):
    """A line of a log, or the lines of an error."""

    kind: Literal["line", "suspect", "exception", "error", "step", "stop"]
    lines: tuple[str, ...]
    is_confirmed: bool = False  # whether ninja says that the step failed


def _reduce_tracebacks(lines: Iterable[str]) -> Iterator[_Item]:
    """Yield every line, and every traceback as a last frame and an exception."""
    indentation, frame = -1, [""]
    for line in lines:
        if line.endswith(_TRACEBACK):
            indentation, frame = len(line) - len(line.lstrip(" ")), []
        elif indentation < 0:
            yield _Item("line", (line,))
        elif _FRAME.match(line):
            frame = [line]
        elif len(line) - len(line.lstrip(" ")) > indentation:
            frame = [*frame, line][:2]  # without a line of ^^^^
        else:
            yield _Item("exception", (*frame, line))
            indentation = -1


def _find_errors(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield the items, with the lines of each error in a single item."""
    before: deque[str] = deque(maxlen=_MAX_MESSAGE)
    block: list[str] = []
    belongs: Belongs | None = None
    for item in items:
        line, is_line = item.lines[0], item.kind == "line"
        if belongs is not None:
            if is_line and belongs(line, block):
                continue
            yield _Item("error", tuple(filter(None, block)))
            belongs = None
        is_suspect = is_line and is_suspicious(line)
        if is_suspect:
            block, belongs = _begin_error(line, [*before])
        before += item.lines
        if belongs is None:
            yield _Item("suspect", item.lines) if is_suspect else item
    if belongs is not None:
        yield _Item("error", tuple(filter(None, block)))


def _begin_error(line: str, before: list[str]) -> tuple[list[str], Belongs | None]:
    """Return the first lines of an error, and a function to find the other lines.

    Without a function, the line is no error in a known format.
    """
    if _CONSEQUENCE.search(line) and not _AT.match(line):
        return [], None
    for pattern, belongs in _FORMATS:
        if pattern.match(line):
            return [line], belongs
    if _CYTHON.match(line) and _CYTHON_BEGIN in before:
        return [line], _is_source
    places = [number for number, it in enumerate(before) if _AT.match(it)]
    if _FORTRAN.match(line) and places:
        return [*before[places[-1] :], line], _is_source
    return [], None


def _is_source(line: str, block: list[str]) -> bool:
    """Add a line to an error, if the line is source code."""
    if len(block) < _MAX_SOURCE and _SOURCE.match(line) and not _ERROR.match(line):
        block.append(line)
        return True
    return False


def _is_indented(line: str, block: list[str]) -> bool:
    """Add a line to an error, if the line is indented; skip blank lines."""
    if line and (not line.startswith("  ") or _STEP.match(line)):
        return False
    if len(block) < _MAX_MESSAGE:
        block.append(line)
    return True


def _explains_rust(line: str, block: list[str]) -> bool:
    """Add a line to an error of Rust, or of setuptools, if the line is part of it."""
    if "" in block and not line.startswith((" ", "Caused by:")) and line:
        return False
    if _STEP.match(line) or _STOP.match(line) or sum(map(bool, block)) >= _MAX_MESSAGE:
        return False
    # The output of a build script may be long; its errors are in stderr.
    if block[-1].strip() != "--- stdout" or line.strip() == "--- stderr":
        block.append(line)
    return True


_FORMATS = (
    (_ERROR, _is_source),
    (_RUST, _explains_rust),
    (_CMAKE, _is_indented),
    (_MATURIN, _is_indented),
)
"""The formats of errors, and what finds the lines that belong to an error."""


def _find_steps(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield the items, with the reports of build tools about their steps.

    Errors of a step of which ninja says ``FAILED`` are confirmed. If no line of the
    step's output is in a known format, the first lines of the output are the error.
    """
    is_failed = False
    output: list[str] = []  # of the failed step, without errors until now
    for item in items:
        line = item.lines[0] if item.kind in {"line", "suspect"} else ""
        starts = line.startswith("FAILED: ")
        if is_failed and (starts or _NINJA_STEP.match(line)):
            yield from _unknown_error(output)
            is_failed = False
        if starts:
            is_failed, output = True, []
        if is_failed and item.kind == "error":
            yield replace(item, is_confirmed=True)
            output = []
        elif _STOP.match(line):
            yield _Item("stop", item.lines)
        elif _STEP.match(line) and not is_failed:
            yield _Item("step", item.lines)
        else:
            if starts or output:
                output = [*output, *item.lines][:_MAX_MESSAGE]
            yield item
    if is_failed:
        yield from _unknown_error(output)


def _unknown_error(output: list[str]) -> Iterator[_Item]:
    """Yield the output of a failed step as an error, without the step's command."""
    if len(output) > 2:  # noqa: PLR2004 - FAILED, the command, and more
        yield _Item("error", (output[0], *output[2:]), is_confirmed=True)


class _Errors(Record):
    """The first of several errors."""

    first: list[tuple[str, ...]] = field(default_factory=list)
    count: int = 0

    def add(self, lines: tuple[str, ...]) -> None:
        """Add an error."""
        if lines not in self.first:
            self.count += 1
            if len(self.first) < MAX_ERRORS:
                self.first.append(lines)

    def lines(self) -> Iterator[str]:
        """Yield the first errors, and the number of the others."""
        room, shown = MAX_LINES, 0
        for lines in self.first:
            if len(lines) >= room:
                break
            yield from lines
            room -= len(lines)
            shown += 1
        hidden = self.count - shown
        if hidden:
            yield f"… and {hidden} more error{'s' if hidden > 1 else ''} in the log"


class _Summary(Record):
    """The important parts of a log, up to the current line."""

    confirmed: _Errors = field(default_factory=_Errors)
    """Errors of steps of which a build tool says that they failed."""
    recent: _Errors = field(default_factory=_Errors)
    """The last errors without a step between them."""
    steps: int = 0  # after the last error
    exceptions: list[str] = field(default_factory=list)
    """The lines of the last exception and of those before it in its chain."""
    message: list[str] = field(default_factory=list)  # the lines after the exceptions
    distance: int = 0  # number of lines after the exceptions
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    weak: deque[tuple[int, str]] = field(
        default_factory=lambda: deque(maxlen=MAX_LINES + _MAX_WEAK)
    )
    """The last lines that look like errors, with their numbers."""
    count: int = 0  # number of lines

    def add(self, item: _Item) -> None:
        """Add an item of the log."""
        match item.kind:
            case "exception":
                # It is added to the previous exception, if a connector links both.
                is_chained = not _CONNECTORS.isdisjoint(self.message)
                chain = [*self.exceptions, *self.message] if is_chained else []
                rest = chain[_MAX_MESSAGE:][-_MAX_MESSAGE:]
                self.exceptions = [*chain[:_MAX_MESSAGE], *rest, *item.lines]
                self.message, self.distance = [], 0
            case "error":
                self._add_error(item)
            case "stop":
                for lines in self.recent.first:
                    self.confirmed.add(lines)
                self.confirmed.count += self.recent.count - len(self.recent.first)
                self.recent = _Errors()
            case "step":
                self.steps += 1
        if item.kind != "exception":  # more of a message, or a connector
            self.distance += len(item.lines)
            for line in item.lines:
                if line in _CONNECTORS or (line and len(self.message) < _MAX_MESSAGE):
                    self.message.append(line)
        self.tail += item.lines
        self.count += len(item.lines)
        line, is_suspect = item.lines[0], item.kind == "suspect"
        if is_suspect and _WEAK.search(line) and not _HARMLESS.match(line):
            self.weak.append((self.count, line))

    def _add_error(self, item: _Item) -> None:
        """Add an error; earlier exceptions aren't the end of the build."""
        if item.is_confirmed:
            self.confirmed.add(item.lines)
        else:
            if self.steps:
                self.recent = _Errors()
            self.recent.add(item.lines)
        self.steps, self.exceptions = 0, []

    def causes(self) -> Causes:
        """Return the lines to show."""
        is_end = self.exceptions and self.distance < _END
        ending = [*self.exceptions, *self.message] if is_end else []
        words = "\n".join(line for line in ending if not line.startswith(" "))
        is_consequence = _CONSEQUENCE.search(words) is not None
        if _SELF_EXPLAINING.search(words) and not is_consequence:
            return _make_causes(ending, ending[-_EXCERPT:], is_certain=True)
        errors = self.confirmed if self.confirmed.count else self.recent
        # Steps may follow an error of a compiler if several run at once. Otherwise the
        # build has only tried something.
        said = words or "\n".join([*self.tail][-1:])
        is_last = errors is self.confirmed or not self.steps or _COMPILER.search(said)
        if errors.count and is_last:
            lines = [*errors.lines(), *(() if is_consequence else ending)]
            causes = _make_causes(lines, lines, is_certain=True)
            is_configuring = _CMAKE.match(lines[0]) is not None
            return replace(causes, is_compile_error=not is_configuring)
        tried = errors.first[0] if errors.count else ()
        before = self.count - len(self.tail)
        weak = [line for number, line in self.weak if number <= before][-_MAX_WEAK:]
        above = [it for it in (*tried, *weak) if it not in self.tail]
        room = MAX_LINES - len(above) - 1
        lines = [*above, "…", *[*self.tail][-room:]] if above else [*self.tail]
        return _make_causes(lines, above or lines[-1:], is_certain=False)


def _make_causes(lines: list[str], excerpt: list[str], *, is_certain: bool) -> Causes:
    """Return causes with a limited number of lines of limited length."""
    shown = tuple(
        line if len(line) <= _MAX_WIDTH else f"{line[: _MAX_WIDTH - 1]}…"
        for line in lines[:MAX_LINES]
    )
    return Causes(lines=shown, is_certain=is_certain, excerpt=tuple(excerpt[:_EXCERPT]))


def is_suspicious(line: str) -> bool:
    """Whether a line may be an error."""
    lower = line.lower()
    for word in _SUSPICIOUS:  # noqa: SIM110 - faster than any() in long logs
        if word in lower:
            return True
    return False
