"""The state of a run in progress as text for the screen: a board, or a line. Pure."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from nox_buildstages.run.events import BUILT, CACHED, FAILED, STOPPED
from nox_buildstages.safe_text import Shown, show
from nox_buildstages.text import count, format_size, format_time, paint
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nox_buildstages.run.events import Event
    from nox_buildstages.run.state import OutputState, RunState

_DONE, _FAILED, _RUNNING, _WAITING, _LATER = "✓✗⠋◌○"
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR = 22
"""Columns of the bar of a build, if there is room."""

_SHORTEST_BAR = 6
_MINUTE = 60

_WORDS = {
    "lock": "resolving",
    "ask": "asking the build backend",
    "fetch": "fetching the source",
    "environment": "making the environment",
    "preflight": "checking before it compiles",
    "compile": "compiling",
    "install": "installing the runtime",
    "import": "importing",
    "check": "running a check",
}
"""The steps in words; a step that isn't here is shown by its name."""


class Row(Value):
    """A row of the board: a symbol, the place, and a text."""

    symbol: str
    style: str
    stage: str
    title: str
    text: str
    bar: float | None = None  # the part that is done, or None for no bar
    detail: str = ""  # on a line of its own


def draw_board(
    state: RunState, now: float, *, columns: int, rows: int = 50, colour: bool = False
) -> list[Shown]:
    """Return the lines of the board; none wraps, and there are fewer than ``rows``."""
    all_rows = [*_rows(state, now)]
    if not all_rows:
        return []
    width, room = columns - 1, rows - 2
    drawn, rest = _choose_rows(all_rows, room)
    has_details = len(drawn) + sum(bool(it.detail) for it in drawn) + bool(rest) <= room
    stages = max((len(it.stage) for it in drawn), default=0)
    titles = max((len(it.title) for it in drawn), default=0)
    spin = _SPINNER[int(now * 4) % len(_SPINNER)]
    head = _cut(_head(state, now, width), width)
    lines = [paint(head, "bold", colour=colour)]
    for row in drawn:
        text: str = f"{row.stage:<{stages}}  {row.title:<{titles}}  "
        if colour and row.bar is not None:
            length = min(_BAR, width - 5 - len(text) - len(row.text))
            full = round(row.bar * length)
            if length >= _SHORTEST_BAR:
                text += f"{'━' * full}{'╌' * (length - full)}  "
        text = _cut(f"{text}{row.text}", width - 3).rstrip()
        if row.style == "dim":
            text = paint(text, "dim", colour=colour)
        symbol = {_RUNNING: spin}.get(row.symbol, row.symbol) if colour else " "
        lines.append(show(" ", paint(symbol, row.style, colour=colour), " ", text))
        if row.detail and has_details:
            detail = _cut(f"{' ' * (stages + 5)}{row.detail}", width)
            lines.append(paint(detail, "dim", colour=colour))
    if rest:
        lines.append(paint(_cut(f"   {rest}", width), "dim", colour=colour))
    return lines


def _choose_rows(rows: list[Row], room: int) -> tuple[list[Row], str]:
    """Return the rows that fit, and the number of others in words.

    Unchanging rows make room for changing rows.
    """
    if len(rows) <= room:
        return rows, ""
    order = {_DONE: 0, _LATER: 1}
    by_interest = sorted(rows, key=lambda it: order.get(it.symbol, 2))
    kept = by_interest[len(rows) - max(0, room - 1) :]
    return [it for it in rows if it in kept], f"and {len(rows) - len(kept)} more"


def draw_line(state: RunState, now: float, *, columns: int, process: int) -> Shown:
    """Return what a process does and the state of the run, the most telling first."""
    running = [
        it for it in state.outputs.values() if it.step and it.step.process == process
    ]
    running.sort(key=lambda it: not it.is_running)
    steps = [it for it in state.steps.values() if it.process == process]
    parts = []
    if running:
        first, others = running[0], len(running) + len(steps) - 1
        parts = [f"{first.name} {first.version}".rstrip(), *_doing(first, now)]
        parts += [f"{others} more"] if others else []
    elif steps:
        step = steps[-1]  # the others contain it, or run beside it
        stage = f"{step.stage}: " if step.stage else ""
        parts = [f"{stage}{_describe(step)}", format_time(now - step.time)]
    else:
        return show()
    if len(state.outputs) > 1:
        left = state.seconds_left(now)
        total = f"run {state.count_done()} of {len(state.outputs)}"
        parts.append(total + (f", {format_left(left)}" if left else ""))
    return show(_cut(" · ".join(filter(None, parts)), columns - 1))


def format_left(seconds: float) -> str:
    """Return an estimate of remaining time, such as ``~1 min 40 s``."""
    step = 10 if seconds < 10 * _MINUTE else _MINUTE
    return f"~{format_time(max(1, round(seconds / step)) * step)}"


