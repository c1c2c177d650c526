"""Every error of nox-buildstages, and the drawing of all messages.

::

    BuildStagesError
    ├── UsageError               options after ``--``, and flags of nox
    ├── DeclarationError         the table in pyproject.toml, all problems at once
    ├── CommandError             a program can't be started, or fails
    ├── LockError                making or using the lock files
    │   ├── InvalidLockError     a lock file can't be read
    │   ├── StaleLockError       lock files are missing or out of date
    │   ├── EditedLockError      lock files were edited by hand
    │   ├── ResolutionError      no set of versions satisfies the requirements
    │   │   └── NoWheelError     a dependency without a wheel
    │   ├── MatchRuntimeError    no version for every environment
    │   ├── DivergingStageError  cells of a matrix lock a shared stage differently
    │   ├── UnlockableCellsError some cells of a matrix can't be locked
    │   ├── UnorderedOutputError an environment needs an output of a later stage
    │   └── MetadataError        an output's metadata can't be determined
    │       └── LocalVersionError  an output's local version can't be determined
    ├── SourceError              fetching, verifying, unpacking or patching a source
    │   └── HashMismatchError    a file differs from the locked file
    ├── ProposalError            no stages can be proposed
    ├── UncheckedError           a check of a wheel couldn't be made
    ├── BuildError               building an output
    │   ├── BackendError         a hook of a build backend failed
    │   ├── ChangedEnvironmentError  a build writes into the environment it runs in
    │   ├── BuildTimeoutError    a stage reached the timeout
    │   ├── HitRateError         a compiler cache lacked more than is allowed
    │   ├── PreflightError       a check before the build failed
    │   └── WheelError           a file isn't the expected wheel
    └── RemoteStoreUnreachableError  the remote store doesn't answer

A subclass exists if the program catches it or the documentation explains the error.
"""

from __future__ import annotations

import errno
import re
from textwrap import dedent
from typing import TYPE_CHECKING, ClassVar

from nox_buildstages.safe_text import Shown, show, show_lines
from nox_buildstages.text import format_time, paint, show_path, wrap_line
from nox_buildstages.value import Record, Value, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

RELOCK = "lock the project, and commit the lock files:\n  nox -s build-stages-lock"
"""The hint for lock files that can't be used."""


class BuildStagesError(Record, Exception):
    """The base of all errors."""

    subject: str = ""  # what failed, such as "flash-attn 2.8.3 (stage kernels)"
    problem: str  # why, on one line
    details: Sequence[str] = ()  # lines that explain the problem
    log: Path | None = None
    hint: str = ""  # first a sentence, then commands or lines of pyproject.toml

    default_hint: ClassVar[str] = ""
    """The hint if the cause isn't known any better."""
    max_details: ClassVar[int | None] = 30
    """The number of details that are shown; None for all."""
    exit_status: ClassVar[int] = 1

    @property
    def summary(self) -> str:
        """The subject and the problem on one line."""
        parts = filter(None, (self.subject, self.problem))
        return " ".join(": ".join(parts).splitlines())

    def lines(
        self, *, colour: bool = False, width: int | None = None
    ) -> Iterator[Shown]:
        """Yield the lines of the message; its sentences are wrapped to a width."""
        first, *rest = _wrap("error:", self.summary, width)
        error = paint("error:", "bold red", colour=colour)
        yield show(error, " ", paint(first, "bold", colour=colour))
        yield from (paint(line, "bold", colour=colour) for line in rest)
        yield from self.detail_lines(colour=colour)
        if self.log is not None:
            log = f"  log: {show_path(self.log, self.log.cwd())}{self.log_note}"
            yield paint(log, "dim", colour=colour)
        sentence, _, more = (self.hint or self.default_hint).partition("\n")
        if sentence:
            first, *rest = _wrap("help:", sentence, width)
            yield show(paint("help:", "cyan", colour=colour), " ", first)
            yield from map(show, rest)
        yield from (show("  ", line) for line in dedent(more).splitlines())

    def detail_lines(self, *, colour: bool) -> Iterator[Shown]:  # noqa: ARG002 - subclasses
        """Yield the details, indented, up to the greatest number."""
        shown = self.details[: self.max_details]
        for text in shown:
            yield from show_lines(f"  {text}".rstrip())
        if len(shown) < len(self.details):
            yield show(f"  … and {len(self.details) - len(shown)} more")

    @property
    def log_note(self) -> str:
        """More about the log, behind the path."""
        return ""

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _wrap(label: str, text: str, width: int | None) -> list[str]:
    """Return a sentence behind a label as lines, the first one without the label."""
    if width is None:
        return [text]
    lines = wrap_line(f"{label} {text}", width, indent=" " * len(f"{label} "))
    return [lines[0].removeprefix(f"{label} "), *lines[1:]]


