"""The finding of a check: a line with a mark, and how to fix the problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from nox_buildstages.text import wrap_line
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

State: TypeAlias = Literal["ok", "warning", "error", "later"]
"""An error ends a build before it compiles; ``later`` is known when a stage starts."""

MARKS: dict[State, str] = {"ok": "✓", "warning": "!", "error": "✗", "later": "·"}
_ASCII_MARKS: dict[State, str] = {**MARKS, "ok": "ok", "error": "x", "later": "-"}


class Finding(Value):
    """The result of a check."""

    check: str  # the name of the check
    state: State
    text: str  # empty if it is known later
    hint: str = ""  # first a sentence, then lines to copy
    outputs: tuple[str, ...] = ()  # empty if it is about the machine

    @property
    def line(self) -> str:
        """The text, after the outputs that have a problem."""
        outputs = "" if self.state == "ok" else ", ".join(self.outputs)
        return ": ".join(filter(None, (outputs, self.text)))


def merge_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return each finding once, with the outputs that share it."""
    merged: dict[Finding, dict[str, None]] = {}
    for it in findings:
        outputs = merged.setdefault(replace(it, outputs=()), {})
        outputs.update(dict.fromkeys(it.outputs))
    found = [replace(it, outputs=tuple(outputs)) for it, outputs in merged.items()]
    return sorted(found, key=lambda it: not it.outputs)  # those of the machine last


def format_findings(
    findings: Iterable[Finding], *, encoding: str, width: int | None = None
) -> Iterator[str]:
    """Yield a line for each finding, with its fix below.

    The checks that are known later share a line. The marks are ASCII if the encoding
    lacks others. Sentences are wrapped to ``width`` columns; lines to copy aren't.
    """
    try:
        "".join(MARKS.values()).encode(encoding)
        marks = MARKS
    except (UnicodeEncodeError, LookupError):
        marks = _ASCII_MARKS
    later: dict[str, None] = {}
    for it in findings:
        if it.state == "later":
            later[it.check] = None
            continue
        yield from _wrap(f" {marks[it.state]} {it.line}", width)
        if it.state != "ok":
            first, *rest = it.hint.splitlines() or [""]
            yield from _wrap(f"     {first}".rstrip(), width)
            yield from (f"     {line}".rstrip() for line in rest)
    if later:
        text = f"checked when the stage starts: {', '.join(later)}"
        yield from _wrap(f" {marks['later']} {text}", width)


def _wrap(line: str, width: int | None) -> list[str]:
    if width is None or not line:
        return [line] if line else []
    return wrap_line(line, width, indent="     ")
