"""Compilers of several stages at once, counted; and a stage that lacks memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.system.machine import Machine
from support.packages import make_tree, name_file
from support.pair import (
    KERNELS,
    built,
    declare,
    declare_solo,
    kernels_tree,
    planned,
)
from support.project import cores, make_project

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

COMPILERS = 4
"""Of each stage: so many that all that may run at once do."""


def declare_two(project: Project, count: Path) -> None:
    """Write two stages that don't need each other; their compilers are counted."""
    stages: list[dict[str, Any]] = []
    for name in ("left", "right"):
        settings = {"compilers": COMPILERS}
        make_tree(project.folder / name, name, "1.0", settings=settings)
        env = name_file("TINYBACKEND_COUNT", count)
        output = f"{name} @ ./{name}"
        # So little memory that cores alone matter on every machine.
        stages.append(
            {
                "name": name,
                "outputs": [output],
                "env": env,
                "memory-per-job": "1MB",
            }
        )
    requirements = ["left", "right"]
    declare(project, {"final": {"requirements": requirements}, "stage": stages})


def most(count: Path) -> int:
    """Return how many compilers ran at once, after seeing that all ended."""
    lines = count.read_text("utf-8").split()
    running = [lines[: i + 1].count("+") * 2 - i - 1 for i in range(len(lines))]
    assert running[-1] == 0
    return max(running)


@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_stages_at_once_stay_within_the_budget(
    project: Project, tmp_path: Path, number: int
) -> None:
    """However many stages build: a compiler for each core, and one for each build."""
    count = tmp_path / "counts/count"
    declare_two(project, count)
    with cores(number):
        budget = Machine().cores()
        done = project.nox("-j", "2", "-s", "build-stages")
    assert sorted(built(done)) == ["left", "right"]
    assert budget <= number
    assert most(count) <= budget + 2
    assert count.read_text("utf-8").count("+") == 2 * COMPILERS
    assert planned(project.nox("-s", "build-stages-plan")) == {
        "left": ("cached", ""),
        "right": ("cached", ""),
    }


@pytest.mark.slow
def test_two_runs_at_once_stay_within_the_budget(
    project: Project, tmp_path: Path
) -> None:
    """They share it as they share the store."""
    count = tmp_path / "counts/count"
    other = make_project(tmp_path / "other", project.env)
    shared = {"NOX_BUILDSTAGES_CACHE_DIR": str(project.store)}
    declare_two(project, count)
    declare_two(other, count)
    with cores(2), other.start("-s", "build-stage-left", env=shared) as beside:
        budget = Machine().cores()
        done = project.nox("-s", "build-stage-right")
        output = beside.communicate(timeout=60)[0]
    assert beside.returncode == 0, output
    assert built(done) == ["right"]
    assert "building left 1.0" in output
    assert most(count) <= budget + 2


def test_stage_that_runs_out_of_memory(project: Project) -> None:
    """It is built again with half the jobs, and said so."""
    tree = kernels_tree(project, faults=["memory"])
    declare_solo(project, outputs=[tree], **{"memory-per-job": "1MB"})
    with cores(2):
        if Machine().cores() == 1:
            pytest.skip("one core: nothing to halve")
        done = project.nox("-s", "build-stage-only")
    said = "kernels ran out of memory with 2 jobs; retrying with 1 job"
    assert re.search(said, done.output)
    assert project.wheels() == [KERNELS]
    declare_solo(project, outputs=[tree], jobs=1)
    assert planned(project.nox("-s", "build-stages-plan")) == {
        "kernels": ("cached", "")
    }