class UsageError(BuildStagesError):
    """The words after ``--``, or the flags of nox, ask for something impossible."""


class Problem(Value):
    """A problem of a table."""

    location: str  # such as tool.nox-buildstages.stage[1].outputs[0]
    message: str
    line: int | None = None  # None if it isn't known

    def __str__(self) -> str:
        line = "" if self.line is None else f" (line {self.line})"
        return f"{self.location}{line}: {self.message}"


class DeclarationError(BuildStagesError):
    """The table has problems."""

    path: Path  # the pyproject.toml
    problems: Sequence[Problem]  # in the order of the file
    problem: str = field(init=False)

    max_details = None

    def __post_init__(self) -> None:
        count = len(self.problems)
        self.subject = self.path.name
        self.problem = "1 problem" if count == 1 else f"{count} problems"
        self.details = [str(problem) for problem in self.problems]


class CommandError(BuildStagesError):
    """A program can't be started, or fails."""

    command: str
    reason: str  # such as exit status 1
    output: str = ""
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.subject = self.command
        self.problem = f"failed ({self.reason})"
        self.details = self.output.rstrip().splitlines()


class SourceError(BuildStagesError):
    """A source can't be fetched, verified, unpacked or patched."""


class HashMismatchError(SourceError):
    """A file isn't the locked file."""

    expected: str  # sha256
    found: str  # sha256

    def __post_init__(self) -> None:
        self.details = [
            f"expected sha256 {self.expected}",
            f"found    sha256 {self.found}",
        ]


class LockError(BuildStagesError):
    """The lock files can't be made or used."""


class InvalidLockError(LockError):
    """A lock file can't be read."""

    default_hint = RELOCK


class StaleLockError(LockError):
    """Lock files are missing or out of date."""

    subject: str = "the lock files are out of date"
    declared: Mapping[str, str] = field(default_factory=dict)
    """A digest of each declaration that they were made from, if it is noted."""

    default_hint = RELOCK


class EditedLockError(LockError):
    """Somebody edited or merged the lock files by hand."""

    subject: str = "the lock files"
    problem: str = "a lock file was edited or merged after all were written"

    default_hint = (
        "to accept what pyproject.toml allows, lock the project again:\n"
        "  nox -s build-stages-lock"
    )


class ResolutionError(LockError):
    """No set of versions satisfies the requirements."""

    name: str  # the stage, or final
    target: str = ""  # the interpreter, if there are several
    problem: str = "can't be locked"

    def __post_init__(self) -> None:
        titles = {"final": "runtime environment", "outputs": "outputs"}
        title = titles.get(self.name, f"stage {self.name}")
        self.subject = f"{title} for {self.target}" if self.target else title
        places = {
            "final": "final.requirements, and what the outputs require",
            "outputs": "the versions in outputs, final.requirements and dependencies",
        }
        own = f"the dependencies of stage {self.name}, and what its outputs require"
        self.hint = self.hint or f"check {places.get(self.name, own)}"


class NoWheelError(ResolutionError):
    """A dependency has no wheel, and nothing is built outside a stage."""

    project: str  # normalized
    reason: str  # why it would be built, such as no wheel for CPython 3.14
    version: str | None = None  # None if uv chose none
    requirements: tuple[str, ...] = ()  # of the resolution (PEP 508)
    constraints: tuple[str, ...] = ()  # of the resolution (PEP 508)
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.problem = f"{self.project} would have to be built: {self.reason}"
        self.hint = self.hint or (
            f'make it an output of a stage:\n  outputs = ["{self.project}"]'
        )
        super().__post_init__()


