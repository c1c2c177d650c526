"""The table corrects what a wheel requires: in METADATA, locks, key and statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.stage import find_results
from nox_buildstages.commands.release.provenance import build_statement
from nox_buildstages.wheels.wheel import read_wheel, verify_record
from support.packages import make_sdist
from support.pair import KERNELS, Pair, publish, recipe
from support.sessions import Sessions, run_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.index import Index
    from support.project import Project

RULES = {"add": ["tensorlib=={tensorlib}"], "remove": ["absent"]}


def correct(project: Project, rules: Mapping[str, object]) -> None:
    """Write a project that corrects what its first wheel requires."""
    package = {"kernels": {"requires-dist": rules}}
    Pair(top={"constraints": ["tensorlib<2"], "package": package}).write(project)


@pytest.mark.slow
def test_a_wheel_requires_what_the_table_says(project: Project, index: Index) -> None:
    """A requirement that nothing satisfies is removed, and another one is added.

    If the corrections change, the plan says so.
    """
    publish(index)
    requires = ["tensorlib", "absent>1; python_version > '3'"]
    make_sdist(index.folder, "kernels", "1.0", requires=requires)
    correct(project, RULES)
    run_session(project, "build-stage-first")
    wheel = project.wheelhouse / KERNELS
    verify_record(wheel)
    assert read_wheel(wheel).requires_dist == ("tensorlib", "tensorlib==1.0")
    (locked,) = project.lock("first")["tool"]["nox-buildstages"]["outputs"]
    assert locked["requires-dist"] == ["tensorlib", "tensorlib==1.0"]
    corrections = ["+ tensorlib=={tensorlib}", "- absent"]
    assert recipe(project, "kernels")["requires_dist"] == corrections
    workspace = Sessions(project=project).open("build-stage-first")
    context = workspace.context(workspace.read_locks())
    (result,) = find_results(context, context.graph.stages["first"])
    statement = build_statement(result, log_sha256="", locations={})
    parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["requires-dist"] == corrections

    correct(project, {**RULES, "add": []})
    run_session(project, "build-stages-lock")
    planned = run_session(project, "build-stages-plan").output
    assert "requires-dist: + tensorlib=={tensorlib} was removed" in planned
