"""The summary of a run, also if no session was left to print it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nox_buildstages.config.cells import Cells, arrange_cells
from nox_buildstages.config.project import read_cells
from nox_buildstages.run.events import Event
from nox_buildstages.run.summary import (
    missing_summaries,
    render_summary,
    summarize,
    summary_markdown,
)
from nox_buildstages.text import format_size
from nox_buildstages.value import replace

TABLE = {
    "stage": [
        {"name": "first", "outputs": ["kernels", "ops"]},
        {"name": "second", "outputs": ["models"]},
    ]
}
PYPROJECT = Path("/project/pyproject.toml")
MATRIX = {"matrix": {"arch": ["8", "9"]}}


def arranged_cells(**more: Any) -> Cells:  # noqa: ANN401 - TOML
    """Return a project of two stages with three outputs."""
    document = {"tool": {"nox-buildstages": {**TABLE, **more}}}
    return arrange_cells(read_cells(document, pyproject=PYPROJECT))


GRID = arranged_cells()


CLOSED = Event(step="summary", state="ended", python="3.11")


def note(state: str, stage: str, name: str = "", **more: Any) -> Event:  # noqa: ANN401
    """Return an event of an output or a stage, by default for Python 3.11."""
    place: Any = {"python": "3.11", "stage": stage, "output": name, **more}
    return Event(step="output" if name else "stage", state=state, **place)


def states(*notes: Any) -> list[str] | None:  # noqa: ANN401
    """Return the states of kernels, ops and models; None where there is no table."""
    tables = [table for _, table in missing_summaries(notes, GRID)]
    return [entry["status"] for entry in tables[0]] if tables else None


def built(name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the entry of an output that was built."""
    known = {"version": "1.0", "seconds": 106.4, "size": 885_400, "stage": "maps"}
    return {"name": name, "status": "built", **known, **more}


RUN = (
    Event(step="run", state="begun", time=100),
    Event(step="install", state="ended", facts={"packages": 5}),
    Event(step="import", state="ended", facts={"modules": ["a", "b"]}),
    Event(step="check", state="ended"),
    Event(step="check", state="failed"),
)

ENTRIES = [
    built("cymem", status="cached", seconds=38, stage="native"),
    built("preshed", reasons=["cython 3.2.5 → 3.3.1"]),
    built("fastdtw", seconds=0.42, stage="warp", reasons=["env A unset → '2'"]),
]


def test_a_summary_says_what_was_built_and_why() -> None:
    """With the totals, what the store saved, and what was done with the runtime."""
    summary = summarize(ENTRIES, RUN, now=212, report="wheelhouse/report.html")
    below = "runtime: 5 packages · imports: 2 · checks: 2 failed"
    assert [*render_summary(summary)] == [
        " output   version  stage   state   time        size      why",
        " cymem    1.0      native  cached  (38 s)      885.4 kB",
        " preshed  1.0      maps    built   1 min 46 s  885.4 kB  cython 3.2.5 → 3.3.1",
        " fastdtw  1.0      warp    built   0.4 s       885.4 kB  env A unset → '2'",
        f" {'─' * 76}",
        " 3 wheels, 2 built                 1 min 52 s  2.7 MB    saved 38 s",
        f" {below}   report: wheelhouse/report.html",
    ]


def test_a_terminal_with_colours_gets_symbols() -> None:
    """By state."""
    head, cached, made, *_, below = render_summary(summarize(ENTRIES, RUN), colour=True)
    assert head.startswith(" \x1b[1moutput")
    assert cached.startswith(" \x1b[2mcymem")
    assert made.startswith(" \x1b[32mpreshed")
    assert "imports: 2 \x1b[32m✓" in below
    assert "checks: 2 \x1b[31m✗" in below


def test_an_import_that_failed_has_no_number() -> None:
    """It is the first that failed; the others may work."""
    failed = Event(step="import", state="failed", facts={"modules": ["a", "b"]})
    *_, below = render_summary(summarize(ENTRIES, [failed]))
    assert below == " imports: failed"


@pytest.mark.parametrize("columns", [100, 80, 40])
def test_nothing_of_a_summary_wraps(columns: int) -> None:
    """What doesn't fit is cut, and that shows."""
    entries = [built("a", reasons=["x" * 200, "y"]), built("b" * 90)]
    table = summarize(entries, RUN, now=200, report="wheelhouse/report.html")
    for line in render_summary(table, columns=columns):
        assert len(line) < columns
    assert [*render_summary(table, columns=columns)][1].endswith("…")


def test_there_may_be_nothing_to_sum_up() -> None:
    """Without outputs there is no table."""
    assert [*render_summary(summarize([], RUN))] == []
    assert [*summary_markdown(summarize([], RUN))] == []


def test_a_step_summary_is_markdown() -> None:
    """Strangers' text has no meaning in it."""
    entry = built("kernels", reasons=["env A unset → '<b>|`x`'", "more"])
    why = "env A unset → '\\<b\\>\\|\\`x\\`', and 1 more"
    assert [*summary_markdown(summarize([entry], RUN, now=212))] == [
        "| output | version | stage | state | time | size | why |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| kernels | 1.0 | maps | built | 1 min 46 s | 885.4 kB | {why} |",
        "| 1 wheel, 1 built |  |  |  | 1 min 52 s | 885.4 kB |  |",
        "",
        "runtime: 5 packages · imports: 2 · checks: 2 failed",
    ]


