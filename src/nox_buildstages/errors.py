"""Every error of nox-buildstages, and the one place that draws them.

::

    BuildStagesError
    ├── UsageError               options after ``--``, and flags of nox
    ├── DeclarationError         the table in pyproject.toml, all problems at once
    ├── CommandError             a program that can't be started, or that fails
    ├── LockError                making or using the lock files
    │   ├── InvalidLockError     a lock file that can't be read
    │   ├── StaleLockError       lock files that are missing or out of date
    │   ├── ResolutionError      no set of versions satisfies the requirements
    │   │   └── NoWheelError     a dependency without a wheel
    │   ├── MatchRuntimeError    no version for every environment
    │   ├── DivergingStageError  cells of a matrix lock a shared stage differently
    │   ├── UnorderedOutputError an environment needs an output of a later stage
    │   └── MetadataError        an output's metadata can't be determined
    │       └── LocalVersionError  an output's local version can't be determined
    ├── SourceError              fetching, verifying, unpacking or patching a source
    │   └── HashMismatchError    a file differs from the locked file
    ├── ProposalError            no stages can be proposed
    ├── BuildError               building an output
    │   ├── BackendError         a hook of a build backend failed
    │   ├── BuildTimeoutError    a stage reached its timeout
    │   └── WheelError           a file isn't the wheel that it should be
    └── RemoteStoreUnreachableError  the remote store doesn't answer

A subclass exists if the program catches it or the documentation explains it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from shlex import quote
from textwrap import dedent
from typing import TYPE_CHECKING, ClassVar

from nox_buildstages.text import paint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

RELOCK = "lock the project again:\n  nox -s build-stages-lock"
"""The hint for lock files that can't be used."""


@dataclass(kw_only=True, eq=False)
class BuildStagesError(Exception):
    """The base of all errors.

    Attributes:
        subject: What failed, such as ``flash-attn 2.8.3 (stage kernels)``.
        problem: Why, on one line.
        details: Lines that explain the problem, such as the output of a program.
        log: The log file with the whole story.
        hint: How to fix it; further lines are commands or lines of pyproject.toml.
    """

    subject: str = ""
    problem: str
    details: Sequence[str] = ()
    log: Path | None = None
    hint: str = ""

    default_hint: ClassVar[str] = ""
    """The hint if the cause isn't known any better."""
    max_details: ClassVar[int | None] = 30
    """The number of details that are shown; None for all."""

    @property
    def summary(self) -> str:
        """The subject and the problem on one line."""
        parts = filter(None, (self.subject, self.problem))
        return " ".join(": ".join(parts).splitlines())

    def lines(self, *, colour: bool = False) -> Iterator[str]:
        """Yield the lines of the message."""
        error = paint("error:", "bold red", colour=colour)
        yield f"{error} {paint(self.summary, 'bold', colour=colour)}"
        shown = self.details[: self.max_details]
        yield from (f"  {line}".rstrip() for line in shown)
        if len(shown) < len(self.details):
            yield f"  … and {len(self.details) - len(shown)} more"
        if self.log is not None:
            yield paint(f"  log: {self.log}", "dim", colour=colour)
        first, _, rest = (self.hint or self.default_hint).partition("\n")
        if first:
            yield f"{paint('help:', 'cyan', colour=colour)} {first}"
        yield from (f"  {line}" for line in dedent(rest).splitlines())

    def __str__(self) -> str:
        return "\n".join(self.lines())


class UsageError(BuildStagesError):
    """The words after ``--``, or the flags of nox, ask for something impossible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One problem of a table.

    Attributes:
        location: Such as ``tool.nox-buildstages.stage[1].outputs[0]``.
        message: What is wrong there, and what would be right.
    """

    location: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.message}"


@dataclass(kw_only=True, eq=False)
class DeclarationError(BuildStagesError):
    """The table has problems.

    Attributes:
        path: The pyproject.toml.
        problems: All problems, in the order of the file.
    """

    path: Path
    problems: Sequence[Problem]
    problem: str = field(init=False)

    max_details = None

    def __post_init__(self) -> None:
        count = len(self.problems)
        self.subject = self.path.name
        self.problem = "1 problem" if count == 1 else f"{count} problems"
        self.details = [str(problem) for problem in self.problems]


