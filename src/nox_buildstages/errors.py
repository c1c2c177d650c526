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
    │   │   ├── NoWheelError     a dependency would have to be built
    │   │   └── ConflictError    wishes that don't go together, with who has them
    │   │       └── SplitError   outputs that can't be built in one environment
    │   ├── MatchRuntimeError    no one version for every environment
    │   ├── DivergingStageError  cells of a matrix want one stage in several ways
    │   ├── UnorderedOutputError an output is wanted where it isn't built yet
    │   └── MetadataError        what an output requires can't be known
    │       └── LocalVersionError  nor what its version is to be
    ├── SourceError              fetching, verifying or unpacking a source
    │   ├── HashMismatchError    a file isn't the one that was locked
    │   └── PatchError           a patch isn't there, or doesn't apply
    ├── ProposalError            no stages can be proposed, or written
    ├── SyncError                an environment can't be made equal to its lock
    ├── EnvironmentDiffersError  an environment isn't what its lock says
    ├── UnmetError               the runtime lacks what the project itself requires
    ├── NotRunError              nox was told not to run what had to be built
    ├── BuildError
    │   ├── BackendError         a hook failed
    │   ├── BuildTimeoutError    a stage had no more time
    │   ├── MeddlingError        a build changed the environment that it ran in
    │   ├── WheelError           a file isn't a sound wheel
    │   └── WrongWheelError      a backend made something else than what was asked for
    ├── RepairError              a wheel can't be made fit for other machines
    ├── NotReproducibleError     two builds of one output made different wheels
    ├── MissingWheelError        a stage's wheel isn't in the store
    ├── MissingToolError         a program that a stage names isn't there
    ├── ToolError                a program that a stage names doesn't say its version
    ├── RemoteStoreError         a remote store for which there is no driver
    ├── AwayError                a remote store that can't be reached
    ├── CompilerCacheError       a compiler cache isn't there, or doesn't work
    ├── NetworkError             a stage requires the network to be off; it can't be
    ├── WheelhouseError          a wheelhouse that is to be merged isn't whole
    ├── ClashError               wheels of one name differ, where one can be merged
    ├── PruneError               something in the store can't be removed
    └── FileSystemError          a file can't be read or written

Each holds data and words itself: what is wrong, where, and what mends it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from nox_buildstages.text import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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
        location: Such as ``tool.nox-buildstages.stage[1].outputs[0]``.
        message: What is wrong there, and what would be right.
    """

    location: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.message}"


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
        hint: What to do instead.
    """

    message: str
    hint: str

    def lines(self) -> Iterator[str]:
        """Yield the message and what to do instead."""
        yield self.message
        yield self.hint


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
        hint: What to do.
    """

    source: str
    problem: str
    hint: str

    def lines(self) -> Iterator[str]:
        """Yield the source, the problem and what to do."""
        yield f"{self.source}: {self.problem}"
        yield self.hint


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
        yield self.hint


@dataclass(kw_only=True, eq=False)
class PatchError(SourceError):
    """A patch isn't there, or doesn't apply exactly.

    Attributes:
        source: The patch, as the table names it.
        place: Where the table does.
        output: What git said of it.
    """

    place: str
    output: str = ""

    def lines(self) -> Iterator[str]:
        """Yield the patch, the problem, git's own words, and what to do."""
        yield f"{self.source} ({self.place}): {self.problem}"
        yield from (f"  {line}" for line in self.output.rstrip().splitlines())
        yield self.hint


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


class LockError(BuildStagesError):
    """Something is wrong with the locks, or with making them."""


@dataclass(kw_only=True, eq=False)
class InvalidLockError(LockError):
    """A lock file can't be used.

    Attributes:
        lock: The file's name.
        problem: What is wrong with it.
    """

    lock: str
    problem: str

    def lines(self) -> Iterator[str]:
        """Yield the file, the problem, and the command that mends it."""
        yield f"{self.lock} {self.problem}"
        yield "`nox -s build-stages-lock` makes them anew"


_SAID_AT_MOST = 8
"""Lines of uv's that are shown where the cause is told already."""


