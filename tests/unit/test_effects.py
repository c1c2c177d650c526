"""Declarations that have no effect on any environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.config.project import read, read_cells
from nox_buildstages.errors import LockError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.effects import (
    describe_unused,
    find_idle_axes,
    find_idle_constraints,
    find_idle_editables,
    find_idle_matches,
    find_unused_outputs,
)
from nox_buildstages.lock.files.lockfile import Lock
from nox_buildstages.model import DirectorySource

PYPROJECT = Path("/project/pyproject.toml")


def locks(**environments: str) -> dict[str, Lock]:
    """Return locks by name, each with the projects of a text."""
    found = {}
    for name, projects in environments.items():
        packages = [
            pylock.stage_package(
                canonicalize_name(it), Version("1"), DirectorySource(path=it), stage="s"
            )
            for it in projects.split()
        ]
        lock = pylock.make_pylock(packages)
        found[name] = Lock(name=name, inputs="", pylock=lock)
    return found


def idle(*names: str, **environments: str) -> list[str]:
    matched = [canonicalize_name(it) for it in names]
    return [*find_idle_matches(matched, [locks(**environments)])]


def test_a_match_between_environments_has_an_effect() -> None:
    """It takes two environments, of a stage and of the runtime or of two stages."""
    assert idle("torch", kernels="torch", final="torch") == []
    assert idle("torch", a="torch", b="torch", final="") == []
    cells = [locks(a="torch", final=""), locks(a="", final="torch")]
    assert [*find_idle_matches([canonicalize_name("torch")], cells)] == []


def test_a_match_of_one_environment_is_reported() -> None:
    """If no stage contains it, a build may be for something else than is run."""
    assert idle("torch", "numpy", kernels="", final="torch numpy") == [
        f"match-runtime has no effect on {name}: no stage contains it; add it to the"
        " dependencies of the stages that build against it"
        for name in ("torch", "numpy")
    ]
    assert idle("torch", kernels="torch", final="") == [
        "match-runtime has no effect on torch: only stage kernels contains it"
    ]


def test_a_match_of_no_environment_is_an_error() -> None:
    """It is probably a misspelling."""
    with pytest.raises(LockError) as caught:
        idle("pakaging", "torch", "packaging", a="packaging", final="packaging")
    assert str(caught.value) == (
        "error: match-runtime: no environment contains pakaging, torch; did you mean"
        " 'packaging'?\nhelp: correct or remove pakaging, torch in match-runtime"
    )


def test_a_misspelled_constraint_is_reported() -> None:
    """One on a project that nothing requires isn't, unless it is like another one."""
    cells = [locks(a="numpy torch", final=""), locks(a="", final="scipy")]
    constraints = map(Requirement, ("numpi<2", "Torch<3", "scipy<2", "pandas<3"))
    assert [*find_idle_constraints("build-constraints", constraints, cells)] == [
        "build-constraints: no environment contains numpi; did you mean 'numpy'?"
    ]


@pytest.mark.parametrize(
    ("values", "more", "is_idle"),
    [
        ({"8": {}, "9": {}}, {}, True),
        ({"8": {}}, {}, False),
        ({"8": {"env": {"A": "1"}}, "9": {}}, {}, False),
        ({"8": {"runs-on": ["gpu"]}, "9": {}}, {}, False),
        ({"8": {}, "9": {}}, {"checks": [["run", "{arch}"]]}, False),
        ({"8": {}, "9": {}}, {"requirements": ["a", "b=={arch}"]}, False),
    ],
)
def test_an_axis_that_makes_no_difference(
    values: dict[str, object], more: dict[str, object], *, is_idle: bool
) -> None:
    """Nothing names it, and all values bring the same; another axis is no reason."""
    stages = [{"name": "one", "outputs": ["a"], "env": {"OTHER": "{other}"}}]
    matrix = {"arch": values, "other": ["x", "y"]}
    table = {"stage": stages, "matrix": matrix, "final": {"requirements": [], **more}}
    projects = read_cells({"tool": {"nox-buildstages": table}}, pyproject=PYPROJECT)
    found = [line.partition(":")[0] for line in find_idle_axes(projects)]
    assert found == ["axis arch of the matrix has no effect"] * is_idle


def test_an_output_that_nothing_installs() -> None:
    """The runtime or another stage has to contain it, unless it is for others."""
    package = {"c": {"unused": True}}
    stages = [
        {"name": "one", "outputs": ["a", "b"]},
        {"name": "two", "dependencies": ["a"], "outputs": ["c", "d", "e"]},
    ]
    document = {"tool": {"nox-buildstages": {"stage": stages, "package": package}}}
    project = read(document, pyproject=PYPROJECT)
    unused = find_unused_outputs(project, [*map(canonicalize_name, "ae")])
    assert [*unused] == ["b", "d"]
    said = describe_unused(project, unused[0])
    assert said.startswith("nothing installs b: remove it from its stage, or add")
    assert "add it to final.requirements or to the dependencies of anot" in said
    project = read({**document, "project": {"dependencies": []}}, pyproject=PYPROJECT)
    assert "to [project] dependencies or" in describe_unused(project, unused[0])


@pytest.mark.parametrize(
    ("source", "is_ignored"),
    [
        ({"path": "x", "editable": True}, True),
        ([{"path": "x", "editable": True, "marker": "os_name == 'posix'"}], True),
        ({"path": "x", "editable": False}, False),
        ({"path": "x"}, False),
    ],
)
@pytest.mark.parametrize("output", ["x", "x @ ./x"])
def test_an_output_is_not_editable(
    source: object, output: str, *, is_ignored: bool
) -> None:
    """What a stage builds is installed from its wheel, and a line says so."""
    stages = [{"name": "ours", "outputs": [output]}]
    tool = {"uv": {"sources": {"X": source}}, "nox-buildstages": {"stage": stages}}
    project = read({"project": {"dependencies": []}, "tool": tool}, pyproject=PYPROJECT)
    assert [it.split(":")[0] for it in find_idle_editables(project)] == (
        ["editable in [tool.uv.sources] has no effect on x"] if is_ignored else []
    )
