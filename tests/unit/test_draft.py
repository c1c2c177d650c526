"""Drafts of a proposal: names of stages, their order, and failures without a way."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.commands.init.draft import Draft, ProposedOutput, add_dependency
from nox_buildstages.errors import ProposalError
from nox_buildstages.model import Final, Output, Project, Stage

OPS = canonicalize_name("ops")
GLUE = canonicalize_name("glue")


def draft(*stages: str) -> Draft:
    """Return a draft that proposes ops, in a project with these stages."""
    kernels = Output(requirement=Requirement("kernels"), location="")
    folder = Path("/project")
    project = Project(
        pyproject=folder / "pyproject.toml",
        lock_dir=folder / "build-stages",
        wheelhouse=folder / "wheelhouse",
        final=Final(requirements=()),
        stages=tuple(Stage(name=name, outputs=(kernels,)) for name in stages),
    )
    output = ProposedOutput(requirement=Requirement("ops"), reason="no wheel")
    return Draft(declared=project, outputs=(output,))


@pytest.mark.parametrize(
    ("taken", "name"),
    [((), "ops"), (("ops",), "ops-2"), (("ops", "ops-2"), "ops-3")],
)
def test_a_stage_has_a_name_of_its_own(taken: tuple[str, ...], name: str) -> None:
    """The name of its first output, with a number if another stage has the name."""
    assert [name for name, _ in draft(*taken).stages()] == [name]


def test_an_output_comes_before_what_needs_it() -> None:
    """Its name goes into the dependencies, of a proposed stage or of a declared one."""
    ordered = add_dependency(draft("first"), "ops", GLUE)
    assert ordered is not None
    ordered = add_dependency(ordered, "first", GLUE)
    assert ordered is not None
    wanted = [stage.dependencies for stage in ordered.project().stages]
    assert wanted == [(Requirement("glue"),)] * 2


def test_nothing_is_learnt_twice() -> None:
    """If the dependency is there already, the failure has another cause."""
    for stage in ("ops", "first"):
        once = add_dependency(draft("first"), stage, GLUE)
        assert once is not None
        assert add_dependency(once, stage, GLUE) is None
    assert add_dependency(draft(), "final", GLUE) is None


def test_what_needs_itself_is_no_use() -> None:
    """No order helps."""
    with pytest.raises(ProposalError, match="its build requires ops itself"):
        add_dependency(draft(), "ops", OPS)