@dataclass(kw_only=True, eq=False)
class CommandError(BuildStagesError):
    """A program can't be started, or it fails.

    Attributes:
        command: The command line.
        reason: Why it counts as failed, such as ``exit status 1``.
        output: What the program printed.
    """

    command: str
    reason: str
    output: str = ""
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.subject = self.command
        self.problem = f"failed ({self.reason})"
        self.details = self.output.rstrip().splitlines()


class SourceError(BuildStagesError):
    """A source can't be fetched, verified, unpacked or patched."""


@dataclass(kw_only=True, eq=False)
class HashMismatchError(SourceError):
    """A file isn't the file that was locked.

    Attributes:
        expected: The locked sha256.
        found: The sha256 of the file.
    """

    expected: str
    found: str

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

    default_hint = RELOCK


@dataclass(kw_only=True, eq=False)
class ResolutionError(LockError):
    """No set of versions satisfies the requirements.

    Attributes:
        name: The stage, or ``final``.
        target: The interpreter, if there are several.
    """

    name: str
    target: str = ""
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


@dataclass(kw_only=True, eq=False)
class NoWheelError(ResolutionError):
    """A dependency has no wheel, and nothing is built outside a stage.

    Attributes:
        project: The normalized name of the dependency.
        reason: Why it would be built, such as ``no wheel for CPython 3.14``.
        version: The version that uv chose; None if uv chose none.
        requirements: The requirements of the resolution (PEP 508).
        constraints: The constraints of the resolution (PEP 508).
    """

    project: str
    reason: str
    version: str | None = None
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.problem = f"{self.project} would have to be built: {self.reason}"
        self.hint = self.hint or (
            f'make it an output of a stage:\n  outputs = ["{self.project}"]'
        )
        super().__post_init__()


@dataclass(kw_only=True, eq=False)
class MatchRuntimeError(LockError):
    """No version of a package suits every environment.

    Attributes:
        name: The package.
    """

    name: str
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.subject = self.name
        self.problem = "no version suits every environment (match-runtime)"
        self.hint = self.hint or (
            f"change one of these, or remove {self.name} from match-runtime"
        )


@dataclass(kw_only=True, eq=False)
class DivergingStageError(LockError):
    """Cells that share a stage need different environments for it.

    Attributes:
        stage: The stage, or ``final``.
    """

    stage: str


@dataclass(kw_only=True, eq=False)
class UnorderedOutputError(LockError):
    """An environment needs an output that isn't built before it.

    Attributes:
        stage: The stage with that environment.
        output: The output that it needs.
        provider: The stage that builds the output.
    """

    stage: str
    output: str
    provider: str
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


@dataclass(kw_only=True, eq=False)
class MetadataError(LockError):
    """The metadata of an output can't be determined.

    Attributes:
        output: The output.
        stage: The stage that builds it.
    """

    output: str
    stage: str

    def __post_init__(self) -> None:
        self.subject = f"{self.output} (stage {self.stage})"


class LocalVersionError(MetadataError):
    """The local version of an output can't be determined."""


class ProposalError(BuildStagesError):
    """``build-stages-init`` can't propose any stages, or can't write them."""


class BuildError(BuildStagesError):
    """An output can't be built."""


@dataclass(kw_only=True, eq=False)
class BackendError(BuildError):
    """A hook of a build backend failed; the details are the end of its log.

    Attributes:
        output: The output.
        stage: The stage that builds it.
        hook: The name of the hook (PEP 517, PEP 660).
        reason: How the hook ended, such as ``exit status 1``.
        out_of_memory: Whether a process was killed because memory ran out.
    """

    output: str
    stage: str
    hook: str
    reason: str
    out_of_memory: bool = False
    problem: str = field(init=False)

    default_hint = "fix the error above, then run the same command again"

    def __post_init__(self) -> None:
        self.subject = f"{self.output} (stage {self.stage})"
        self.problem = f"{self.hook} failed: {self.reason}"


class BuildTimeoutError(BuildError):
    """A stage reached its timeout."""

    default_hint = "run the same command again: compiled object files are kept"


class WheelError(BuildError):
    """A file isn't a valid wheel, or not the wheel that was asked for."""


@dataclass(kw_only=True, eq=False)
class RemoteStoreUnreachableError(BuildStagesError):
    """The remote store doesn't answer; builds continue without it.

    Attributes:
        reason: Why, without secrets.
    """

    reason: str
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        self.problem = f"the remote store can't be reached ({self.reason})"


