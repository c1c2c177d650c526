"""How far a build is: from the lines of its log to one line for people."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nox_buildstages.text import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable

_STEP = re.compile(r"\s*\[\s*(\d+)\s*/\s*(\d+)\]\s")
"""What ninja says, and so meson, CMake and torch; Cython; Bazel with spaces."""

_PERCENT = re.compile(r"\s*\[\s*(\d{1,3})%\]\s")
"""What the makefiles of CMake say."""

_CRATE = re.compile(r"\s*Compiling \S+ v\d")
"""What cargo says of each crate."""

_EXTENSION = re.compile(r"building '[^']+' (?:C )?extension\b")
"""What setuptools says before it runs the compilers of an extension."""

_COMPILER = re.compile(
    r"(?:libtool: compile: +)?(?:\S*ccache +)?(?:[^\s\[]*/)?(?:[\w.]+-)*"
    r"(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|nvcc|hipcc|gfortran)(?:-[\d.]+)?\s"
)
"""What setuptools and make say: the command itself."""

_ENOUGH = 3
"""Steps after which their pace says something."""

_MINUTE = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a build has come, in steps.

    Attributes:
        done: How many steps.
        total: Of how many; None where nothing said so.
        unit: What follows a number of them, such as ``%``.
    """

    done: int = 0
    total: int | None = None
    unit: str = ""

    def __str__(self) -> str:
        if self.unit:
            return f"[{self.done}{self.unit}]"
        if self.total is not None:
            return f"[{self.done}/{self.total}]"
        return f"[{self.done}]" if self.done else ""

    def after(self, line: str) -> Progress:
        """Return the progress when the log has one line more.

        What a tool states itself goes before what we count, until it has come to its
        end, or setuptools says that it begins something else.
        """
        if step := _STEP.match(line):
            return Progress(done=int(step[1]), total=int(step[2]))
        if percent := _PERCENT.match(line):
            return Progress(done=int(percent[1]), total=100, unit="%")
        is_counted = self.total is None
        if _EXTENSION.match(line):
            return self if is_counted else Progress()
        if not _is_counted(line):
            return self
        if is_counted:
            return replace(self, done=self.done + 1)
        return self if self.done != self.total else Progress(done=1)

    def of(self, known: Progress) -> Progress:
        """Return the progress with the total that an earlier build came to.

        Args:
            known: At the end of a build of the same source.
        """
        is_stated = self.total is not None or known.total is not None
        if is_stated or self.done > known.done or not known.done:
            return self
        return replace(self, total=known.done)


def read(lines: Iterable[str]) -> Progress:
    """Return the progress at the end of a log."""
    progress = Progress()
    for line in lines:
        progress = progress.after(line)
    return progress


def _is_counted(line: str) -> bool:
    if _CRATE.match(line):
        return True
    return " -c " in line and _COMPILER.match(line) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How fast steps are done.

    Attributes:
        first: When the first of them was seen, and how many were done then.
        last: The same of the last.
    """

    first: tuple[float, int] | None = None
    last: tuple[float, int] = (0.0, 0)

    def after(self, done: int, *, now: float) -> Rate:
        """Return the pace when so many are done; where they are fewer, it is another.

        Args:
            done: Steps; 0 where none was seen.
            now: In seconds, from any beginning.
        """
        if not done or done == self.last[1]:
            return self
        first = (now, done) if self.first is None or done < self.last[1] else self.first
        return Rate(first=first, last=(now, done))

    def left(self, progress: Progress, *, now: float) -> float | None:
        """Return how many seconds are left; None where that can't be said yet."""
        if self.first is None or progress.total is None:
            return None
        (begin, start), (end, done) = self.first, self.last
        if done - start < _ENOUGH:
            return None
        each = (end - begin) / (done - start)
        return max(0.0, each * (progress.total - done) - (now - end)) or None


def line(
    name: str, phase: str, *, steps: str = "", elapsed: float, left: float | None = None
) -> str:
    """Return the line that tells how far something is.

    Args:
        name: Of the output, or of the stage.
        phase: What is done for it.
        steps: How many are done, such as ``[37/84]``.
        elapsed: Seconds since its beginning.
        left: Seconds to its end, as far as one can tell; None where one can't.
    """
    doing = f"{phase} {steps}".rstrip()
    rest = "" if left is None else f", about {_roughly(left)} left"
    return f"{name}  {doing}  {format_time(elapsed)}{rest}"


def _roughly(seconds: float) -> str:
    """Return a time no finer than it can be known."""
    if seconds < _MINUTE - 5:
        return f"{max(1, round(seconds / 10)) * 10} s"
    return format_time(max(1, round(seconds / _MINUTE)) * _MINUTE)
