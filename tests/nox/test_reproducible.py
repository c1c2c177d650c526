"""Outputs are built twice and compared, member by member."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.system.files import sha256_of
from support.pair import (
    KERNELS,
    MODELS,
    Pair,
    built,
    declare_solo,
    entry,
    kernels_tree,
    publish,
    refused,
    stored,
)

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

CHECK = ("-s", "build-stages", "--", "--check-reproducible")


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


def test_equal_wheels_are_reproducible(project: Project) -> None:
    """A missing wheel is built twice, at one path, so it may contain that path."""
    tree = kernels_tree(project, stamp=["tensorlib"], record=["cwd"])
    Pair(first={"outputs": [tree]}).write(project)
    done = project.nox(*CHECK)
    assert built(done) == ["kernels", "models"]
    for name, wheel in (("kernels", KERNELS), ("models", MODELS)):
        assert f"building {name} 1.0 again" in done.output
        digest = entry(project, name)["sha256"]
        assert f"reproducible: {wheel} (sha256:{digest})" in done.output
    assert project.wheels() == [KERNELS, MODELS]
    assert stored(project) == [KERNELS, MODELS]


def test_a_wheel_in_the_store_is_built_only_once(project: Project) -> None:
    """The wheel in the store is the first of the two."""
    Pair().write(project)
    project.prepare()
    before = entry(project, "kernels")
    done = project.nox("-s", "build-stage-first", "--", "--check-reproducible")
    assert built(done) == []
    assert f"cached {KERNELS}" in done.output
    assert f"reproducible: {KERNELS}" in done.output
    assert entry(project, "kernels") == {**before, "status": "cached"}


@pytest.mark.slow
def test_a_different_wheel_fails_the_stage(project: Project) -> None:
    """The error shows the differences and both wheels; the first wheel is kept."""
    declare_solo(project, outputs=[kernels_tree(project, **{"stamp-time": True})])
    said = refused(project, *CHECK)
    assert f"stage only: not reproducible: {KERNELS}" in said
    assert re.search(
        r"^ {4}kernels/built_at.json: \d+"
        r" (bytes, with different contents|→ \d+ bytes)$",
        said,
        re.MULTILINE,
    )
    assert "RECORD" not in said
    first, second = (Path(it) for it in re.findall(r"(?:first|second): +(\S+)", said))
    assert first.name == second.name == KERNELS
    kept = entry(project, "kernels")["sha256"]
    assert sha256_of(first) == sha256_of(project.wheelhouse / KERNELS) == kept
    assert sha256_of(second) != kept
    assert built(project.nox("-s", "build-stages")) == []
    assert sha256_of(project.wheelhouse / KERNELS) == kept


def test_install_only_is_an_error(project: Project) -> None:
    """A skipped check is an error, not a success."""
    Pair().write(project)
    project.prepare()
    said = refused(project, "--install-only", *CHECK)
    assert "stage first: kernels would have to be built" in said


def test_a_plan_rejects_the_flag(project: Project) -> None:
    """The error names the sessions that accept the flag."""
    declare_solo(project, dependencies=["tensorlib"])
    said = refused(project, "-s", "build-stages-plan", "--", "--check-reproducible")
    assert "--check-reproducible is for build-stages" in said
