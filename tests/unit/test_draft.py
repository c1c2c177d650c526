"""A proposal while it comes to be: names, order, and when there is nothing to learn."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.commands.init.draft import Draft, Found, in_order
from nox_buildstages.errors import ProposalError
from nox_buildstages.model import Final, Output, Project, Stage

OPS = canonicalize_name("ops")
GLUE = canonicalize_name("glue")


def draft(*stages: str) -> Draft:
    """Return a draft that proposes ops, in a project with these stages."""
    output = Output(requirement=Requirement("kernels"), location="")
    folder = Path("/project")
    project = Project(
        pyproject=folder / "pyproject.toml",
        lock_dir=folder / "build-stages",
        wheelhouse=folder / "wheelhouse",
        final=Final(requirements=()),
        stages=tuple(Stage(name=name, outputs=(output,)) for name in stages),
    )
    found = Found(output=Requirement("ops"), reason="no wheel")
    return Draft(declared=project, found=(found,))


@pytest.mark.parametrize(
    ("taken", "name"),
    [((), "ops"), (("ops",), "ops-2"), (("ops", "ops-2"), "ops-3")],
)
def test_a_stage_has_a_name_of_its_own(taken: tuple[str, ...], name: str) -> None:
    """It is that of its first output where no other stage bears it."""
    assert [stage.name for stage in draft(*taken).stages()] == [name]


def test_an_output_comes_before_what_needs_it() -> None:
    """Its name goes into the dependencies, of a proposed stage or of a declared one."""
    ordered = in_order(draft("first"), "ops", GLUE)
    assert ordered is not None
    ordered = in_order(ordered, "first", GLUE)
    assert ordered is not None
    wanted = [stage.dependencies for stage in ordered.project().stages]
    assert wanted == [(Requirement("glue"),)] * 2


def test_nothing_is_learnt_twice() -> None:
    """Where it comes before already, the failure is another one."""
    for stage in ("ops", "first"):
        once = in_order(draft("first"), stage, GLUE)
        assert once is not None
        assert in_order(once, stage, GLUE) is None
    assert in_order(draft(), "final", GLUE) is None


def test_what_needs_itself_is_no_use() -> None:
    """No order helps."""
    with pytest.raises(ProposalError, match="needs itself to be built"):
        in_order(draft(), "ops", OPS)
