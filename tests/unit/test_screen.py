"""What is written where people look."""

from __future__ import annotations

from io import StringIO

from nox_buildstages.run.screen import Heartbeat, LiveLine, Screen, Stream


def shown(written: str) -> str:
    """Return what a terminal's last line shows."""
    cells: list[str] = []
    for text in written.rpartition("\n")[2].split("\r"):
        cells[: len(text)] = text
    return "".join(cells).rstrip()


def test_a_live_line_is_written_over() -> None:
    """A shorter one leaves nothing of the longer one before it."""
    stream = StringIO()
    line = LiveLine(stream=stream, columns=lambda: 80)
    line.show("kernels  compile [1/2]  59 s")
    line.show("kernels  compile [2/2]  1 min 0 s")
    line.show("kernels  env  1 s")
    assert shown(stream.getvalue()) == "kernels  env  1 s"


def test_a_live_line_is_taken_away() -> None:
    """What is printed next begins where it began; there is nothing to take twice."""
    stream = StringIO()
    line = LiveLine(stream=stream, columns=lambda: 80)
    line.clear()
    assert stream.getvalue() == ""
    line.show("kernels  env  1 s")
    line.clear()
    line.clear()
    assert shown(stream.getvalue()) == ""
    assert stream.getvalue().count(" " * len("kernels  env  1 s")) == 1
    stream.write("built\n")
    assert stream.getvalue().endswith("\rbuilt\n")


def test_a_live_line_stays_one_line() -> None:
    """It ends before the terminal does."""
    stream = StringIO()
    line = LiveLine(stream=stream, columns=lambda: 10)
    line.show("kernels  compile")
    assert shown(stream.getvalue()) == "kernels"


def test_several_programs_share_a_line() -> None:
    """It shows the one that has run longest, and how many run beside it."""
    stream = StringIO()
    line = LiveLine(stream=stream, columns=lambda: 80)
    line.show_one("a", "kernels  compile  9 s")
    line.show_one("b", "models  compile  1 s")
    assert shown(stream.getvalue()) == "kernels  compile  9 s; 1 more"
    line.end_one("a")
    assert shown(stream.getvalue()) == ""
    line.show_one("b", "models  compile  2 s")
    assert shown(stream.getvalue()) == "models  compile  2 s"


def test_a_live_line_has_no_escape_codes() -> None:
    """So there is nothing that NO_COLOR or a dumb terminal would forbid."""
    stream = StringIO()
    line = LiveLine(stream=stream, columns=lambda: 80)
    line.show("kernels  env  1 s")
    line.clear()
    assert stream.getvalue().isprintable() is False
    assert stream.getvalue().replace("\r", "").isprintable()


def test_a_heart_beats_after_silence() -> None:
    """What is printed in between is a sign of life as well."""
    said: list[str] = []
    heart = Heartbeat(say=said.append, interval=0.0)
    heart.show("a")
    heart.show("b")
    assert said == ["a", "b"]
    slow = Heartbeat(say=said.append, interval=60.0)
    slow.show("c")
    slow.output("d")
    slow.clear()
    assert said == ["a", "b"]


def test_a_stream_hands_on_what_programs_print() -> None:
    """Its heart beats too."""
    said: list[str] = []
    stream = StringIO()
    screen = Stream(say=said.append, interval=0.0, to=stream)
    screen.output("[1/2] cc a.c\n")
    screen.show("kernels  compile [1/2]  1 s")
    assert stream.getvalue() == "[1/2] cc a.c\n"
    assert said == ["kernels  compile [1/2]  1 s"]


def test_a_screen_may_show_nothing() -> None:
    """Then it is only asked to."""
    screen = Screen()
    screen.show("a")
    screen.output("b")
    screen.clear()
