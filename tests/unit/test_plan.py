"""What a plan says, and how it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from nox_buildstages.builder.jobs.memory import MemoryNeed
from nox_buildstages.commands.plan import formats as plan_formats
from nox_buildstages.commands.plan.reasons import (
    Plan,
    PlannedOutput,
    plan_without_locks,
)
from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.model import Final, Output, Project, Stage
from nox_buildstages.store.history import Cause
from nox_buildstages.value import replace

ROOT = Path("/project")


def planned(
    name: str,
    *reasons: str,
    version: str = "1.0",
    python: str = "3.11",
    stage: str = "kernels",
) -> PlannedOutput:
    return PlannedOutput(
        stage=stage,
        title=stage,
        name=name,
        version=version,
        reasons=reasons,
        python=python,
    )


def test_an_output_is_cached_unless_there_is_a_reason() -> None:
    """No reason to build is what cached means."""
    assert planned("a").state == "cached"
    assert planned("a", "not built yet").state == "build"


def test_the_json_says_which_store_has_a_wheel() -> None:
    """Here, or only in the remote store."""
    outputs = (planned("a"), replace(planned("b"), remote=True))
    plan = Plan(locks="current", pythons=("3.11",), outputs=outputs)
    (one,) = document(plan, project(stage("kernels", "a", "b")))["stages"]
    assert [it["store"] for it in one["outputs"]] == ["local", "remote"]


def test_a_cause_names_the_output_that_it_befell() -> None:
    """Unless that is the one whose change is told."""
    cause = Cause(output="a", text="env X '1' → '2'")
    assert cause.explain("a") == "because env X '1' → '2'"
    assert cause.explain("b") == "because of a: env X '1' → '2'"


NEEDS: dict[str, Any] = {
    "jobs": None,
    "cores": 4,
    "memory-per-job": None,
    "memory": None,
    "timeout": None,
    "shards": 1,
    "seconds": None,
}
ANY: dict[str, Any] = {
    "machine": None,
    "runs-on": [],
    "container": None,
    "setup": None,
    "variables": {"CELL_PYTHON": "3.11"},
}


def project(*stages: Stage, pythons: tuple[str, ...] = ()) -> Project:
    return Project(
        pyproject=ROOT / "pyproject.toml",
        pythons=pythons,
        lock_dir=ROOT / "build-stages",
        wheelhouse=ROOT / "wheelhouse",
        final=Final(requirements=()),
        stages=stages,
    )


def stage(name: str, *outputs: str, needs: tuple[str, ...] = ()) -> Stage:
    return Stage(
        name=name,
        outputs=tuple(
            Output(requirement=Requirement(it), location="") for it in outputs
        ),
        dependencies=tuple(map(Requirement, needs)),
    )


def test_without_locks_everything_is_to_be_built() -> None:
    """Each output is there with the reason, its version isn't known yet."""
    plan = plan_without_locks(
        project(stage("one", "A.B==1", "c"), stage("two", "d")), "3.11"
    )
    assert [(p.stage, p.name, p.version, p.reasons) for p in plan] == [
        ("one", "a-b", "", ("not locked yet",)),
        ("one", "c", "", ("not locked yet",)),
        ("two", "d", "", ("not locked yet",)),
    ]


def document(plan: Plan, project: Project) -> Any:  # noqa: ANN401 - JSON
    return json.loads(plan_formats.format_json(plan, arrange_cells([project]), cores=4))