class MatchRuntimeError(LockError):
    """No version of a package suits every environment."""

    name: str  # the package
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.subject = self.name
        self.problem = "no version suits every environment (match-runtime)"
        self.hint = self.hint or (
            f"change one of these, or remove {self.name} from match-runtime"
        )


class DivergingStageError(LockError):
    """Cells with a shared stage need different environments for this stage."""

    stage: str  # or final


class UnlockableCellsError(LockError):
    """Some cells of a matrix can't be locked."""

    max_details = None


class UnorderedOutputError(LockError):
    """An environment needs an output of a later stage."""

    stage: str  # needs the output in its environment
    output: str
    provider: str  # the stage that builds the output
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.subject = f"stage {self.stage}"
        self.problem = (
            f"its environment needs {self.output}, an output of stage {self.provider}"
        )
        if self.stage == self.provider:
            self.hint = f"move the outputs that need {self.output} to a later stage"
        else:
            self.hint = (
                f'add "{self.output}" to the dependencies of stage {self.stage}, so'
                f" that stage {self.provider} comes first"
            )


class MetadataError(LockError):
    """The metadata of an output can't be determined."""

    output: str
    stage: str

    def __post_init__(self) -> None:
        self.subject = f"{self.output} (stage {self.stage})"


class LocalVersionError(MetadataError):
    """The local version of an output can't be determined."""


class ProposalError(BuildStagesError):
    """``build-stages-init`` can't propose any stages, or can't write them."""


class BuildError(BuildStagesError):
    """An output can't be built; or several, each with an error of its own."""

    causes: Sequence[BuildError] = ()

    def lines(
        self, *, colour: bool = False, width: int | None = None
    ) -> Iterator[Shown]:
        """Yield the message of each cause, then the lines of this message."""
        for error in self.causes:
            yield from error.lines(colour=colour, width=width)
            yield show()
        yield from super().lines(colour=colour, width=width)


BUILD_WHEEL = "build_wheel"
"""The hook that compiles (PEP 517)."""

_LOG_STYLES = (
    ("red", re.compile(r"[\s\d|]*[\^~][\s\^~|-]*$")),
    ("bold red", re.compile(r"  \S.*?(?i:error\b|fatal\b|undefined|cannot find)")),
)
"""The styles of lines of a log: the place of an error, and the error itself."""


class BackendError(BuildError):
    """A hook of a build backend failed; the details are the lines about the reason."""

    output: str
    stage: str
    hook: str  # PEP 517 or PEP 660
    reason: str  # such as exit status 1
    version: str = ""  # empty if it isn't known yet
    select: str = ""  # words that select the cell for a shell
    seconds: float = 0.0  # after which the hook failed
    is_compile_error: bool = False  # whether the details are errors of a compiler
    log_length: int = 0  # lines; 0 if they weren't counted
    out_of_memory: bool = False
    """Whether the kernel killed a process for lack of memory."""
    full_disk: bool = False
    excerpt: Sequence[str] = ()  # of the details, to quote
    module: str = ""
    """A module that the backend doesn't find."""
    requirement: str = ""
    """It provides the module; empty if nothing does."""
    may_work_elsewhere: bool = False
    """Whether another machine may have what the backend misses, such as CUDA."""
    refused: str = ""
    """A path in the environment that the backend may not write to."""
    problem: str = field(init=False)

    default_hint = "fix or patch the source, then run the same command again"

    def __post_init__(self) -> None:
        title = f"{self.output} {self.version}".rstrip()
        self.subject = f"{title} (stage {self.stage})"
        self.problem = f"{self.hook} failed: {self.reason}"
        if self.hook == BUILD_WHEEL:
            verb = "compile" if self.is_compile_error else "build"
            self.subject += f" failed to {verb}"
            if self.seconds >= 1:
                self.subject += f" after {format_time(self.seconds)}"
            self.problem = "" if self.reason == "exit status 1" else self.reason

    def lines(
        self, *, colour: bool = False, width: int | None = None
    ) -> Iterator[Shown]:
        """Yield the lines of the message, and the command for a look into the build."""
        yield from super().lines(colour=colour, width=width)
        if self.hook == BUILD_WHEEL and not (self.out_of_memory or self.full_disk):
            command = f"nox -s build-stages-shell -- {self.output}{self.select}"
            label = paint("to look around:", "cyan", colour=colour)
            yield show("  ", label, " ", command)

    def detail_lines(self, *, colour: bool) -> Iterator[Shown]:
        """Yield the lines of the log, with the errors of compilers in red."""
        if self.details:
            yield show()
        for line in super().detail_lines(colour=colour):
            style = next((it for it, of in _LOG_STYLES if of.match(line)), "")
            yield paint(line, style, colour=colour and bool(style))

    @property
    def log_note(self) -> str:
        """How many lines of the log are shown."""
        if not self.log_length:
            return ""
        shown = sum(not line.startswith("…") for line in self.details)
        return f" ({shown} of {self.log_length} lines above)"


