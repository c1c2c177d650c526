"""The order of stages, and what can't be brought into one."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nox_buildstages.config.graph import Graph, arrange
from nox_buildstages.errors import DeclarationError
from nox_buildstages.model import Final, Output, Project, Stage

ROOT = Path("/project")


def stage(
    name: str,
    outputs: str = "",
    dependencies: str = "",
    needs: str = "",
) -> Stage:
    """Return a stage from names with spaces between them; it builds its namesake."""
    return Stage(
        name=name,
        outputs=tuple(
            Output(requirement=Requirement(it), location=f"{name}.outputs[{index}]")
            for index, it in enumerate((outputs or f"lib-{name}x").split())
        ),
        dependencies=tuple(Requirement(it) for it in dependencies.split()),
        needs=tuple(needs.split()),
        location=name,
    )


def project(*stages: Stage, python: str | None = None) -> Project:
    return Project(
        pyproject=ROOT / "pyproject.toml",
        lock_dir=ROOT / "build-stages",
        wheelhouse=ROOT / "wheelhouse",
        final=Final(requirements=()),
        stages=stages,
        pythons=tuple(python.split()) if python else (),
    )


def arranged(*stages: Stage) -> Graph:
    return arrange(project(*stages))


def told(*stages: Stage, python: str | None = None) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        arrange(project(*stages, python=python))
    assert caught.value.path == ROOT / "pyproject.toml"
    return [str(problem) for problem in caught.value.problems]


def order(graph: Graph) -> list[str]:
    return [it.name for it in graph.order]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([], []),
        ([stage("b"), stage("a")], ["b", "a"]),
        ([stage("b", needs="a"), stage("a")], ["a", "b"]),
        ([stage("a", dependencies="X_Y"), stage("b", "x.y")], ["b", "a"]),
        ([stage("c", needs="b"), stage("a"), stage("b")], ["a", "b", "c"]),
        ([stage("a", dependencies="numpy")], ["a"]),
    ],
)
def test_order(stages: list[Stage], expected: list[str]) -> None:
    """A stage comes after those it needs, and else where the table has it."""
    assert order(arranged(*stages)) == expected


def test_what_a_stage_needs() -> None:
    """Direct needs and transitive ones are told apart, both in order."""
    graph = arranged(
        stage("d", needs="c a"),
        stage("c", dependencies="x y torch", needs="a"),
        stage("b", "y"),
        stage("a", "x"),
        stage("e"),
    )
    assert order(graph) == ["b", "a", "c", "d", "e"]
    assert graph.requires["d"] == ("a", "c")
    assert graph.requires["c"] == ("b", "a")
    assert graph.requires["e"] == ()
    assert graph.ancestors("d") == ("b", "a", "c")
    assert graph.ancestors("a") == ()


def test_lookups() -> None:
    """Stages are found by name, and by what they build, however it is spelled."""
    kernels = stage("kernels", "Flash.Attn==2.8.3")
    graph = arranged(kernels)
    assert graph.stages["kernels"] is kernels
    assert graph.provider("flash_attn") is kernels
    assert graph.provider("torch") is None
    assert "other" not in graph.stages


def test_a_long_chain() -> None:
    """Neither a deep chain nor a wide graph is too much."""
    size = 1000
    chain = [stage(f"s{it}", needs=f"s{it + 1}") for it in range(size - 1)]
    graph = arranged(*chain, stage(f"s{size - 1}"))
    assert order(graph) == [f"s{it}" for it in reversed(range(size))]
    assert len(graph.ancestors("s0")) == size - 1


def test_a_long_cycle() -> None:
    """A cycle through a thousand stages is found as well."""
    size = 1000
    (message,) = told(
        *(stage(f"s{it}", needs=f"s{(it + 1) % size}") for it in range(size))
    )
    assert message.startswith("s0: stages need each other: s0 -> s1 -> s2 -> ")


def test_a_cycle_names_its_reasons() -> None:
    """A cycle is shown from its first stage in the table, each step with its reason."""
    assert told(
        stage("c", needs="b"),
        stage("b", "preshed", dependencies="cymem"),
        stage("a", "cymem", needs="b"),
    ) == [
        (
            "b: stages need each other: b -> a -> b "
            "(b needs a: its dependencies name cymem; a needs b: its needs name it)"
        )
    ]


def test_a_cycle_starts_where_the_table_does() -> None:
    """Where the walk enters a cycle doesn't matter for how it is told."""
    (message,) = told(
        stage("x", needs="b"),
        stage("a", needs="b"),
        stage("b", needs="a"),
    )
    assert message.startswith("a: stages need each other: a -> b -> a (a needs b: ")


