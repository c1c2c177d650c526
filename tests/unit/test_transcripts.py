"""Outputs in the documentation are compared as their rules say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.terminal import Terminal
from support.transcripts import (
    Shell,
    matches,
    most_like,
    steps_of,
    updated,
    with_tables,
)

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
OUTPUT = """\
nox > Running session build-stages
nox > built kern-1.0-cp311-cp311-linux_x86_64.whl in 2.0 s
nox > kern    1.0      only   built  2.0      12.4 kB
nox > Session build-stages was successful in 4 seconds.
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda it: str(it.relative_to(ROOT)))
def test_each_output_is_compared_or_says_why_not(page: Path) -> None:
    """Help is compared elsewhere, and a block of commands alone shows no output."""
    text = page.read_text("utf-8")
    blocks = re.findall(
        r"^```(text|json|console)\n(.+\n)((?:.*\n)*?)```$", text, re.MULTILINE
    )
    silent = [
        f"{first}{rest}"
        for kind, first, rest in blocks
        if not first.endswith(" --help\n")
        and (kind != "console" or "\n$ " in f"\n{first}{rest}")
    ]
    assert silent == []


def test_numbers_and_folders_may_differ() -> None:
    """Those of times, sizes, versions and columns."""
    shown = [
        "nox > built kern-1.1-cp312-cp312-linux_x86_64.whl in 13.1 s",
        "nox > kern  1.1  only  built  13.1  1.2 MB",
        "nox > Session build-stages was successful.",
    ]
    assert matches(["…", *shown], OUTPUT)
    summary = "nox > * build-stages-3.12: success"
    assert matches([f"{summary}, took 2 seconds"], f"{summary}\n")
    assert matches(["log: …/logs/kern.log"], "log: /tmp/x/store/logs/kern.log\n")
    assert matches(["key 62f106acba38b0da"], "key c9dc23fc7ed385dd\n")
    assert matches(
        ["nox > locked … environments, …"], "nox > locked 2 environments, 3\n"
    )
    shown = ["└─ b  x 1.0  ● build  env A", "             last time: 2 s"]
    assert matches(
        [*shown, "to build: 1 of 2, about 2 s"],
        f"""{shown[0]}

to build: 1 of 2, about 1 min 2 s alone
""",
    )


def test_words_may_not_differ() -> None:
    """Neither may a line be missing, or its order change."""
    first, second = "nox > built kern-1.0-cp311-cp311-linux_x86_64.whl in 1 s", "…"
    assert not matches([first, second], OUTPUT)
    assert not matches([second, first], OUTPUT)
    assert not matches([second, first.replace("built", "made"), second], OUTPUT)


def test_an_output_is_updated_with_its_omissions() -> None:
    """A changed line is found by its likeness, and lines between it and the next."""
    shown = ["…", "nox > making kern-1.0-cp311-cp311-linux_x86_64.whl in 3 s", "…"]
    lines = OUTPUT.splitlines()
    assert updated(shown, lines) == ["…", lines[1], "…"]
    shown = [lines[0], "nox > Session build-stages was successful."]
    assert updated(shown, lines) == lines
    assert updated(lines[1:3], lines) == lines


def test_steps_of_a_page() -> None:
    """Blocks that name a world, with their commands."""
    page = (
        "```console\nnox\n```\n\n"
        "```console toy\n$ nox --list\n…\n$ ls\n```\n\n"
        "```json toy $ nox -s x\nerror: x\n```\n\n"
        "```console toy\ncd a\nls\n```\n"
    )
    first, second, third = steps_of(page)
    assert first.commands() == [("nox --list", ["…"]), ("ls", [])]
    assert second.commands() == [("nox -s x", ["…", "error: x", "…"])]
    assert third.commands() == [("cd a", ["…"]), ("ls", ["…"])]
    lines = page.splitlines()
    assert tuple(lines[second.first : second.first + 1]) == second.lines


def test_steps_on_a_terminal() -> None:
    """With its width, what is shown when Ctrl-C is pressed, and what comes before."""
    page = (
        "```text toy 80 ^C 1/3 files $ nox -s x\nstopped\n```\n"
        "```console toy $ rm -r x\n$ ls\n```\n"
    )
    stopped, removed = steps_of(page)
    assert (stopped.columns, stopped.stop_at) == (80, "1/3 files")
    assert stopped.commands() == [("nox -s x", ["…", "stopped", "…"])]
    assert (removed.command, removed.commands()) == ("rm -r x", [("ls", [])])
    outputs = ["a\nmaking kern\n", "a\nmade kern\n", "b\n"]
    assert most_like(["made kerns"], outputs) == outputs[1]


def test_what_follows_a_prompt_is_typed(tmp_path: Path) -> None:
    """Each line at a prompt of its own, and Ctrl-D at the end."""
    command = (
        "printf 'sh# '; read x; printf 'more? [Y/n] '; read y; printf 'sh# ';"
        ' read z || echo; echo "<$x$y$z>"'
    )
    (step,) = steps_of(
        f"```text toy 80 $ {command}\nsh# one\nmore? [Y/n]\nsh#\n<one>\n```\n"
    )
    with Shell(tmp_path, {}, {}) as shell:
        (output,) = step.run(shell)
    assert matches(step.lines, output)


def test_what_a_cache_had_counts_if_it_is_shown(tmp_path: Path) -> None:
    """So other blocks are the same on machines with a compiler cache."""
    line = "built (ccache: 3 of 4 compilations cached)"
    for shown, seen in (("built", "built\n"), (line, f"{line}\n")):
        (step,) = steps_of(f"```console toy\n$ echo '{line}'\n{shown}\n```\n")
        with Shell(tmp_path, {}, {}) as shell:
            assert step.run(shell) == [seen]


def test_a_terminal_shows_what_is_left() -> None:
    """Codes that erase and colours are obeyed, and lines that would wrap are noted."""
    terminal = Terminal(columns=10)
    terminal.write("one\r\ntwo\n\x1b[2A\x1b[Jthree\n\x1b[1mfour\x1b[0m\rF\n")
    assert str(terminal) == "three\nFour\n"
    assert terminal.too_long == []
    terminal.write("more than ten")
    assert terminal.too_long == ["more than ten"]


def test_tables_replace_their_namesakes() -> None:
    """The header decides, and the name in an array of tables."""
    document = '# top\n[a]\nx = 1\n\n[[b]]\nname = "one"\n\n[[b]]\nname = "two"\n'
    changed = with_tables(document, '[[b]]\nname = "two"\ny = 2\n\n[c]\n')
    one, two = '[[b]]\nname = "one"\n', '[[b]]\nname = "two"\ny = 2\n'
    assert changed == f"# top\n\n[a]\nx = 1\n\n{one}\n{two}\n[c]\n"
