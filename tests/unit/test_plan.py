"""How a plan reads."""

from __future__ import annotations

from pathlib import Path

from packaging.requirements import Requirement

from nox_buildstages.model import Final, Output, Project, Stage
from nox_buildstages.plan import Planned, render, unlocked

ROOT = Path("/project")


def planned(name: str, *reasons: str, version: str = "1.0") -> Planned:
    return Planned(stage="kernels", name=name, version=version, reasons=reasons)


def test_an_output_is_cached_unless_there_is_a_reason() -> None:
    """No reason to build is what cached means."""
    assert planned("a").state == "cached"
    assert planned("a", "not built yet").state == "build"


def test_a_plan_is_a_table() -> None:
    """State, name, version, stage and the first reason stand below each other."""
    lines = render(
        (
            planned("a-long-name", version="2.8.3"),
            planned("a", "not built yet"),
            planned("b", "torch 1 → 2", "env X '1' → '2'", "tool cc '1' → '2'"),
        )
    )
    assert list(lines) == [
        "cached  a-long-name  2.8.3  kernels",
        "build   a            1.0    kernels  not built yet",
        "build   b            1.0    kernels  torch 1 → 2 (and 2 more)",
    ]


def test_a_plan_of_nothing_has_no_lines() -> None:
    """A project without stages is no special case."""
    assert list(render(())) == []


def stage(name: str, *outputs: str) -> Stage:
    return Stage(
        name=name,
        outputs=tuple(Output(requirement=Requirement(it), place="") for it in outputs),
    )


def test_without_locks_everything_is_to_be_built() -> None:
    """Each output is there with the reason, its version isn't known yet."""
    project = Project(
        pyproject=ROOT / "pyproject.toml",
        lock_dir=ROOT / "build-stages",
        wheelhouse=ROOT / "wheelhouse",
        final=Final(requirements=()),
        stages=(stage("one", "A.B==1", "c"), stage("two", "d")),
    )
    plan = unlocked(project)
    assert [(p.stage, p.name, p.version, p.reasons) for p in plan] == [
        ("one", "a-b", "", ("not locked yet",)),
        ("one", "c", "", ("not locked yet",)),
        ("two", "d", "", ("not locked yet",)),
    ]
    assert next(render(plan)) == "build  a-b    one  not locked yet"
    pythons = (*unlocked(project, "3.11"), *unlocked(project, "3.12"))
    assert [*render(pythons)][-1] == "build  d      two  3.12  not locked yet"
