"""What the board and the line of a session show, from events."""

from __future__ import annotations

from typing import Any

import pytest

from nox_buildstages.run.board import draw_board, draw_line, format_left
from nox_buildstages.run.events import Event
from nox_buildstages.run.state import RunState, fold_events

NATIVE = {"stage": "native", "output": "murmurhash", "version": "1.0.16"}
MAPS = {"stage": "maps", "output": "preshed", "version": "3.0.15"}
WARP = {"stage": "warp", "output": "fastdtw", "version": "0.3.4"}


def event(step: Any, state: str, time: float, place: Any = None, **facts: Any) -> Event:  # noqa: ANN401
    """Return an event of process 1, or of another one."""
    return Event(
        **{"process": 1, **(place or {})},
        step=step,
        state=state,
        time=time,
        facts=facts,
    )


def planned(place: Any, expected: float | None = None, **facts: Any) -> Event:  # noqa: ANN401
    """Return what is known of an output before it is built, on two cores."""
    known = {} if expected is None else {"expected": expected, "cores": 2, "jobs": 2}
    return event("output", "planned", 0, place, **{**known, **facts})


def run(*events: Event, parallel: bool = False) -> RunState:
    """Return the state of a run that began at 0, with a wheel built and one cached."""
    cymem = {"stage": "native", "output": "cymem", "version": "2.0.16"}
    return fold_events(
        [
            event("run", "begun", -0.5, sessions=[], parallel=parallel),
            planned(cymem, 38, is_stored=True),
            planned(NATIVE, 25),
            planned(MAPS, 100, requires=["native"]),
            planned(WARP, 60),
            event("install", "planned", 0, {"stage": "final"}, imports=4, checks=1),
            event("output", "cached", 1, cymem, seconds=38, size=251_000),
            event("output", "built", 26, NATIVE, seconds=25, size=126_000),
            *events,
        ]
    )


BUILDING = (
    event("output", "begun", 26, MAPS),
    event("compile", "begun", 30, MAPS, jobs=2),
    event(
        *("compile", "running", 70, MAPS),
        steps="2/3 files",
        part=2 / 3,
        left=52,
        memory=410_000_000,
        files=("src/preshed/maps.cpp",),
    ),
    event("wait", "begun", 27, {**WARP, "process": 2}, reason="cores"),
)


def test_the_board_has_a_line_for_each_output() -> None:
    """With how far it is, and what it waits for; a second one for what is compiled."""
    left = "1 min 12 s, about 1 min 50 s left"
    assert draw_board(run(*BUILDING), 72, columns=100) == [
        f"{' build-stages   2 of 4 done · 1 running · 1 waiting':<66}{left}",
        "   native  cymem 2.0.16                 cached   saves 38 s",
        "   native  murmurhash 1.0.16            built    25 s · 126.0 kB",
        "   maps    preshed 3.0.15               2/3 files   46 s, ~50 s left",
        "           src/preshed/maps.cpp · 1 of 2 jobs · 410.0 MB",
        "   warp    fastdtw 0.3.4                waits for cores",
        "   final   install, 4 imports, 1 check",
    ]


@pytest.mark.parametrize("columns", [100, 80, 50, 12])
def test_nothing_wraps(columns: int) -> None:
    """However narrow a terminal is."""
    for colour in (False, True):
        for line in draw_board(run(*BUILDING), 72, columns=columns, colour=colour):
            assert len(visible(line)) < columns
    assert len(draw_line(run(*BUILDING), 72, columns=columns, process=1)) < columns


def visible(line: str) -> str:
    """Return a line without colours."""
    for code in ("0", "1", "2", "31", "32", "33", "36"):
        line = line.replace(f"\x1b[{code}m", "")
    assert line.isprintable()
    return line


