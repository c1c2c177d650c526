"""The report of a run: its data, its page and its trace, from lists of events."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.indexes.mask import Mask
from nox_buildstages.report.data import (
    Place,
    critical_path,
    find_critical_path,
    make_report,
    run_field,
)
from nox_buildstages.report.lanes import arrange_lanes
from nox_buildstages.report.page import render_page
from nox_buildstages.report.private import Privacy
from nox_buildstages.report.trace import render_trace
from nox_buildstages.run.events import Event
from nox_buildstages.value import replace
from support.browser import find_faults, needs_browser

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.report.data import Report
    from nox_buildstages.run.events import Step

START = 1_790_000_000.0
KEY = "ab" * 32
ENTRY = {
    "name": "torchlike",
    "version": "2.0",
    "file": "torchlike-2.0-py3-none-any.whl",
    "stage": "native",
    "key": KEY,
    "sha256": "cd" * 32,
    "size": 251_000,
    "seconds": 38.0,
    "status": "cached",
    "source": "torchlike.tar.gz",
    "environment": {"setuptools": "80.0"},
    "log": "logs/torchlike.log",
}


def event(
    time: float,
    step: Step,
    state: str,
    place: str = "",
    **facts: Any,  # noqa: ANN401 - any JSON value
) -> Event:
    """Return an event; the place is a stage, or a stage and an output."""
    stage, _, output = place.partition("/")
    return Event(
        step=step,
        state=state,
        time=START + time,
        python="3.11",
        stage=stage,
        output=output,
        version="1.0" if output else "",
        facts=facts,
    )


def span(
    start: float,
    end: float,
    step: Step,
    place: str = "",
    state: str = "ended",
    **facts: Any,  # noqa: ANN401 - any JSON value
) -> list[Event]:
    """Return the two events of a step."""
    return [
        event(start, step, "begun", place, **facts),
        event(end, step, state, place, **facts),
    ]


RUN = [
    event(0, "run", "begun", command="nox -s build-stages"),
    *span(0, 10, "lock"),
    event(10, "output", "cached", "native/torchlike", seconds=38.0, size=251_000),
    *span(10, 12, "environment", "maps"),
    *span(10, 16, "environment", "warp"),
    *span(12, 72, "compile", "maps/maplike", jobs=2),
    *span(16, 46, "wait", "warp/warplike", reason="warplike is waiting for a core"),
    *span(
        *(12, 72, "output", "maps/maplike", "built"),
        seconds=60.0,
        size=900_000,
        key=KEY,
        memory={"process": 10**9, "build": 11 * 10**8, "jobs": 2},
        hits="ccache: 3 of 4 compilations cached",
        reasons=["cython 3.2.5 → 3.3.1"],
        compared={"key": "d8b8" * 16, "seconds": 70.0, "size": 450_000, "built": START},
        slowest=[
            {"file": "quick.cpp", "seconds": 1.0},
            {
                "file": "slow.cu",
                "seconds": 50.0,
                "memory": 10**9,
                "architectures": ["90"],
            },
        ],
    ),
    *span(46, 86, "compile", "warp/warplike", jobs=1),
    *span(46, 86, "output", "warp/warplike", "built", seconds=40.0, size=1000),
    *span(86, 90, "install", "final", installed={"numpy": "2.3"}),
    *span(90, 95, "check", "final", command="python check.py"),
]
STAGES = {"native": "torchlike", "maps": "maplike", "warp": "warplike"}
REQUIRES = {
    "native": (),
    "maps": ("native",),
    "warp": (),
    "final": ("native", "maps", "warp"),
}


def place(cell: str = "", **fields: Any) -> Place:  # noqa: ANN401 - any field
    suffix = f"({cell})" if cell else ""
    return Place(
        **{
            "cell": cell,
            "python": "3.11",
            "folder": cell,
            "stages": tuple(
                (f"{it}{suffix}", (output,)) for it, output in STAGES.items()
            ),
            "final": f"final{suffix}",
            "sessions": {"build-stage-native": "native"},
            "logs": {"maplike": "logs/maplike.log"},
            "entries": (ENTRY,),
            **fields,
        }
    )


def report(
    events: Sequence[Event] = RUN,
    *places: Place,
    is_over: bool = True,
    was_killed: bool = False,
) -> Report:
    return make_report(
        events,
        places or (place(),),
        title="models",
        run="4711-ab",
        requires=REQUIRES,
        about={"command": "nox -s build-stages", "cores": 2, "memory": 24 * 10**9},
        is_over=is_over,
        was_killed=was_killed,
    )


class _Reader(HTMLParser):
    """Reads a page: its text, and what it would load or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.loads, self.tags = "", [], []  # type: ignore[var-annotated]
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            if name == "href" and value and value.startswith("#"):
                self.targets.add(value[1:])
            is_link = name == "href" and value != "data:,"
            is_elsewhere = is_link and re.match(r"[a-z]+:|//", value or "")
            if name in {"src", "srcset"} or name.startswith("on") or is_elsewhere:
                self.loads.append((tag, name, value))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.loads += re.findall(r"url\(|@import", data)
        else:
            self.text += f"{data} "


