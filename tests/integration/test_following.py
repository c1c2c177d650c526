"""A log that grows, followed; and the journal of a run."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.errors import BuildTimeoutError, CommandError
from nox_buildstages.run import follow as following
from nox_buildstages.run.events import Event
from nox_buildstages.run.follow import LogFollower, LogTail, PreviousBuild, show_elapsed
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run
from nox_buildstages.run.screen import Screen
from nox_buildstages.store.compiled import Activity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Recording(Screen):
    """A screen that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.printed = ""
        self.cleared = 0

    def show(self, line: str) -> None:
        """Remember it."""
        self.lines.append(line)

    def output(self, text: str) -> None:
        """Remember it."""
        self.printed += text

    def clear(self) -> None:
        """Count it."""
        self.cleared += 1


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(content)


def test_a_log_is_read_line_by_line(tmp_path: Path) -> None:
    """Nothing is read twice, and no half of a letter or of a line."""
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    log = LogTail(path=path, offset=path.stat().st_size)
    assert log.read_lines() == ""
    append(path, "[1/2] é\n[2/".encode())
    assert log.read_lines() == "[1/2] é\n"
    assert log.read_lines() == ""
    append(path, "2] é".encode()[:-1])
    assert log.read_lines() == ""
    append(path, "é".encode()[-1:])
    assert log.read_rest() == "[2/2] é"
    assert log.read_rest() == ""


def test_a_log_is_read_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of it there is, and however long its lines are."""
    monkeypatch.setattr(following, "_CHUNK", 4)
    path = tmp_path / "log"
    path.write_bytes(b"abcdefgh\nij\n")
    log = LogTail(path=path)
    assert [log.read_lines() for _ in range(4)] == ["abcd", "efgh", "\nij\n", ""]


def test_a_follower_tells_how_far_it_is(tmp_path: Path) -> None:
    """What is printed is handed on as a whole."""
    path = tmp_path / "log"
    path.touch()
    screen = Recording()
    follower = LogFollower(
        name="kernels", phase="compile", screen=screen, log=LogTail(path=path)
    )
    follower.update()
    append(path, b"[1/2] cc a.c\n")
    follower.update()
    append(path, b"[2/2] cc b.c")
    follower.end()
    assert screen.lines == ["kernels  compile  0 s", "kernels  compile 1/2 steps  0 s"]
    assert screen.printed == "[1/2] cc a.c\n[2/2] cc b.c"
    assert screen.cleared == 1


def test_a_follower_knows_of_the_last_time(tmp_path: Path) -> None:
    """How long it took, and how many files it compiled."""
    path = tmp_path / "log"
    path.write_bytes(b"cc -c a.c\ncc -c b.c\n")
    screen = Recording()
    follower = LogFollower(
        name="kernels",
        phase="compile",
        screen=screen,
        log=LogTail(path=path),
        find_previous=partial(PreviousBuild, seconds=240.0, files=9),
        watch=lambda steps: Activity(
            memory=7, files=("b.c",), done=0, most=1, seconds=steps.begun
        ),
    )
    follower.update()
    follower.update()
    shown = (f"kernels  compile {it}/9 files  0 s, about 4 min left" for it in (0, 1))
    assert screen.lines == [*shown]


def test_what_goes_wrong_while_following_harms_nobody(tmp_path: Path) -> None:
    """A log that is gone is no reason to end a build."""
    screen = Recording()
    log = LogTail(path=tmp_path / "log")
    follower = LogFollower(name="kernels", phase="compile", screen=screen, log=log)
    follower.update()
    follower.end()
    assert screen.lines == []
    assert screen.cleared == 1


def test_what_has_no_log_is_shown_too() -> None:
    """For how long it goes on."""
    screen = Recording()
    with show_elapsed(screen, "kernels", "env") as attend:
        attend()
    assert screen.lines == ["kernels  env  0 s"]
    assert screen.cleared == 1


def test_a_journal_has_the_end_of_each_step(tmp_path: Path) -> None:
    """The next run resumes what was stopped by Ctrl-C or by a timeout."""
    journal = Journal.of(tmp_path / "wheelhouse", "1-a")
    assert journal.events() == []
    run = Run(id="1-a", journal=journal, keeps_events=True)
    with run.step("output", {"output": "a"}, success="built", jobs=1) as facts:
        facts["size"] = 9
    for name, error, caught in (
        ("b", CommandError(command="x", reason="y"), CommandError),
        ("c", KeyboardInterrupt(), KeyboardInterrupt),
        ("d", BuildTimeoutError(problem="too late"), BuildTimeoutError),
    ):
        with pytest.raises(caught), run.step("output", {"output": name}):
            raise error
    events = journal.events()
    assert {event.state for event in events[::2]} == {"begun"}
    assert [(it.output, it.state, it.facts) for it in events[1::2]] == [
        ("a", "built", {"jobs": 1, "size": 9}),
        ("b", "failed", {"problem": "x: failed (y)"}),
        ("c", "stopped", {}),
        ("d", "stopped", {"problem": "too late"}),
    ]
    assert {event.process for event in events} == {os.getpid()}
    journal.remove()
    journal.remove()
    assert journal.events() == []


def test_a_wait_is_an_event_only_if_there_is_one(tmp_path: Path) -> None:
    """With its reason; what is free at once says nothing."""
    run = Run(id="1-a", journal=Journal.of(tmp_path, "1-a"), keeps_events=True)
    with run.wait(lambda _: nullcontext(1), "for {}") as held:
        assert held == 1
    assert run.journal.events() == []

    @contextmanager
    def wait(begin: Callable[..., None]) -> Iterator[None]:
        begin("cores")
        yield

    with run.wait(wait, "for {}", {"output": "a"}):
        pass
    assert [(it.state, it.facts) for it in run.journal.events()] == [
        ("begun", {"reason": "for cores"}),
        ("ended", {}),
    ]


def test_a_journal_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    """Half a line, and a line of another version, are left out."""
    journal = Journal.of(tmp_path, "1-a")
    first, second = Event(step="run", state="begun"), Event(step="run", state="ended")
    journal.add(first)
    events, offset = journal.read_from(0)
    assert events == [first]
    assert journal.read_from(offset) == ([], offset)
    append(journal.path, b'{"later": 1}\n')
    journal.add(second)
    append(journal.path, b'{"step"')
    assert journal.read_from(offset)[0] == [second]


def test_journals_that_killed_runs_have_left_go(tmp_path: Path) -> None:
    """After a day, by which it is sure that nobody adds to them any more."""
    left, fresh = (Journal.of(tmp_path, name) for name in ("1-a", "2-b"))
    for journal in (left, fresh):
        journal.add(Event(step="run", state="begun"))
    os.utime(left.path, (1, 1))
    Journal.of(tmp_path, "3-c").remove()
    assert [*tmp_path.iterdir()] == [fresh.path]


def test_a_journal_that_can_not_be_written_harms_nobody(tmp_path: Path) -> None:
    """Where the disk is full, why a build failed is what matters."""
    tmp_path.joinpath("wheelhouse").touch()
    journal = Journal.of(tmp_path / "wheelhouse", "1-a")
    journal.add(Event(step="run", state="begun"))
    assert journal.events() == []
