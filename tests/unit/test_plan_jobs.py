"""What a cell's stages are to the jobs that build them."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nox_buildstages.commands.plan.jobs import find_levels, relative_path
from nox_buildstages.config.graph import arrange
from nox_buildstages.model import Final, Output, Project, Stage

ROOT = Path("/project")


def project(*stages: Stage) -> Project:
    return Project(
        pyproject=ROOT / "pyproject.toml",
        lock_dir=ROOT / "build-stages",
        wheelhouse=ROOT / "wheelhouse",
        final=Final(requirements=()),
        stages=stages,
    )


def stage(name: str, *needs: str) -> Stage:
    output = Output(requirement=Requirement(f"{name}-lib"), location="")
    return Stage(name=name, outputs=(output,), needs=needs)


@pytest.mark.parametrize(
    ("stages", "levels"),
    [
        ((), ()),
        ((stage("a"), stage("b")), (("a", "b"),)),
        ((stage("b", "a"), stage("a")), (("a",), ("b",))),
        (
            (stage("a"), stage("b", "a"), stage("c", "a", "b"), stage("d")),
            (("a", "d"), ("b",), ("c",)),
        ),
    ],
)
def test_a_stage_is_a_level_above_all_that_it_requires(
    stages: tuple[Stage, ...], levels: tuple[tuple[str, ...], ...]
) -> None:
    """So all of a level can be built at once, on different machines."""
    found = find_levels(arrange(project(*stages)))
    assert tuple(tuple(it.name for it in level) for level in found) == levels


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (ROOT / "wheelhouse" / "3.11", "wheelhouse/3.11"),
        (ROOT, "."),
        (ROOT.parent / "wheels", "../wheels"),
    ],
)
def test_a_folder_is_named_from_the_project(folder: Path, name: str) -> None:
    """As a workflow puts it behind its working directory."""
    assert relative_path(project(), folder) == name
