"""Stages in Python: what counts for the key, and what is said of faulty ones."""

from __future__ import annotations

import ast
from inspect import getsource
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.config.decorated import (
    Function,
    code_before,
    read_function,
    read_source,
)
from nox_buildstages.config.project import read_cells
from nox_buildstages.errors import DeclarationError, UsageError
from nox_buildstages.reader import parse_toml

if TYPE_CHECKING:
    from nox_buildstages.model import Project

HERE = Path(__file__).name


def before(code: str) -> str:
    return code_before(ast.parse(dedent(code)).body, "build")


@pytest.mark.parametrize(
    ("code", "counted"),
    [
        ("build()", ""),
        ('"""Builds."""\nwheels = build()\nprint(wheels)', ""),
        ('"""Builds."""\nrun("lfs")  # first\nbuild()\nprint(1)', "run('lfs')"),
        ('run("lfs")\nreturn build("one")', "run('lfs')"),
        ("prepare() or build()", "prepare() or build()"),
        ("build(find())", "build(find())"),
        ("print(build.is_cached)\nbuild()", "print(build.is_cached)"),
        ("if ok():\n    build()\nend()", "if ok():\n    build()\nend()"),
        ("for it in 'ab':\n    build(it)", "for it in 'ab':\n    build(it)"),
        ("def inner():\n    build()\ninner()", "def inner():\n    build()\ninner()"),
        ("helper(build)\nend()", "helper(build)\nend()"),
        ("prepare() or build()\nend()", "prepare() or build()\nend()"),
        ("it = build() if ok() else 0\nend()", "it = build() if ok() else 0\nend()"),
        ("[build(it) for it in ()]\nend()", "[build(it) for it in ()]\nend()"),
        ("later = lambda it: build()\nend()", "later = lambda it: build()\nend()"),
        ("other = build\nend()\nother()", "other = build\nend()\nother()"),
        ("print(build()[0].name)\nend()", "print(build()[0].name)"),
        ("one, = build()\nend()", ""),
    ],
)
def test_code_before_the_first_build_counts(code: str, counted: str) -> None:
    """Code counts up to the first build, or all of it if the build is inside it."""
    assert before(code) == counted


def test_layout_and_comments_do_not_count() -> None:
    """Two texts with the same meaning are the same code."""
    assert before('x = {"a":1}  # why\nbuild()') == before("x = {'a': 1}\n\nbuild()")


def kernels(session: object, build: Function) -> None:
    """Compile."""
    str(session)
    build()


def axes(session: object, build: Function, cuda_arch: str) -> None:
    str((session, cuda_arch))
    build()


def never(session: object, build: Function) -> None:
    str((session, build.__class__))


def declared(
    function: Function,
    toml: str = "",
    /,
    **keys: Any,  # noqa: ANN401 - as the decorator
) -> tuple[Project, ...]:
    stage = read_function(function, {"outputs": ["one"], **keys}, getsource(function))
    path = Path("/project/pyproject.toml")
    return read_cells(parse_toml(toml), pyproject=path, decorated=[stage])


def test_the_name_and_the_keywords_are_the_keys_of_the_table() -> None:
    """The function names the stage; keywords have ``_`` for ``-``."""
    (project,) = declared(kernels, pass_env=("TOKEN",), env={"X": "1"})
    (stage,) = project.stages
    assert (stage.name, stage.pass_env, stage.env) == (
        *("kernels", ("TOKEN",)),
        {"X": "1"},
    )
    assert stage.code.startswith("sha256:")


def test_a_stage_in_python_follows_those_of_the_table() -> None:
    """Both kinds are in one graph."""
    table = '[[tool.nox-buildstages.stage]]\nname = "base"\noutputs = ["two"]\n'
    (project,) = declared(kernels, table, dependencies=["two"])
    assert [stage.name for stage in project.stages] == ["base", "kernels"]


MATRIX = '[tool.nox-buildstages.matrix]\ncuda-arch = ["8.0", "9.0"]\n'


def test_a_function_gets_the_values_of_the_axes_that_it_names() -> None:
    """Its stage is another one for each value, and so is its code."""
    projects = declared(axes, MATRIX)
    assert [it.uses["axes"] for it in projects] == [("cuda-arch",)] * 2
    assert len({it.stages[0].code for it in projects}) == 2
    assert len({it.stages[0].code for it in declared(kernels, MATRIX)}) == 1


@pytest.mark.parametrize(
    ("function", "keys", "message"),
    [
        (kernels, {"output": ["one"]}, "unknown key; did you mean 'outputs'?"),
        (kernels, {"dependencies": "torch"}, "expected a list of strings"),
        (kernels, {"outputs": ["a b"]}, "'a b' is not a requirement"),
        (kernels, {"jobs": None}, "found None"),
        (axes, {}, "takes cuda_arch, which is no axis of the matrix"),
    ],
)
def test_faulty_keywords_read_like_the_table(
    function: Function, keys: dict[str, object], message: str
) -> None:
    """The place is the file, the line and the stage."""
    with pytest.raises(DeclarationError) as caught:
        declared(function, **keys)
    line = function.__code__.co_firstlineno
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"{HERE}:{line}:{function.__name__}")
    assert message in str(problem)


def test_a_function_must_take_a_session_and_a_build_and_call_it() -> None:
    """Another function is refused, with what to write."""
    with pytest.raises(UsageError, match="its function takes"):
        read_function(lambda: None, {}, "")
    with pytest.raises(UsageError, match=r"never calls build\(\)"):
        read_function(never, {}, getsource(never))
    with pytest.raises(UsageError, match="a stage is a function with `def`"):
        read_source(print)
    scope: dict[str, object] = {}
    code = compile("def made(session, build): build()", "<nowhere>", "exec")
    exec(code, scope)  # noqa: S102
    with pytest.raises(UsageError, match="stage made: the source of its function"):
        read_source(scope["made"])
    with pytest.raises(UsageError, match=r"below register\(\)"):
        read_function(kernels, {}, getsource(kernels), is_late=True)
