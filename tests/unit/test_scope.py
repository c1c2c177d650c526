"""What `build-stages-init` looks at, and what it writes about that."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nox_buildstages.commands.init.pyproject import change_document
from nox_buildstages.commands.init.scope import Scope, choose_scope
from nox_buildstages.declarations.declared import Declared
from nox_buildstages.errors import UsageError
from nox_buildstages.reader import parse_toml
from nox_buildstages.workspace.session_options import parse_options

PROJECT = """
[project]
dependencies = ["a"]

[project.optional-dependencies]
cpu = ["torch"]
cuda = ["torch", "b"]

[dependency-groups]
prod = ["chumpy"]
"""
CONFLICTS = '[tool.uv]\nconflicts = [[{ extra = "cpu" }, { extra = "cuda" }]]\n'
FOREIGN = Declared(
    origin="[tool.poetry]",
    requirements=("p", "q"),
    groups={"gpu": ("r",), "requirements-dev.txt": ("s",)},
    constraints=("numpy<2",),
)


def scope(text: str, *words: str, foreign: Declared | None = None) -> Scope:
    """Return what the words choose in a pyproject.toml."""
    options = parse_options(words, outputs=(), session="build-stages-init")
    return choose_scope(parse_toml(text), foreign or Declared(origin=""), options)


def changed(text: str, found: Scope) -> Any:  # noqa: ANN401 - TOML
    """Return our table after the changes."""
    return change_document(parse_toml(text), found.changes)["tool"]["nox-buildstages"]


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (
            '[dependency-groups]\nprod = ["chumpy"]\n',
            (),
            "looked at 0 dependencies; not looked at: group prod (1)",
        ),
        ("[build-system]\nrequires = []\n", (), "looked at 0 dependencies"),
        (
            PROJECT,
            (),
            (
                "looked at 1 dependency; not looked at: extra cpu (1), extra cuda (2),"
                " group prod (1)"
            ),
        ),
        (
            PROJECT,
            ("--extra", "CPU", "--group", "prod"),
            (
                "looked at 1 dependency, extra cpu (1), group prod (1); not looked at:"
                " extra cuda (2)"
            ),
        ),
        (
            PROJECT,
            ("--all",),
            "looked at 1 dependency, extra cpu (1), extra cuda (2), group prod (1)",
        ),
        (
            PROJECT + CONFLICTS,
            ("--all",),
            "looked at 1 dependency, group prod (1), extra cpu (1) or extra cuda (2)",
        ),
        (PROJECT.replace('"a"', '"a", "x"'), ("y", "x"), "looked at 3 dependencies"),
    ],
)
def test_what_is_looked_at_is_said(
    text: str, words: tuple[str, ...], line: str
) -> None:
    """And what isn't, so that nobody takes silence for an answer."""
    assert scope(text, *words).describe().startswith(line)


def test_chosen_extras_and_groups_are_written() -> None:
    """Beside those that the table names already, in the table's own words."""
    found = scope(PROJECT, "--extra", "cpu", "--group", "prod")
    assert changed(PROJECT, found)["final"] == {"extras": ["cpu"], "groups": ["prod"]}
    text = f'{PROJECT}\n[tool.nox-buildstages.final]\nextras = ["cuda"]\n'
    found = scope(text, "--extra", "cpu")
    assert changed(text, found)["final"] == {"extras": ["cuda", "cpu"]}
    assert not scope(text).changes


def test_new_names_are_written_where_they_repeat_nothing() -> None:
    """Into a group beside ``[project]``, else into the requirements."""
    found = scope(PROJECT, "flash-attn==2.8.3")
    document = change_document(parse_toml(PROJECT), found.changes)
    assert document["dependency-groups"]["build-stages"] == ["flash-attn==2.8.3"]
    assert document["tool"]["nox-buildstages"]["final"] == {"groups": ["build-stages"]}
    final = changed("", scope("", "flash-attn"))["final"]
    assert final == {"requirements": ["flash-attn"]}
    text = '[tool.nox-buildstages.final]\nrequirements = ["a"]\n'
    final = changed(text, scope(text, "a", "b"))["final"]
    assert final == {"requirements": ["a", "b"]}


def test_what_other_tools_declare_is_written() -> None:
    """With chosen groups; the constraints too, and nothing twice."""
    found = scope("", "--group", "gpu", foreign=FOREIGN)
    assert found.describe().startswith("looked at 2 dependencies, group gpu (1); not")
    table = changed("", found)
    assert table["final"]["requirements"] == ["p", "q", "r"]
    assert table["constraints"] == ["numpy<2"]
    assert [part.name for part in found.left_out] == ["requirements-dev.txt"]
    named = scope("", "--group", "requirements-dev.txt", foreign=FOREIGN)
    assert changed("", named)["final"]["requirements"] == ["p", "q", "s"]
    pdm = '[project]\ndependencies = ["p @ file:///${PROJECT_ROOT}/p", "q"]\n'
    final = changed(pdm, scope(pdm, foreign=FOREIGN))["final"]
    assert final == {"requirements": ["q", "p"]}


def test_new_requirements_of_other_tools_are_added() -> None:
    """To those that the table has; a difference is named, and what it leaves out."""
    text = """
    [project]
    dependencies = ["z"]
    [tool.nox-buildstages.final]
    requirements = ["q<2"]
    """
    found = scope(text, foreign=FOREIGN)
    assert changed(text, found)["final"]["requirements"] == ["q<2", "p"]
    left_out, other = found.notes
    assert left_out.startswith("not looked at: z of [project] dependencies")
    assert other == "[tool.poetry] has q, and requirements of final q<2"


@pytest.mark.parametrize(
    ("words", "axis"),
    [
        ((), {"cpu": {"extras": ["cpu"]}, "cuda": {"extras": ["cuda"]}}),
        (("--all",), {"cpu": {"extras": ["cpu"]}, "cuda": {"extras": ["cuda"]}}),
        (("--extra", "cpu"), None),
    ],
)
def test_extras_that_exclude_each_other_are_an_axis(
    words: tuple[str, ...], axis: object
) -> None:
    """Unless one of them is chosen, or there is a matrix."""
    text = PROJECT + CONFLICTS
    table = changed(text, scope(text, "x", *words))
    assert table.get("matrix", {}).get("variant") == axis
    text += '[tool.nox-buildstages.matrix]\ncuda-arch = ["9.0"]\n'
    assert not any(it.table[-1] == "matrix" for it in scope(text, *words).changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--extra", "cpuu"), "there is no such extra; did you mean 'cpu'?"),
        (("--group", "cpu"), "there is no such group"),
        (("not a name",), "'not a name' is not a requirement"),
        (("ops=2.8",), 'help: write "ops==2.8"'),
        (("git+https://x.example/ops",), '"ops @ git+https://x.example/ops"'),
    ],
)
def test_a_wrong_word_is_refused(words: tuple[str, ...], message: str) -> None:
    """With what there is."""
    with pytest.raises(UsageError, match=re.escape(message)):
        scope(PROJECT, *words)
