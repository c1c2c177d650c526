"""Every way to fail.

::

    BuildStagesError
    ├── DeclarationError         the table in pyproject.toml, all problems at once
    ├── UsageError               words after ``--``, flags of nox
    ├── CommandError             a program that could not be run, or ended badly
    ├── LockError
    │   ├── MissingLockError     no lock files, and none may be written
    │   ├── StaleLockError       lock files of other inputs, and none may be written
    │   ├── InvalidLockError     a lock file that can't be read
    │   ├── ResolutionError      no set of versions satisfies the requirements
    │   ├── MatchRuntimeError    no one version for every environment
    │   ├── UnorderedOutputError an output is wanted where it isn't built yet
    │   └── MetadataError        what an output requires can't be known
    ├── SourceError              fetching, verifying or unpacking a source
    │   └── HashMismatchError
    ├── EnvironmentDiffersError  an environment isn't what its lock says
    ├── BuildError
    │   ├── BackendError         a hook failed
    │   └── WheelError           a backend made something else than the wheel asked for
    ├── MissingWheelError        a stage's wheel isn't in the store
    └── StoreError               the store can't be read or written

Each holds data and words itself: what is wrong, where, and what mends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class BuildStagesError(Exception):
    """The root: anything that nox-buildstages itself finds wrong."""

    def lines(self) -> Iterator[str]:
        """Yield the message: what is wrong, then where, then what mends it."""
        yield from super().__str__().splitlines()

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong in a table.

    Attributes:
        place: Such as ``tool.nox-buildstages.stage[1].outputs[0]``.
        message: What is wrong there, and what would be right.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(kw_only=True, eq=False)
class DeclarationError(BuildStagesError):
    """The table is faulty.

    Attributes:
        path: The file.
        problems: All of them, in the file's order.
    """

    path: Path
    problems: tuple[Problem, ...]

    def lines(self) -> Iterator[str]:
        """Yield a heading and a line for each problem."""
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        yield f"{count} {noun} in {self.path}"
        yield from (f"  {problem}" for problem in self.problems)


@dataclass(kw_only=True, eq=False)
class UsageError(BuildStagesError):
    """Nox was called in a way that can't be followed.

    Attributes:
        message: What was asked for and why it can't be.
        mend: What to do instead.
    """

    message: str
    mend: str

    def lines(self) -> Iterator[str]:
        """Yield the message and what to do instead."""
        yield self.message
        yield self.mend


@dataclass(kw_only=True, eq=False)
class CommandError(BuildStagesError):
    """A program could not be run, or ended badly.

    Attributes:
        command: As one would type it.
        reason: Why it counts as failed.
        output: What it had to say.
    """

    command: str
    reason: str
    output: str = ""

    def lines(self) -> Iterator[str]:
        """Yield the command, the reason and the program's own words."""
        yield f"{self.command} failed ({self.reason})"
        yield from self.output.rstrip().splitlines()


@dataclass(kw_only=True, eq=False)
class SourceError(BuildStagesError):
    """A source can't be had, or can't be trusted.

    Attributes:
        source: As the lock names it.
        problem: What is wrong with it.
        mend: What to do.
    """

    source: str
    problem: str
    mend: str

    def lines(self) -> Iterator[str]:
        """Yield the source, the problem and what to do."""
        yield f"{self.source}: {self.problem}"
        yield self.mend


@dataclass(kw_only=True, eq=False)
class HashMismatchError(SourceError):
    """A file isn't the one that was locked.

    Attributes:
        expected: The locked sha256.
        found: That of the file.
    """

    expected: str
    found: str

    def lines(self) -> Iterator[str]:
        """Yield both hashes between the problem and what to do."""
        yield f"{self.source}: {self.problem}"
        yield f"  expected sha256 {self.expected}"
        yield f"  found    sha256 {self.found}"
        yield self.mend


class BuildError(BuildStagesError):
    """An output could not be built."""


@dataclass(kw_only=True, eq=False)
class WheelError(BuildError):
    """A file isn't a sound wheel, or not the one that was asked for.

    Attributes:
        wheel: The file's name.
        problem: What is wrong with it.
    """

    wheel: str
    problem: str

    def lines(self) -> Iterator[str]:
        """Yield the wheel and what is wrong."""
        yield f"{self.wheel}: {self.problem}"
