"""The summary at the end of a run: a line with the result of each output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nox_buildstages.run.journal import BEGUN, BUILT, CACHED, CLOSED, FAILED
from nox_buildstages.text import align, format_size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from nox_buildstages.config.cells import Cells

_HEAD = ("output", "version", "stage", "state", "seconds", "size", "memory")
_NOT_BUILT = "not built"

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
    notes: Iterable[Mapping[str, Any]],
    cells: Cells,
    sessions: Collection[str] | None = None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the summaries that no session printed although something failed.

    Each is a Python, with the entries of the cells without a summary. The sessions of
    stages have no Python in their names; None stands for all.
    """
    by_python: dict[str, list[Mapping[str, Any]]] = {}
    for note in notes:
        if "python" in note:
            by_python.setdefault(note["python"], []).append(note)
    for python, found in sorted(by_python.items()):
        closed = {note["cell"] for note in found if note["state"] == CLOSED}
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
        # The last note of an output counts, but "cached" says less than another state.
        last: dict[tuple[str, str | None], Mapping[str, Any]] = {}
        for note in found:
            if note["state"] == CLOSED:
                continue
            key = (note["stage"], note.get("name"))
            if note["state"] != CACHED or key not in last:
                last[key] = note
        if outputs and any(it["state"] in (BEGUN, FAILED) for it in last.values()):
            yield python, [_entry(*output, last) for output in outputs]


def _entry(
    stage: str, name: str, last: Mapping[tuple[str, str | None], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the entry of an output.

    If a stage failed, and no output of the stage failed or was stopped, then all its
    outputs that weren't built failed.
    """
    note = last.get((stage, name), {"state": _NOT_BUILT})
    states = {
        it["state"] for (of, output), it in last.items() if of == stage and output
    }
    names_failure = not states.isdisjoint((BEGUN, FAILED))
    if note["state"] == _NOT_BUILT and (stage, None) in last and not names_failure:
        note = {"state": FAILED}
    status = "stopped" if note["state"] == BEGUN else note["state"]
    return {**note, "name": name, "stage": stage, "status": status}
