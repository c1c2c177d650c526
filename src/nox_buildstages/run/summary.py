"""The closing table: a line for each output, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from nox_buildstages.run.journal import BEGUN, CACHED, CLOSED, FAILED
from nox_buildstages.text import align, format_size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from nox_buildstages.config.cells import Cells

_HEAD = ("output", "version", "stage", "state", "seconds", "size")
_WORDS = {BEGUN: "stopped"}
_NOT_BUILT = "not built"

_Notes: TypeAlias = "Mapping[tuple[str, str | None], Mapping[str, Any]]"
"""By stage and output; None for the stage as a whole."""


def rendered(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the table.

    Args:
        entries: Each with ``name``, ``stage``, ``status``, and where they are known
            ``version``, ``seconds``, ``size`` in bytes.
    """
    return align([_HEAD, *map(_row, entries)])


def left_open(
    notes: Iterable[Mapping[str, Any]],
    cells: Cells,
    sessions: Collection[str] | None = None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the tables that no session has printed, though something went wrong.

    Args:
        notes: Of the journal of a run that is over.
        cells: The cells of the project.
        sessions: Of those stages that were to be, without a Python; None for all.

    Yields:
        The Python of each table, and its entries: of the cells that have no table.
    """
    by_python: dict[str, list[Mapping[str, Any]]] = {}
    for note in notes:
        if "python" in note:
            by_python.setdefault(note["python"], []).append(note)
    for python, found in sorted(by_python.items()):
        closed = {note["cell"] for note in found if note["state"] == CLOSED}
        outputs = _outputs(cells, closed, sessions)
        last = _last(note for note in found if note["state"] != CLOSED)
        if outputs and any(it["state"] in (BEGUN, FAILED) for it in last.values()):
            yield python, [_entry(*output, last) for output in outputs]


def _outputs(
    cells: Cells, closed: Collection[str], sessions: Collection[str] | None
) -> list[tuple[str, str]]:
    """Return stage and name of each output of the cells that aren't closed, once."""
    found = (
        (cell.project.stage_label(stage.name), output.name)
        for cell in cells.cells
        if str(cell.project.cell) not in closed
        for stage in cell.graph.order
        if sessions is None or cell.session(stage) in sessions
        for output in stage.outputs
    )
    return [*dict.fromkeys(found)]


def _last(notes: Iterable[Mapping[str, Any]]) -> _Notes:
    """Return the last note of each output; that it is in the store says least."""
    last: dict[tuple[str, str | None], Mapping[str, Any]] = {}
    for note in notes:
        output = (note["stage"], note.get("name"))
        if note["state"] != CACHED or output not in last:
            last[output] = note
    return last


def _entry(stage: str, name: str, last: _Notes) -> dict[str, Any]:
    """Return the entry of an output.

    Where a stage failed and none of its outputs did, or was stopped, each that was
    not built has.
    """
    note = last.get((stage, name), {"state": _NOT_BUILT})
    parts = {it["state"] for (of, part), it in last.items() if of == stage and part}
    is_told = not parts.isdisjoint((BEGUN, FAILED))
    if note["state"] == _NOT_BUILT and (stage, None) in last and not is_told:
        note = {"state": FAILED}
    status = _WORDS.get(note["state"], note["state"])
    return {**note, "name": name, "stage": stage, "status": status}


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    seconds, size = entry.get("seconds"), entry.get("size")
    return (
        entry["name"],
        entry.get("version", ""),
        entry["stage"],
        entry["status"],
        "" if seconds is None else f"{seconds:.1f}",
        "" if size is None else format_size(size),
    )
