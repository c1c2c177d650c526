"""What holds for any table and any graph of stages."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, strategies as st
from packaging.requirements import Requirement

from nox_buildstages.config.graph import Graph, arrange
from nox_buildstages.config.project import read
from nox_buildstages.errors import DeclarationError
from nox_buildstages.model import FINAL, Final, Output, Project, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path("/project")
TABLE = "tool.nox-buildstages"
KEYS = [
    *("tool", "nox-buildstages", "project", "dependency-groups", "uv", "stage"),
    *("final", "package", "matrix", "python", "exclude-newer", "lock-dir"),
    *("name", "outputs", "dependencies", "needs", "env", "jobs", "timeout"),
    *("build-requires", "add", "metadata", "requires-dist", "config-settings"),
    *("requirements", "extras", "groups", "imports", "checks", "dynamic"),
    *("optional-dependencies", "include-group", "x", "X"),
]

words = st.from_regex(r"[a-z][a-z0-9]{0,7}", fullmatch=True)
stage_names = words.filter(lambda name: name != FINAL)
requirements = st.one_of(
    words,
    st.builds("{}=={}.{}".format, words, st.integers(0, 9), st.integers(0, 9)),
    st.builds("{} @ ./vendor/{}".format, words, words),
    st.builds("{} @ git+https://host/{}@main".format, words, words),
)
dependencies = st.one_of(
    requirements, st.builds("{}[{}]; python_version > '3'".format, words, words)
)
variables = st.from_regex(r"[A-Z_][A-Z0-9_]{0,7}", fullmatch=True)
env = st.dictionaries(variables, st.text().filter(lambda it: "{" not in it), max_size=2)
stages = st.fixed_dictionaries(
    {"name": stage_names, "outputs": st.lists(requirements, min_size=1, max_size=3)},
    optional={
        "dependencies": st.lists(dependencies, max_size=3),
        "needs": st.lists(stage_names, max_size=3),
        "env": env,
        "pass-env": st.lists(variables, max_size=2),
        "tools": st.lists(words, max_size=2),
    },
)
tables = st.fixed_dictionaries(
    {"stage": st.lists(stages, min_size=1, max_size=4)},
    optional={
        "python": st.just(["3.11"]),
        "lock-dir": words,
        "wheelhouse": words,
        "match-runtime": st.lists(words, max_size=2),
        "constraints": st.lists(dependencies, max_size=2),
        "build-constraints": st.lists(dependencies, max_size=2),
        "exclude-newer": st.one_of(
            st.dates(), st.datetimes(timezones=st.just(dt.timezone.utc))
        ),
        "final": st.fixed_dictionaries(
            {},
            optional={
                "requirements": st.lists(dependencies, max_size=3),
                "project": st.just(value=False),
                "imports": st.lists(words, max_size=2),
                "checks": st.lists(st.lists(words, min_size=1), max_size=2),
            },
        ),
    },
)
scalars = st.one_of(
    st.text(max_size=8),
    st.sampled_from(KEYS),
    requirements,
    st.integers(),
    st.floats(),
    st.booleans(),
    st.datetimes(),
    st.dates(),
    st.times(),
)
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=4))
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def read_table(table: Mapping[str, Any]) -> Project:
    document = {"tool": {"nox-buildstages": table}}
    return read(document, pyproject=ROOT / "pyproject.toml")


def project_of(*declared: Stage) -> Project:
    return Project(
        pyproject=ROOT / "pyproject.toml",
        lock_dir=ROOT / "build-stages",
        wheelhouse=ROOT / "wheelhouse",
        final=Final(requirements=()),
        stages=declared,
    )


@given(tables)
def test_a_valid_table_is_read(table: dict[str, Any]) -> None:
    """Everything declared is found again, in its order and with its place."""
    project = read_table(table)
    assert [it.name for it in project.stages] == [it["name"] for it in table["stage"]]
    for index, (stage, written) in enumerate(
        zip(project.stages, table["stage"], strict=True)
    ):
        assert stage.location == f"{TABLE}.stage[{index}]"
        assert [it.location for it in stage.outputs] == [
            f"{stage.location}.outputs[{at}]" for at in range(len(written["outputs"]))
        ]
        assert [it.requirement.name for it in stage.outputs] == [
            Requirement(it).name for it in written["outputs"]
        ]
        assert list(stage.needs) == written.get("needs", [])
        assert stage.env == written.get("env", {})


@given(tables, st.data())
def test_a_problem_is_told_where_it_is(
    table: dict[str, Any], data: st.DataObject
) -> None:
    """One faulty output in a valid table gives one problem, at its place."""
    at = data.draw(st.integers(0, len(table["stage"]) - 1))
    outputs = table["stage"][at]["outputs"]
    position = data.draw(st.integers(0, len(outputs) - 1))
    outputs[position] = data.draw(
        st.one_of(st.integers(), st.booleans(), st.sampled_from(["", "a b", "a=1"]))
    )
    with pytest.raises(DeclarationError) as caught:
        read_table(table)
    place = f"{TABLE}.stage[{at}].outputs[{position}]"
    found = [it.location for it in caught.value.problems]
    assert found.count(place) == 1


def read_anything(document: dict[str, Any]) -> None:
    told = ""
    try:
        arrange(read(document, pyproject=ROOT / "pyproject.toml"))
    except DeclarationError as error:
        told = str(error)
    assert not told or len(told.splitlines()) > 1


@given(st.dictionaries(keys, values, max_size=4))
def test_no_document_breaks_the_reader(document: dict[str, Any]) -> None:
    """Whatever a document holds, it is read, or its problems are told."""
    read_anything(document)


@given(tables, st.data())
def test_no_value_breaks_the_reader(table: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands in place of a value, it is read, or its problems are told."""
    packages = data.draw(st.dictionaries(words, values, max_size=2))
    inner: dict[str, Any] = {**table, "package": packages}
    for _ in range(data.draw(st.integers(1, 3))):
        target = data.draw(
            st.sampled_from(
                [inner, *inner["stage"]]
                if isinstance(inner["stage"], list)
                else [inner]
            )
        )
        if isinstance(target, dict):
            target[data.draw(st.sampled_from([*target, *KEYS]))] = data.draw(values)
    read_anything(
        {
            "tool": {"nox-buildstages": inner},
            "project": data.draw(values),
            "dependency-groups": data.draw(values),
        }
    )


