"""The farm: eight packages, two torches, architectures and Pythons in one file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from packaging.version import Version

from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.config.project import read_cells
from nox_buildstages.model import Output, Project, Stage
from nox_buildstages.reader import parse_toml
from nox_buildstages.recipes.catalogue import recipe_for
from nox_buildstages.recipes.recipe import (
    Architectures,
    CudaLibraries,
    ForceBuild,
    ForceCuda,
)
from support.workflow import read

FARM = Path(__file__).parents[2] / "examples" / "farm"
TEXT = (FARM / "pyproject.toml").read_text("utf-8")
CELLS = arrange_cells(
    read_cells(parse_toml(TEXT), pyproject=FARM / "pyproject.toml")
).projects
OUTPUTS = [
    (project, stage, output)
    for project in CELLS
    for stage in project.stages
    for output in stage.outputs
]
BY_TORCH = {"cudart", "cublas", "cusolver", "cusparse", "nvrtc", "nvtx"}
"""Parts of CUDA that torch requires itself."""


def test_it_is_short() -> None:
    """Eight packages in eight cells need fewer than 120 lines."""
    assert len(TEXT.splitlines()) < 120
    assert [str(it.cell) for it in CELLS] == [
        f"cuda-arch={arch}, torch={torch}"
        for arch in ("8.0", "9.0")
        for torch in ("2.12", "2.13")
    ]
    assert {it.pythons for it in CELLS} == {("3.11", "3.12")}
    assert len(OUTPUTS) == 8 * len(CELLS)


@pytest.mark.parametrize(
    ("project", "stage", "output"),
    OUTPUTS,
    ids=lambda it: it.name if isinstance(it, Output) else "",
)
def test_it_says_what_the_recipes_know(
    project: Project, stage: Stage, output: Output
) -> None:
    """Each build is forced, has the architecture of its cell, and CUDA from the lock.

    A package without a variable for architectures is built once for all of them.
    """
    recipe = recipe_for(output.name)
    assert recipe is not None
    (pin,) = output.requirement.specifier
    env = {**stage.env, **project.rules(output.name).env}
    own = str(project.rules(output.name).local_version)
    for fact in recipe.facts:
        if not fact.is_about(Version(pin.version), cuda=True):
            continue
        if isinstance(fact, (ForceBuild, ForceCuda)):
            assert fact.env.items() <= env.items()
        if isinstance(fact, Architectures):
            arch = dict(project.cell.choices)["cuda-arch"]
            if fact.variable is None:
                assert arch not in str(stage.env)
                assert arch not in own
            else:
                assert env[fact.variable] == fact.spell(arch)
                assert arch in own
        if isinstance(fact, CudaLibraries):
            (toolkit,) = (it for it in stage.dependencies if it.name == "cuda-toolkit")
            assert {"nvcc", *fact.names} <= {*toolkit.extras, *BY_TORCH}
    assert "torch" in own


def test_its_workflow_calls_ours() -> None:
    """With inputs that it has, for the Pythons of the table, and all rights it asks."""
    path = FARM / ".github" / "workflows" / "wheels.yml"
    (job,) = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
    name = job["uses"].rpartition("/")[2].partition("@")[0]
    called = read(name)
    assert job["with"].keys() <= called["on"]["workflow_call"]["inputs"].keys()
    assert {*job["with"]["python-version"].split()} == {*CELLS[0].pythons}
    asked: dict[str, str] = {}
    for it in called["jobs"].values():
        asked |= it["permissions"]
    assert job["permissions"] == asked
