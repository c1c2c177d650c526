"""Timing commands in turn, A B A B …, and what comes out as a row of a table."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

Argv: TypeAlias = "tuple[str, ...]"

HEAD = (
    "| row | what | median | against | median | ratio | goal | runs |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contender:
    """Commands that are timed together, one after the other.

    Attributes:
        what: Their name in the table.
        commands: What is run.
        cwd: Where.
        env: All their variables.
        prepare: Makes the state that each of their runs begins with; not timed.
    """

    what: str
    commands: tuple[Argv, ...]
    cwd: Path
    env: Mapping[str, str]
    prepare: Callable[[], object] = _nothing

    def seconds(self) -> float:
        """Run it once, and return how long that took."""
        self.prepare()
        started = time.perf_counter()
        for argv in self.commands:
            run(argv, self.cwd, self.env)
        return time.perf_counter() - started


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A contender, and the one it is measured against.

    Attributes:
        name: By which the row is chosen.
        ours: What is looked at.
        peer: What it is compared with.
        goal: The ratio that it should not exceed; None where there is none.
    """

    name: str
    ours: Contender
    peer: Contender
    goal: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Heat:
    """Rows that are measured in the same rounds.

    Attributes:
        rows: Each contender of theirs runs once in a round, in turn.
        runs: How many rounds count.
        warm_up: Whether a round comes first that doesn't.
    """

    rows: tuple[Row, ...]
    runs: int
    warm_up: bool = True

    def only(self, names: Collection[str]) -> Heat:
        """Return it with the rows of some names."""
        return replace(self, rows=tuple(row for row in self.rows if row.name in names))

    def lines(self) -> Iterator[str]:
        """Measure, and yield a line of the table for each row."""
        contenders = dict.fromkeys(
            it for row in self.rows for it in (row.ours, row.peer)
        )
        times: dict[Contender, list[float]] = {it: [] for it in contenders}
        for turn in range(-self.warm_up, self.runs):
            for contender in contenders:
                seconds = contender.seconds()
                if turn >= 0:
                    times[contender].append(seconds)
        for row in self.rows:
            yield _line(row, times[row.ours], times[row.peer])


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What several rows need to be there.

    Attributes:
        names: Of its rows.
        seconds: That it takes on two quiet cores, about.
        heats: Makes what is needed in a folder, and yields what is to be measured.
    """

    names: tuple[str, ...]
    seconds: int
    heats: Callable[[Path], Iterable[Heat]]


def run(argv: Argv, cwd: Path, env: Mapping[str, str], *, check: bool = True) -> None:
    """Run a command.

    Raises:
        SystemExit: It failed, unless it may; with what it printed.
    """
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=env,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if check and done.returncode:
        raise SystemExit(
            f"{done.stdout}\n{' '.join(argv)} ended with {done.returncode}"
        )


def _line(row: Row, ours: list[float], peer: list[float]) -> str:
    ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
    cells = (
        *(row.name, row.ours.what, _time(statistics.median(ours))),
        *(row.peer.what, _time(statistics.median(peer))),
        *(f"{ratio:.2f}", f"≤ {row.goal:g}" if row.goal else "", str(len(ours))),
    )
    return f"| {' | '.join(cells)} |"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
