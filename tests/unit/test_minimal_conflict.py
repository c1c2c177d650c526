"""The smallest conflict among requirements."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from nox_buildstages.declarations.settings import Indexes
from nox_buildstages.environments.targets import Target
from nox_buildstages.lock.explain.minimal_conflict import (
    Origin,
    Probe,
    ProbeLimitError,
    SourcedRequirement,
    minimal_conflict,
)
from nox_buildstages.lock.resolve.uv_compile import Question, Resolver
from nox_buildstages.reader import parse_toml
from nox_buildstages.system.process import Completed

if TYPE_CHECKING:
    from nox_buildstages.model import Interpreter
    from nox_buildstages.system.process import Command

NOTHING = 'lock-version = "1.0"\ncreated-by = "a test"\npackages = []\n'


@dataclass(frozen=True, kw_only=True, slots=True)
class Uv:
    """A uv for which some sets of projects, one letter each, conflict."""

    conflicts: tuple[str, ...]
    asked: list[str] = field(default_factory=list)

    def __call__(self, command: Command) -> Completed:
        """Answer what a scratch folder asks."""
        folder = cast("Path", command.cwd)
        project = parse_toml(folder.joinpath("pyproject.toml").read_text("utf-8"))
        wanted = "".join(sorted(project["project"]["dependencies"]))
        self.asked.append(wanted)
        if any(set(conflict) <= set(wanted) for conflict in self.conflicts):
            return Completed(returncode=1, stdout="", stderr="error: no")
        folder.joinpath("pylock.toml").write_text(NOTHING, "utf-8")
        return Completed(returncode=0, stdout="", stderr="")


@dataclass(frozen=True)
class Python:
    """The part of an interpreter that a question needs."""

    requires_python: str = "==3.11.*"


def probe(uv: Uv, left: int = 99) -> Probe:
    resolver = Resolver(
        uv=Path("uv"),
        python=Path(sys.executable),
        target=Target(
            interpreter=cast("Interpreter", Python()), python=Path(sys.executable)
        ),
        runner=uv,
        indexes=Indexes(),
    )
    question = Question(name="kernels", requirements=())
    return Probe(resolver=resolver, question=question, left=left)


def wishes(letters: str) -> list[SourcedRequirement]:
    return [SourcedRequirement(origin=Origin.WANTED, text=letter) for letter in letters]


@pytest.mark.parametrize(
    ("conflicts", "expected"),
    [
        (("b",), "b"),
        (("ah",), "ah"),
        (("bcf",), "bcf"),
        (("abcdefgh",), "abcdefgh"),
        (("gh", "ab"), "ab"),
        (("ah", "gh"), "ah"),
        (("ef", "dg"), "ef"),
        (("ah", "b"), "b"),
    ],
)
def test_the_conflict_in_front_is_found(
    conflicts: tuple[str, ...], expected: str
) -> None:
    """All of it is needed, and it is in the shortest conflicting part."""
    found = minimal_conflict(probe(Uv(conflicts=conflicts)), wishes("abcdefgh"))
    assert "".join(wish.text for wish in found) == expected


def test_few_questions_are_asked() -> None:
    """Far fewer than one for each requirement."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    uv = Uv(conflicts=("cx",))
    assert minimal_conflict(probe(uv), wishes(letters)) == tuple(wishes("cx"))
    assert len(uv.asked) < 16


def test_the_number_of_questions_is_limited() -> None:
    """An unknown answer counts as a conflict."""
    asking = probe(Uv(conflicts=("ab",)), left=1)
    assert asking.is_known_to_resolve(wishes("a"))
    assert not asking.is_known_to_resolve(wishes("b"))
    with pytest.raises(ProbeLimitError):
        minimal_conflict(asking, wishes("ab"))


def test_the_time_for_questions_is_limited() -> None:
    """A slow index must not delay the error."""
    uv = Uv(conflicts=())
    asking = probe(uv)
    asking.until = 0.0
    assert not asking.is_known_to_resolve(wishes("a"))
    assert uv.asked == []