_FREE_SPACE = (
    "free some space in the project, the temporary folder and the store"
    " (NOX_BUILDSTAGES_CACHE_DIR), then run the same command again"
)
_ALLOW = "change its permissions, so that you can read and write it"
_WRONG_KIND = "move that file away: a folder is needed there"
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


def file_system_error(error: OSError) -> BuildStagesError:
    """Return the message for a file that can't be read or written."""
    return BuildStagesError(
        subject=str(error.filename or ""),
        problem=error.strerror or str(error),
        hint=_OS_HINTS.get(error.errno or 0, ""),
    )


def not_run(stage: str, *outputs: str) -> BuildStagesError:
    """Return the error for outputs that nox may not build (``--install-only``)."""
    return BuildStagesError(
        subject=f"stage {stage}",
        problem=f"{', '.join(outputs)} would have to be built",
        hint="the environment is ready; run nox without --install-only",
    )


@dataclass(kw_only=True, eq=False)
class OldError(BuildStagesError):
    """An error that is going away."""

    problem: str = ""

    def __post_init__(self) -> None:
        self.problem, *rest = self._old()
        self.hint = rest.pop() if rest else ""
        self.details = [line.removeprefix("  ") for line in rest]

    def _old(self) -> Iterator[str]:
        raise NotImplementedError


@dataclass(kw_only=True, eq=False)
class SyncError(OldError):
    """An environment could not be made.

    Attributes:
        environment: Its folder.
        output: What uv said.
        hint: What to do, where more is known than uv knows.
    """

    environment: Path
    output: str
    hint: str = ""

    def _old(self) -> Iterator[str]:
        """Yield the environment and uv's own words."""
        yield f"the environment {self.environment} could not be made equal to its lock"
        yield from (f"  {line}" for line in self.output.rstrip().splitlines())
        yield self.hint or (
            "see that its wheels can be reached; one that was replaced for good"
            " is locked anew by: nox -s build-stages-lock -- --upgrade-package NAME"
        )


@dataclass(kw_only=True, eq=False)
class EnvironmentDiffersError(OldError):
    """An environment isn't what its lock says.

    Attributes:
        environment: Its folder.
        differences: Each in words.
        hint: What to do.
    """

    environment: Path
    differences: tuple[str, ...]
    hint: str

    def _old(self) -> Iterator[str]:
        """Yield the differences, and how to make the environment equal."""
        yield f"the environment {self.environment} differs from its lock"
        yield from (f"  {difference}" for difference in self.differences)
        yield self.hint


@dataclass(kw_only=True, eq=False)
class UnmetError(OldError):
    """The runtime lacks what the project itself requires.

    Attributes:
        project: Its name.
        unmet: Each of its requirements that isn't met, and the version that there is;
            empty where there is none.
    """

    project: str
    unmet: tuple[tuple[str, str], ...]

    def _old(self) -> Iterator[str]:
        """Yield the requirements, what there is, and where to ask for them."""
        yield f"the runtime lacks what {self.project}, this project, requires"
        for requirement, version in self.unmet:
            there = f"there is {version}" if version else "there is none"
            yield f"  {requirement}: {there}"
        yield "add it to requirements in [tool.nox-buildstages.final]"


@dataclass(kw_only=True, eq=False)
class NotRunError(OldError):
    """Something had to be built, and nox was told not to run anything.

    Attributes:
        stage: Whose outputs.
        outputs: That were not built.
    """

    stage: str
    outputs: tuple[str, ...]

    def _old(self) -> Iterator[str]:
        """Yield what was not built, and how to build it."""
        yield f"stage {self.stage} did not build {', '.join(self.outputs)}"
        yield "its environment is ready; run nox without --install-only to build"


@dataclass(kw_only=True, eq=False)
class MeddlingError(OldError, BuildError):
    """A build changed the environment that it ran in.

    Attributes:
        output: That was to be built.
        stage: Whose environment it is.
        changes: Each in words, such as ``added lib/x``.
        log: The build's log.
    """

    output: str
    stage: str
    changes: tuple[str, ...]
    log: Path

    def _old(self) -> Iterator[str]:
        """Yield what was changed, where the log is, and what to do."""
        yield (
            f"{self.output} (stage {self.stage}): its build changed the environment"
            " that it ran in"
        )
        yield from (f"  {change}" for change in self.changes)
        yield f"log: {self.log}"
        yield (
            "patch its source so that it leaves the environment alone; the environment"
            " is made anew for the next build"
        )
        if not all(change.startswith("added") for change in self.changes):
            yield "uv's cache may share the changed files: uv cache clean"


