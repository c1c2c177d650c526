"""What a run says that was stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.run.events import (
    ASKED,
    BEGUN,
    BUILT,
    CACHED,
    ENDED,
    FAILED,
    PLANNED,
    STOPPED,
    Event,
)
from nox_buildstages.run.failure import describe_stop
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = ("nox", "-s", "build-stages")
RESUME = "Run `nox -s build-stages` again to resume."


def output(name: str, state: str, time: float) -> Event:
    return Event(step="output", state=state, time=time, stage="s", output=name)


def session(state: str) -> Event:
    return Event(step="session", state=state, time=2000.0, session="build-stage-s")


DONE = [output(it, state, 9.0) for it in ("a", "b") for state in (BEGUN, BUILT)]


@pytest.mark.parametrize(
    ("log", "count"),
    [
        ("[1/3] cc a.c\n[2/3] cc b.c\n", "2/3 steps done, "),
        ("gcc -c a.c -o a.o\n" * 2, "1 file compiled, "),
        ("gcc -c a.c -o a.o\n", ""),
        ("[ 44%] Building\n", "44 % done, "),
        ("", ""),
    ],
)
def test_what_is_kept_of_a_stopped_run(tmp_path: Path, log: str, count: str) -> None:
    """The last build of a killed process has no end."""
    path = tmp_path / "c.log"
    path.write_text(log, "utf-8")
    begun = Event(
        step="compile",
        state=BEGUN,
        time=100.0,
        stage="s",
        output="c",
        facts={"log": str(path)},
    )
    builds = [*DONE, output("d", CACHED, 9.0), output("c", BEGUN, 10.0), begun]
    for end in ([output("c", STOPPED, 1100.0)], [session(BEGUN)]):
        minutes = "18 min 10 s" if end[0].step == "output" else "33 min 10 s"
        assert describe_stop([*builds, *end], COMMAND, now=2000.0) == [
            f"stopped. Kept: a, b (done) and c ({count}{minutes}).",
            RESUME,
        ]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], []),
        ([*DONE, session(ENDED)], []),
        ([*DONE, session(FAILED)], []),
        ([output("a", BEGUN, 1.0), output("a", FAILED, 2.0), session(STOPPED)], []),
        ([output("a", BEGUN, 1.0), session(STOPPED)], []),  # nothing was compiled
        ([*DONE[:2], session(STOPPED)], ["stopped. Kept: a (done).", RESUME]),
    ],
)
def test_a_run_that_kept_nothing_says_nothing(
    events: list[Event], expected: list[str]
) -> None:
    """Nor does one that wasn't stopped."""
    assert describe_stop(events, COMMAND, now=2000.0) == expected


ASKED_FOR = {"reasons": [ASKED]}
AFRESH = "the same command would start from the beginning."


@pytest.mark.parametrize(
    ("words", "facts", "kept", "command"),
    [
        ("--rebuild", {}, "c (just begun)", " -- --rebuild d"),
        ("--rebuild c", {}, "c (just begun)", ""),
        ("--locked --rebuild=C", {}, "c (just begun)", " -- --locked"),
        (
            "--rebuild",
            ASKED_FOR,
            "the earlier wheel of c",
            " -- --rebuild c --rebuild d",
        ),
        (
            "--rebuild a --rebuild c --locked",
            ASKED_FOR,
            "the earlier wheel of c",
            " -- --locked --rebuild c",
        ),
    ],
)
def test_the_command_resumes_a_stopped_rebuild(
    words: str, facts: dict[str, object], kept: str, command: str
) -> None:
    """What is done isn't built again, and a new tree is resumed, not removed.

    A wheel that the store has is built again from the beginning.
    """
    begun = replace(output("c", BEGUN, 10.0), facts=facts)
    compiling = Event(step="compile", state=BEGUN, time=10.0, stage="s", output="c")
    events = [
        *(output(it, PLANNED, 1.0) for it in "abcd"),
        *(*DONE, begun, compiling, output("c", STOPPED, 10.5)),
    ]
    called = (*COMMAND, "--", *words.split())
    assert describe_stop(events, called, now=2000.0) == [
        f"stopped. Kept: a, b (done) and {kept}.",
        f"Run `nox -s build-stages{command}` to resume:",
        AFRESH,
    ]


def test_the_same_command_resumes_what_it_rebuilds() -> None:
    """Nothing else is said if only the stopped outputs are named."""
    begun = replace(output("c", BEGUN, 10.0), facts=ASKED_FOR)
    compiling = Event(step="compile", state=BEGUN, time=10.0, stage="s", output="c")
    events = [output("c", PLANNED, 1.0), begun, compiling, output("c", STOPPED, 11.0)]
    called = (*COMMAND, "--", "--rebuild", "c")
    assert describe_stop(events, called, now=2000.0) == [
        "stopped. Kept: the earlier wheel of c.",
        "Run `nox -s build-stages -- --rebuild c` again to start from the beginning.",
    ]
