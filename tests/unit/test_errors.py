"""Every way to fail words itself, and the tree in the docstring is the real one."""

from __future__ import annotations

import errno
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages import errors
from nox_buildstages.errors import (
    AwayError,
    BackendError,
    BuildError,
    BuildStagesError,
    BuildTimeoutError,
    Claim,
    Clash,
    ClashError,
    CommandError,
    CompilerCacheError,
    ConflictError,
    DeclarationError,
    Discrepancy,
    DivergingStageError,
    EnvironmentDiffersError,
    FileSystemError,
    HashMismatchError,
    InvalidLockError,
    LocalVersionError,
    LockError,
    MatchRuntimeError,
    MeddlingError,
    MetadataError,
    MissingLockError,
    MissingToolError,
    MissingWheelError,
    NetworkError,
    NotReproducibleError,
    NotRunError,
    NoWheelError,
    PatchError,
    Problem,
    ProposalError,
    PruneError,
    RemoteStoreError,
    RepairError,
    ResolutionError,
    SourceError,
    SplitError,
    StaleLockError,
    SyncError,
    ToolError,
    UnmetError,
    UnorderedOutputError,
    UsageError,
    WheelError,
    WheelhouseError,
    WrongWheelError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path("folder")
LOG = FOLDER / "a.log"
UV_SAID = "error: no\n  because\n"

DECLARED = Claim(who="x declares", what="torch<2.8")
WANTED = Claim(who="stage kernels wants", what="torch")

WORDED: list[tuple[BuildStagesError, list[str]]] = [
    (BuildStagesError("a\nb"), ["a", "b"]),
    (BuildError("no wheel"), ["no wheel"]),
    (LockError("no lock"), ["no lock"]),
    (
        DeclarationError(
            path=FOLDER / "pyproject.toml",
            problems=(Problem(location="tool.x", message="is missing"),),
        ),
        ["1 problem in folder/pyproject.toml", "  tool.x: is missing"],
    ),
    (
        DeclarationError(
            path=FOLDER / "pyproject.toml",
            problems=(
                Problem(location="tool.x", message="is missing"),
                Problem(location="tool.y[0]", message="isn't a string"),
            ),
        ),
        [
            "2 problems in folder/pyproject.toml",
            "  tool.x: is missing",
            "  tool.y[0]: isn't a string",
        ],
    ),
    (
        UsageError(message="--rebuild torch: no", hint="the outputs are: a"),
        ["--rebuild torch: no", "the outputs are: a"],
    ),
    (
        CommandError(command="git clone x", reason="exit status 1"),
        ["git clone x failed (exit status 1)"],
    ),
    (
        CommandError(command="git", reason="exit status 1", output="fatal: no\n\n"),
        ["git failed (exit status 1)", "fatal: no"],
    ),
    (
        SourceError(source="a-1.tar.gz", problem="is empty", hint="lock it again"),
        ["a-1.tar.gz: is empty", "lock it again"],
    ),
    (
        PatchError(
            source="x.patch",
            place="package.a.patches[0]",
            problem="it doesn't apply to a-1.tar.gz",
            output="error: a.py: patch does not apply\n",
            hint="make it anew",
        ),
        [
            "x.patch (package.a.patches[0]): it doesn't apply to a-1.tar.gz",
            "  error: a.py: patch does not apply",
            "make it anew",
        ],
    ),
    (
        HashMismatchError(
            source="a-1.tar.gz",
            problem="isn't what was locked",
            hint="lock it again",
            expected="aa",
            found="bb",
        ),
        [
            "a-1.tar.gz: isn't what was locked",
            "  expected sha256 aa",
            "  found    sha256 bb",
            "lock it again",
        ],
    ),
    (
        MeddlingError(output="a", stage="s", changes=("added lib/x.pth",), log=LOG),
        [
            "a (stage s): its build changed the environment that it ran in",
            "  added lib/x.pth",
            "log: folder/a.log",
            (
                "patch its source so that it leaves the environment alone;"
                " the environment is made anew for the next build"
            ),
        ],
    ),
    (
        MeddlingError(
            output="a", stage="s", changes=("changed lib/x.py",) * 12, log=LOG
        ),
        [
            "a (stage s): its build changed the environment that it ran in",
            *["  changed lib/x.py"] * 10,
            "  and 2 more",
            "log: folder/a.log",
            (
                "patch its source so that it leaves the environment alone;"
                " the environment is made anew for the next build"
            ),
            "uv's cache may share the changed files: uv cache clean",
        ],
    ),
    (
        BuildTimeoutError(output="o", stage="s", seconds=18_000),
        [
            "o (stage s): stopped after 5 h, its timeout",
            "what was compiled is kept: run it again, and it goes on from there",
        ],
    ),
    (
        CompilerCacheError(
            stage="s", cache="ccache", problem="isn't on PATH", hint="install it"
        ),
        [
            "stage s: the compiler cache ccache isn't on PATH",
            "install it, or build without: compiler-cache = false",
        ],
    ),
    (
        NetworkError(stage="s", reason="this system doesn't"),
        [
            'stage s has network = "require-off", and the network can\'t be cut off',
            "  this system doesn't",
            (
                "let the system, or the container, allow user namespaces; or write"
                " network = false: then it is cut off where that is possible"
            ),
        ],
    ),
    (
        PruneError(failures=(OSError(errno.EACCES, "Permission denied", "a/b"),)),
        [
            "1 thing in the store can't be removed",
            "  Permission denied: a/b",
            "see that you may remove them, and run it again",
        ],
    ),
    (
        PruneError(
            failures=(OSError(errno.EBUSY, "Busy", "a"), OSError("what", "b", "c"))
        ),
        [
            "2 things in the store can't be removed",
            "  Busy: a",
            "  b: c",
            "see that you may remove them, and run it again",
        ],
    ),
    (
        WheelError(wheel="a-1-py3-none-any.whl", problem="no RECORD"),
        ["a-1-py3-none-any.whl: no RECORD"],
    ),
    (
        InvalidLockError(lock="pylock.a.toml", problem="can't be read"),
        ["pylock.a.toml can't be read", "`nox -s build-stages-lock` makes them anew"],
    ),
    (
        ResolutionError(name="kernels", output=UV_SAID),
        [
            "can't lock kernels",
            "  error: no",
            "    because",
            (
                "what is asked for there:"
                " the dependencies of stage kernels, and what its outputs declare"
                " (which build-requires of a package corrects)"
            ),
        ],
    ),
    (
        ResolutionError(name="final", output="error: no"),
        [
            "can't lock final",
            "  error: no",
            (
                "what is asked for there:"
                " final.requirements, and what the outputs require once built"
            ),
        ],
    ),
    (
        ResolutionError(name="outputs", output="error: no"),
        [
            "can't lock outputs",
            "  error: no",
            (
                "what is asked for there: the outputs, as final.requirements and"
                " dependencies limit them"
            ),
        ],
    ),
    (
        ResolutionError(name="kernels", output=UV_SAID, hint="build it in a stage"),
        ["can't lock kernels", "  error: no", "    because", "build it in a stage"],
    ),
    (
        NoWheelError(name="final", output=UV_SAID, project="dep"),
        [
            "can't lock final",
            "  error: no",
            "    because",
            'make it an output of a stage: outputs = ["dep"]',
        ],
    ),
    (
        NoWheelError(name="a", output="error: no", project="dep", hint="build\nit"),
        ["can't lock a", "  error: no", "build", "it"],
    ),
    (
        ConflictError(
            name="kernels",
            output=UV_SAID,
            hint="do\nthis",
            conflicts=((DECLARED, WANTED), (DECLARED,)),
        ),
        [
            (
                "can't lock stage kernels: x declares torch<2.8,"
                " and stage kernels wants torch"
            ),
            "and x declares torch<2.8",
            "  error: no",
            "    because",
            "do",
            "this",
        ],
    ),
    (
        SplitError(
            name="final",
            output="and so on\n" * 9,
            hint="divide them",
            conflicts=((DECLARED,),),
            groups=(("a",), ("b",)),
        ),
        [
            "can't lock final: x declares torch<2.8",
            *["  and so on"] * 8,
            "  …",
            "divide them",
        ],
    ),
    (
        ProposalError(
            problem="egg and hen need each other", hint="take one as a wheel"
        ),
        ["egg and hen need each other", "take one as a wheel"],
    ),
    (
        MissingLockError(folder=FOLDER),
        ["no lock files in folder", "`nox -s build-stages-lock` makes them anew"],
    ),
    (
        StaleLockError(problem="pylock.a.toml is missing"),
        [
            "the lock files are stale: pylock.a.toml is missing",
            "`nox -s build-stages-lock` makes them anew",
        ],
    ),
    (
        MatchRuntimeError(name="torch", versions={"kernels": "2.8", "final": "2.13"}),
        [
            "no version of torch suits every environment (match-runtime)",
            "  kernels: 2.8",
            "  final: 2.13",
            "change one of these, or take torch out of match-runtime",
        ],
    ),
    (
        DivergingStageError(
            stage="base",
            cells=("arch=8, torch=1", "arch=8, torch=2"),
            axes=("torch",),
            versions=(("numpy", "1.26", "2.0"),),
        ),
        [
            "stage base is built once, and its environment would differ",
            "  in (arch=8, torch=1) and (arch=8, torch=2)",
            "    numpy: 1.26, 2.0",
            "have it built for each value: name {torch} in it, such as",
            '  env = { TORCH = "{torch}" }',
        ],
    ),
    (
        MatchRuntimeError(
            name="torch",
            versions={},
            wishes=("kernels wants torch<2.8",),
            stage="kernels",
            output=UV_SAID,
            hint="change it\nand that",
        ),
        [
            "no version of torch suits every environment (match-runtime)",
            "  kernels wants torch<2.8",
            "with that, kernels can't be locked:",
            "  error: no",
            "    because",
            "change it",
            "and that",
        ],
    ),
    (
        MatchRuntimeError(
            name="torch",
            versions={},
            wishes=("kernels wants torch<2.8",),
            stage="kernels",
            output=UV_SAID,
        ),
        [
            "no version of torch suits every environment (match-runtime)",
            "  kernels wants torch<2.8",
            "with that, kernels can't be locked:",
            "  error: no",
            "    because",
            "change one of these, or take torch out of match-runtime",
        ],
    ),
    (
        UnorderedOutputError(stage="a", output="x", provider="b"),
        [
            "stage a wants x in its environment, which is an output of stage b",
            "add 'x' to the dependencies of stage a, so that stage b comes first",
        ],
    ),
    (
        UnorderedOutputError(stage="a", output="x", provider="a"),
        [
            "stage a wants x in its environment, which is an output of stage a",
            "build what needs x in a later stage of its own",
        ],
    ),
    (
        MetadataError(
            output="x", stage="a", problem="there is no hook", hint=("do", "this")
        ),
        ["x (stage a): there is no hook", "do", "this"],
    ),
    (
        LocalVersionError(
            output="x", stage="a", problem="there is no torch", hint=("do this",)
        ),
        ["x (stage a): there is no torch", "do this"],
    ),
    (
        RepairError(wheel="x-1-linux_x86_64.whl", reason="too new"),
        [
            "x-1-linux_x86_64.whl can't be repaired, so nothing is released",
            "  too new",
            "mend that, or release it as it is, without --repair",
        ],
    ),
    (
        SyncError(environment=FOLDER, output="error: no", hint="do this"),
        [
            "the environment folder could not be made equal to its lock",
            "  error: no",
            "do this",
        ],
    ),
    (
        SyncError(environment=FOLDER, output=UV_SAID),
        [
            "the environment folder could not be made equal to its lock",
            "  error: no",
            "    because",
            (
                "see that its wheels can be reached; one that was replaced for good"
                " is locked anew by: nox -s build-stages-lock -- --upgrade-package NAME"
            ),
        ],
    ),
    (
        EnvironmentDiffersError(
            environment=FOLDER, differences=("a is missing",), hint="run nox"
        ),
        ["the environment folder differs from its lock", "  a is missing", "run nox"],
    ),
    (
        NotReproducibleError(
            stage="a",
            discrepancies=(
                Discrepancy(
                    wheel="x.whl",
                    first=FOLDER / "1" / "x.whl",
                    second=FOLDER / "2" / "x.whl",
                    differences=("x.so: 8 bytes, different from byte 3 on",),
                ),
                Discrepancy(
                    wheel="y.whl",
                    first=FOLDER / "1" / "y.whl",
                    second=FOLDER / "2" / "y.whl",
                    differences=(),
                ),
            ),
        ),
        [
            "stage a is not reproducible: x.whl, y.whl",
            "x.whl came out differently the second time:",
            "  x.so: 8 bytes, different from byte 3 on",
            "  first:  folder/1/x.whl",
            "  second: folder/2/x.whl",
            "y.whl came out differently the second time:",
            "  first:  folder/1/y.whl",
            "  second: folder/2/y.whl",
            "the first is kept; `diffoscope FIRST SECOND` looks into the files",
        ],
    ),
    (
        UnmetError(project="mine", unmet=(("x>=2", "1.0"), ("y", ""))),
        [
            "the runtime lacks what mine, this project, requires",
            "  x>=2: there is 1.0",
            "  y: there is none",
            "add it to requirements in [tool.nox-buildstages.final]",
        ],
    ),
    (
        NotRunError(stage="a", outputs=("x", "y")),
        [
            "stage a did not build x, y",
            "its environment is ready; run nox without --install-only to build",
        ],
    ),
    (
        BackendError(
            output="x",
            stage="a",
            hook="build_wheel",
            reason="exit status 1",
            tail=("Traceback", "Error: no"),
            log=LOG,
        ),
        [
            "x (stage a): build_wheel failed: exit status 1",
            "  Traceback",
            "  Error: no",
            "log: folder/a.log",
            "mend what the log tells of, and run it again",
        ],
    ),
    (
        BackendError(
            output="x",
            stage="a",
            hook="build_wheel",
            reason="exit status 1",
            tail=(),
            log=LOG,
            hint="name torch in dependencies",
            otherwise=("or say what it requires",),
        ),
        [
            "x (stage a): build_wheel failed: exit status 1",
            "log: folder/a.log",
            "name torch in dependencies",
            "or say what it requires",
        ],
    ),
    (
        FileSystemError(error=OSError(errno.EACCES, "Permission denied", "a.whl")),
        ["Permission denied: a.whl", "see that it can be read and written"],
    ),
    (
        FileSystemError(error=OSError(errno.EROFS, "Read-only file system", "locks")),
        [
            "Read-only file system: locks",
            (
                "see that it can be written, or name another folder"
                " (NOX_BUILDSTAGES_CACHE_DIR, lock-dir, wheelhouse)"
            ),
        ],
    ),
    (FileSystemError(error=OSError("it went away")), ["it went away"]),
    (
        WrongWheelError(
            output="x", stage="a", wheel="y.whl", problem="is of y", log=LOG
        ),
        [
            "x (stage a): y.whl: is of y",
            "log: folder/a.log",
            "mend its source, or what the stage gives to its build, and run it again",
        ],
    ),
    (
        MissingWheelError(stage="a", output="x"),
        [
            "x of stage a isn't built, or is damaged",
            "`nox -s build-stage-a` builds it",
        ],
    ),
    (
        MissingWheelError(stage="a(arch=9.0)", output="x"),
        [
            "x of stage a(arch=9.0) isn't built, or is damaged",
            "`nox -s 'build-stage-a(arch=9.0)'` builds it",
        ],
    ),
    (
        ToolError(tool="go", stage="a", reason="exit status 2", output="flag?\nusage"),
        [
            "stage a names the tool 'go', and `go --version` failed (exit status 2)",
            "  flag?",
            "  usage",
            (
                "mend it, or take it out of the stage's tools: only what answers to"
                " --version can be there"
            ),
        ],
    ),
    (
        MissingToolError(tool="nvcc", stage="a"),
        [
            "stage a names the tool 'nvcc', which isn't on PATH",
            "install it, or take it out of the stage's tools",
        ],
    ),
    (
        RemoteStoreError(
            store="s3://bucket", problem="fsspec isn't installed", hint="install it"
        ),
        [
            "the remote store s3://bucket can't be used: fsspec isn't installed",
            "install it",
            "or build without it: NOX_BUILDSTAGES_REMOTE_STORE= nox …",
        ],
    ),
    (
        WheelhouseError(folder=FOLDER, file="a.whl", problem="is missing"),
        [
            "a.whl is missing",
            "in folder",
            "nothing was merged; get that wheelhouse again, or make it anew",
        ],
    ),
    (
        ClashError(
            clashes=(
                Clash(
                    wheel="a-1-py3-none-any.whl",
                    project="a",
                    places=(FOLDER / "8.0", FOLDER / "9.0"),
                    keys=("k8", "k9"),
                    differences=("torch is 1 in the first, 2 in the second",),
                ),
                Clash(
                    wheel="b-1-py3-none-any.whl",
                    project="b",
                    places=(FOLDER / "8.0", FOLDER / "9.0"),
                    keys=("", ""),
                ),
            )
        ),
        [
            "a-1-py3-none-any.whl is another wheel in each of these",
            "  folder/8.0: key k8",
            "  folder/9.0: key k9",
            "  torch is 1 in the first, 2 in the second",
            "b-1-py3-none-any.whl is another wheel in each of these",
            "  folder/8.0: no stage built it",
            "  folder/9.0: no stage built it",
            "nothing was merged",
            (
                "to give each of them a name of its own: local-version in"
                " [tool.nox-buildstages.package.a]"
            ),
            (
                "to keep a folder for each wheelhouse:"
                " `nox -s build-stages-merge -- --by-cell FOLDER`"
            ),
        ],
    ),
    (
        AwayError(reason="no answer in 30 s"),
        ["the remote store is away (no answer in 30 s)"],
    ),
]


def name(value: object) -> str:
    return type(value).__name__ if isinstance(value, Exception) else ""


@pytest.mark.parametrize(("error", "lines"), WORDED, ids=name)
def test_an_error_words_itself(error: BuildStagesError, lines: list[str]) -> None:
    """What is wrong and which, then where, then what mends it."""
    assert list(error.lines()) == lines
    assert str(error) == "\n".join(lines)


@pytest.mark.parametrize("error", [error for error, _ in WORDED], ids=name)
def test_no_error_ends_with_a_full_stop(error: BuildStagesError) -> None:
    """Nox adds one."""
    assert not str(error).endswith(".")


def classes() -> dict[str, type[BuildStagesError]]:
    found = inspect.getmembers(errors, inspect.isclass)
    return {
        name: cls for name, cls in found if issubclass(cls, errors.BuildStagesError)
    }


def test_every_error_is_in_the_table() -> None:
    """An error that comes to be says its words here too."""
    assert {type(error).__name__ for error, _ in WORDED} == set(classes())


def drawn() -> Iterator[tuple[str, str]]:
    """Yield each class of the tree in the docstring with the one above it."""
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r" {4}([│├└─ ]*)(\w+Error)\b", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        above[depth:] = [found[2]]
        yield found[2], above[depth - 1] if depth else "Exception"


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    """Who looks for a way to fail finds all of them, each in its place."""
    real = {name: cls.__mro__[1].__name__ for name, cls in classes().items()}
    assert sorted(drawn()) == sorted(real.items())