class ChangedEnvironmentError(BuildError):
    """A build changed its environment, or failed because it may not."""

    output: str
    stage: str
    owners: Sequence[str]  # the packages in whose folders the changed files are
    others: Sequence[str] = ()  # outputs that were built at the same time
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.subject = f"{self.output} (stage {self.stage})"
        builds = "its build"
        if self.others:
            builds += f", or that of {', '.join(self.others)} at the same time,"
        self.problem = f"{builds} writes into the environment that it runs in"
        if self.owners:
            self.problem += f", in the folder of {', '.join(self.owners)}"


class BuildTimeoutError(BuildError):
    """A stage reached the timeout."""

    default_hint = "run the same command again: compiled object files are kept"


class PreflightError(BuildError):
    """A check before a build found that the build would fail."""


class WheelError(BuildError):
    """A file isn't a valid wheel, or not the requested wheel."""


class HitRateError(BuildError):
    """A compiler cache had fewer object files than required; the wheel is right."""


class UncheckedError(BuildStagesError):
    """A check of a wheel couldn't be made, so nobody knows if the wheel is right."""

    exit_status = 2


class RemoteStoreUnreachableError(BuildStagesError):
    """The remote store doesn't answer; builds continue without it."""

    reason: str  # without secrets
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.problem = f"the remote store can't be reached ({self.reason})"


_FREE_SPACE = (
    "free some space in the project, the temporary folder and the store"
    " (NOX_BUILDSTAGES_CACHE_DIR), then run the same command again"
)
_ALLOW = "change its permissions, so that you can read and write it"
_WRONG_KIND = (
    "move that file away, because a folder is needed there; or choose another folder"
    " with NOX_BUILDSTAGES_CACHE_DIR, lock-dir or wheelhouse"
)
_OS_HINTS = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EACCES: _ALLOW,
    errno.EPERM: _ALLOW,
    errno.EROFS: (
        "choose a folder that can be written to, with NOX_BUILDSTAGES_CACHE_DIR,"
        " lock-dir or wheelhouse"
    ),
    errno.EEXIST: _WRONG_KIND,
    errno.ENOTDIR: _WRONG_KIND,
}


def refuse_newer_format(file: str, found: object, known: int) -> None:
    """Raise an error if a file has a newer format than known, before a write."""
    if isinstance(found, int) and found > known:
        raise BuildStagesError(
            subject=file,
            problem=f"written by a newer version of nox-buildstages (format {found};"
            f" this version reads {known})",
            hint="update it:\n  pip install --upgrade nox-buildstages",
        )


def file_system_error(error: OSError) -> BuildStagesError:
    """Return the message for a failed read or write of a file."""
    return BuildStagesError(
        # The second name is the one that was to be written.
        subject=str(error.filename2 or error.filename or ""),
        problem=error.strerror or str(error),
        hint=_OS_HINTS.get(error.errno or 0, ""),
    )


def not_run(stage: str, *outputs: str) -> BuildStagesError:
    """Return the error for outputs if nox may not build (``--install-only``)."""
    return BuildStagesError(
        subject=f"stage {stage}",
        problem=f"{', '.join(outputs)} would have to be built",
        hint="the environment is ready; run nox without --install-only",
    )
