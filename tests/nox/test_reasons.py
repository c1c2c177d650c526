"""The plan says why, all the way down, to people and to programs."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support.packages import make_sdist, make_tinybackend, make_wheel
from support.pair import Pair, built, declare, entry, kernels_tree, planned, publish

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

PLAN = ("-s", "build-stages-plan")
FIRST = "the wheel kernels of stage first is built first because"

TEXT = str
TEXT_OR_NULL = (str, type(None))
NUMBER_OR_NULL = (int, float, type(None))
SESSION = {
    "session": TEXT,
    "python": TEXT,
    "matrix": {},
    "machine": TEXT_OR_NULL,
    "runs-on": [TEXT],
    "container": TEXT_OR_NULL,
    "setup": TEXT_OR_NULL,
    "variables": {"CELL_PYTHON": TEXT},
    "requires": [TEXT],
}

SHAPE: dict[str, Any] = {
    "format": int,
    "locks": TEXT,
    "locks-changed": TEXT_OR_NULL,
    "stages": [
        {
            "name": TEXT,
            **SESSION,
            "jobs": NUMBER_OR_NULL,
            "cores": int,
            "memory-per-job": NUMBER_OR_NULL,
            "memory": NUMBER_OR_NULL,
            "timeout": NUMBER_OR_NULL,
            "shards": int,
            "seconds": NUMBER_OR_NULL,
            "outputs": [
                {
                    "name": TEXT,
                    "version": TEXT_OR_NULL,
                    "state": TEXT,
                    "reasons": [TEXT],
                    "key": TEXT_OR_NULL,
                    "compared": TEXT_OR_NULL,
                    "source": TEXT_OR_NULL,
                    "store": TEXT_OR_NULL,
                    "seconds": NUMBER_OR_NULL,
                    "memory-per-job": NUMBER_OR_NULL,
                    "memory-per-job-from": TEXT_OR_NULL,
                }
            ],
        }
    ],
    "final": [SESSION],
    "preflight": [
        {"check": TEXT, "state": TEXT, "text": TEXT, "hint": TEXT, "outputs": [TEXT]}
    ],
}
"""Of the JSON, format 1, with all fields that it has."""


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


def run(project: Project) -> list[str]:
    return built(project.nox("-s", "build-stages"))


def plan(project: Project, *words: str) -> dict[str, tuple[str, str]]:
    return planned(project.nox(*PLAN, *words))


def document(project: Project, *words: str) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON on stdout, seen to be of the right shape."""
    found = json.loads(project.nox(*PLAN, "--", "--json", *words, apart=True).output)
    check_shape(found, SHAPE, "plan")
    return found