# What is read from events ------------------------------------------------------------


def test_an_output_has_state_time_size_and_reasons() -> None:
    """Also what was measured, and the earlier build."""
    found = {it.name: it for it in report().outputs}
    maps = found["maplike"]
    assert (maps.state, maps.seconds, maps.size, maps.jobs) == (
        *("built", 60.0, 900_000, 2),
    )
    assert maps.cache == (3, 4)
    assert maps.reasons == ("cython 3.2.5 → 3.3.1",)
    assert maps.compared["size"] == 450_000
    assert maps.log == "logs/maplike.log"
    assert found["torchlike"].state == "cached"


def test_a_wheel_built_in_the_run_stays_built() -> None:
    """Later sessions of the run find it in the store."""
    later = event(99, "output", "cached", "maps/maplike", seconds=60.0)
    assert report([*RUN, later]).outputs[1].state == "built"


def test_outputs_that_the_run_does_not_touch() -> None:
    """The manifest has a wheel of an earlier run, or there is none."""
    found = report(span(0, 1, "environment", "maps")).outputs
    assert [it.state for it in found] == ["kept", "not built", "not built"]
    assert (found[0].version, found[0].seconds) == ("2.0", 38.0)


@pytest.mark.parametrize(
    ("ends", "is_over", "was_killed", "states"),
    [
        (True, True, False, ("done", "built")),
        (True, False, False, ("running", "built")),
        (False, False, False, ("running", "running")),
        (False, True, False, ("stopped", "stopped")),
        (False, True, True, ("killed", "killed")),
        (True, True, True, ("killed", "built")),
    ],
)
def test_a_step_without_an_end(
    *, ends: bool, is_over: bool, was_killed: bool, states: tuple[str, str]
) -> None:
    """It is running until the run is over, then it was stopped or killed."""
    compiles = span(0, 60, "output", "maps/maplike", "built")
    events = compiles if ends else compiles[:1]
    found = report(events, is_over=is_over, was_killed=was_killed)
    assert (found.state, found.outputs[1].state) == states


def test_a_failure_has_the_text_that_the_user_saw() -> None:
    """The output, and the run, failed."""
    lines = ["error: maplike failed", "  kern.c:4:21: error: <b>x</b>", "help: fix it"]
    found = report(span(0, 5, "output", "maps/maplike", "failed", message=lines))
    assert (found.state, found.outputs[1].problem) == ("failed", tuple(lines))
    page = _Reader(render_page(found))
    assert "✗ failed: maplike" in page.text
    assert "\n".join(lines) in page.text


def test_a_failure_outside_of_outputs_is_shown() -> None:
    """As when no lock files can be made."""
    events = span(0, 5, "lock", "", "failed", message=["error: no versions"])
    found = report(events)
    assert (found.state, found.problem) == ("failed", ("error: no versions",))
    assert "error: no versions" in _Reader(render_page(found)).text


def test_a_backend_may_fail_while_lock_files_are_made() -> None:
    """Asking it without its requirements is no failure of the run."""
    events = span(0, 5, "ask", "maps/maplike", "failed", problem="no numpy")
    found = report([*events, *span(0, 6, "lock")])
    assert found.state == "done"
    assert [bar.state for it in arrange_lanes(found)[0].rows for bar in it] == ["ended"]


def test_environments_for_lock_files_are_in_their_lane() -> None:
    """They are made in the process that locks, and while it locks."""
    events = [
        *span(0, 10, "lock"),
        *span(2, 3, "environment", "maps"),
        *(replace(it, process=2) for it in span(2, 4, "environment", "warp")),
    ]
    events.sort(key=lambda it: it.time)
    lanes = arrange_lanes(report(events))
    assert [(it.label, len(it.rows)) for it in lanes] == [("locks", 1), ("warp", 1)]


def test_bars_of_a_row_do_not_overlap() -> None:
    """Builds of a stage at the same time are below each other."""
    events = [
        *span(0, 5, "compile", "maps/a"),
        *span(1, 4, "compile", "maps/b"),
        *span(5, 9, "compile", "maps/c"),
    ]
    (lane,) = arrange_lanes(report(sorted(events, key=lambda it: it.time)))
    assert [[bar.text for bar in row] for row in lane.rows] == [
        ["a 1.0", "c 1.0"],
        ["b 1.0"],
    ]


