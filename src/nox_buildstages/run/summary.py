"""The summary at the end of a run: a line with the result of each output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nox_buildstages.run.events import BEGUN, BUILT, CACHED, FAILED, PLANNED, STOPPED
from nox_buildstages.text import align, format_size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from nox_buildstages.config.cells import Cells
    from nox_buildstages.run.events import Event

_HEAD = ("output", "version", "stage", "state", "seconds", "size", "memory")
_NOT_BUILT = "not built"

_UNFINISHED = (BEGUN, FAILED, STOPPED)
"""The states of an output without a wheel. Without an end, its process was killed."""

_MUCH = 10**9
"""Bytes; the summary shows memory if a build of this run used so much."""


def render_summary(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a summary; none without entries.

    Each entry has ``name``, ``stage`` and ``status``, and ``version``, ``seconds``,
    ``size`` in bytes and ``memory`` if they are known.
    """
    rows = []
    columns = len(_HEAD) - 1
    for entry in entries:
        seconds, size = entry.get("seconds"), entry.get("size")
        memory = entry.get("memory") if entry["status"] == BUILT else None
        row = (
            *(entry["name"], entry.get("version", ""), entry["stage"]),
            entry["status"],
            "" if seconds is None else f"{seconds:.1f}",
            "" if size is None else format_size(size),
            _format_memory(**memory) if memory else "",
        )
        rows.append(row)
        if memory and memory["build"] >= _MUCH:
            columns = len(_HEAD)
    return align([it[:columns] for it in (_HEAD, *rows)] if rows else [])


def _format_memory(process: int, build: int, **_: object) -> str:
    """Return the memory of a build, and of its largest process."""
    largest = f", {format_size(process)} a process" if process != build else ""
    return f"{format_size(build)}{largest}"


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