@pytest.mark.parametrize(
    ("columns", "bar"), [(100, "━" * 15 + "╌" * 7), (80, "━" * 6 + "╌" * 3), (70, "")]
)
def test_a_terminal_with_colours_gets_symbols_and_a_bar(columns: int, bar: str) -> None:
    """The bar is as long as there is room for."""
    lines = draw_board(run(*BUILDING), 72, columns=columns, colour=True)
    row = visible(lines[3])
    assert row.startswith(" ⠇ maps    preshed 3.0.15")
    assert row.count("━") + row.count("╌") == len(bar)
    assert bar in row
    assert lines[1].startswith(" \x1b[2m✓")
    assert lines[2].startswith(" \x1b[32m✓")
    assert lines[5].startswith(" \x1b[33m◌")


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        (9, ["cymem", "murmurhash", "preshed", "fastdtw", "install"]),
        (6, ["preshed", "fastdtw", "install"]),
        (5, ["preshed", "fastdtw"]),
        (3, []),
        (1, []),
    ],
)
def test_a_low_terminal_shows_what_moves(rows: int, shown: list[str]) -> None:
    """And how many rows there is no room for."""
    lines = draw_board(run(*BUILDING), 72, columns=100, rows=rows)
    assert len(lines) < max(rows, 3)
    names = ["cymem", "murmurhash", "preshed", "fastdtw", "install"]
    assert [it for it in names if f" {it}" in "\n".join(lines)] == shown
    if len(shown) < len(names):
        assert lines[-1] == f"   and {len(names) - len(shown)} more"


def test_steps_of_no_output_have_lines_too() -> None:
    """Resolving, asking a build backend, making an environment."""
    state = run(
        event("lock", "begun", 60),
        event("ask", "begun", 62, {"stage": "maps", "output": "other"}),
        event("environment", "begun", 64, {"stage": "maps"}, packages=12),
    )
    lines = draw_board(state, 72, columns=100)
    assert [" ".join(line.split()) for line in lines][1] == "resolving 12 s"
    text = "\n".join(lines)
    assert "making the environment · 12 packages   8 s" in text


def test_nothing_is_drawn_of_a_run_in_which_nothing_happens() -> None:
    """A board appears with the first thing that takes time."""
    state = fold_events([event("run", "begun", 0), event("session", "begun", 0)])
    assert draw_board(state, 5, columns=100) == []
    assert draw_line(state, 5, columns=100, process=1) == ""


@pytest.mark.parametrize(
    ("process", "line"),
    [
        (
            1,
            "preshed 3.0.15 · 2/3 files · 46 s, ~50 s left · run 2 of 4, ~1 min 50 s",
        ),
        (2, "fastdtw 0.3.4 · waits for cores · run 2 of 4, ~1 min 50 s"),
        (3, ""),
    ],
)
def test_a_session_says_the_same_in_one_line(process: int, line: str) -> None:
    """Its own output first, the whole run last."""
    state = run(*BUILDING, parallel=True)
    assert draw_line(state, 72, columns=100, process=process) == line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "~10 s"),
        (52, "~50 s"),
        (57, "~1 min"),
        (100, "~1 min 40 s"),
        (620, "~10 min"),
        (7000, "~1 h 57 min"),
    ],
)
def test_an_estimate_is_round(seconds: float, text: str) -> None:
    """To ten seconds, or to a minute."""
    assert format_left(seconds) == text


@pytest.mark.parametrize(
    ("events", "parallel", "left"),
    [
        ((), False, 160.0),
        ((), True, 160.0),  # 100 and 60 seconds of both cores
        ((planned(WARP, 60, jobs=1),), True, 130.0),
        ((planned(MAPS, 100, jobs=1), planned(WARP, 60, jobs=1)), True, 100.0),
        ((planned(MAPS),), False, None),
        ((event("output", "failed", 30, MAPS),), False, 60.0),
        ((event("output", "begun", 30, MAPS),), False, 118.0),
        ((event("output", "begun", -60, MAPS),), False, None),
    ],
)
def test_the_run_takes_as_long_as_its_stages(
    events: tuple[Event, ...], *, parallel: bool, left: float | None
) -> None:
    """By the last build of each output; nobody guesses if one isn't known."""
    assert run(*events, parallel=parallel).seconds_left(72) == left


def test_what_strangers_print_is_harmless() -> None:
    """A file may be named as a terminal's command."""
    file = event("compile", "running", 70, MAPS, files=("a\x1b]0;x\x07\r.cpp", "b.cpp"))
    lines = draw_board(run(*BUILDING, file), 72, columns=100)
    assert "a?]0;x??.cpp and 1 more · 2 of 2 jobs" in lines[4]
    assert all(line.isprintable() for line in lines)
