"""Run programs: a Command is a value, a Runner runs a Command."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol, TypeVar

from nox_buildstages.errors import CommandError
from nox_buildstages.indexes.mask import Mask
from nox_buildstages.indexes.url_secrets import redact
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import IO

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

GRACE = 3.0
"""Seconds between asking a program to end and killing it."""

BEAT = 0.2
"""Seconds between two calls of ``Command.attend``."""

USUAL_UMASK = 0o022
"""The umask of programs that make files for wheels, which record modes."""

TOOLCHAINS = {
    "ASDF_DATA_DIR": ".asdf",
    "ELAN_HOME": ".elan",
    "FNM_DIR": ".local/share/fnm",
    "GOENV_ROOT": ".goenv",
    "JENV_ROOT": ".jenv",
    "JULIAUP_DEPOT_PATH": ".julia",
    "MISE_CONFIG_DIR": ".config/mise",
    "MISE_DATA_DIR": ".local/share/mise",
    "NODENV_ROOT": ".nodenv",
    "NVM_DIR": ".nvm",
    "OPAMROOT": ".opam",
    "PROTO_HOME": ".proto",
    "PYENV_ROOT": ".pyenv",
    "RBENV_ROOT": ".rbenv",
    "RYE_HOME": ".rye",
    "RUSTUP_HOME": ".rustup",
    "SDKMAN_DIR": ".sdkman",
    "SWIFTLY_HOME_DIR": ".local/share/swiftly",
    "VOLTA_HOME": ".volta",
}
"""Variables that name the folder of toolchains, and the default below the home."""

_HELPER = (
    "PATH|HOME|USER|LOGNAME|TMPDIR|TEMP|TMP|SYSTEMROOT|TZ|LANG|LANGUAGE|LC_[A-Z]+"
    "|LD_LIBRARY_PATH"
)
_COMPILER = rf"{'|'.join(TOOLCHAINS)}|(CUDA|NVCC)_\w+"
"""The variables by which a shim or nvcc finds its compiler, as a pattern."""

_INTERRUPT: ContextVar[Event | None] = ContextVar("interrupt", default=None)
"""In threads of ``run_in_parallel``: set by Ctrl-C, which only the main thread gets."""


class Command(Value):
    """A program to run."""

    argv: tuple[str, ...]  # never a shell command line
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """All variables of the program; ours hold secrets, so none is passed on unnamed."""
    log: Path | None = None
    """A file to append the output to; None to capture the output."""
    mask: Mask = field(default_factory=Mask, repr=False)
    """Values that the log must not contain."""
    attend: Callable[[], None] | None = None
    """Called every ``BEAT`` while the program runs; an exception ends it."""
    umask: int = -1
    """The umask of the program; -1 for ours."""
    held: tuple[int, ...] = ()
    """Descriptors of locks, which stay locked until the program ends."""
    lifeline: bool = False
    """Whether the program's stdin is a pipe that stays open while our process lives."""

    def __str__(self) -> str:
        return redact(subprocess.list2cmdline(self.argv))


class Completed(Value):
    """The result of running a program; without output if there is a log."""

    returncode: int  # for a killed program, the negative number of the signal
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs commands."""

    def __call__(self, command: Command) -> Completed:
        """Run a command to the end and return the result, with any exit status.

        Raises:
            CommandError: The program could not be started.
        """


def run(command: Command) -> Completed:
    """Run a command as a subprocess; end the subprocess if we are interrupted.

    The program stays in our process group, so Ctrl-C in a terminal and nox's ``-j``
    end the program and all children too. A program with a lifeline ends by itself when
    the pipe closes.

    Raises:
        CommandError: The program could not be started.
    """
    if command.log is None:
        return _run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with command.log.open("ab") as log:
        if not command.mask.parts:
            return _run(command, stdout=log, stderr=subprocess.STDOUT)
        from nox_buildstages.system.masked_log import mask_output  # noqa: PLC0415 - for few

        with mask_output(log, command.mask) as pipe:
            return _run(command, stdout=pipe, stderr=subprocess.STDOUT)


def run_in_foreground(command: Command) -> int:
    """Run an interactive program on our terminal; return the exit status.

    Ctrl-C is for the program, and doesn't end our process.

    Raises:
        CommandError: The program can't be started.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run(
            command.argv,
            cwd=command.cwd,
            env=command.env,
            umask=command.umask,
            check=False,
        ).returncode
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise CommandError(command=str(command), reason=reason) from error
    finally:
        signal.signal(signal.SIGINT, before)


