"""The verdicts about the wheels of a release, and how they are shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nox_buildstages.errors import BuildStagesError, UncheckedError
from nox_buildstages.safe_text import escape_markdown, show
from nox_buildstages.text import GAP, paint
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nox_buildstages.safe_text import Shown

State: TypeAlias = Literal["ok", "unknown", "failed"]

STATES: Mapping[State, str] = {"ok": "green", "unknown": "yellow", "failed": "bold red"}
"""The states from the best to the worst, each with its style."""

FORMAT = 1
"""The version of the JSON document."""

_WITHOUT = "to release without these checks, leave out --verify"


class Verdict(Value):
    """The result of a check of a wheel; unknown if the check couldn't be made."""

    check: str
    state: State = "ok"
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)  # more of them, for JSON


class WheelVerdicts(Value):
    """All verdicts about a wheel."""

    file: str
    sha256: str
    verdicts: tuple[Verdict, ...]

    @property
    def state(self) -> State:
        """The worst state of a check."""
        return max((it.state for it in self.verdicts), key=[*STATES].index)

    def list(self, state: State) -> list[str]:
        """Return the file, the check and the text of each verdict with a state."""
        found = (it for it in self.verdicts if it.state == state)
        return [f"{self.file}: {it.check}: {it.text}" for it in found]


def render_verdicts(
    wheels: Sequence[WheelVerdicts], *, colour: bool
) -> Iterator[Shown]:
    """Yield the table of all wheels: a line for each, and for each check."""
    checks = {it.check for wheel in wheels for it in wheel.verdicts}
    width, word = max(map(len, checks)), max(map(len, STATES))
    for wheel in wheels:
        yield show(wheel.file)
        for it in wheel.verdicts:
            state = paint(it.state.ljust(word), STATES[it.state], colour=colour)
            yield show(GAP, state, GAP, it.check.ljust(width), GAP, it.text)


def format_json(wheels: Sequence[WheelVerdicts], *, cell: str, python: str) -> str:
    """Return the verdicts of a session as JSON."""
    document = {
        "format": FORMAT,
        "cell": cell,
        "python": python,
        "wheels": [
            {
                "file": wheel.file,
                "sha256": wheel.sha256,
                "state": wheel.state,
                "checks": [
                    {
                        "check": it.check,
                        "state": it.state,
                        "text": it.text,
                        **it.facts,
                    }
                    for it in wheel.verdicts
                ],
            }
            for wheel in wheels
        ],
    }
    return json.dumps(document, indent=2)


def verdicts_markdown(wheels: Sequence[WheelVerdicts]) -> Iterator[str]:
    """Yield a table with a line for each wheel, for the summary of a job in GitHub."""
    yield from ("| wheel | verdict | checks |", "| --- | --- | --- |")
    for wheel in wheels:
        shown = [it for it in wheel.verdicts if it.state == wheel.state]
        text = escape_markdown("; ".join(f"{it.check}: {it.text}" for it in shown))
        yield f"| {escape_markdown(wheel.file)} | {wheel.state} | {text} |"


def require_ok(wheels: Sequence[WheelVerdicts]) -> None:
    """Raise an error unless every wheel is what it says.

    Raises:
        BuildStagesError: A wheel isn't.
        UncheckedError: A check couldn't be made.
    """
    failed = [line for it in wheels for line in it.list("failed")]
    unknown = [line for it in wheels for line in it.list("unknown")]
    if failed:
        raise BuildStagesError(
            subject="the release",
            problem="a wheel isn't what it says, so nothing is released",
            details=failed,
            hint=_WITHOUT,
        )
    if unknown:
        raise UncheckedError(
            subject="the release",
            problem="a wheel couldn't be checked, so nothing is released",
            details=unknown,
            hint=_WITHOUT,
        )
