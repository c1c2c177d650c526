"""Stages in Python: functions in a noxfile, whose decorators have the table's keys."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from ast import walk
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.config.table import TOOL
from nox_buildstages.errors import DeclarationError, Problem, UsageError
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nox_buildstages.model import Project, Stage
    from nox_buildstages.reader import Step

Function: TypeAlias = Callable[..., object]
"""The function of a stage, which gets nox's session, a build, and values of axes."""

_GIVEN = 2
"""The parameters before those for axes: the session and the build."""

_NO_FUNCTION = "a stage is a function with `def`"

_SIMPLE = (ast.Expr, ast.Assign, ast.AnnAssign, ast.Return)

_UNSURE = (
    *(ast.BoolOp, ast.IfExp, ast.Compare, ast.Lambda, ast.GeneratorExp),
    *(ast.ListComp, ast.SetComp, ast.DictComp),
)
"""Expressions whose parts may be evaluated later, or never."""


class DecoratedStage(Value, eq=False):
    """A stage in a noxfile."""

    function: Function
    keys: Mapping[str, Any]  # as in the table
    code: str  # what runs before the first build; empty if nothing does
    parameters: tuple[str, ...]  # for values of axes

    @property
    def name(self) -> str:
        """The name of the stage."""
        return str(self.keys["name"])

    @property
    def location(self) -> str:
        """The file, the line and the name, for messages."""
        code = self.function.__code__
        return f"{Path(code.co_filename).name}:{code.co_firstlineno}:{self.name}"

    def arguments(self, choices: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Return the arguments for a cell: the values of the axes in `parameters`."""
        values = {axis.replace("-", "_"): value for axis, value in choices}
        return {it: values[it] for it in self.parameters if it in values}


def read_source(function: object) -> str:
    """Return the source of the function of a stage.

    Raises:
        UsageError: It isn't a function of Python, or nobody knows its source.
    """
    subject = f"stage {getattr(function, '__name__', function)}"
    if not inspect.isfunction(function):
        raise UsageError(subject=subject, problem=_NO_FUNCTION)
    try:
        return inspect.getsource(function)
    except OSError as error:
        problem = f"the source of its function can't be read: {error}"
        raise UsageError(subject=subject, problem=problem) from None


def read_function(
    function: Function,
    keys: Mapping[str, object],
    source: str,
    *,
    is_late: bool = False,
) -> DecoratedStage:
    """Return the stage of a decorator, from the source of the function.

    `register` doesn't see a late one.

    Raises:
        UsageError: The function can't be the function of a stage.
    """
    table: dict[str, object] = {"name": function.__name__.replace("_", "-")}
    table |= {key.replace("_", "-"): _to_toml(value) for key, value in keys.items()}
    subject = f"stage {table['name']}"
    parameters = [*inspect.signature(function).parameters.values()]
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if len(parameters) < _GIVEN or any(it.kind not in plain for it in parameters):
        raise UsageError(
            subject=subject,
            problem=f"its function takes {inspect.signature(function)}",
            hint="let it take nox's session and the build, then values of axes:\n"
            f"  def {function.__name__}(session, build):",
        )
    build = parameters[1].name
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError as error:
        problem = f"the source of its function can't be read: {error}"
        raise UsageError(subject=subject, problem=problem) from None
    defined = tree.body[0]
    if not isinstance(defined, ast.FunctionDef):
        raise UsageError(subject=subject, problem=_NO_FUNCTION)
    if not any(_calls(it, build) for it in defined.body):
        raise UsageError(
            subject=subject,
            problem=f"its function never calls {build}()",
            hint=f"build its outputs there:\n  wheels = {build}()",
        )
    if is_late:
        raise UsageError(
            subject=subject,
            problem="its function stands below register(), which doesn't see it",
            hint="move it above register()",
        )
    return DecoratedStage(
        function=function,
        keys=table,
        code=code_before(defined.body, build),
        parameters=tuple(it.name for it in parameters[_GIVEN:]),
    )


def code_before(body: Sequence[ast.stmt], build: str) -> str:
    """Return the code that runs before the first call of ``build``, normalized.

    Comments, the docstring and the layout don't count. If the call is inside a
    condition, a loop or another function, all of the code may run before it.
    """
    if ast.get_docstring(ast.Module([*body], [])) is not None:
        body = body[1:]
    first = next((at for at, it in enumerate(body) if _names(it, build)), len(body))
    counted = body
    if first < len(body) and _surely_calls(statement := body[first], build):
        value = getattr(statement, "value", None)
        is_alone = isinstance(value, ast.Call) and _is_name(value.func, build)
        parts = [*value.args, *value.keywords] if isinstance(value, ast.Call) else []
        evaluates = any(isinstance(it, ast.Call) for n in parts for it in walk(n))
        counted = body[: first + (not is_alone or evaluates)]
    return "\n".join(map(ast.unparse, counted))


def _surely_calls(node: ast.AST, name: str) -> bool:
    """Whether a simple statement, or an expression, calls a name whatever happens."""
    if isinstance(node, ast.Call) and _is_name(node.func, name):
        return True
    if isinstance(node, _UNSURE) or (
        isinstance(node, ast.stmt) and not isinstance(node, _SIMPLE)
    ):
        return False
    return any(_surely_calls(it, name) for it in ast.iter_child_nodes(node))


def _calls(node: ast.AST, name: str) -> bool:
    """Whether code calls a name, or passes the name to a call."""
    calls = (it for it in walk(node) if isinstance(it, ast.Call))
    return any(
        _is_name(part, name)
        for call in calls
        for part in (call.func, *call.args, *(it.value for it in call.keywords))
    )


def _names(node: ast.AST, name: str) -> bool:
    """Whether a statement may call a name: attributes of the name don't count."""
    inner = {id(it.value) for it in walk(node) if isinstance(it, ast.Attribute)}
    return any(_is_name(it, name) and id(it) not in inner for it in walk(node))


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _to_toml(value: object) -> object:
    """Return a value of Python in the form of TOML."""
    if isinstance(value, Mapping):
        return {str(key): _to_toml(it) for key, it in value.items()}
    if isinstance(value, (list, tuple)):
        return [*map(_to_toml, value)]
    return str(value) if isinstance(value, Path) else value


def add_stages(
    document: Mapping[str, Any], decorated: Sequence[DecoratedStage]
) -> tuple[Mapping[str, Any], dict[tuple[Step, ...], str]]:
    """Return a document with stages of a noxfile at the end, and their locations.

    A table that can't have stages stays as it is: its reader finds the fault.
    """
    tools = document.get("tool", {})
    table = tools.get(TOOL, {}) if isinstance(tools, Mapping) else None
    if not isinstance(table, Mapping) or not isinstance(table.get("stage", []), list):
        return document, {}
    stages = table.get("stage", [])
    keys = [it.keys for it in decorated]
    changed = {**tools, TOOL: {**table, "stage": [*stages, *keys]}}
    locations: dict[tuple[Step, ...], str] = {
        ("tool", TOOL, "stage", len(stages) + number): it.location
        for number, it in enumerate(decorated)
    }
    return {**document, "tool": changed}, locations


def with_code(
    projects: Iterable[Project], decorated: Sequence[DecoratedStage]
) -> tuple[Project, ...]:
    """Return the projects of all cells, with additions of functions to their stages.

    Raises:
        DeclarationError: A function takes a value of an axis that isn't there.
    """
    by_name = {it.name: it for it in decorated}
    found = []
    problems: list[Problem] = []
    for project in projects:
        choices, uses, stages = project.cell.choices, dict(project.uses), []
        axes = {axis.replace("-", "_"): axis for axis, _ in choices}
        for stage in project.stages:
            declared = by_name.get(stage.name)
            if declared is None:
                stages.append(stage)
                continue
            problems += (
                Problem(
                    location=declared.location,
                    message=f"the function takes {it}, which is no axis of the matrix"
                    + did_you_mean(it, axes),
                )
                for it in declared.parameters
                if it not in axes
            )
            taken = {axes.get(it, it) for it in declared.parameters}
            named = taken.union(uses.get(stage.name, ()))
            uses[stage.name] = tuple(axis for axis, _ in choices if axis in named)
            stages.append(_add_code(stage, declared, declared.arguments(choices)))
        found.append(replace(project, stages=tuple(stages), uses=uses))
    if problems:
        distinct = tuple(dict.fromkeys(problems))
        raise DeclarationError(path=found[0].pyproject, problems=distinct)
    return tuple(found)


def _add_code(
    stage: Stage, declared: DecoratedStage, arguments: Mapping[str, str]
) -> Stage:
    """Return a stage with the digest of a function's code and arguments."""
    if not declared.code:
        return stage
    text = "\n".join((declared.code, *map("=".join, sorted(arguments.items()))))
    return replace(stage, code=f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")
