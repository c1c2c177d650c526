"""The progress of a build: from the log, and from the compilers that run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.store.compiled import Activity

_STEP = re.compile(r"\s*\[\s*(\d{1,9})\s*/\s*(\d{1,9})\]\s(?!Cythonizing )")
"""A finished step of ninja (so of meson, CMake and torch), or Bazel (with spaces).

Cython prints such a line when it begins with a file, before anything is compiled.
"""

_PERCENT = re.compile(r"\s*\[\s*(\d{1,3})%\]\s")
"""The start of a step in CMake's makefiles."""

_CRATE = re.compile(r"\s*Compiling \S+ v\d")
"""A crate that cargo compiles."""

_EXTENSION = re.compile(r"building '[^']+' (?:C )?extension\b")
"""The start of an extension in setuptools."""

_COMPILER = re.compile(
    r"(?:\[[A-Z]+\] +|libtool: compile: +)?(?:\S*ccache +)?(?:[^\s\[]*/)?(?:[\w.]+-)*"
    r"(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|nvcc|hipcc|gfortran)(?:-[\d.]+)?\s"
)
"""A compiler's command line, as setuptools and make print it, and others with a word in
brackets."""

_MIN_STEPS = 3
"""Minimum number of steps for an estimate of the rate."""


class LogSteps(Value):
    """The steps of a build, by its log."""

    done: int = 0
    total: int | None = None
    unit: str = "steps"
    begun: int = 0  # compilers and crates, counted as long as no tool states steps

    def after(self, line: str) -> LogSteps:
        """Return the steps after another line of the log.

        Numbers in the log take precedence over counted compilers, until the last step
        or until setuptools begins the next extension.
        """
        if step := _STEP.match(line):
            return LogSteps(done=int(step[1]), total=int(step[2]))
        if percent := _PERCENT.match(line):
            return LogSteps(done=int(percent[1]), total=100, unit="%")
        is_counted = self.total is None
        if _EXTENSION.match(line):
            return self if is_counted else LogSteps()
        if not _CRATE.match(line) and not (" -c " in line and _COMPILER.match(line)):
            return self
        if is_counted:
            return replace(self, begun=self.begun + 1)
        return self if self.done != self.total else LogSteps(begun=1)


class Progress(Value):
    """How far a build is. The total is only known while something is left."""

    done: int = 0
    total: int | None = None
    unit: str = "files"  # or ``steps``, or ``%``
    files: tuple[str, ...] = ()  # that are being compiled, relative to the source
    memory: int = 0  # bytes of all processes; 0 if unknown

    def __str__(self) -> str:
        """Return the steps in words: ``37/84 steps``, ``3 files``, ``42 %``."""
        if self.unit == "%":
            return f"{self.done} %"
        if self.total is not None:
            return f"{self.done}/{self.total} {self.unit}"
        unit = self.unit.removesuffix("s") if self.done == 1 else self.unit
        return f"{self.done} {unit}" if self.done else ""


def measure_progress(
    log: LogSteps, activity: Activity | None, previous: int | None = None
) -> Progress:
    """Return the progress of a running build.

    A log has a line when a compiler begins: those that still run aren't done. So the
    log is read before the supervisor looks. ``previous`` is the number of files in an
    earlier build of the same source.
    """
    running = activity.files if activity else ()
    done, total, unit = log.done, log.total, log.unit
    if total is None:
        is_running = max(len(running), activity is None)
        done = max(log.begun - is_running, activity.done if activity else 0)
        total, unit = previous, "files"
    if unit == "%":
        done = min(done, 99)  # it's the start of the last step, at most
    return Progress(
        done=done,
        total=total if total is not None and done < total else None,
        unit=unit,
        files=running,
        memory=activity.memory if activity else 0,
    )


def count_steps(lines: Iterable[str]) -> LogSteps:
    """Return the steps at the end of a log."""
    steps = LogSteps()
    for line in lines:
        steps = steps.after(line)
    return steps


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