@dataclass(kw_only=True, eq=False)
class ResolutionError(LockError):
    """No set of versions satisfies what is required.

    Attributes:
        name: The stage, or ``final``.
        output: What uv said of it.
        hint: What to do, where more is known than uv knows.
        target: For which interpreter, where there are several.
    """

    name: str
    output: str
    hint: str = ""
    target: str = ""

    def lines(self) -> Iterator[str]:
        """Yield for whom it was, uv's own words, what to do or where to look."""
        yield f"can't lock {self.name}{self._aim}"
        yield from (f"  {line}" for line in self.output.rstrip().splitlines())
        yield self.hint or f"what is asked for there: {self._asked_for()}"

    @property
    def _aim(self) -> str:
        return f" for {self.target}" if self.target else ""

    def _asked_for(self) -> str:
        if self.name == "outputs":
            return "the outputs, as final.requirements and dependencies limit them"
        if self.name == "final":
            return "final.requirements, and what the outputs require once built"
        return (
            f"the dependencies of stage {self.name}, and what its outputs declare"
            " (which build-requires of a package corrects)"
        )


@dataclass(kw_only=True, eq=False)
class NoWheelError(ResolutionError):
    """A dependency would have to be built, and nothing is built outside a stage.

    Attributes:
        project: The normalized name of the dependency.
        reason: Why it would have to be, such as ``it comes from a source``.
        version: That was chosen; None where uv chose none.
        requirements: What was asked for, PEP 508 strings.
        constraints: The same for what limited it.
    """

    project: str
    reason: str = ""
    version: str | None = None
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield for whom it was, uv's own words, and what to make an output."""
        yield f"can't lock {self.name}{self._aim}"
        yield from (f"  {line}" for line in self.output.rstrip().splitlines())
        hint = (
            self.hint or f'make it an output of a stage: outputs = ["{self.project}"]'
        )
        yield from hint.splitlines()


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Something that is asked of an environment.

    Attributes:
        who: Asks for it, with a verb: ``stage kernels wants``.
        what: As a PEP 508 string.
    """

    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.who} {self.what}"


@dataclass(kw_only=True, eq=False)
class ConflictError(ResolutionError):
    """Wishes don't go together.

    Attributes:
        conflicts: Each as wishes of which none can be left out.
    """

    conflicts: tuple[tuple[Claim, ...], ...]

    def lines(self) -> Iterator[str]:
        """Yield who wishes what, uv's own words in short, and what settles it."""
        where = self.name if self.name == "final" else f"stage {self.name}"
        told = [", and ".join(map(str, wishes)) for wishes in self.conflicts]
        yield f"can't lock {where}{self._aim}: {told[0]}"
        yield from (f"and {more}" for more in told[1:])
        said = self.output.rstrip().splitlines()
        yield from (f"  {line}" for line in said[:_SAID_AT_MOST])
        if len(said) > _SAID_AT_MOST:
            yield "  …"
        yield from self.hint.splitlines()


@dataclass(kw_only=True, eq=False)
class SplitError(ConflictError):
    """The outputs of a stage can't be built in one environment.

    Attributes:
        groups: The outputs divided so that each group has an environment.
    """

    groups: tuple[tuple[str, ...], ...]


@dataclass(kw_only=True, eq=False)
class ProposalError(BuildStagesError):
    """No stages can be proposed, or they can't be written.

    Attributes:
        problem: What stands in the way.
        hint: What to do.
    """

    problem: str
    hint: str

    def lines(self) -> Iterator[str]:
        """Yield the problem and what to do."""
        yield self.problem
        yield self.hint


@dataclass(kw_only=True, eq=False)
class MissingLockError(LockError):
    """There are no lock files.

    Attributes:
        folder: Where they would be.
    """

    folder: Path

    def lines(self) -> Iterator[str]:
        """Yield where there are none, and the command that makes them."""
        yield f"no lock files in {self.folder}"
        yield "`nox -s build-stages-lock` makes them anew"


@dataclass(kw_only=True, eq=False)
class StaleLockError(LockError):
    """The lock files are not those of the table.

    Attributes:
        problem: How one can tell.
    """

    problem: str

    def lines(self) -> Iterator[str]:
        """Yield how one can tell, and the command that refreshes them."""
        yield f"the lock files are stale: {self.problem}"
        yield "`nox -s build-stages-lock` makes them anew"


@dataclass(kw_only=True, eq=False)
class MatchRuntimeError(LockError):
    """There is no one version for every environment.

    Attributes:
        name: The project that has to match.
        versions: What each environment would have.
        wishes: Who asks for which versions.
        stage: Whose resolution failed.
        output: What uv said of it.
        hint: What to do, where more is known than that.
    """

    name: str
    versions: Mapping[str, str]
    wishes: tuple[str, ...] = ()
    stage: str = ""
    output: str = ""
    hint: str = ""

    def lines(self) -> Iterator[str]:
        """Yield both sides, who wishes what, and what can be changed."""
        yield f"no version of {self.name} suits every environment (match-runtime)"
        yield from (f"  {stage}: {version}" for stage, version in self.versions.items())
        yield from (f"  {wish}" for wish in self.wishes)
        if self.output:
            yield f"with that, {self.stage} can't be locked:"
            yield from (f"  {line}" for line in self.output.rstrip().splitlines())
        change = f"change one of these, or take {self.name} out of match-runtime"
        yield from (self.hint or change).splitlines()