def run_checked(runner: Runner, command: Command) -> str:
    """Run a command and return the standard output; failure is an error.

    Raises:
        CommandError: The program could not be started, or the exit status isn't 0.
    """
    completed = runner(command)
    if completed.returncode:
        raise CommandError(
            command=str(command),
            reason=f"exit status {completed.returncode}",
            output=completed.stderr or completed.stdout,
        )
    return completed.stdout


def helper_variables(outer: Mapping[str, str], more: str = "") -> dict[str, str]:
    """Return the variables of a program that helps us, without any secret of the user.

    They say where programs, the home and temporary files are, and which language
    messages have. ``more`` is a pattern of the names of other variables.
    """
    pattern = re.compile(f"{_HELPER}|{more}")
    return {name: outer[name] for name in outer if pattern.fullmatch(name)}


def version_command(program: str, outer: Mapping[str, str]) -> Command:
    """Return the command that asks a program for its version.

    rustup, pyenv and others choose a version by files in the current folder, and a
    build sees none of the project's. The words aren't translated.
    """
    return Command(
        argv=(program, "--version"),
        cwd=Path("/"),
        env={**helper_variables(outer, _COMPILER), "LC_ALL": "C.UTF-8", "LANGUAGE": ""},
    )


def _run(command: Command, *, stdout: int | IO[bytes], stderr: int) -> Completed:
    pipe = os.pipe() if command.lifeline else ()
    try:
        try:
            process = subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env=command.env,
                encoding="utf-8",
                errors="replace",
                stdin=pipe[0] if pipe else subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                umask=command.umask,
                pass_fds=command.held,
            )
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            raise CommandError(command=str(command), reason=reason) from error
        started, number = time.monotonic(), process.pid
        _LOG.debug("process %d in %s: %s", number, command.cwd or ".", command)
        with process:
            try:
                output, errors = _wait(process, command.attend)
            except BaseException:
                process.terminate()
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                raise
            finally:
                seconds, status = time.monotonic() - started, process.returncode
                _LOG.debug("process %d: status %s, %.2f s", number, status, seconds)
    finally:
        for end in reversed(pipe):
            os.close(end)
    return Completed(
        returncode=process.returncode, stdout=output or "", stderr=errors or ""
    )


def _wait(
    process: subprocess.Popen[str], attend: Callable[[], None] | None
) -> tuple[str | None, str | None]:
    if attend is None and _INTERRUPT.get() is None:
        return process.communicate()
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=BEAT)
        check_interrupt()
        if attend is not None:
            attend()


def check_interrupt() -> None:
    """Raise KeyboardInterrupt in a thread of ``run_in_parallel`` after Ctrl-C."""
    interrupt = _INTERRUPT.get()
    if interrupt is not None and interrupt.is_set():
        raise KeyboardInterrupt


def run_in_parallel(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Make calls in as many threads as there are cores; return the results in order.

    Ctrl-C ends the programs that the calls run, and the calls.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - a no-op needs none

    interrupt = _INTERRUPT.get() or Event()

    def call_in_thread(call: Callable[[], T]) -> T:
        _INTERRUPT.set(interrupt)
        return call()

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        futures = [pool.submit(call_in_thread, call) for call in calls]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            interrupt.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
