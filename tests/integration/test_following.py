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
from nox_buildstages.run.follow import LogFollower, LogTail, PreviousBuild
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run
from nox_buildstages.store.compiled import Activity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Recording:
    """What a follower says."""

    def __init__(self) -> None:
        self.facts: list[dict[str, object]] = []
        self.printed = ""

    def emit(self, **facts: object) -> None:
        """Remember the facts that are known."""
        self.facts.append({name: it for name, it in facts.items() if it})

    def show(self, text: str) -> None:
        """Remember it."""
        self.printed += text


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


def test_a_follower_says_how_far_it_is(tmp_path: Path) -> None:
    """The output is passed on as a whole."""
    path = tmp_path / "log"
    path.touch()
    said = Recording()
    follower = LogFollower(emit=said.emit, log=LogTail(path=path), show=said.show)
    follower.update()
    append(path, b"[1/2] cc a.c\n")
    follower.update()
    append(path, b"[2/2] cc b.c")
    follower.end()
    assert said.facts == [{}, {"steps": "1/2 steps", "part": 0.5}]
    assert said.printed == "[1/2] cc a.c\n[2/2] cc b.c"


def test_a_follower_knows_the_previous_build(tmp_path: Path) -> None:
    """How long it took, how many files it compiled; and the file and memory of now."""
    path = tmp_path / "log"
    path.write_bytes(b"cc -c a.c\ncc -c b.c\n")
    said = Recording()
    follower = LogFollower(
        emit=said.emit,
        log=LogTail(path=path),
        find_previous=partial(PreviousBuild, seconds=240.0, files=9),
        watch=lambda steps: Activity(
            memory=7, files=("b.c",), done=0, most=1, seconds=steps.begun
        ),
    )
    follower.update()
    follower.update()
    assert [it["steps"] for it in said.facts] == ["0/9 files", "1/9 files"]
    begin = said.facts[0]["left"]
    assert isinstance(begin, float)
    assert 230 < begin < 240
    facts = said.facts[1]
    assert (facts["part"], facts["files"], facts["memory"]) == (1 / 9, ("b.c",), 7)
    assert facts["left"] == pytest.approx(240 * 8 / 9)


def test_a_log_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    """It is no reason to end a build."""
    said = Recording()
    follower = LogFollower(emit=said.emit, log=LogTail(path=tmp_path / "log"))
    follower.update()
    follower.end()
    assert said.facts == []


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
    ends = events[1::2]
    assert ends[1].facts["message"] == ["error: x: failed (y)"]
    shown = [{k: v for k, v in it.facts.items() if k != "message"} for it in ends]
    assert [(it.output, it.state, of) for it, of in zip(ends, shown, strict=True)] == [
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
