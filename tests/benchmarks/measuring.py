"""Measure commands in turn, A B A B …, and make rows of a table from the results."""

from __future__ import annotations

import resource
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

Argv: TypeAlias = "tuple[str, ...]"

HEAD = (
    "| row | what | median | against | median | ratio | goal | runs |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)


class Cost(NamedTuple):
    """What one run of commands took, in seconds."""

    wall: float
    cpu: float  # user and system, of all processes that ended


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Command:
    """Commands that are measured together.

    Attributes:
        what: Their name in the table.
        commands: What is run.
        cwd: The folder in which they run.
        env: All their variables.
        prepare: Makes the state that each of their runs begins with; not measured.
        at_once: Whether all of them run at the same time.
    """

    what: str
    commands: tuple[Argv, ...]
    cwd: Path
    env: Mapping[str, str]
    prepare: Callable[[], object] = _nothing
    at_once: bool = False

    def measure(self) -> Cost:
        """Run the commands once, and return what that took."""
        self.prepare()
        before, started = _children_cpu(), time.perf_counter()
        with ThreadPoolExecutor(len(self.commands) if self.at_once else 1) as pool:
            [*pool.map(lambda argv: run(argv, self.cwd, self.env), self.commands)]
        wall = time.perf_counter() - started
        return Cost(wall=wall, cpu=_children_cpu() - before)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Known:
    """A time that is computed: nothing is run.

    Attributes:
        what: Its name in the table.
        seconds: The time.
    """

    what: str
    seconds: float

    def measure(self) -> Cost:
        """Return the time."""
        return Cost(wall=self.seconds, cpu=self.seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A command, and the one that it is compared with.

    Attributes:
        name: By which the row is chosen.
        ours: The command.
        peer: What it is compared with; without one, the row shows seconds.
        beyond: What nox alone costs; subtracted from ours.
        goal: The ratio, or the seconds, that should not be exceeded, if there is one.
        is_least: Whether the goal is the least ratio instead.
        is_cpu: Whether CPU seconds are compared, not seconds on the clock.
    """

    name: str
    ours: Command | Known
    peer: Command | Known | None = None
    beyond: Command | Known | None = None
    goal: float | None = None
    is_least: bool = False
    is_cpu: bool = False

    @property
    def sides(self) -> list[Command | Known]:
        """All that is measured for the row."""
        return [it for it in (self.ours, self.beyond, self.peer) if it is not None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A row that was measured, with the costs of each of its runs."""

    row: Row
    costs: Mapping[Command | Known, list[Cost]]

    @property
    def ours(self) -> list[float]:
        """The seconds of the command, without those of nox alone."""
        times = self._seconds(self.row.ours)
        if self.row.beyond is None:
            return times
        nox = self._seconds(self.row.beyond)
        return [a - b for a, b in zip(times, nox, strict=True)]

    @property
    def value(self) -> float:
        """The ratio, or the seconds if there is nothing to compare with."""
        if self.row.peer is None:
            return statistics.median(self.ours)
        peer = self._seconds(self.row.peer)
        return statistics.median(a / b for a, b in zip(self.ours, peer, strict=True))

    @property
    def is_short(self) -> bool:
        """Whether the row falls short of its goal."""
        goal, value = self.row.goal, round(self.value, 2)
        if goal is None:
            return False
        return value < goal if self.row.is_least else value > goal

    @property
    def goal(self) -> str:
        """The goal as the table shows it."""
        if self.row.goal is None:
            return ""
        sign = "≥" if self.row.is_least else "≤"
        return f"{sign} {self.row.goal:g}{'' if self.row.peer else ' s'}"

    @property
    def summary(self) -> str:
        """The row, its value and its goal in a few words."""
        return f"{self.row.name} {self.value:.2f}, goal {self.goal}"

    def line(self) -> str:
        """Return the line of the table."""
        row, cpu = self.row, " CPU" if self.row.is_cpu else ""
        peer = ratio = median = ""
        if row.peer is not None:
            peer, ratio = row.peer.what, f"{self.value:.2f}"
            median = _time(statistics.median(self._seconds(row.peer))) + cpu
        ours = _time(statistics.median(self.ours)) + cpu
        what = row.ours.what + (f", beyond {row.beyond.what}" if row.beyond else "")
        cells = (*(row.name, what, ours, peer, median), *(ratio, self.goal))
        return f"| {' | '.join((*cells, str(len(self.ours))))} |"

    def _seconds(self, side: Command | Known) -> list[float]:
        costs = self.costs[side]
        return [it.cpu if self.row.is_cpu else it.wall for it in costs]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rows that are measured in the same rounds.

    Attributes:
        rows: Each of their commands runs once in a round, in turn.
        runs: How many rounds count.
        warm_up: Whether a round comes first that doesn't count.
    """

    rows: tuple[Row, ...]
    runs: int
    warm_up: bool = True

    def only(self, names: Collection[str], runs: int) -> Group:
        """Return the group with the rows of some names and a number of rounds."""
        rows = tuple(row for row in self.rows if row.name in names)
        return replace(self, rows=rows, runs=runs)

    def results(self) -> Iterator[Result]:
        """Measure, and yield the result of each row."""
        sides = dict.fromkeys(it for row in self.rows for it in row.sides)
        costs: dict[Command | Known, list[Cost]] = {it: [] for it in sides}
        for turn in range(-self.warm_up, self.runs):
            for side in sides:
                cost = side.measure()
                if turn >= 0:
                    costs[side].append(cost)
        for row in self.rows:
            yield Result(row=row, costs={it: costs[it] for it in row.sides})


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Projects to measure several rows on.

    Attributes:
        names: Of its rows.
        seconds: That it takes on two quiet cores, about.
        groups: Makes the projects in a folder, and yields the rows to measure.
        quick: Those of its rows that are measured in a quick run.
        missing: Why it can't be measured here; empty if it can.
    """

    names: tuple[str, ...]
    seconds: int
    groups: Callable[[Path], Iterable[Group]]
    quick: tuple[str, ...] = ()
    missing: str = ""


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


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