def test_all_cycles() -> None:
    """Cycles apart from each other are told at once."""
    first, second = told(
        stage("a", needs="b"),
        stage("c", needs="d"),
        stage("d", needs="c"),
        stage("b", needs="a"),
    )
    assert first.startswith("a: stages need each other: a -> b -> a")
    assert second.startswith("c: stages need each other: c -> d -> c")


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (
            [stage("a"), stage("a", "other")],
            ["a.name: 'a' is the name of a too"],
        ),
        (
            [stage("a", "x_y"), stage("b", "X.Y>1")],
            ["b.outputs[0]: x-y is built already: a.outputs[0]"],
        ),
        (
            [stage("a", "x x")],
            ["a.outputs[1]: x is built already: a.outputs[0]"],
        ),
        (
            [stage("kernels"), stage("b", needs="kernel")],
            ["b.needs[0]: there is no stage 'kernel'; did you mean 'kernels'?"],
        ),
        (
            [stage("a", needs="zzz")],
            ["a.needs[0]: there is no stage 'zzz'"],
        ),
        (
            [stage("a", needs="a")],
            ["a.needs[0]: a stage can't need itself"],
        ),
        (
            [stage("a", "x", dependencies="torch X")],
            [
                (
                    "a.dependencies[1]: x is built by this stage itself: a.outputs[0];"
                    " move the outputs that need it to a stage of their own"
                )
            ],
        ),
        (
            [stage("a", needs="no"), stage("b", needs="b"), stage("a-")],
            [
                "a.needs[0]: there is no stage 'no'",
                "b.needs[0]: a stage can't need itself",
                (
                    "a-.name: 'a-' would share the folder 'build-stage-a' of nox with "
                    "stage 'a'; choose another name"
                ),
            ],
        ),
    ],
)
def test_problems(stages: list[Stage], expected: list[str]) -> None:
    """Each problem has its place; all come at once, in the table's order."""
    assert told(*stages) == expected


@pytest.mark.parametrize(
    ("first", "second", "python", "folder"),
    [
        ("a", "a-", None, "build-stage-a"),
        ("a-b", "a--b", None, "build-stage-a-b"),
        ("a-b", "a---b-", None, "build-stage-a-b"),
        ("a", "A", None, "build-stage-a"),
        ("a.b", "a-b", None, "build-stage-a-b"),
        ("a", "a-", "3.11", "build-stage-a-3-11"),
        ("a", "a-", "3.12 3.11", "build-stage-a-3-12"),
    ],
)
def test_folders_that_are_one(
    first: str, second: str, python: str | None, folder: str
) -> None:
    """Two sessions must not share an environment: nox would mix them up."""
    assert told(stage(first, "x"), stage(second, "y"), python=python) == [
        (
            f"{second}.name: {second!r} would share the folder {folder!r} of nox with "
            f"stage {first!r}; choose another name"
        )
    ]


@pytest.mark.parametrize("python", [None, "3.11", "3.11 3.12"])
def test_folders_that_are_two(python: str | None) -> None:
    """A name that looks like another's with a version is one of its own."""
    names = ("a", "a-3-11", "a_b", "a-b", "s", "lock", "plan")
    stages = (stage(name, f"x{at}") for at, name in enumerate(names))
    graph = arrange(project(*stages, python=python))
    assert order(graph) == [*names]