def check_shape(value: object, shape: Any, place: str) -> None:  # noqa: ANN401 - see SHAPE
    """See that JSON has the fields of a shape, no others, and their types."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), place
        assert value.keys() == shape.keys(), place
        for name, inner in shape.items():
            check_shape(value[name], inner, f"{place}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list), place
        for index, item in enumerate(value):
            check_shape(item, shape[0], f"{place}[{index}]")
    else:
        assert isinstance(value, shape), place


def outputs(found: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {it["name"]: it for stage in found["stages"] for it in stage["outputs"]}


# Reasons


def test_each_difference_has_a_line(project: Project) -> None:
    """The first stands beside the output, the others below it."""
    Pair(second={"env": {"ARCH": "8.0", "GONE": "1"}}).write(project)
    project.prepare()
    Pair(second={"env": {"ARCH": "9.0", "NEW": "1"}}).write(project)
    lines = project.nox("-s", "build-stages-plan").output.splitlines()
    (at,) = (i for i, line in enumerate(lines) if "build   env" in line)
    reasons = [line[line.index("env ") :] for line in lines[at : at + 3]]
    assert reasons == [
        "env ARCH '8.0' → '9.0'",
        "env GONE '1' → unset",
        "env NEW unset → '1'",
    ]
    assert lines[at].index("env") == lines[at + 1].index("env")


def test_an_upgraded_build_dependency_is_named(project: Project, index: Index) -> None:
    """With both versions, for every output that is built with it."""
    Pair().write(project)
    project.prepare()
    make_tinybackend(index.folder, "2.0")
    project.nox("-s", "build-stages-lock", "--", "--upgrade-package", "tinybackend")
    found = outputs(document(project))
    upgraded = "tinybackend 1.0 → 2.0"
    assert found["models"]["reasons"][0] == upgraded
    assert found["kernels"]["reasons"] in ([], [upgraded])  # locking may have built it


@pytest.mark.slow
def test_what_changed_an_earlier_stage_is_told_down_the_line(
    project: Project, index: Index
) -> None:
    """A third stage names what befell the first, and when all is built, nothing."""
    make_sdist(index.folder, "tools", "1.0", settings={"stamp": ["models"]})
    declare_three(project, {"A": "1"})
    project.prepare()
    declare_three(project, {"A": "2"})
    second = "the wheel models of stage second is built first"
    found = outputs(document(project))
    change = "env A '1' → '2'"
    assert {name: it["reasons"] for name, it in found.items()} == {
        "kernels": [change],
        "models": [f"{FIRST} {change}"],
        "tools": [f"{FIRST} {change}", f"{second} because of kernels: {change}"],
    }
    run(project)
    assert {state for state, _ in plan(project).values()} == {"cached"}


def declare_three(
    project: Project, env: dict[str, str], kernels: str = "kernels"
) -> None:
    first = {"name": "first", "outputs": [kernels], "dependencies": ["tensorlib"]}
    models = ["kernels", "tensorlib"]
    second = {"name": "second", "outputs": ["models"], "dependencies": models}
    third = {"name": "third", "outputs": ["tools"], "dependencies": ["models"]}
    stages = [{**first, "env": env}, second, third]
    declare(project, {"final": {"requirements": ["tools"]}, "stage": stages})


@pytest.mark.slow
def test_an_earlier_wheel_that_is_built_already_has_its_cause_too(
    project: Project,
) -> None:
    """Only the first stage was built again; why is known from the store's records."""
    Pair(first={"env": {"ARCH": "8.0"}}).write(project)
    project.prepare()
    Pair(first={"env": {"ARCH": "9.0"}}).write(project)
    assert built(project.nox("-s", "build-stage-first")) == ["kernels"]
    because = "because env ARCH '8.0' → '9.0'"
    assert plan(project) == {
        "kernels": ("cached", ""),
        "models": ("build", f"the wheel kernels of stage first changed {because}"),
    }


@pytest.mark.slow
def test_the_first_cause_is_found_through_wheels_that_are_built(
    project: Project, index: Index
) -> None:
    """Though the one in between changed for no reason of its own."""
    make_sdist(index.folder, "tools", "1.0", settings={"stamp": ["models"]})
    declare_three(project, {}, kernels_tree(project, stamp=["tensorlib"]))
    project.prepare()
    project.folder.joinpath("kernels/kernels/__init__.py").write_text("NEW = 1\n")
    done = project.nox("-s", "build-stage-second")
    assert built(done) == ["kernels", "models"]
    found = outputs(document(project))
    direct, through = found["tools"]["reasons"]
    begin = "the wheel kernels of stage first changed because "
    assert direct == f"{begin}files of its folder changed"
    cause = direct.removeprefix(begin)
    assert through == (
        f"the wheel models of stage second changed because of kernels: {cause}"
    )


@pytest.mark.slow
def test_own_changes_come_before_those_of_others(project: Project) -> None:
    """What can be compared is, though an earlier wheel isn't there yet."""
    Pair(first={"env": {"A": "1"}}, second={"env": {"B": "1"}}).write(project)
    project.prepare()
    Pair(first={"env": {"A": "2"}}, second={"env": {"B": "2"}}).write(project)
    models = outputs(document(project))["models"]
    assert models["reasons"] == ["env B '1' → '2'", f"{FIRST} env A '1' → '2'"]


@pytest.mark.slow
def test_a_lost_wheelhouse_does_not_lose_the_reason(project: Project) -> None:
    """What was built last is then what the store has that differs least."""
    Pair(second={"env": {"ARCH": "8.0"}}).write(project)
    project.prepare()
    key = entry(project, "models")["key"]
    for path in project.wheelhouse.glob("*.json"):
        path.unlink()
    Pair(second={"env": {"ARCH": "9.0"}}).write(project)
    models = outputs(document(project))["models"]
    assert models["reasons"] == ["env ARCH '8.0' → '9.0'"]
    assert models["compared"] == key