@pytest.mark.parametrize(
    ("status", "build", "memory"),
    [
        ("built", 3_200_000_000, "3.2 GB, 1.0 GB a process"),
        ("built", 1_000_000_000, "1.0 GB"),
        ("built", 999_000_000, ""),
        ("cached", 3_200_000_000, ""),
    ],
)
def test_memory_is_shown_if_a_build_used_much(
    status: str, build: int, memory: str
) -> None:
    """Of a cached wheel, nobody asks."""
    used = {"process": min(build, 10**9), "build": build, "jobs": 4}
    entry = {"name": "a", "stage": "b", "status": status, "size": 1, "memory": used}
    head, row, *_ = render_summary(summarize([entry]))
    assert ("memory" in head) is bool(memory)
    assert row.partition("1 B")[2].strip() == memory


def test_a_cell_that_is_not_known_is_empty() -> None:
    """Of what was not built nobody knows the size, so there is no total."""
    entries: list[dict[str, Any]] = [
        {**built("kernels", seconds=2.06, size=956), "stage": "first"},
        {"name": "models", "stage": "second", "status": "not built"},
    ]
    assert [*render_summary(summarize(entries))] == [
        " output   version  stage   state      time   size",
        " kernels  1.0      first   built      2.1 s  956 B",
        " models            second  not built",
    ]


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (250_800, "250.8 kB"),
        (3_500_000, "3.5 MB"),
        (72_000_000_000, "72.0 GB"),
    ],
)
def test_a_size_is_said_as_people_say_it(size: int, said: str) -> None:
    """In powers of 1000."""
    assert format_size(size) == said


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ([], None),
        ([note("built", "first", "kernels")], None),
        ([Event(step="run", state="begun")], None),
        (
            [note("failed", "first", "kernels"), note("failed", "first")],
            ["failed", "not built", "not built"],
        ),
        (
            [
                note("built", "first", "kernels"),
                note("failed", "first", "ops"),
                note("failed", "first"),
            ],
            ["built", "failed", "not built"],
        ),
        ([note("failed", "first")], ["failed", "failed", "not built"]),
        (
            [note("cached", "first", "kernels"), note("failed", "first")],
            ["cached", "failed", "not built"],
        ),
        ([note("begun", "first", "ops")], ["not built", "stopped", "not built"]),
        (
            [note("begun", "first", "ops"), note("failed", "first")],
            ["not built", "stopped", "not built"],
        ),
        (
            [
                note("begun", "first", "kernels"),
                note("failed", "first", "kernels"),
                note("cached", "first", "kernels"),
            ],
            ["failed", "not built", "not built"],
        ),
        (
            [
                note("cached", "first", "kernels"),
                note("cached", "first", "ops"),
                note("built", "second", "models"),
                note("failed", "final"),
            ],
            ["cached", "cached", "built"],
        ),
        (
            [
                note("failed", "first"),
                CLOSED,
            ],
            None,
        ),
    ],
    ids=[
        *(
            "nothing",
            "well",
            "said",
            "output",
            "other",
            "stage",
            "stored",
            "stopped",
            "late",
        ),
        *("rebuilt", "final", "closed"),
    ],
)
def test_a_summary_is_missing(notes: list[Any], said: list[str] | None) -> None:
    """Something failed or was stopped, and no session printed the summary."""
    assert states(*notes) == said


def test_each_python_has_its_table() -> None:
    """One may be closed, and another left open."""
    notes = [
        note("failed", "second", "models", python="3.12", version="1.0"),
        note("built", "second", "models"),
        CLOSED,
    ]
    assert [*missing_summaries(notes, GRID)] == [
        (
            "3.12",
            [
                {"name": "kernels", "stage": "first", "status": "not built"},
                {"name": "ops", "stage": "first", "status": "not built"},
                {
                    "name": "models",
                    "stage": "second",
                    "status": "failed",
                    "version": "1.0",
                },
            ],
        )
    ]


def test_a_cell_that_has_its_table_is_left_out() -> None:
    """Of what cells share, another one may still tell."""
    second = {"name": "second", "outputs": ["models"], "env": {"A": "{arch}"}}
    cells = arranged_cells(**MATRIX, stage=[TABLE["stage"][0], second])
    notes = [
        note("failed", "second(arch=9)", "models"),
        note("built", "first", "kernels"),
        replace(CLOSED, cell="arch=8"),
    ]
    ((_, table),) = missing_summaries(notes, cells)
    assert [(it["stage"], it["name"], it["status"]) for it in table] == [
        ("first", "kernels", "built"),
        ("first", "ops", "not built"),
        ("second(arch=9)", "models", "failed"),
    ]


def test_what_was_not_asked_for_is_left_out() -> None:
    """Of one cell alone, nobody waits for the others."""
    second = {"name": "second", "outputs": ["models"], "env": {"A": "{arch}"}}
    cells = arranged_cells(**MATRIX, stage=[TABLE["stage"][0], second])
    sessions = {"build-stage-first", "build-stage-second(arch=9)"}
    notes = [note("failed", "first", "kernels")]
    ((_, table),) = missing_summaries(notes, cells, sessions)
    assert [(it["stage"], it["name"]) for it in table] == [
        ("first", "kernels"),
        ("first", "ops"),
        ("second(arch=9)", "models"),
    ]
