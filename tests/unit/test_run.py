"""What the sessions of one run share."""

from __future__ import annotations

from nox_buildstages.run.run import Run


def test_a_question_is_asked_once() -> None:
    """The first answer is remembered, until answers of its kind are forgotten."""
    run = Run(id="1-a")
    answers = iter(range(9))
    assert run.once(("lock", "a"), lambda: next(answers)) == 0
    assert run.once(("lock", "a"), lambda: next(answers)) == 0
    assert run.once(("lock", "b"), lambda: next(answers)) == 1
    assert run.once(("python", "a"), lambda: next(answers)) == 2
    run.forget("lock")
    assert run.once(("lock", "a"), lambda: next(answers)) == 3
    assert run.once(("python", "a"), lambda: next(answers)) == 2