@dataclass(kw_only=True, eq=False)
class WrongWheelError(OldError, BuildError):
    """A backend made something else than the wheel that was asked for.

    Attributes:
        output: That was asked for.
        stage: In which stage.
        wheel: The file's name.
        problem: What is wrong with it.
        log: The build's log.
    """

    output: str
    stage: str
    wheel: str
    problem: str
    log: Path

    def _old(self) -> Iterator[str]:
        """Yield what was made, what is wrong with it, where the log is, what to do."""
        yield f"{self.output} (stage {self.stage}): {self.wheel}: {self.problem}"
        yield f"log: {self.log}"
        yield "mend its source, or what the stage gives to its build, and run it again"


@dataclass(kw_only=True, eq=False)
class RepairError(OldError):
    """A wheel can't be made fit for other machines than this one.

    Attributes:
        wheel: The file's name; several where it isn't known which it is.
        reason: What auditwheel said, or what doesn't work now.
    """

    wheel: str
    reason: str

    def _old(self) -> Iterator[str]:
        """Yield the wheel, the reason, and what to do."""
        yield f"{self.wheel} can't be repaired, so nothing is released"
        yield from (f"  {line}" for line in self.reason.splitlines())
        yield "mend that, or release it as it is, without --repair"


@dataclass(frozen=True, kw_only=True, slots=True)
class Discrepancy:
    """Two wheels that were built from the same and aren't.

    Attributes:
        wheel: The name of both.
        first: The one in the store.
        second: The one that was built to compare it with.
        differences: File by file, in words.
    """

    wheel: str
    first: Path
    second: Path
    differences: tuple[str, ...]


@dataclass(kw_only=True, eq=False)
class NotReproducibleError(OldError):
    """Two builds of one output, of the same key, made different wheels.

    Attributes:
        stage: That was to build both alike.
        discrepancies: One for each such output.
    """

    stage: str
    discrepancies: tuple[Discrepancy, ...]

    def _old(self) -> Iterator[str]:
        """Yield the wheels, what differs in them, and where both are."""
        listed = ", ".join(it.wheel for it in self.discrepancies)
        yield f"stage {self.stage} is not reproducible: {listed}"
        for discrepancy in self.discrepancies:
            yield f"{discrepancy.wheel} came out differently the second time:"
            yield from (f"  {difference}" for difference in discrepancy.differences)
            yield f"  first:  {discrepancy.first}"
            yield f"  second: {discrepancy.second}"
        yield "the first is kept; `diffoscope FIRST SECOND` looks into the files"


@dataclass(kw_only=True, eq=False)
class MissingWheelError(OldError):
    """A stage's wheel isn't in the store.

    Attributes:
        stage: That provides it, with the values of axes that it uses.
        output: Of which project.
    """

    stage: str
    output: str

    def _old(self) -> Iterator[str]:
        """Yield what is missing, and the command that builds it."""
        yield f"{self.output} of stage {self.stage} isn't built, or is damaged"
        yield f"`nox -s {quote(f'build-stage-{self.stage}')}` builds it"


@dataclass(kw_only=True, eq=False)
class MissingToolError(OldError):
    """A program that a stage names isn't there.

    Attributes:
        tool: The program.
        stage: That names it.
    """

    tool: str
    stage: str

    def _old(self) -> Iterator[str]:
        """Yield the program, and what to do about it."""
        yield f"stage {self.stage} names the tool {self.tool!r}, which isn't on PATH"
        yield "install it, or take it out of the stage's tools"


@dataclass(kw_only=True, eq=False)
class ToolError(OldError):
    """A program that a stage names doesn't say its version.

    Attributes:
        tool: The program.
        stage: That names it.
        reason: How it ended.
        output: What it had to say.
    """

    tool: str
    stage: str
    reason: str
    output: str = ""

    def _old(self) -> Iterator[str]:
        """Yield the program, its own first words, and what to do about it."""
        yield (
            f"stage {self.stage} names the tool {self.tool!r}, and"
            f" `{self.tool} --version` failed ({self.reason})"
        )
        yield from (f"  {line}" for line in self.output.splitlines()[:8])
        yield (
            "mend it, or take it out of the stage's tools: only what answers to"
            " --version can be there"
        )


