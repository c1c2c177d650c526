"""What the sessions of one run share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run
from nox_buildstages.system.process import run_in_parallel

if TYPE_CHECKING:
    from pathlib import Path


def test_a_question_is_asked_once(tmp_path: Path) -> None:
    """The first answer is remembered, until answers of its kind are forgotten."""
    run = Run(id="1-a", journal=Journal(tmp_path))
    answers = iter(range(9))
    assert run.once(("lock", "a"), lambda: next(answers)) == 0
    assert run.once(("lock", "a"), lambda: next(answers)) == 0
    assert run.once(("lock", "b"), lambda: next(answers)) == 1
    assert run.once(("python", "a"), lambda: next(answers)) == 2
    run.forget("lock")
    assert run.once(("lock", "a"), lambda: next(answers)) == 3
    assert run.once(("python", "a"), lambda: next(answers)) == 2


def test_threads_wait_for_the_one_that_asked_first(tmp_path: Path) -> None:
    """A question is asked once, too, where several threads have it at a time."""
    run = Run(id="1-a", journal=Journal(tmp_path))
    asked: list[str] = []

    def find() -> int:
        asked.append("a")
        time.sleep(0.01)
        return len(asked)

    calls = [lambda: run.once(("lock", "a"), find)] * 4
    assert run_in_parallel(calls) == [1, 1, 1, 1]