@st.composite
def edges(draw: st.DrawFn) -> list[tuple[set[int], set[int]]]:
    """Draw stages: of each those that it needs, and whose outputs it names."""
    size = draw(st.integers(0, 8))
    others = st.sets(st.integers(0, max(size - 1, 0)), max_size=3)
    drawn = draw(st.lists(st.tuples(others, others), min_size=size, max_size=size))
    return [(needs - {at}, named - {at}) for at, (needs, named) in enumerate(drawn)]


def staged(
    graph: list[tuple[set[int], set[int]]], name: str = "stage{}"
) -> tuple[Stage, ...]:
    return tuple(
        Stage(
            name=name.format(at),
            outputs=(Output(requirement=Requirement(f"lib{at}"), location=f"s[{at}]"),),
            dependencies=tuple(Requirement(f"lib{it}") for it in sorted(named)),
            needs=tuple(name.format(it) for it in sorted(needs)),
            location=f"s[{at}]",
        )
        for at, (needs, named) in enumerate(graph)
    )


def has_cycle(graph: list[tuple[set[int], set[int]]]) -> bool:
    left = {at: needs | named for at, (needs, named) in enumerate(graph)}
    while free := [at for at, needed in left.items() if not needed & left.keys()]:
        for at in free:
            del left[at]
    return bool(left)


def arranged_without_cycle(graph: list[tuple[set[int], set[int]]]) -> Graph:
    assume(not has_cycle(graph))
    return arrange(project_of(*staged(graph)))


@given(edges())
def test_the_order_respects_every_edge(graph: list[tuple[set[int], set[int]]]) -> None:
    """Each stage stands after all that it needs, and each stands there once."""
    arranged = arranged_without_cycle(graph)
    order = [stage.name for stage in arranged.order]
    assert sorted(order) == sorted(f"stage{at}" for at in range(len(graph)))
    for at, (needs, named) in enumerate(graph):
        name = f"stage{at}"
        required = arranged.requires[name]
        assert {*required} == {f"stage{it}" for it in needs | named}
        assert [*required] == sorted(required, key=order.index)
        before = arranged.ancestors(name)
        assert all(order.index(it) < order.index(name) for it in before)
        assert {*before} == {
            *required,
            *(older for it in required for older in arranged.ancestors(it)),
        }


@given(edges())
def test_the_order_does_not_depend_on_names(
    graph: list[tuple[set[int], set[int]]],
) -> None:
    """Other names for the same stages give the same order of places."""
    arranged = arranged_without_cycle(graph)
    size = len(graph)
    renamed = staged(graph, name="{}-other")
    swapped = tuple(reversed([f"z{at}" for at in range(size)]))
    names = {stage.name: swapped[at] for at, stage in enumerate(renamed)}
    relabeled = (
        Stage(
            name=names[stage.name],
            outputs=stage.outputs,
            dependencies=stage.dependencies,
            needs=tuple(names[need] for need in stage.needs),
            location=stage.location,
        )
        for stage in renamed
    )
    other = arrange(project_of(*relabeled))
    assert [it.location for it in other.order] == [it.location for it in arranged.order]


@given(edges())
def test_a_cycle_is_a_real_one(graph: list[tuple[set[int], set[int]]]) -> None:
    """A cycle is always found, and each of its steps is an edge."""
    assume(has_cycle(graph))
    with pytest.raises(DeclarationError) as caught:
        arrange(project_of(*staged(graph)))
    for problem in caught.value.problems:
        _, _, rest = problem.message.partition("stages need each other: ")
        path = [
            int(name.removeprefix("stage"))
            for name in rest.partition(" (")[0].split(" -> ")
        ]
        assert path[0] == path[-1] == min(path)
        assert len({*path}) == len(path) - 1
        for at, need in pairwise(path):
            assert need in graph[at][0] | graph[at][1]
