"""The progress of a build, from the log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nox_buildstages.text import format_time
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

_STEP = re.compile(r"\s*\[\s*(\d+)\s*/\s*(\d+)\]\s")
"""A step of ninja (so of meson, CMake and torch), Cython, or Bazel (with spaces)."""

_PERCENT = re.compile(r"\s*\[\s*(\d{1,3})%\]\s")
"""A step of CMake's makefiles."""

_CRATE = re.compile(r"\s*Compiling \S+ v\d")
"""A crate that cargo compiles."""

_EXTENSION = re.compile(r"building '[^']+' (?:C )?extension\b")
"""The start of an extension in setuptools."""

_COMPILER = re.compile(
    r"(?:libtool: compile: +)?(?:\S*ccache +)?(?:[^\s\[]*/)?(?:[\w.]+-)*"
    r"(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|nvcc|hipcc|gfortran)(?:-[\d.]+)?\s"
)
"""A compiler's command line, as setuptools and make print it."""

_MIN_STEPS = 3
"""Minimum number of steps for an estimate of the rate."""

_MINUTE = 60


class Progress(Value):
    """The progress of a build, in steps."""

    done: int = 0
    total: int | None = None
    unit: str = ""  # a suffix, for example ``%``

    def __str__(self) -> str:
        if self.unit:
            return f"[{self.done}{self.unit}]"
        if self.total is not None:
            return f"[{self.done}/{self.total}]"
        return f"[{self.done}]" if self.done else ""

    def after(self, line: str) -> Progress:
        """Return the progress after another line of the log.

        Numbers in the log take precedence over counted compilers, until the last step
        or until setuptools begins the next extension.
        """
        if step := _STEP.match(line):
            return Progress(done=int(step[1]), total=int(step[2]))
        if percent := _PERCENT.match(line):
            return Progress(done=int(percent[1]), total=100, unit="%")
        is_counted = self.total is None
        if _EXTENSION.match(line):
            return self if is_counted else Progress()
        if not _CRATE.match(line) and not (" -c " in line and _COMPILER.match(line)):
            return self
        if is_counted:
            return replace(self, done=self.done + 1)
        return self if self.done != self.total else Progress(done=1)

    def with_total_of(self, previous: Progress) -> Progress:
        """Return the progress with the total of an earlier build of the same source."""
        has_total = self.total is not None or previous.total is not None
        if has_total or self.done > previous.done or not previous.done:
            return self
        return replace(self, total=previous.done)


def count_steps(lines: Iterable[str]) -> Progress:
    """Return the progress at the end of a log."""
    progress = Progress()
    for line in lines:
        progress = progress.after(line)
    return progress


class Rate(Value):
    """The rate at which steps finish."""

    first: tuple[float, int] | None = None  # time and number of steps
    last: tuple[float, int] = (0.0, 0)

    def after(self, done: int, *, now: float) -> Rate:
        """Return the rate after another measurement.

        If the number of steps has decreased, the measurement starts again.
        """
        if not done or done == self.last[1]:
            return self
        first = (now, done) if self.first is None or done < self.last[1] else self.first
        return Rate(first=first, last=(now, done))

    def seconds_left(self, progress: Progress, *, now: float) -> float | None:
        """Return the estimated remaining seconds; None if unknown."""
        if self.first is None or progress.total is None:
            return None
        (begin, start), (end, done) = self.first, self.last
        if done - start < _MIN_STEPS:
            return None
        each = (end - begin) / (done - start)
        return max(0.0, each * (progress.total - done) - (now - end)) or None


def progress_line(
    name: str, phase: str, *, steps: str = "", elapsed: float, left: float | None = None
) -> str:
    """Return the progress line of an output or a stage."""
    doing = f"{phase} {steps}".rstrip()
    if left is None:
        rest = ""
    elif left < _MINUTE - 5:
        rest = f", about {max(1, round(left / 10)) * 10} s left"
    else:
        minutes = max(1, round(left / _MINUTE))
        rest = f", about {format_time(minutes * _MINUTE)} left"
    return f"{name}  {doing}  {format_time(elapsed)}{rest}"
