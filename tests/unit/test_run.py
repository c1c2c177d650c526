"""What the sessions of one run share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run

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
