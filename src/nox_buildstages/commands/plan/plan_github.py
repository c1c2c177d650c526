"""A plan for GitHub Actions: a matrix of jobs, how many they are, and a summary."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nox_buildstages.commands.plan.reasons import Planned

LEVELS = 3
"""Of stages that have jobs of their own; deeper ones are built with their cell."""

_SPECIAL = re.compile(r"[\\`*_~#|<>\[\]]")
"""What Markdown may take for more than a character."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellPlan:
    """What would become of a cell with one Python, or of a stage: what a job builds.

    Attributes:
        name: For files and artifacts, of plain characters; no other cell has it.
        label: For people; empty where there is one cell alone.
        session: That builds it, as ``nox -s`` takes it.
        release: That makes its wheelhouse fit to publish.
        python: The minor version it is for.
        wheelhouse: Its folder, POSIX, relative to the project's.
        key: Under which its part of a store is kept.
        tools: Programs whose versions count, which the key doesn't cover.
        pass_env: Variables whose values count, which it doesn't cover either.
        outputs: Stage by stage.
        levels: The stages of a cell, each level on those before; none of a stage.
    """

    name: str
    label: str = ""
    session: str
    release: str
    python: str
    wheelhouse: str
    key: str
    tools: tuple[str, ...] = ()
    pass_env: tuple[str, ...] = ()
    outputs: tuple[Planned, ...]
    levels: tuple[tuple[CellPlan, ...], ...] = ()

    @property
    def is_cached(self) -> bool:
        """Whether it has nothing to build."""
        return not any(it.reasons for it in self.outputs)

    def to_dict(self) -> dict[str, str]:
        """Return what its job is told, as JSON takes it."""
        return {
            "cell": self.name,
            "label": self.label,
            "session": self.session,
            "release": self.release,
            "python": self.python,
            "wheelhouse": self.wheelhouse,
            "key": self.key,
            "tools": " ".join(self.tools),
            "pass-env": " ".join(self.pass_env),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class GitHubPlan:
    """The jobs that a workflow would have.

    Attributes:
        cells: All of them.
        wheelhouse: The folder of all wheels, POSIX, relative to the project's.
        locks: That of the lock files.
        only_missing: Whether those that have nothing to build get no job.
    """

    cells: tuple[CellPlan, ...]
    wheelhouse: str = "wheelhouse"
    locks: str = "build-stages"
    only_missing: bool = False

    def outputs(self) -> dict[str, str]:
        """Return the outputs of the step; ``matrix`` is JSON."""
        jobs = self._jobs(self.cells)
        levels = [self._level(number) for number in range(LEVELS)]
        return {
            "matrix": _matrix(jobs),
            "count": str(len(jobs)),
            **{
                f"level-{i}": _matrix(it) if it else ""
                for i, it in enumerate(levels, 1)
            },
            "wheelhouse": self.wheelhouse,
            "locks": self.locks,
        }

    def summary(self) -> Iterator[str]:
        """Yield the lines of a Markdown text with a table for each cell."""
        left_out = sum(map(self._is_left_out, self.cells))
        total, jobs = len(self.cells), len(self.cells) - left_out
        noun = "cell" if total == 1 else "cells"
        yield f"### Build stages: a job for {jobs} of {total} {noun}"
        for cell in self.cells:
            yield from ("", f"#### {_escaped(cell.label or cell.session)}", "")
            if self._is_left_out(cell):
                yield f"Left out: {_where(cell)}."
                yield ""
            yield "| state | output | version | stage | why |"
            yield "| --- | --- | --- | --- | --- |"
            yield from map(_row, cell.outputs)

    def _jobs(self, cells: Iterable[CellPlan]) -> list[CellPlan]:
        return [cell for cell in cells if not self._is_left_out(cell)]

    def _level(self, number: int) -> list[CellPlan]:
        """Return the stages of a level; several cells may have the same one."""
        levels = (cell.levels[number : number + 1] for cell in self.cells)
        stages: dict[str, CellPlan] = {}
        for stage in chain.from_iterable(chain.from_iterable(levels)):
            stages.setdefault(stage.session, stage)
        return self._jobs(stages.values())

    def _is_left_out(self, cell: CellPlan) -> bool:
        return self.only_missing and cell.is_cached


def _matrix(jobs: Iterable[CellPlan]) -> str:
    include = [job.to_dict() for job in jobs]
    return json.dumps({"include": include}, separators=(",", ":"))


def assignments(outputs: Mapping[str, str]) -> str:
    """Return outputs of a step as GitHub's runner reads them, several lines too."""
    return "".join(_assignment(name, value) for name, value in outputs.items())


def _assignment(name: str, value: str) -> str:
    if value.splitlines() in ([], [value]) and value == value.strip():
        return f"{name}={value}\n"
    # A text that holds its own digest isn't to be had.
    end = f"end-{hashlib.sha256(value.encode()).hexdigest()}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def _where(cell: CellPlan) -> str:
    """Return where a cell has all its wheels."""
    remote = sum(it.remote for it in cell.outputs)
    if not remote:
        return "all its wheels are in the store"
    if remote == len(cell.outputs):
        return "all its wheels are in the remote store"
    return "all its wheels are in the store or in the remote store"


def _row(planned: Planned) -> str:
    known = (planned.state, planned.name, planned.version, planned.stage)
    where = ("in the remote store",) if planned.remote else ()
    why = "<br>".join(map(_escaped, planned.reasons or where))
    return f"| {' | '.join((*map(_escaped, known), why))} |"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.replace("&", "&amp;").split()))


def lines(outputs: Mapping[str, str]) -> Iterable[str]:
    """Return outputs of a step for people."""
    return (f"{name}={value}" for name, value in outputs.items())