def test_json_has_all_that_is_known() -> None:
    """What isn't known yet, or doesn't apply, is null and not left out."""
    declared = project(stage("one", "a", "c"), stage("two", "b", needs=("a",)))
    c = replace(planned("c", stage="one"), remote=True)
    a = PlannedOutput(
        stage="one",
        title="one",
        name="a",
        version="1.0",
        reasons=("env X '1' → '2'", "y"),
        python="3.11",
        key="new",
        source="./a",
        compared="old",
        memory=MemoryNeed(size=5, origin="measured"),
    )
    b = planned("b", "not locked yet", version="", stage="two")
    plan = Plan(locks="stale", pythons=("3.11",), outputs=(a, c, b))
    assert document(plan, declared) == {
        "format": 1,
        "locks": "stale",
        "locks-changed": None,
        "stages": [
            {
                "name": "one",
                "session": "build-stage-one",
                "python": "3.11",
                "matrix": {},
                **ANY,
                "requires": [],
                **NEEDS,
                "memory-per-job": 5,
                "memory": 20,
                "outputs": [
                    {
                        "name": "a",
                        "version": "1.0",
                        "state": "build",
                        "reasons": ["env X '1' → '2'", "y"],
                        "key": "new",
                        "compared": "old",
                        "source": "./a",
                        "store": None,
                        "seconds": None,
                        "memory-per-job": 5,
                        "memory-per-job-from": "measured",
                    },
                    {
                        "name": "c",
                        "version": "1.0",
                        "state": "cached",
                        "reasons": [],
                        "key": None,
                        "compared": None,
                        "source": None,
                        "store": "remote",
                        "seconds": None,
                        "memory-per-job": None,
                        "memory-per-job-from": None,
                    },
                ],
            },
            {
                "name": "two",
                "session": "build-stage-two",
                "python": "3.11",
                "matrix": {},
                **ANY,
                "requires": ["build-stage-one"],
                **NEEDS,
                "outputs": [
                    {
                        "name": "b",
                        "version": None,
                        "state": "build",
                        "reasons": ["not locked yet"],
                        "key": None,
                        "compared": None,
                        "source": None,
                        "store": None,
                        "seconds": None,
                        "memory-per-job": None,
                        "memory-per-job-from": None,
                    }
                ],
            },
        ],
        "final": [
            {
                "session": "build-stages",
                "python": "3.11",
                "matrix": {},
                **ANY,
                "requires": ["build-stage-one", "build-stage-two"],
            }
        ],
        "preflight": [],
    }


def test_json_names_the_sessions_of_each_python() -> None:
    """As nox does: with what the table says of that Python."""
    declared = project(
        stage("one", "a"),
        stage("two", "b", needs=("a",)),
        pythons=("3.11.7", "3.12"),
    )
    outputs = tuple(
        planned(name, python=python, stage=of)
        for python in ("3.11", "3.12")
        for of, name in (("one", "a"), ("two", "b"))
    )
    plan = Plan(locks="current", pythons=("3.11", "3.12"), outputs=outputs)
    found = document(plan, declared)
    assert [(it["session"], it["requires"]) for it in found["stages"]] == [
        ("build-stage-one-3.11.7", []),
        ("build-stage-two-3.11.7", ["build-stage-one-3.11.7"]),
        ("build-stage-one-3.12", []),
        ("build-stage-two-3.12", ["build-stage-one-3.12"]),
    ]
    assert [it["session"] for it in found["final"]] == [
        "build-stages-3.11.7",
        "build-stages-3.12",
    ]
    assert [len(it["outputs"]) for it in found["stages"]] == [1, 1, 1, 1]


def test_json_names_a_python_that_is_no_version_as_nox_does() -> None:
    """Where there is one alone, it may be any name of an interpreter."""
    declared = project(stage("one", "a"), pythons=("pypy3.11",))
    plan = Plan(locks="current", pythons=("3.11",), outputs=())
    (found,) = document(plan, declared)["stages"]
    assert found["session"] == "build-stage-one-pypy3.11"


def test_schedulers_get_what_a_stage_needs() -> None:
    """Cores, bytes and seconds: of the output that needs most, and of all together."""
    declared = replace(stage("one", "a", "b"), jobs=3, timeout=60)
    outputs = [
        replace(
            planned(name, "new", stage="one"),
            memory=MemoryNeed(size=size, origin="measured"),
            seconds=seconds,
        )
        for name, size, seconds in (("a", 2_000, 10.0), ("b", 5_000, 2.5))
    ]
    plan = Plan(locks="current", pythons=("3.11",), outputs=tuple(outputs))
    (found,) = document(plan, project(declared))["stages"]
    assert [found[it] for it in NEEDS] == [3, 3, 5_000, 15_000, 60, 1, 12.5]
    plan = replace(plan, outputs=(replace(outputs[0], seconds=None, memory=None),))
    (found,) = document(plan, project(replace(declared, jobs=None)))["stages"]
    assert [found[it] for it in NEEDS] == [None, 4, None, None, 60, 1, None]
