"""Every error draws the same shape, and says how to fix the problem."""

from __future__ import annotations

import errno
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages import errors
from nox_buildstages.errors import (
    BackendError,
    BuildError,
    BuildStagesError,
    BuildTimeoutError,
    ChangedEnvironmentError,
    CommandError,
    DeclarationError,
    DivergingStageError,
    EditedLockError,
    HashMismatchError,
    HitRateError,
    InvalidLockError,
    LocalVersionError,
    LockError,
    MatchRuntimeError,
    MetadataError,
    NoWheelError,
    PreflightError,
    Problem,
    ProposalError,
    RemoteStoreUnreachableError,
    ResolutionError,
    SourceError,
    StaleLockError,
    UncheckedError,
    UnlockableCellsError,
    UnorderedOutputError,
    UsageError,
    WheelError,
    file_system_error,
    not_run,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PYPROJECT = Path("/project/pyproject.toml")

MESSAGES: list[tuple[BuildStagesError, str]] = [
    (BuildStagesError(problem="nothing works"), "error: nothing works"),
    (
        BuildError(
            subject="a 1.0 (stage s)",
            problem="its build writes\ninto the environment",
            details=["added lib/x", "", "added lib/y"],
            log=Path("/logs/a.log"),
            hint="add it to the stage:\n  [[tool.nox-buildstages.stage]]",
        ),
        """
        error: a 1.0 (stage s): its build writes into the environment
          added lib/x

          added lib/y
          log: /logs/a.log
        help: add it to the stage:
          [[tool.nox-buildstages.stage]]
        """,
    ),
    (
        ChangedEnvironmentError(output="a", stage="s", owners=["x", "y"], hint="do"),
        """
        error: a (stage s): its build writes into the environment that it runs in, in\
 the folder of x, y
        help: do
        """,
    ),
    (
        LockError(problem="no lock", details=["x"] * 32, hint="do this\nor\n  that"),
        "error: no lock\n"
        + "  x\n" * 30
        + "  … and 2 more\nhelp: do this\n  or\n    that",
    ),
    (
        UsageError(problem="--rebuild torch: no such output", hint="write a name"),
        """
        error: --rebuild torch: no such output
        help: write a name
        """,
    ),
    (
        DeclarationError(
            path=PYPROJECT, problems=[Problem(location="tool.x", message="is missing")]
        ),
        """
        error: pyproject.toml: 1 problem
          tool.x: is missing
        """,
    ),
    (
        DeclarationError(
            path=PYPROJECT, problems=[Problem(location="x", message="is missing")] * 31
        ),
        "\nerror: pyproject.toml: 31 problems" + "\n  x: is missing" * 31,
    ),
    (
        CommandError(command="git", reason="exit status 1", output="fatal: no\n\n"),
        """
        error: git: failed (exit status 1)
          fatal: no
        """,
    ),
    (
        SourceError(subject="a-1.tar.gz", problem="it is empty", hint="lock again"),
        """
        error: a-1.tar.gz: it is empty
        help: lock again
        """,
    ),
    (
        HashMismatchError(
            subject="a-1.tar.gz",
            problem="it isn't the file that was locked",
            hint="lock again",
            expected="aa",
            found="bb",
        ),
        """
        error: a-1.tar.gz: it isn't the file that was locked
          expected sha256 aa
          found    sha256 bb
        help: lock again
        """,
    ),
    (
        InvalidLockError(subject="pylock.a.toml", problem="can't be read"),
        """
        error: pylock.a.toml: can't be read
        help: lock the project, and commit the lock files:
          nox -s build-stages-lock
        """,
    ),
    (
        StaleLockError(problem="pylock.a.toml is missing"),
        """
        error: the lock files are out of date: pylock.a.toml is missing
        help: lock the project, and commit the lock files:
          nox -s build-stages-lock
        """,
    ),
    (
        EditedLockError(),
        """
        error: the lock files: a lock file was edited or merged after all were written
        help: to accept what pyproject.toml allows, lock the project again:
          nox -s build-stages-lock
        """,
    ),
    (
        ResolutionError(name="kernels", details=["no solution"]),
        """
        error: stage kernels: can't be locked
          no solution
        help: check the dependencies of stage kernels, and what its outputs require
        """,
    ),
    (
        ResolutionError(name="final", target="CPython 3.12", problem="no sha256"),
        """
        error: runtime environment for CPython 3.12: no sha256
        help: check final.requirements, and what the outputs require
        """,
    ),
    (
        ResolutionError(name="outputs"),
        """
        error: outputs: can't be locked
        help: check the versions in outputs, final.requirements and dependencies
        """,
    ),
    (
        NoWheelError(
            name="final", project="dep", reason="no wheel for x", details=["uv says"]
        ),
        """
        error: runtime environment: dep would have to be built: no wheel for x
          uv says
        help: make it an output of a stage:
          outputs = ["dep"]
        """,
    ),
    (
        NoWheelError(name="a", project="dep", reason="it is an sdist", hint="do this"),
        """
        error: stage a: dep would have to be built: it is an sdist
        help: do this
        """,
    ),
    (
        MatchRuntimeError(name="torch", details=["kernels: 2.8", "final: 2.13"]),
        """
        error: torch: no version suits every environment (match-runtime)
          kernels: 2.8
          final: 2.13
        help: change one of these, or remove torch from match-runtime
        """,
    ),
    (
        DivergingStageError(stage="a", subject="stage a", problem="differs"),
        "error: stage a: differs",
    ),
    (
        UnlockableCellsError(problem="1 of 2 cells can't be locked"),
        "error: 1 of 2 cells can't be locked",
    ),
    (
        UnorderedOutputError(stage="a", output="x", provider="b"),
        """
        error: stage a: its environment needs x, an output of stage b
        help: add "x" to the dependencies of stage a, so that stage b comes first
        """,
    ),
    (
        UnorderedOutputError(stage="a", output="x", provider="a"),
        """
        error: stage a: its environment needs x, an output of stage a
        help: move the outputs that need x to a later stage
        """,
    ),
    (
        MetadataError(output="x", stage="a", problem="no hook", hint="do\n  this"),
        """
        error: x (stage a): no hook
        help: do
          this
        """,
    ),
    (
        LocalVersionError(output="x", stage="a", problem="no torch"),
        "error: x (stage a): no torch",
    ),
    (ProposalError(problem="a cycle"), "error: a cycle"),
    (
        BackendError(
            output="x",
            stage="a",
            hook="build_wheel",
            reason="exit status 1",
            version="1.0",
            seconds=5.2,
            is_compile_error=True,
            log_length=48,
            details=("k.c:4:1: error: no", "  4 | int", "… and 2 more"),
            log=Path("/logs/x.log"),
        ),
        """
        error: x 1.0 (stage a) failed to compile after 5 s

          k.c:4:1: error: no
            4 | int
          … and 2 more
          log: /logs/x.log (2 of 48 lines above)
        help: fix or patch the source, then run the same command again
          to look around: nox -s build-stages-shell -- x
        """,
    ),
    (
        BackendError(
            output="x",
            stage="a",
            hook="build_wheel",
            reason="killed by signal 9",
            out_of_memory=True,
            hint="fewer jobs",
        ),
        """
        error: x (stage a) failed to build: killed by signal 9
        help: fewer jobs
        """,
    ),
    (
        BuildError(
            subject="stage a",
            problem="2 outputs failed: x, y",
            causes=[BuildError(subject="x", problem="a"), BuildError(problem="b")],
        ),
        """
        error: x: a

        error: b

        error: stage a: 2 outputs failed: x, y
        """,
    ),
    (
        BackendError(
            output="x", stage="a", hook="h", reason="r", hint="add torch to the stage"
        ),
        """
        error: x (stage a): h failed: r
        help: add torch to the stage
        """,
    ),
    (
        BuildTimeoutError(subject="x (stage a)", problem="stopped after 5 h"),
        """
        error: x (stage a): stopped after 5 h
        help: run the same command again: compiled object files are kept
        """,
    ),
    (
        PreflightError(
            subject="x (stage a)",
            problem="the submodule b is empty",
            hint="fetch it",
        ),
        """
        error: x (stage a): the submodule b is empty
        help: fetch it
        """,
    ),
    (
        WheelError(subject="a-1-py3-none-any.whl", problem="no RECORD"),
        "error: a-1-py3-none-any.whl: no RECORD",
    ),
    (
        HitRateError(subject="x 1.0 (stage a)", problem="ccache found 1 of 2"),
        "error: x 1.0 (stage a): ccache found 1 of 2",
    ),
    (
        UncheckedError(
            subject="the release",
            problem="a wheel couldn't be checked, so nothing is released",
        ),
        "error: the release: a wheel couldn't be checked, so nothing is released",
    ),
    (
        RemoteStoreUnreachableError(reason="no answer in 30 s"),
        "error: the remote store can't be reached (no answer in 30 s)",
    ),
    (
        file_system_error(OSError(errno.EACCES, "Permission denied", "a.whl")),
        """
        error: a.whl: Permission denied
        help: change its permissions, so that you can read and write it
        """,
    ),
    (
        file_system_error(OSError(errno.ENOTDIR, "Not a directory", "a/b")),
        """
        error: a/b: Not a directory
        help: move that file away, because a folder is needed there; or choose\
 another folder with NOX_BUILDSTAGES_CACHE_DIR, lock-dir or wheelhouse
        """,
    ),
    (file_system_error(OSError("it went away")), "error: it went away"),
    (
        not_run("a", "x", "y"),
        """
        error: stage a: x, y would have to be built
        help: the environment is ready; run nox without --install-only
        """,
    ),
]


@pytest.mark.parametrize(
    ("error", "message"), MESSAGES, ids=[str(number) for number in range(len(MESSAGES))]
)
def test_a_message_names_the_problem_and_the_fix(
    error: BuildStagesError, message: str
) -> None:
    """The lines are the problem, its details, the log and the hint."""
    assert str(error) == inspect.cleandoc(message)
    assert not str(error).endswith(".")


def test_the_summary_is_one_line() -> None:
    """Nox shows the summary as the reason why a session failed."""
    error = BuildError(subject="a", problem="b\nc", details=["d"], hint="e")
    assert error.summary == "a: b c"


def test_sentences_are_wrapped_on_a_terminal() -> None:
    """What can be pasted isn't."""
    error = BuildStagesError(
        subject="stage kernels",
        problem="its tool 'swig' isn't on PATH",
        hint="install it on this machine, or here:\n  apt install swig libswig-dev",
    )
    assert [*error.lines(width=30)] == [
        "error: stage kernels: its tool",
        "       'swig' isn't on PATH",
        "help: install it on this",
        "      machine, or here:",
        "  apt install swig libswig-dev",
    ]


def test_a_terminal_shows_each_kind_of_line_in_its_colour() -> None:
    """Without the colours, the text is the same."""
    error = BuildError(problem="b", details=["d"], log=Path("/l"), hint="do\nthis")
    lines = list(error.lines(colour=True))
    assert lines == [
        "\x1b[1;31merror:\x1b[0m \x1b[1mb\x1b[0m",
        "  d",
        "\x1b[2m  log: /l\x1b[0m",
        "\x1b[36mhelp:\x1b[0m do",
        "  this",
    ]
    assert re.sub(r"\x1b\[[\d;]*m", "", "\n".join(lines)) == str(error)


def test_the_errors_in_a_log_are_red() -> None:
    """So is the line that points at the place; the source has no colour."""
    details = ("a.c:4:21: error: no", "    4 | int f;", "      |   ^~~", "cc1: note: x")
    error = BackendError(
        output="x", stage="a", hook="build_wheel", reason="r", details=details
    )
    assert list(error.lines(colour=True))[2:6] == [
        "\x1b[1;31m  a.c:4:21: error: no\x1b[0m",
        "      4 | int f;",
        "\x1b[31m        |   ^~~\x1b[0m",
        "  cc1: note: x",
    ]


def classes() -> dict[str, type[BuildStagesError]]:
    found = inspect.getmembers(errors, inspect.isclass)
    return {name: cls for name, cls in found if issubclass(cls, BuildStagesError)}


def test_every_class_has_a_message_here() -> None:
    """A new class comes with a test of its message."""
    assert {type(error).__name__ for error, _ in MESSAGES} == set(classes())


def tree() -> Iterator[tuple[str, str]]:
    """Yield each class in the docstring of the module, with its base."""
    bases: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r" {4}([│├└─ ]*)(\w+Error)\b", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        bases[depth:] = [found[2]]
        yield found[2], bases[depth - 1] if depth else "Exception"


def test_the_tree_in_the_docstring_is_complete() -> None:
    """The docstring lists every class under its base."""
    real = {name: cls.__bases__[-1].__name__ for name, cls in classes().items()}
    assert sorted(tree()) == sorted(real.items())