def _head(state: RunState, now: float, width: int) -> str:
    """Return the counts, and at the end of the line the time, if there is room."""
    count, done, running = (
        len(state.outputs),
        state.count_done(),
        state.count_running(),
    )
    failed = sum(it.state == FAILED for it in state.outputs.values())
    stopped = sum(it.state == STOPPED for it in state.outputs.values())
    waiting = count - done - running - failed - stopped
    parts = [f"{done} of {count} done"] if count else []
    for number, word in (
        (running, "running"),
        (waiting, "waiting"),
        (failed, "failed"),
        (stopped, "stopped"),
    ):
        parts += [f"{number} {word}"] if number else []
    elapsed = format_time(now - state.began) if state.began else ""
    left = state.seconds_left(now)
    if left:
        elapsed += f", about {format_left(left)[1:]} left"
    head = f" build-stages   {' · '.join(parts)}"
    gap = width - len(head) - len(elapsed)
    return f"{head}{' ' * gap}{elapsed}" if gap > 1 else head


def _rows(state: RunState, now: float) -> Iterator[Row]:
    """Yield the rows: steps of the run, stages with their outputs, then the rest."""
    by_stage: dict[str, list[Event]] = {}
    for event in state.steps.values():
        by_stage.setdefault(event.stage, []).append(event)
    for event in by_stage.pop("", ()):
        yield _step_row(event, now)
    for output in state.outputs.values():
        for event in by_stage.pop(output.stage, ()):
            yield _step_row(event, now)
        yield _output_row(state, output, now)
    for events in by_stage.values():
        for event in events:
            yield _step_row(event, now)
    for event in state.later.values():
        counts = (
            count(number, things.removesuffix("s"))  # such as 4 imports
            for things, number in event.facts.items()
            if number
        )
        title = ", ".join([event.step, *counts])
        yield Row(symbol=_LATER, style="dim", stage=event.stage, title=title, text="")


def _step_row(event: Event, now: float) -> Row:
    return Row(
        symbol=_RUNNING,
        style="cyan",
        stage=event.stage,
        title="",
        text=f"{_describe(event)}   {format_time(now - event.time)}",
    )


def _output_row(state: RunState, output: OutputState, now: float) -> Row:
    facts, seconds = output.facts, output.facts.get("seconds")
    symbol, style, text, bar, detail = _LATER, "dim", "", None, ""
    if output.state == CACHED:
        symbol, style, text = _DONE, "dim", "cached"
        text += f"   saves {format_time(seconds)}" if seconds and seconds >= 1 else ""
    elif output.state == BUILT:
        parts = [format_time(seconds or 0), format_size(facts.get("size", 0))]
        symbol, style, text = _DONE, "green", f"built    {' · '.join(parts)}"
    elif output.state in (FAILED, STOPPED):
        symbol, style, text = _FAILED, "red", output.state
    elif output.step and output.step.step == "wait":
        symbol, style = _WAITING, "yellow"
        text = _describe(output.step)
    elif output.is_running:
        symbol, style = _RUNNING, "cyan"
        text = "   ".join(_doing(output, now))
        step = output.step
        if step:
            bar, detail = step.facts.get("part"), " · ".join(_details(step.facts))
    elif unmet := state.unmet(output):
        symbol, style, text = _LATER, "dim", f"waits for {', '.join(unmet)}"
    elif output.plan.get("is_stored"):
        text = "cached"
    elif output.plan.get("expected"):
        text = f"about {format_left(output.plan['expected'])[1:]}"
    return Row(
        symbol=symbol,
        style=style,
        stage=output.stage,
        title=f"{output.name} {output.version}".rstrip(),
        text=text,
        bar=bar,
        detail=detail,
    )


def _doing(output: OutputState, now: float) -> list[str]:
    """Return the current action for an output, the time so far, and the time left."""
    step = output.step
    if step is None:
        return ["preparing"]
    if step.step == "wait":
        return [_describe(step)]
    time = format_time(now - (output.since or step.time))
    left = output.seconds_left(now)
    doing = step.facts.get("steps") or _describe(step)
    return [doing, f"{time}, {format_left(left)} left" if left else time]


def _details(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the file being compiled, the jobs and the memory, as far as known."""
    files = facts.get("files", ())
    if files:
        yield f"{files[0]} and {len(files) - 1} more" if files[1:] else files[0]
    jobs = facts.get("jobs")
    if jobs:
        word = "job" if jobs == 1 else "jobs"
        yield f"{len(files)} of {jobs} {word}" if files else f"{jobs} {word}"
    if memory := facts.get("memory"):
        yield format_size(memory)


def _describe(event: Event) -> str:
    """Return a step in words."""
    facts = event.facts
    if event.step == "wait":
        return f"waits for {facts.get('reason', 'others')}"
    words = [_WORDS.get(event.step, event.step)]
    if packages := facts.get("packages"):
        words.append(f"{packages} package{'s' * (packages != 1)}")
    if modules := facts.get("modules"):
        words = [f"importing {', '.join(modules)}"]
    if event.step == "ask":
        words = [f"{words[0]} of {event.output}"]
    return " · ".join(words)


def _cut(text: str, width: int) -> str:
    """Return the start of a text that fits, without control characters."""
    text = "".join(it if it.isprintable() else "?" for it in text)
    if text.isascii():
        return text[: max(0, width)]
    kept, used = [], 0
    for character in text:
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > width:
            break
        kept.append(character)
    return "".join(kept)
