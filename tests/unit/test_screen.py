"""What is written where people look."""

from __future__ import annotations

import logging
import os
import time
from io import StringIO
from typing import Any

import pytest

from nox_buildstages.run import screen as screens
from nox_buildstages.run.events import Event
from nox_buildstages.run.screen import Board, Heartbeat, LiveLine, Screen, Stream
from nox_buildstages.run.state import RunState, fold_events
from nox_buildstages.text import fit_encoding
from support.terminal import Terminal

SECONDS = 0.01


def compiling(name: str) -> RunState:
    """Return the state of a run that compiles an output."""
    return fold_events([begun("compile", name)])


def begun(step: Any, name: str = "", **facts: Any) -> Event:  # noqa: ANN401
    """Return the start of a step in this process, a second ago."""
    now = time.time() - 1
    process = os.getpid()
    return Event(
        step=step, state="begun", time=now, process=process, output=name, facts=facts
    )


def board(stream: StringIO, *, columns: int = 80, colour: bool = False) -> Board:
    """Return a board on a stream."""
    return Board(stream=stream, size=lambda: (columns, 24), colour=colour)


def screen_of(text: str) -> list[str]:
    """Return the lines that a terminal shows of a text."""
    terminal = Terminal()
    terminal.write(text)
    return [line.rstrip() for line in terminal.lines]


def shown(written: str) -> str:
    """Return what a terminal's last line shows."""
    return screen_of(written)[-1]


def test_a_live_line_is_written_over() -> None:
    """A shorter one leaves nothing of the longer one before it, and it can go."""
    stream = StringIO()
    line = LiveLine(stream=stream, columns=80)
    line.clear()
    assert stream.getvalue() == ""
    line.draw(compiling("kernels-of-a-long-name"))
    line.draw(compiling("ops"))
    assert shown(stream.getvalue()) == "ops · compiling · 1 s"
    line.clear()
    line.clear()
    assert shown(stream.getvalue()) == ""
    assert stream.getvalue().count(" " * len("ops · compiling · 1 s")) == 1
    stream.write("built\n")
    assert stream.getvalue().endswith("\rbuilt\n")


def test_a_live_line_has_no_escape_codes_and_stays_one_line() -> None:
    """So there is nothing that NO_COLOR or a dumb terminal would forbid."""
    stream = StringIO()
    line = LiveLine(stream=stream, columns=10)
    line.draw(compiling("kernels"))
    assert shown(stream.getvalue()) == "kernels ·"
    assert stream.getvalue().replace("\r", "").isprintable()


def test_a_board_is_drawn_over_and_taken_away() -> None:
    """What others print stays above it, once."""
    stream = StringIO()
    screen = board(stream)
    screen.draw(compiling("kernels"))
    assert screen_of(stream.getvalue())[1] == "     kernels  compiling   1 s"
    screen.draw(compiling("ops"))
    assert "kernels" not in "".join(screen_of(stream.getvalue()))
    stream.write("^C")  # as a terminal shows it
    screen.clear()
    assert screen_of(stream.getvalue()) == [""]
    stream.write("nox > built ops\n")
    screen.draw(compiling("models"))  # not yet: nox may still be printing
    assert screen_of(stream.getvalue()) == ["nox > built ops", ""]


def test_a_board_that_became_too_wide_is_taken_away_whole() -> None:
    """Its lines take several rows in a terminal that was made narrower."""
    size = [40, 24]
    stream = StringIO()
    screen = Board(stream=stream, size=lambda: (size[0], size[1]), colour=False)
    screen.draw(compiling("kernels"))
    rows = [len(line) for line in stream.getvalue().splitlines()]
    size[0] = 20
    screen.clear()
    assert stream.getvalue().endswith(f"\x1b[{sum(-(-it // 20) for it in rows)}A\x1b[J")


def test_a_screen_draws_while_a_session_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes room for lines of nox, and leaves the terminal to programs."""
    monkeypatch.setattr(screens, "_DELAY", SECONDS)
    monkeypatch.setattr(screens, "_QUIET", SECONDS)
    monkeypatch.setattr(Board, "interval", SECONDS)
    stream = StringIO()
    screen = board(stream)
    nox = logging.getLogger("nox")
    with screen.live():
        screen.note(begun("compile", "kernels"))
        wait_for(lambda: "kernels" in stream.getvalue())
        nox.critical("x")
        assert "kernels" not in "".join(screen_of(stream.getvalue()))
        wait_for(lambda: "kernels" in "".join(screen_of(stream.getvalue())))
        screen.note(begun("check", prints=True))
        written = stream.getvalue()
        time.sleep(5 * SECONDS)
        assert stream.getvalue() == written
    assert screen_of(stream.getvalue()) == [""]
    assert not nox.filters


def wait_for(condition: Any) -> None:  # noqa: ANN401
    """Wait until something is so."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(SECONDS / 2)


def test_a_heart_beats_after_silence() -> None:
    """What is printed in between is a sign of life as well."""
    said: list[str] = []
    heart = Heartbeat(say=said.append, every=0.0)
    heart.draw(compiling("a"))
    heart.draw(compiling("b"))
    heart.draw(RunState())
    assert said == ["a · compiling · 1 s", "b · compiling · 1 s"]
    slow = Heartbeat(say=said.append, every=60.0)
    slow.draw(compiling("c"))
    slow.output("d")
    slow.clear()
    assert len(said) == 2


def test_a_stream_hands_on_what_programs_print() -> None:
    """Its heart beats too."""
    said: list[str] = []
    stream = StringIO()
    screen = Stream(say=said.append, every=0.0, to=stream)
    screen.output("[1/2] cc a.c\n")
    screen.draw(compiling("a"))
    assert stream.getvalue() == "[1/2] cc a.c\n"
    assert said == ["a · compiling · 1 s"]


def test_a_screen_may_show_nothing() -> None:
    """Then it is only asked to."""
    screen = Screen()
    with screen.live():
        screen.note(begun("compile", "a"))
        screen.output("b")
        screen.clear()


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "✓ a → b · 𝄞"),
        ("latin-1", "+ a -> b - \\U0001d11e"),
        ("ascii", "+ a -> b - \\U0001d11e"),
        (None, "+ a -> b - \\U0001d11e"),
    ],
)
def test_a_stream_gets_what_it_can_encode(encoding: str | None, text: str) -> None:
    """Symbols have plain characters in their place."""
    assert fit_encoding("✓ a → b · 𝄞", encoding) == text