@dataclass(kw_only=True, eq=False)
class DivergingStageError(LockError):
    """Cells that share a stage would need different environments for it.

    Attributes:
        stage: Its name, or ``final``.
        cells: The two.
        axes: That tell them apart.
        versions: What is held in different versions: its name, and both versions.
    """

    stage: str
    cells: tuple[str, str]
    axes: tuple[str, ...]
    versions: tuple[tuple[str, str, str], ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield the stage, what differs, and how it is multiplied."""
        yield f"stage {self.stage} is built once, and its environment would differ"
        yield f"  in ({self.cells[0]}) and ({self.cells[1]})"
        yield from (f"    {name}: {one}, {two}" for name, one, two in self.versions)
        axis = self.axes[0]
        variable = axis.upper().replace("-", "_")
        yield f"have it built for each value: name {{{axis}}} in it, such as"
        yield f'  env = {{ {variable} = "{{{axis}}}" }}'


@dataclass(kw_only=True, eq=False)
class UnorderedOutputError(LockError):
    """An environment wants an output that isn't built before it.

    Attributes:
        stage: Whose environment.
        output: What it wants.
        provider: The stage that builds it.
    """

    stage: str
    output: str
    provider: str

    def lines(self) -> Iterator[str]:
        """Yield what is wanted where, and how to order the two."""
        yield (
            f"stage {self.stage} wants {self.output} in its environment,"
            f" which is an output of stage {self.provider}"
        )
        if self.stage == self.provider:
            yield f"build what needs {self.output} in a later stage of its own"
        else:
            yield (
                f"add {self.output!r} to the dependencies of stage {self.stage},"
                f" so that stage {self.provider} comes first"
            )


@dataclass(kw_only=True, eq=False)
class MetadataError(LockError):
    """What an output requires can't be known.

    Attributes:
        output: The output.
        stage: That builds it.
        problem: Why not.
        hint: What to do, in lines.
    """

    output: str
    stage: str
    problem: str
    hint: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Yield the output, the problem, and what to do."""
        yield f"{self.output} (stage {self.stage}): {self.problem}"
        yield from self.hint


@dataclass(kw_only=True, eq=False)
class LocalVersionError(MetadataError):
    """The local version that an output is to have can't be known."""


@dataclass(kw_only=True, eq=False)
class SyncError(BuildStagesError):
    """An environment could not be made.

    Attributes:
        environment: Its folder.
        output: What uv said.
        hint: What to do, where more is known than uv knows.
    """

    environment: Path
    output: str
    hint: str = ""

    def lines(self) -> Iterator[str]:
        """Yield the environment and uv's own words."""
        yield f"the environment {self.environment} could not be made equal to its lock"
        yield from (f"  {line}" for line in self.output.rstrip().splitlines())
        yield self.hint or (
            "see that its wheels can be reached; one that was replaced for good"
            " is locked anew by: nox -s build-stages-lock -- --upgrade-package NAME"
        )


@dataclass(kw_only=True, eq=False)
class EnvironmentDiffersError(BuildStagesError):
    """An environment isn't what its lock says.

    Attributes:
        environment: Its folder.
        differences: Each in words.
        hint: What to do.
    """

    environment: Path
    differences: tuple[str, ...]
    hint: str

    def lines(self) -> Iterator[str]:
        """Yield the differences, and how to make the environment equal."""
        yield f"the environment {self.environment} differs from its lock"
        yield from (f"  {difference}" for difference in self.differences)
        yield self.hint


@dataclass(kw_only=True, eq=False)
class UnmetError(BuildStagesError):
    """The runtime lacks what the project itself requires.

    Attributes:
        project: Its name.
        unmet: Each of its requirements that isn't met, and the version that there is;
            empty where there is none.
    """

    project: str
    unmet: tuple[tuple[str, str], ...]

    def lines(self) -> Iterator[str]:
        """Yield the requirements, what there is, and where to ask for them."""
        yield f"the runtime lacks what {self.project}, this project, requires"
        for requirement, version in self.unmet:
            there = f"there is {version}" if version else "there is none"
            yield f"  {requirement}: {there}"
        yield "add it to requirements in [tool.nox-buildstages.final]"


@dataclass(kw_only=True, eq=False)
class NotRunError(BuildStagesError):
    """Something had to be built, and nox was told not to run anything.

    Attributes:
        stage: Whose outputs.
        outputs: That were not built.
    """

    stage: str
    outputs: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Yield what was not built, and how to build it."""
        yield f"stage {self.stage} did not build {', '.join(self.outputs)}"
        yield "its environment is ready; run nox without --install-only to build"


@dataclass(kw_only=True, eq=False)
class BackendError(BuildError):
    """A build backend failed.

    Attributes:
        output: That was to be built.
        stage: In which stage.
        hook: Of PEP 517.
        reason: How it ended.
        tail: The last lines of its log.
        log: The log.
        hint: The likely cause and what mends it; None where none is known.
        out_of_memory: Whether a compiler was killed for memory.
        otherwise: What can be done where it can't be mended here.
    """

    output: str
    stage: str
    hook: str
    reason: str
    tail: tuple[str, ...]
    log: Path
    hint: str | None = None
    out_of_memory: bool = False
    otherwise: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield what failed, the end of the log, where it is, and what mends it."""
        yield f"{self.output} (stage {self.stage}): {self.hook} failed: {self.reason}"
        yield from (f"  {line}" for line in self.tail)
        yield f"log: {self.log}"
        yield self.hint or "mend what the log tells of, and run it again"
        yield from self.otherwise


@dataclass(kw_only=True, eq=False)
class BuildTimeoutError(BuildError):
    """A stage had no more time.

    Attributes:
        output: That was being built.
        stage: In which stage.
        seconds: That the stage had in all.
    """

    output: str
    stage: str
    seconds: float

    def lines(self) -> Iterator[str]:
        """Yield what was stopped and why, and what becomes of it."""
        time = format_time(self.seconds)
        yield f"{self.output} (stage {self.stage}): stopped after {time}, its timeout"
        yield "what was compiled is kept: run it again, and it goes on from there"


_SHOWN = 10
"""Of the files that a build changed; its log has no more of them."""


@dataclass(kw_only=True, eq=False)
class MeddlingError(BuildError):
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

    def lines(self) -> Iterator[str]:
        """Yield what was changed, where the log is, and what to do."""
        yield (
            f"{self.output} (stage {self.stage}): its build changed the environment"
            " that it ran in"
        )
        yield from (f"  {change}" for change in self.changes[:_SHOWN])
        if len(self.changes) > _SHOWN:
            yield f"  and {len(self.changes) - _SHOWN} more"
        yield f"log: {self.log}"
        yield (
            "patch its source so that it leaves the environment alone; the environment"
            " is made anew for the next build"
        )
        if not all(change.startswith("added") for change in self.changes):
            yield "uv's cache may share the changed files: uv cache clean"


@dataclass(kw_only=True, eq=False)
class WrongWheelError(BuildError):
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

    def lines(self) -> Iterator[str]:
        """Yield what was made, what is wrong with it, where the log is, what to do."""
        yield f"{self.output} (stage {self.stage}): {self.wheel}: {self.problem}"
        yield f"log: {self.log}"
        yield "mend its source, or what the stage gives to its build, and run it again"


@dataclass(kw_only=True, eq=False)
class RepairError(BuildStagesError):
    """A wheel can't be made fit for other machines than this one.

    Attributes:
        wheel: The file's name; several where it isn't known which it is.
        reason: What auditwheel said, or what doesn't work now.
    """

    wheel: str
    reason: str

    def lines(self) -> Iterator[str]:
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
class NotReproducibleError(BuildStagesError):
    """Two builds of one output, of the same key, made different wheels.

    Attributes:
        stage: That was to build both alike.
        discrepancies: One for each such output.
    """

    stage: str
    discrepancies: tuple[Discrepancy, ...]

    def lines(self) -> Iterator[str]:
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
class MissingWheelError(BuildStagesError):
    """A stage's wheel isn't in the store.

    Attributes:
        stage: That provides it, with the values of axes that it uses.
        output: Of which project.
    """

    stage: str
    output: str

    def lines(self) -> Iterator[str]:
        """Yield what is missing, and the command that builds it."""
        yield f"{self.output} of stage {self.stage} isn't built, or is damaged"
        yield f"`nox -s {quote(f'build-stage-{self.stage}')}` builds it"


@dataclass(kw_only=True, eq=False)
class MissingToolError(BuildStagesError):
    """A program that a stage names isn't there.

    Attributes:
        tool: The program.
        stage: That names it.
    """

    tool: str
    stage: str

    def lines(self) -> Iterator[str]:
        """Yield the program, and what to do about it."""
        yield f"stage {self.stage} names the tool {self.tool!r}, which isn't on PATH"
        yield "install it, or take it out of the stage's tools"


@dataclass(kw_only=True, eq=False)
class ToolError(BuildStagesError):
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

    def lines(self) -> Iterator[str]:
        """Yield the program, its own first words, and what to do about it."""
        yield (
            f"stage {self.stage} names the tool {self.tool!r}, and"
            f" `{self.tool} --version` failed ({self.reason})"
        )
        yield from (f"  {line}" for line in self.output.splitlines()[:_SAID_AT_MOST])
        yield (
            "mend it, or take it out of the stage's tools: only what answers to"
            " --version can be there"
        )


@dataclass(kw_only=True, eq=False)
class CompilerCacheError(BuildStagesError):
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

    def lines(self) -> Iterator[str]:
        """Yield what is wrong, and what to do about it."""
        yield f"stage {self.stage}: the compiler cache {self.cache} {self.problem}"
        yield f"{self.hint}, or build without: compiler-cache = false"


@dataclass(kw_only=True, eq=False)
class NetworkError(BuildStagesError):
    """A stage requires that its backends reach no network, and that can't be had.

    Attributes:
        stage: That requires it.
        reason: Why it can't be.
    """

    stage: str
    reason: str

    def lines(self) -> Iterator[str]:
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
class WheelhouseError(BuildStagesError):
    """A wheelhouse that is to be merged isn't whole; nothing was merged.

    Attributes:
        folder: That it is.
        file: In it.
        problem: What is wrong with it, after its name.
    """

    folder: Path
    file: str
    problem: str

    def lines(self) -> Iterator[str]:
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
class ClashError(BuildStagesError):
    """Wheels of one name differ, so that one folder can't hold them.

    Attributes:
        clashes: All of them.
    """

    clashes: tuple[Clash, ...]

    def lines(self) -> Iterator[str]:
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
class PruneError(BuildStagesError):
    """Something in the store can't be removed; all the rest is done.

    Attributes:
        failures: What the system said of each.
    """

    failures: tuple[OSError, ...]

    def lines(self) -> Iterator[str]:
        """Yield how many there are, what the system said, and what to do."""
        count = len(self.failures)
        what = "1 thing" if count == 1 else f"{count} things"
        yield f"{what} in the store can't be removed"
        for error in self.failures:
            yield f"  {error.strerror or error}: {error.filename}"
        yield "see that you may remove them, and run it again"


@dataclass(kw_only=True, eq=False)
class RemoteStoreError(BuildStagesError):
    """There is no driver for a remote store.

    Attributes:
        store: Its URL, as it may be shown.
        problem: What is missing.
        hint: How to get it.
    """

    store: str
    problem: str
    hint: str

    def lines(self) -> Iterator[str]:
        """Yield the store and what is missing, how to get it, how to do without."""
        yield f"the remote store {self.store} can't be used: {self.problem}"
        yield self.hint
        yield "or build without it: NOX_BUILDSTAGES_REMOTE_STORE= nox …"


@dataclass(kw_only=True, eq=False)
class AwayError(BuildStagesError):
    """A remote store can't be reached; builds go on without it.

    Attributes:
        reason: Why not, as it may be shown.
    """

    reason: str

    def lines(self) -> Iterator[str]:
        """Yield that it is away, and why."""
        yield f"the remote store is away ({self.reason})"


_MAKE_ROOM = (
    "make room, in the project, the temporary folder and the store (which"
    " NOX_BUILDSTAGES_CACHE_DIR moves), and run it again;"
    " nothing that is half written counts as done"
)
_MOVE = (
    "a file is where a folder should be: move it away,"
    " or name another folder (NOX_BUILDSTAGES_CACHE_DIR, lock-dir, wheelhouse)"
)
_ALLOW = (
    "see that it can be written, or name another folder"
    " (NOX_BUILDSTAGES_CACHE_DIR, lock-dir, wheelhouse)"
)
_MENDS = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EACCES: "see that it can be read and written",
    errno.EPERM: "see that it can be read and written",
    errno.EROFS: _ALLOW,
    errno.EEXIST: _MOVE,
    errno.ENOTDIR: _MOVE,
}


@dataclass(kw_only=True, eq=False)
class FileSystemError(BuildStagesError):
    """A file can't be read or written.

    Attributes:
        error: What the operating system said.
    """

    error: OSError

    def lines(self) -> Iterator[str]:
        """Yield what the system said, of which file, and what to do."""
        reason = self.error.strerror or str(self.error)
        where = self.error.filename
        yield reason if where is None else f"{reason}: {where}"
        hint = _MENDS.get(self.error.errno or 0)
        if hint is not None:
            yield hint
