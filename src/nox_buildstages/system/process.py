"""Running programs: a Command is a value, a Runner carries it out."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from nox_buildstages.errors import CommandError
from nox_buildstages.indexes.logins import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

GRACE = 3.0
"""Seconds that a program has between being asked to end and being killed."""

BEAT = 1.0
"""Seconds between two looks at a program that is attended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A program to run.

    Attributes:
        argv: The program and its arguments; never a shell's line.
        cwd: Where it runs; None for here.
        env: All of its environment; None for ours.
        log: A file that its output is appended to; None to capture it.
        attend: Called again and again while it runs; what it raises ends the program.
        lifeline: Whether its input is a pipe that stays open for as long as we live.
    """

    argv: tuple[str, ...]
    cwd: Path | None = None
    env: Mapping[str, str] | None = field(default=None, repr=False)
    log: Path | None = None
    attend: Callable[[], None] | None = None
    lifeline: bool = False

    def __str__(self) -> str:
        return redacted(subprocess.list2cmdline(self.argv))


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """How a program ended.

    Attributes:
        returncode: Its exit status; negative for the signal that killed it.
        stdout: What it wrote there; empty where it went to a log.
        stderr: Likewise.
    """

    returncode: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs a command to its end."""

    def __call__(self, command: Command) -> Completed:
        """Run it, and return however it ended.

        Raises:
            CommandError: It could not be started.
        """


def run(command: Command) -> Completed:
    """Run a command as a subprocess; end it when we are interrupted.

    The program stays in our process group, so that whoever ends the group, a
    terminal's Ctrl-C or nox's ``-j``, ends what it started too; or it watches its
    lifeline.

    Raises:
        CommandError: It could not be started.
    """
    if command.log is None:
        return _communicate(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with command.log.open("ab") as log:
        return _communicate(command, stdout=log, stderr=subprocess.STDOUT)


def checked(runner: Runner, command: Command) -> str:
    """Run a command that must succeed, and return what it printed.

    Raises:
        CommandError: It could not be started, or ended with another status than 0.
    """
    completed = runner(command)
    if completed.returncode:
        raise CommandError(
            command=str(command),
            reason=f"exit status {completed.returncode}",
            output=completed.stderr or completed.stdout,
        )
    return completed.stdout


def _communicate(command: Command, **streams: object) -> Completed:
    with _input(command) as stdin:
        return _carried_out(command, stdin=stdin, **streams)


@contextmanager
def _input(command: Command) -> Iterator[int]:
    """Yield what a program reads from: nothing, or a pipe of which we hold the end."""
    if not command.lifeline:
        yield subprocess.DEVNULL
        return
    reader, writer = os.pipe()
    try:
        yield reader
    finally:
        os.close(writer)
        os.close(reader)


def _carried_out(command: Command, **streams: object) -> Completed:
    try:
        process = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=command.env,
            encoding="utf-8",
            errors="replace",
            **streams,  # type: ignore[call-overload]
        )
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise CommandError(command=str(command), reason=reason) from error
    with process:
        try:
            stdout, stderr = _attended(process, command.attend)
        except BaseException:
            _end(process)
            raise
    return Completed(
        returncode=process.returncode, stdout=stdout or "", stderr=stderr or ""
    )


def _attended(
    process: subprocess.Popen[str], attend: Callable[[], None] | None
) -> tuple[str | None, str | None]:
    if attend is None:
        return process.communicate()
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=BEAT)
        attend()


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def side_by_side(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Make calls that wait for other programs, as many at once as there are cores.

    Returns:
        What they return, in their order; the first one's exception is raised.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only to lock

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