@dataclass(kw_only=True, eq=False)
class CompilerCacheError(OldError):
    """A compiler cache isn't there, or doesn't work.

    Attributes:
        stage: That is to be built with it.
        cache: Its name.
        problem: What is wrong with it, after its name.
        hint: What the user can do.
    """

    stage: str
    cache: str
    problem: str
    hint: str

    def _old(self) -> Iterator[str]:
        """Yield what is wrong, and what to do about it."""
        yield f"stage {self.stage}: the compiler cache {self.cache} {self.problem}"
        yield f"{self.hint}, or build without: compiler-cache = false"


@dataclass(kw_only=True, eq=False)
class NetworkError(OldError):
    """A stage requires that its backends reach no network, and that can't be had.

    Attributes:
        stage: That requires it.
        reason: Why it can't be.
    """

    stage: str
    reason: str

    def _old(self) -> Iterator[str]:
        """Yield what is required, why it can't be had, and what to do."""
        yield (
            f'stage {self.stage} has network = "require-off", and the network can\'t'
            " be cut off"
        )
        yield f"  {self.reason}"
        yield (
            "let the system, or the container, allow user namespaces; or write"
            " network = false: then it is cut off where that is possible"
        )


@dataclass(kw_only=True, eq=False)
class WheelhouseError(OldError):
    """A wheelhouse that is to be merged isn't whole; nothing was merged.

    Attributes:
        folder: That it is.
        file: In it.
        problem: What is wrong with it, after its name.
    """

    folder: Path
    file: str
    problem: str

    def _old(self) -> Iterator[str]:
        """Yield the file, what is wrong with it, where it is, and what to do."""
        yield f"{self.file} {self.problem}"
        yield f"in {self.folder}"
        yield "nothing was merged; get that wheelhouse again, or make it anew"


@dataclass(frozen=True, kw_only=True, slots=True)
class Clash:
    """Two wheels that have one name and differ.

    Attributes:
        wheel: The name of both.
        project: That they are of.
        places: Their folders.
        keys: Under which they were built; empty for one that no stage built.
        differences: What their manifests tell, in words.
    """

    wheel: str
    project: str
    places: tuple[Path, Path]
    keys: tuple[str, str]
    differences: tuple[str, ...] = ()

    @property
    def is_of_two_builds(self) -> bool:
        """Whether something else went into each of them, so that names could differ."""
        return all(self.keys) and self.keys[0] != self.keys[1]


@dataclass(kw_only=True, eq=False)
class ClashError(OldError):
    """Wheels of one name differ, so that one folder can't hold them.

    Attributes:
        clashes: All of them.
    """

    clashes: tuple[Clash, ...]

    def _old(self) -> Iterator[str]:
        """Yield each with its folders, its keys, what differs; then what to do."""
        for clash in self.clashes:
            yield f"{clash.wheel} is another wheel in each of these"
            for place, key in zip(clash.places, clash.keys, strict=True):
                yield f"  {place}: {f'key {key}' if key else 'no stage built it'}"
            yield from (f"  {difference}" for difference in clash.differences)
        yield "nothing was merged"
        for project in sorted(
            {it.project for it in self.clashes if it.is_of_two_builds}
        ):
            yield (
                f"to give each of them a name of its own: local-version in"
                f" [tool.nox-buildstages.package.{project}]"
            )
        yield (
            "to keep a folder for each wheelhouse:"
            " `nox -s build-stages-merge -- --by-cell FOLDER`"
        )


@dataclass(kw_only=True, eq=False)
class PruneError(OldError):
    """Something in the store can't be removed; all the rest is done.

    Attributes:
        failures: What the system said of each.
    """

    failures: tuple[OSError, ...]

    def _old(self) -> Iterator[str]:
        """Yield how many there are, what the system said, and what to do."""
        count = len(self.failures)
        what = "1 thing" if count == 1 else f"{count} things"
        yield f"{what} in the store can't be removed"
        for error in self.failures:
            yield f"  {error.strerror or error}: {error.filename}"
        yield "see that you may remove them, and run it again"