# The critical path -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "requires", "path"),
    [
        ({}, {}, ""),
        ({"a": 3}, {}, "a"),
        ({"a": 3, "b": 4}, {}, "b"),
        ({"a": 3, "b": 4, "c": 1}, {"c": "ab"}, "bc"),
        # a 2 → c 2 → e 4 takes 8; b 5 → d 2 takes 7; a → d takes 4.
        (
            {"a": 2, "b": 5, "c": 2, "d": 2, "e": 4},
            {"c": "a", "d": "ab", "e": "c"},
            "ace",
        ),
        # b took no time: it was cached.
        ({"a": 2, "c": 3}, {"b": "a", "c": "b"}, "ac"),
        # The longest single step isn't on the longest chain.
        ({"a": 4, "b": 4, "c": 4, "x": 10}, {"b": "a", "c": "b"}, "abc"),
    ],
)
def test_the_critical_path(
    weights: Mapping[str, float], requires: Mapping[str, str], path: str
) -> None:
    """It is the chain of nodes, each needing the one before, that takes longest."""
    assert critical_path(weights, requires) == tuple(path)


def test_waiting_is_not_on_the_critical_path() -> None:
    """Locks 10 s, maps 2 + 60 s and final 4 + 5 s; warp 6 + 40 s, without its wait."""
    path, seconds = find_critical_path(report())
    assert (path, seconds) == (("locks", "maps", "final"), 81)


# The page ----------------------------------------------------------------------------


def test_a_page_loads_and_runs_nothing() -> None:
    """One file: its links lead to files beside it and to places on it."""
    page = _Reader(render_page(report()))
    assert page.loads == []
    assert not {"script", "iframe", "img", "object"} & {*page.tags}
    assert page.targets
    assert page.targets <= page.ids


def test_a_page_shows_the_run() -> None:
    """Tiles, timeline, outputs with reasons and the earlier build, runtime."""
    text = _Reader(render_page(report())).text
    for shown in (
        *("✓ built, installed, checked", "1 min 35 s", "2 of 3", "built, 1 cached"),
        *("38 s", "2 cores · 24 GB", "largest build 1.1 GB", "3 of 4"),
        *("maplike 1.0 · 1 min · 2 jobs", "+100 %"),
        *("cython 3.2.5 → 3.3.1", "compared with d8b8d8b8", "before: 1 min 10 s"),
        *("locks → maps → final", "1 min 21 s of 1 min 35 s"),
        *("python check.py", "1 package installed"),
    ):
        assert shown in text, shown


def test_the_slowest_file_comes_first() -> None:
    """With seconds, memory and architectures."""
    text = _Reader(render_page(report())).text
    hours = text.partition("Where the hours went")[2]
    assert hours.index("slow.cu") < hours.index("quick.cpp")
    assert re.search(r"slow\.cu +maplike +50 s +1\.0 GB +90", hours)


def test_text_of_strangers_is_shown_as_text() -> None:
    """Names, reasons and logs can't add elements, nor hide what they say."""
    evil = "<script src=//x.example></script>\x1b[31m\u202e"
    events = span(
        *(0, 5, "output", "maps/maplike", "failed"),
        message=[evil],
        reasons=[evil],
        slowest=[{"file": evil, "seconds": 1, "architectures": [evil]}],
    )
    events += span(5, 6, "check", "final", command=evil)
    page = _Reader(render_page(report(events)))
    assert page.loads == []
    assert "script" not in page.tags
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    assert page.text.count("<script src=//x.example></script>") >= 4


def test_a_matrix_has_rows_of_outputs_and_columns_of_cells() -> None:
    """Each heading leads to the details of its cell."""
    events = span(0, 5, "output", "maps(numpy=2.4)/maplike", "built", seconds=5.0)
    found = report(events, place("numpy=2.3", entries=()), place("numpy=2.4"))
    text = _Reader(render_page(found)).text
    table = " ".join(text[text.index("Outputs") :].split())
    assert "data in numpy=2.3/build-stages.json · numpy=2.4/" in table
    assert table.startswith(
        "Outputs output numpy=2.3 numpy=2.4"
        " torchlike not built ✓ kept 2.0 38 s"
        " maplike not built ● built 1.0 5.0 s"
        " warplike not built not built"
    )


