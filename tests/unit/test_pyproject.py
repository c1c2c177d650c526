"""Stages as text: what is written is what is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nox_buildstages.commands.init.pyproject import (
    Change,
    append,
    change_document,
    change_text,
    render,
)
from nox_buildstages.model import Output, Stage
from nox_buildstages.reader import parse_toml

ROOT = Path("/project")
MANY = [f"a-rather-long-name-{number}" for number in range(5)]


def proposed(*outputs: str, dependencies: tuple[str, ...] = ()) -> Stage:
    """Return a stage with these outputs."""
    return Stage(
        name="kernels",
        dependencies=tuple(map(Requirement, dependencies)),
        outputs=tuple(
            Output(requirement=Requirement(text), location="") for text in outputs
        ),
    )


def text_of(
    *stages: Stage,
    matched: tuple[str, ...] = (),
    comments: tuple[str, ...] = ("it has no wheel",),
) -> str:
    """Return a proposal's text, with the same comments on each stage."""
    commented = [(stage, comments) for stage in stages]
    change = Change(
        table=("tool", "nox-buildstages"), key="match-runtime", value=matched
    )
    tables = {change.table: (change,)} if matched else {}
    return render(["by us"], commented, tables=tables, root=ROOT)


def test_a_proposal_as_text() -> None:
    """Comments say why, and what is empty is left out."""
    first = proposed("flash-attn==2.8.3", dependencies=("torch",))
    assert (
        text_of(first, proposed("cymem==2"), matched=("torch",))
        == """\
# by us

[tool.nox-buildstages]
match-runtime = ["torch"]

# it has no wheel
[[tool.nox-buildstages.stage]]
name = "kernels"
dependencies = ["torch"]
outputs = ["flash-attn==2.8.3"]

# it has no wheel
[[tool.nox-buildstages.stage]]
name = "kernels"
outputs = ["cymem==2"]
"""
    )


def test_long_lists_are_broken() -> None:
    """Each entry has a line of its own where one line can't hold them."""
    text = text_of(proposed("a==1", dependencies=tuple(MANY)))
    assert max(map(len, text.splitlines())) <= 88
    (stage,) = parse_toml(text)["tool"]["nox-buildstages"]["stage"]
    assert stage["dependencies"] == MANY


@pytest.mark.parametrize(
    ("written", "output"),
    [
        ("a @ file:///project/vendor/a", "a @ ./vendor/a"),
        ("a @ file:///elsewhere/a", "a @ ../elsewhere/a"),
        ("a @ file:///project/of%20mine", "a @ file:///project/of%20mine"),
        ("a @ https://host/a.tar.gz#sha256=0", "a @ https://host/a.tar.gz#sha256=0"),
    ],
)
def test_what_lies_in_the_project_is_named_relative_to_it(
    written: str, output: str
) -> None:
    """As people write it, where it can be written so."""
    document = parse_toml(text_of(proposed(written)))
    assert document["tool"]["nox-buildstages"]["stage"][0]["outputs"] == [output]


def test_comments_hold_no_control_characters() -> None:
    """TOML has none in them."""
    text = text_of(proposed("a==1"), comments=("a\x1b[31m\tred\x00", ""))
    assert "# a [31m red\n#\n" in text
    parse_toml(text)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", "a = 1\n"),
        ("\n", "\na = 1\n"),
        ("b = 2", "b = 2\n\na = 1\n"),
        ("b = 2\n", "b = 2\n\na = 1\n"),
        ("b = 2\r\n", "b = 2\r\n\r\na = 1\r\n"),
    ],
)
def test_more_at_the_end_of_a_file(text: str, whole: str) -> None:
    """A blank line is between, and its lines end as the file's do."""
    assert append(text, "a = 1\n") == whole


TOOL = ("tool", "nox-buildstages")


@pytest.mark.parametrize(
    ("text", "change", "changed"),
    [
        (
            "[tool.nox-buildstages]  # ours\r\nlock-dir = 'x'\r\n",
            Change(table=TOOL, key="match-runtime", value=["torch"]),
            (
                '[tool.nox-buildstages]  # ours\r\nmatch-runtime = ["torch"]\r\n'
                "lock-dir = 'x'\r\n"
            ),
        ),
        (
            "[tool.nox-buildstages]\nconstraints = [\n  'a',  # one\n]\n[other]\n",
            Change(table=TOOL, key="constraints", value=["a", "b"]),
            '[tool.nox-buildstages]\nconstraints = ["a", "b"]\n[other]\n',
        ),
        (
            "[tool.nox-buildstages]\nfinal.imports = ['a']\n",
            Change(table=(*TOOL, "final"), key="extras", value=["cpu"]),
            "[tool.nox-buildstages]\nfinal.extras = [\"cpu\"]\nfinal.imports = ['a']\n",
        ),
        (
            (
                "[[tool.nox-buildstages.stage]]\nname = 'a'\n"
                "[[tool.nox-buildstages.stage]]\nname = 'b'\n"
            ),
            Change(table=(*TOOL, "stage", 1), key="dependencies", value=["c"]),
            (
                "[[tool.nox-buildstages.stage]]\nname = 'a'\n"
                "[[tool.nox-buildstages.stage]]\ndependencies = [\"c\"]\nname = 'b'\n"
            ),
        ),
        (
            "[tool.nox-buildstages.package.ops]\nenv = { A = '1' }  # mine\n",
            Change(
                table=(*TOOL, "package", "ops", "env"),
                key="B",
                value="2",
                comment=("the reason",),
            ),
            (
                "[tool.nox-buildstages.package.ops]\n# the reason\n"
                'env = { A = "1", B = "2" }\n'
            ),
        ),
        (
            'a = """\n[tool.nox-buildstages]\n"""\n[tool.nox-buildstages]\n',
            Change(table=TOOL, key="lock-dir", value="x"),
            (
                'a = """\n[tool.nox-buildstages]\n"""\n[tool.nox-buildstages]\n'
                'lock-dir = "x"\n'
            ),
        ),
    ],
)
def test_a_key_goes_into_the_table_that_there_is(
    text: str, change: Change, changed: str
) -> None:
    """The rest stays byte for byte."""
    found = change_text(text, [change])
    assert found.text == changed
    assert found.inserted == (change,)
    assert not found.new_tables


@pytest.mark.parametrize(
    "text", ["", "[tool.nox-buildstages.final]\nimports = []\n", "[tool]\n"]
)
def test_a_table_that_there_isn_t_is_a_new_one(text: str) -> None:
    """For the end of the file."""
    change = Change(table=TOOL, key="match-runtime", value=["torch"])
    found = change_text(text, [change])
    assert found.text == text
    assert found.new_tables == {TOOL: (change,)}
    whole = append(text, render([], (), tables=found.new_tables, root=ROOT))
    assert parse_toml(whole) == change_document(parse_toml(text), [change])
