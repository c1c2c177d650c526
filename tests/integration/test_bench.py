"""The bench: what it measures, and what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from benchmarks.measuring import Command, Group, Known, Result, Row

ROOT = Path(__file__).parents[2]


def command(what: str, *scripts: str, at_once: bool = False) -> Command:
    return Command(
        what=what,
        commands=tuple(("sh", "-c", it) for it in scripts),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        at_once=at_once,
    )


def measured(row: Row) -> Result:
    (result,) = Group(rows=(row,), runs=1, warm_up=False).results()
    return result


def test_a_row_compares_seconds_on_the_clock() -> None:
    """Commands that run at once end together."""
    naps = ("sleep 0.5", "sleep 0.5")
    serial, parallel = command("serial", *naps), command("both", *naps, at_once=True)
    result = measured(Row(name="naps", ours=parallel, peer=serial, goal=0.9))
    assert 0.2 < result.value < 0.9
    assert not result.is_short
    time = r"[\d.]+ m?s"
    pattern = (
        rf"\| naps \| both \| {time} \| serial \| {time} \| 0\.\d+ \| ≤ 0.9 \| 1 \|"
    )
    assert re.fullmatch(pattern, result.line())


@pytest.mark.slow
def test_a_row_compares_cpu_seconds() -> None:
    """Sleep doesn't count, and programs that a command starts do."""
    work = "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done"
    nested = "; ".join([f"sh -c '{work}'"] * 4)
    ours, peer = command("ours", f"{nested}; sleep 2"), command("peer", work)
    result = measured(Row(name="work", ours=ours, peer=peer, is_cpu=True))
    assert 1 < result.value < 16  # 4, on a machine with nothing else to do
    assert " CPU | peer | " in result.line()


def test_a_row_compares_seconds_beyond_those_of_nox() -> None:
    """What nox alone takes is subtracted."""
    ours, nox, peer = (
        Known(what=what, seconds=seconds)
        for what, seconds in (("ours", 5), ("nox", 1), ("peer", 2))
    )
    result = measured(Row(name="work", ours=ours, beyond=nox, peer=peer))
    assert result.value == 2
    assert "ours, beyond nox" in result.line()


@pytest.mark.parametrize(
    ("seconds", "is_least", "is_short"),
    [(1.0, False, False), (3.0, False, True), (1.0, True, True), (3.0, True, False)],
)
def test_a_goal_is_the_most_or_the_least(
    seconds: float, *, is_least: bool, is_short: bool
) -> None:
    """Without a peer, it is in seconds."""
    ours = Known(what="known", seconds=seconds)
    result = measured(Row(name="known", ours=ours, goal=2, is_least=is_least))
    assert result.is_short is is_short
    assert result.goal == ("≥ 2 s" if is_least else "≤ 2 s")


def test_a_command_that_fails_ends_the_bench() -> None:
    """Its output is shown: nobody compares the time of a failure."""
    with pytest.raises(SystemExit, match="no such thing"):
        command("broken", "echo no such thing; exit 1").measure()


def test_the_docs_describe_each_row() -> None:
    """And no other one."""
    page = ROOT.joinpath("docs/explanation/performance.md").read_text("utf-8")
    section = page.partition("## What the rows are")[2]
    described = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    names = [name for it in described for name in re.findall("`(.*?)`", it)]
    assert sorted(names) == sorted(bench.NAMES)
    assert {*bench.QUICK} < {*bench.NAMES}


@pytest.mark.slow
def test_a_row_is_measured_with_nox() -> None:
    """It ends with the rows that fall short."""
    argv = [sys.executable, "tests/bench.py", "--rows", "noop,list", "--runs", "1"]
    done = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    head = lines.index("| --- | --- | --- | --- | --- | --- | --- | --- |")
    assert [line.split("|")[1].strip() for line in lines[head + 1 :][:2]] == [
        "noop",
        "list",
    ]
    assert "goal" in lines[-1]