@pytest.mark.parametrize(
    ("state", "title"), [("stopped", "■ stopped"), ("killed", "■ killed")]
)
def test_a_run_without_an_end_is_marked(state: str, title: str) -> None:
    """In the title, at the output and in the timeline."""
    begun = event(0, "output", "begun", "maps/maplike")
    events = [begun, *span(0, 9, "compile", "maps/maplike")[:1]]
    events.append(event(9, "fetch", "begun", "warp/warplike"))
    page = render_page(report(events, was_killed=state == "killed"))
    assert f"<title>models: {title}</title>" in page
    assert f'class="bar compile {state}"' in page


@pytest.mark.slow
@needs_browser
def test_pages_in_a_browser(tmp_path: Path) -> None:
    """On a desktop and a phone, nothing scrolls sideways, and the console is empty."""
    message = ["error: x", f"  {'long ' * 60}", f"  {'x' * 300}", "help: y"]
    failed = span(0, 5, "output", "maps/maplike", "failed", message=message)
    begun = [event(0, "output", "begun", "maps/maplike")]
    matrix = span(0, 5, "output", "maps(numpy=2.4)/maplike", "built", seconds=5.0)
    for name, found in {
        "built": report(),
        "failed": report(failed),
        "stopped": report(begun),
        "killed": report(begun, was_killed=True),
        "running": report(begun, is_over=False),
        "matrix": report(matrix, place("numpy=2.3", entries=()), place("numpy=2.4")),
    }.items():
        (tmp_path / f"{name}.html").write_text(render_page(found), "utf-8")
    pages = sorted(it.name for it in tmp_path.iterdir())
    assert find_faults(tmp_path, pages) == []


# Other files -------------------------------------------------------------------------


def test_a_trace_has_complete_events() -> None:
    """In microseconds, with a process for each stage and a thread for each row."""
    trace = json.loads(render_trace(report()))["traceEvents"]
    names = {it["pid"]: it["args"]["name"] for it in trace if it["ph"] == "M"}
    complete = [it for it in trace if it["ph"] == "X"]
    (maps,) = (it for it in complete if it["name"] == "maplike 1.0")
    assert (maps["ts"], maps["dur"], names[maps["pid"]]) == (12e6, 60e6, "maps")
    assert {it["ph"] for it in trace} == {"M", "X"}


def test_the_manifest_gets_all_that_the_page_shows() -> None:
    """Times are ISO 8601, in UTC."""
    only = place()
    found = report(RUN, only)
    field = json.loads(json.dumps(run_field(found, found.columns[0], only)))
    assert (field["id"], field["state"]) == ("4711-ab", "done")
    assert field["started"] == "2026-09-21T14:13:20.000Z"
    assert field["requires"]["maps"] == ["native"]
    output = field["outputs"][1]
    assert output["reasons"] == ["cython 3.2.5 → 3.3.1"]
    assert output["cache"] == {"hits": 3, "compilations": 4}
    assert output["peak"]["build"] == 11 * 10**8
    assert output["ended"] == "2026-09-21T14:14:32.000Z"
    assert field["final"]["checks"][0]["command"] == "python check.py"
    assert {it["step"] for it in field["steps"]} >= {"lock", "wait", "compile"}


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("cython 3.2.5 → 3.3.1", "cython 3.2.5 → 3.3.1"),
        ("env CFLAGS unset → '-O2'", "env CFLAGS unset → '-O2'"),
        ("env CFLAGS 'secret' → '-O2'", "env CFLAGS changed to '-O2'"),
        ("env TOKEN unset → 'secret'", "env TOKEN changed"),
        ("env TOKEN 'secret' → unset", "env TOKEN changed"),
        ("env OLD 'secret' → unset", "env OLD changed"),
    ],
)
def test_a_reason_shows_only_values_of_the_table(reason: str, shown: str) -> None:
    """A value from pass-env may be secret, and any value may have come from there."""
    assert Privacy(declared={"CFLAGS"}, mask=Mask()).clean_reason(reason) == shown


def test_events_are_cleaned_of_values_from_outside() -> None:
    """And of logins in URLs, wherever they stand."""
    facts: dict[str, Any] = {
        "message": [
            "error: http 401 of https://me:pw@x.example/a",
            "used hunter2-long",
        ],
        "slowest": [{"file": "hunter2-long.c", "seconds": 1}],
    }
    privacy = Privacy(declared=(), mask=Mask.of({"TOKEN": "hunter2-long", "ON": "1"}))
    (clean,) = privacy.clean([event(1, "compile", "failed", "maps/maplike", **facts)])
    assert clean.facts == {
        "message": ["error: http 401 of https://****@x.example/a", "used $TOKEN"],
        "slowest": [{"file": "$TOKEN.c", "seconds": 1}],
    }
