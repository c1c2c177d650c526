"""The summary at the end of a run: a line with the result of each output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nox_buildstages.run.events import (
    BEGUN,
    BUILT,
    CACHED,
    ENDED,
    FAILED,
    PLANNED,
    STOPPED,
)
from nox_buildstages.safe_text import Shown, escape_markdown, show
from nox_buildstages.text import (
    count,
    format_seconds,
    format_size,
    paint,
)
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from nox_buildstages.config.cells import Cells
    from nox_buildstages.run.events import Event

_HEAD = ("output", "version", "stage", "state", "time", "size", "memory", "why")
_NOT_BUILT = "not built"

_RUNTIME = ("install", "import", "check")
"""The steps of the runtime environment."""

_STYLES = {BUILT: "green", CACHED: "dim", FAILED: "red", STOPPED: "yellow"}

_UNFINISHED = (BEGUN, FAILED, STOPPED)
"""The states of an output without a wheel. Without an end, its process was killed."""

_MUCH = 10**9
"""Bytes; the summary shows memory if a build of this run used so much."""


class Summary(Value):
    """The table of a cell for a Python, and the lines below."""

    rows: tuple[tuple[str, ...], ...]  # without columns that are empty
    states: tuple[str, ...]  # of the rows
    totals: tuple[str, ...] = ()  # a row: wheels, time and size; empty if some lack
    saved: str = ""
    runtime: tuple[tuple[str, bool], ...] = ()
    """What was done with the runtime environment, and whether it worked."""
    report: str = ""  # a path, or empty


def summarize(
    entries: Sequence[Mapping[str, Any]],
    events: Iterable[Event] = (),
    *,
    now: float = 0.0,
    report: str = "",
) -> Summary:
    """Return the summary of a cell.

    Each entry has ``name``, ``stage`` and ``status``, and ``version``, ``seconds``,
    ``size`` in bytes, ``memory`` and ``reasons`` if they are known. The events are the
    first of the run, and those of the runtime environment.
    """
    events = [*events]
    began = events[0].time if events else now
    runtime = [
        event
        for event in events
        if event.step in _RUNTIME and event.state in (ENDED, FAILED, STOPPED)
    ]
    rows = [*map(_row, entries)]
    totals: tuple[str, ...] = ()
    spared = sum(it.get("seconds") or 0 for it in entries if it["status"] == CACHED)
    saved = f"saved {format_seconds(spared)}" if spared >= 1 else ""
    if rows and all(it["status"] in (BUILT, CACHED) for it in entries):
        built = sum(it["status"] == BUILT for it in entries)
        totals = (
            f"{count(len(rows), 'wheel')}, {built or 'none'} built",
            *("", "", "", format_seconds(now - began)),
            format_size(sum(it["size"] for it in entries)),
            *("", saved),
        )
    table = [_HEAD, *rows] if rows else []
    kept = [number for number in range(len(_HEAD)) if any(it[number] for it in rows)]
    return Summary(
        rows=tuple(tuple(row[it] for it in kept) for row in table),
        states=tuple(it["status"] for it in entries),
        totals=tuple(totals[it] for it in kept if totals),
        saved=saved,
        runtime=tuple(_describe_runtime(runtime)),
        report=report if rows else "",
    )


def render_summary(
    summary: Summary, *, columns: int = 100, colour: bool = False
) -> Iterator[Shown]:
    """Yield the lines of a summary; none without outputs. No line wraps."""
    if not summary.rows:
        return
    width = columns - 1
    rows = [*summary.rows, *filter(None, [summary.totals])]
    aligned = [*summary.rows, ("", *summary.totals[1:])] if summary.totals else rows
    widths = [max(map(len, column)) for column in zip(*aligned, strict=True)]
    lines: list[str] = []
    for row in rows:
        cells = [f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True)]
        if row is summary.totals:  # its first cell takes the place of several
            at = next(place for place, cell in enumerate(row) if place and cell)
            start = sum(widths[:at]) + 2 * (at - 1)
            cells = [f"{row[0]:<{start}}", *cells[at:]]
            lines.append("─" * min(width - 1, max(map(len, lines))))
            if summary.saved not in row:
                cells.append(summary.saved)
        line = "  ".join(cells).rstrip()
        lines.append(line if len(line) < width else f"{line[: width - 2]}…")
    styles = ["bold", *(_STYLES.get(it, "") for it in summary.states), "dim", "bold"]
    for line, style in zip(lines, styles, strict=False):
        yield show(" ", paint(line, style, colour=colour) if style else line)
    yield from _lines_below(summary, width, colour=colour)


def _lines_below(summary: Summary, width: int, *, colour: bool) -> Iterator[Shown]:
    """Yield the runtime environment and the report, in as few lines as there may be."""
    pieces = []
    for text, works in summary.runtime:
        plain = text if works else f"{text} failed"
        symbol, style = ("✓", "green") if works else ("✗", "red")
        painted = paint(symbol, style, colour=True)
        marked = show(text, " ", painted) if colour else show(plain)
        pieces.append((" · ", plain, marked))
    if summary.report:
        report = f"report: {summary.report}"
        pieces.append(("   ", report, show(report)))
    line, used = show(), 0
    for gap, plain, text in pieces:
        size = len(plain) + 2 * colour  # for a symbol
        if line and used + len(gap) + size > width - 2:
            yield line
            line = show()
        line, used = (
            (show(line, gap, text), used + len(gap) + size)
            if line
            else (show(" ", text), size)
        )
    if line:
        yield line


def summary_markdown(summary: Summary) -> Iterator[str]:
    """Yield the lines of a summary in Markdown; none without outputs."""
    for number, row in enumerate([*summary.rows, *filter(None, [summary.totals])]):
        yield f"| {' | '.join(map(escape_markdown, row))} |"
        if number == 0:
            yield f"|{' --- |' * len(row)}"
    if not summary.rows:
        return
    below = [f"{text}{'' if works else ' failed'}" for text, works in summary.runtime]
    if line := " · ".join(below):
        yield ""
        yield escape_markdown(line)


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    seconds, size = entry.get("seconds"), entry.get("size")
    reasons = entry.get("reasons", ())
    status = entry["status"]
    memory, used = entry.get("memory") if status == BUILT else None, ""
    if memory and memory["build"] >= _MUCH:
        build, process = memory["build"], memory["process"]
        used = format_size(build)
        used += f", {format_size(process)} a process" if process != build else ""
    time = "" if seconds is None else format_seconds(seconds)
    others = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return (
        *(entry["name"], entry.get("version", ""), entry["stage"], status),
        f"({time})" if status == CACHED and time else time,
        "" if size is None else format_size(size),
        used,
        f"{reasons[0]}{others}" if reasons and status != CACHED else "",
    )


def _describe_runtime(events: Sequence[Event]) -> Iterator[tuple[str, bool]]:
    """Yield what was done with the runtime environment, and whether it worked."""
    for event in events:
        if event.step == "install":
            packages = count(event.facts.get("packages", 0), "package")
            yield f"runtime: {packages}", event.state == ENDED
        if event.step == "import":
            works = event.state == ENDED  # the first failure is the last import
            modules = event.facts.get("modules", ())
            yield f"imports: {len(modules)}" if works else "imports:", works
    checks = [it for it in events if it.step == "check"]
    if checks:
        works = all(it.state == ENDED for it in checks)
        yield f"checks: {len(checks)}", works


def missing_summaries(
    events: Iterable[Event],
    cells: Cells,
    sessions: Collection[str] | None = None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the summaries that no session printed although something failed.

    Each is a Python, with the entries of the cells without a summary. The sessions of
    stages have no Python in their names; None stands for all.
    """
    by_python: dict[str, list[Event]] = {}
    for event in events:
        if event.step in ("stage", "install", "output", "summary"):
            by_python.setdefault(event.python, []).append(event)
    for python, found in sorted(by_python.items()):
        closed = {event.cell for event in found if event.step == "summary"}
        # Cells share stages, so an output may come several times.
        outputs = dict.fromkeys(
            (cell.project.stage_label(stage.name), output.name)
            for cell in cells.cells
            if str(cell.project.cell) not in closed
            if cell.project.has_python(python)
            for stage in cell.graph.order
            if sessions is None or cell.session(stage) in sessions
            for output in stage.outputs
        )
        failed = {
            event.stage
            for event in found
            if event.step in ("stage", "install") and event.state == FAILED
        }
        # The last event of an output counts, but "cached" says less than another one.
        last: dict[tuple[str, str], Event] = {}
        for event in found:
            key = (event.stage, event.output)
            is_output = event.step == "output" and event.state != PLANNED
            if is_output and (event.state != CACHED or key not in last):
                last[key] = event
        states = {event.state for event in last.values()}
        if outputs and (failed or not states.isdisjoint(_UNFINISHED)):
            yield python, [_entry(*output, last, failed) for output in outputs]


def _entry(
    stage: str, name: str, last: Mapping[tuple[str, str], Event], failed: set[str]
) -> dict[str, Any]:
    """Return the entry of an output.

    If a stage failed, and no output of the stage failed or was stopped, then all its
    outputs that weren't built failed.
    """
    event = last.get((stage, name))
    states = {it.state for (of, _), it in last.items() if of == stage}
    names_failure = not states.isdisjoint(_UNFINISHED)
    if event is None:
        has_failed = stage in failed and not names_failure
        status = FAILED if has_failed else _NOT_BUILT
        return {"name": name, "stage": stage, "status": status}
    status = STOPPED if event.state == BEGUN else event.state
    known = {"version": event.version, **event.facts}
    return {**known, "name": name, "stage": stage, "status": status}