def test_rebuild_is_planned(project: Project) -> None:
    """`-- --rebuild NAME` is a reason, and nothing is built by a plan."""
    Pair().write(project)
    project.prepare()
    assert plan(project, "--", "--rebuild", "models") == {
        "kernels": ("cached", ""),
        "models": ("build", "--rebuild asks for it"),
    }
    assert plan(project, "--", "--rebuild") == {
        "kernels": ("build", "--rebuild asks for it"),
        "models": ("build", "--rebuild asks for it"),
    }
    assert {state for state, _ in plan(project).values()} == {"cached"}


def test_stale_locks_with_a_wheel_of_no_stage_are_planned_with(
    project: Project,
) -> None:
    """An output that was taken away is no reason to fail."""
    Pair().write(project)
    project.prepare()
    Pair(first={"outputs": ["later"]}).write(project)
    assert plan(project) == {
        "later": ("build", "not locked yet"),
        "models": ("build", "no stage provides kernels any more"),
    }


# JSON


def test_a_plan_where_the_output_is_not_utf8(project: Project) -> None:
    """What can't be printed is escaped."""
    Pair().write(project)
    project.prepare()
    Pair(top={"package": {"kernels": {"env": {"WORD": "löslich"}}}}).write(project)
    posix = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    said = project.nox(*PLAN, env=posix).output
    assert "* build   env WORD unset -> 'l\\xf6slich'" in said


def test_json_before_anything_is_locked(project: Project) -> None:
    """It is one document on stdout; that there are no locks is told on stderr too."""
    Pair().write(project)
    found = document(project)
    assert (found["format"], found["locks"]) == (1, "missing")
    assert [it["session"] for it in found["stages"]] == [
        "build-stage-first",
        "build-stage-second",
    ]
    assert found["stages"][1]["requires"] == ["build-stage-first"]
    (final,) = found["final"]
    assert final["session"] == "build-stages"
    assert final["requires"] == ["build-stage-first", "build-stage-second"]
    for output in outputs(found).values():
        assert output["state"] == "build"
        assert output["reasons"] == ["not locked yet"]
        assert output["key"] is None


def test_json_has_the_keys_that_the_store_has(project: Project) -> None:
    """So that another system can keep each wheel under its key."""
    Pair().write(project)
    project.prepare()
    found = document(project)
    assert found["locks"] == "current"
    for name, output in outputs(found).items():
        assert output["state"] == "cached"
        assert output["reasons"] == []
        assert output["key"] == entry(project, name)["key"]
        assert output["source"] == entry(project, name)["source"]
        assert output["store"] == "local"


@pytest.mark.slow
def test_json_has_no_key_where_an_earlier_wheel_is_not_there(project: Project) -> None:
    """Nobody knows what its bytes will be; `requires` says what comes first."""
    first = {"outputs": [kernels_tree(project, stamp=["tensorlib"])]}
    Pair(first=first).write(project)
    project.prepare()
    before = entry(project, "models")["key"]
    project.folder.joinpath("kernels/kernels/__init__.py").write_text("NEW = 1\n")
    found = outputs(document(project))
    assert found["models"]["key"] is None
    assert found["models"]["compared"] == before
    (reason,) = found["models"]["reasons"]
    assert reason == f"{FIRST} files of its folder changed"
    run(project)
    found = outputs(document(project))  # a build without compilers has a key of its own
    assert found["kernels"]["key"] == entry(project, "kernels")["key"]


def test_json_with_stale_locks_says_so(project: Project, index: Index) -> None:
    """It plans with them, as the text does."""
    Pair().write(project)
    project.prepare()
    make_wheel(index.folder, "tensorlib", "3.0")
    Pair(top={"constraints": ["tensorlib<3"]}).write(project)
    found = document(project)
    assert (found["locks"], found["locks-changed"]) == ("stale", "constraints")
    assert {it["state"] for it in outputs(found).values()} == {"cached"}


def test_json_names_the_sessions_of_a_python(project: Project) -> None:
    """Each is one that nox knows by that name."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    Pair(top={"python": [version]}).write(project)
    found = document(project)
    names = [it["session"] for it in (*found["stages"], *found["final"])]
    assert names == [
        f"build-stage-first-{version}",
        f"build-stage-second-{version}",
        f"build-stages-{version}",
    ]
    listed = project.nox("--list").output
    assert all(re.search(rf"[-*] {re.escape(name)} ", listed) for name in names)
