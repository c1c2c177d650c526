"""Outputs whose source is named outright: folders, files, the project itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.packages import make_sdist, make_tree
from support.pair import built, declare, declare_solo, refused

if TYPE_CHECKING:
    from support.project import Project


@pytest.mark.slow
def test_an_output_is_its_stages_wheel_whoever_names_its_source(
    project: Project,
) -> None:
    """A project depends on a folder or a commit by URL, and builds it in a stage."""
    make_tree(project.folder / "vendor/alpha", "alpha", "1.0")
    make_tree(project.folder / "vendor/beta", "beta", "1.0", requires=["alpha"])
    alpha = "alpha @ ./vendor/alpha"
    declare(
        project,
        {
            "constraints": [alpha],
            "final": {"requirements": [alpha, "beta"]},
            "stage": [
                {"name": "a", "outputs": [alpha]},
                {
                    "name": "b",
                    "dependencies": [alpha],
                    "outputs": ["beta @ ./vendor/beta"],
                },
            ],
        },
    )
    assert built(project.nox("-s", "build-stages")) == ["alpha", "beta"]


def test_the_project_itself_is_an_output(project: Project) -> None:
    """What we write into it is no part of its source, ignored by git or not."""
    declare_solo(project, outputs=["kernels @ ."])
    text = project.pyproject.read_text("utf-8")
    make_tree(project.folder, "kernels", "1.0")
    with project.pyproject.open("a", encoding="utf-8") as pyproject:
        pyproject.write(f"\n{text}")
    assert built(project.nox("-s", "build-stage-only")) == ["kernels"]
    assert built(project.nox("-s", "build-stage-only")) == []


def test_a_folder_that_is_not_there_is_told_by_its_place(project: Project) -> None:
    """Before anything is asked of uv."""
    declare_solo(project, outputs=["kernels @ ./nowhere"])
    output = refused(project, "-s", "build-stages-lock")
    place = "tool.nox-buildstages.stage[0].outputs[0]: kernels: "
    assert f"{place}{project.folder / 'nowhere'} doesn't exist" in output
    assert "correct the path" in output


def test_a_file_that_is_not_the_one_that_is_named_is_refused(project: Project) -> None:
    """Both hashes are shown, and where the wrong one stands."""
    make_sdist(project.folder, "kernels", "1.0")
    wrong = "0" * 64
    outputs = [f"kernels @ ./kernels-1.0.tar.gz#sha256={wrong}"]
    declare_solo(project, outputs=outputs)
    output = refused(project, "-s", "build-stages-lock")
    assert f"expected sha256 {wrong}" in output
    assert "tool.nox-buildstages.stage[0].outputs[0]" in output


def test_a_folder_of_another_project_is_told_when_locking(project: Project) -> None:
    """Not after hours of building."""
    make_tree(project.folder / "vendor/alpha", "alpha", "1.0")
    declare_solo(project, outputs=["kernels @ ./vendor/alpha"])
    output = refused(project, "-s", "build-stages-lock")
    assert "kernels (stage only): its source is the source of alpha" in output
