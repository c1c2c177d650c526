"""Asking uv which versions go together, so that it can't build anything.

An output is no wheel yet when its place in an environment is resolved. A
*stand-in* takes it: a wheel of nothing but metadata, named by path in the
constraints. Whatever wants the project gets the stand-in and never a namesake
from an index; its requirements count; and nothing needs to be built.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import tomli_w
from packaging.pylock import Pylock, PylockValidationError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages import toml
from nox_buildstages.errors import NoWheelError, ResolutionError
from nox_buildstages.indexes.logins import (
    LOGIN_HINT,
    is_auth_failure,
    redact,
    strip_logins,
)
from nox_buildstages.indexes.no_binary import find_no_binary, without_no_binary
from nox_buildstages.indexes.settings import Indexes
from nox_buildstages.system.process import Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.environments.targets import Target
    from nox_buildstages.model import Interpreter, Login, Metadata
    from nox_buildstages.system.process import Runner

FROM_SOURCE = "it comes from a source"
"""Why there is no wheel of what a requirement names by its place."""

NO_SDIST = 'take it as a dependency, or name its source: "{0} @ git+https://…@<ref>"'
"""What to do about an output that has nothing to be built from."""

_NO_WHEEL = re.compile(
    "Wheels are required for `([^`]+)`"
    "|Building source distributions for `([^`]+)` is disabled"
)
_NO_SDIST = re.compile("A source distribution is required for `([^`]+)`")
"""What uv says when it may not build, and when it has to."""

_MENDS = (
    (
        re.compile("No space left on device"),
        (
            "free some space in the temporary folder (TMPDIR) and in uv's cache"
            " (UV_CACHE_DIR)"
        ),
    ),
    (
        re.compile("Failed to fetch: |Request failed after "),
        ("check the network; with UV_OFFLINE=1, uv uses only what is in its cache"),
    ),
)
"""What uv says where no version is to blame, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StandIn:
    """An output's place in a resolution.

    Attributes:
        name: Of the project.
        metadata: What its wheel will say.
    """

    name: NormalizedName
    metadata: Metadata

    @property
    def file_name(self) -> str:
        """The name of its wheel."""
        name = self.name.replace("-", "_")
        return f"{name}-{self.metadata.version}-py3-none-any.whl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is to be resolved.

    Attributes:
        name: For whom, in messages.
        requirements: PEP 508 strings.
        constraints: PEP 508 strings.
        stand_ins: Outputs that are available.
        sources: Projects of which the source is wanted, alone and without what
            they require; where empty, wheels are wanted with all they require.
        unversioned: Those of them that are not on an index: a folder, a commit.
        sdists: Projects that are taken as an sdist, without what they require, among
            others that are wheels.
        overriding: Stand-ins that are taken whatever version is asked for.
    """

    name: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    stand_ins: tuple[StandIn, ...] = ()
    sources: tuple[NormalizedName, ...] = ()
    unversioned: tuple[NormalizedName, ...] = ()
    sdists: tuple[NormalizedName, ...] = ()
    overriding: tuple[NormalizedName, ...] = ()


_Asked: TypeAlias = "tuple[Target, Question, str | None]"
"""For which target, what, and what was locked before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolver:
    """Resolves for one target and one project's indexes and sources.

    Attributes:
        uv: The program.
        python: An interpreter of this machine.
        target: What is resolved for.
        runner: Runs uv.
        root: The project's folder, to which paths in ``settings`` are relative.
        settings: The project's ``[tool.uv]``.
        exclude_newer: An RFC 3339 time, or None.
        upgrade: Whether versions of earlier answers don't count.
        upgrade_packages: Projects whose earlier versions don't count.
        outer: The environment variables that uv sees; None for ours.
        logins: Taken out of the project's requirements.
    """

    uv: Path
    python: Path
    target: Target
    runner: Runner
    root: Path
    settings: Mapping[str, Any]
    exclude_newer: str | None = None
    upgrade: bool = False
    upgrade_packages: tuple[str, ...] = ()
    outer: Mapping[str, str] | None = None
    logins: tuple[Login, ...] = ()
    _answers: dict[_Asked, Pylock | ResolutionError] = field(
        default_factory=dict, repr=False, compare=False
    )

    def resolve(self, question: Question, *, earlier: str | None = None) -> Pylock:
        """Return the newest versions that go together; the earlier ones if they do.

        Args:
            question: What is wanted; the same question gets the same answer.
            earlier: The text of the lock file that this one succeeds.

        Raises:
            ResolutionError: There are no such versions, or an index can't be reached.
        """
        asked = (self.target, question, earlier)
        if asked not in self._answers:
            with tempfile.TemporaryDirectory(prefix="nox-buildstages-") as scratch:
                self._answers[asked] = self._ask(question, earlier, Path(scratch))
        answer = self._answers[asked]
        if isinstance(answer, ResolutionError):
            raise answer
        return answer

    def no_binary_setting(self, name: NormalizedName) -> str | None:
        """Return where it is said not to use a project's wheels; None for nowhere."""
        variables = os.environ if self.outer is None else self.outer
        return find_no_binary(name, self.settings, variables)

    def for_target(self, target: Target) -> Resolver:
        """Return one that resolves for another target."""
        return replace(self, target=target)

    def with_overrides(self, requirements: Sequence[str]) -> Resolver:
        """Return one for which these overrule what anything requires of a project."""
        overrides = [*self.settings.get("override-dependencies", ()), *requirements]
        settings = {**self.settings, "override-dependencies": overrides}
        return replace(self, settings=settings, _answers={})

    def _ask(
        self, question: Question, earlier: str | None, scratch: Path
    ) -> Pylock | ResolutionError:
        answer = scratch / "pylock.toml"
        if earlier is not None and not self.upgrade:
            answer.write_text(earlier, encoding="utf-8")
        standing = {
            it.name: f"{it.name} @ {write_stand_in(it, scratch).as_uri()}"
            for it in question.stand_ins
        }
        constraints = [*question.constraints, *standing.values()]
        _write_lines(scratch / "constraints.txt", constraints)
        overrides = [standing[name] for name in question.overriding]
        project = self._synthetic_project(question, overrides)
        (scratch / "pyproject.toml").write_text(tomli_w.dumps(project), "utf-8")
        completed = self.runner(self._command(question, scratch))
        if completed.returncode:
            return _failure(question, completed.stderr, self.target.interpreter)
        return _read_answer(question, answer)

    def _command(self, question: Question, scratch: Path) -> Command:
        argv = [str(self.uv), "pip", "compile", "pyproject.toml", "--quiet"]
        argv += ["--python", str(self.target.python or self.python)]
        argv += ["--no-python-downloads"]
        if self.target.python is None:
            argv += ["--python-version", self.target.version]
        if self.target.platform is not None:
            argv += ["--python-platform", self.target.platform]
        argv += ["--format", "pylock.toml", "--output-file", "pylock.toml"]
        argv += ["--no-header", "--constraints", "constraints.txt"]
        if question.sources:
            argv += ["--no-deps"]
        # A build is an error; --no-build would refuse the sdists that are wanted, too.
        argv += ["--only-binary", ":all:"] if _built(question) else ["--no-build"]
        for name in _built(question):
            argv += ["--no-binary", name]
        if self.exclude_newer is not None:
            argv += ["--exclude-newer", self.exclude_newer]
        for package in self.upgrade_packages:
            argv += ["--upgrade-package", package]
        return Command(argv=tuple(argv), cwd=scratch, env=self._variables(question))

    def _variables(self, question: Question) -> Mapping[str, str] | None:
        """Return the variables of uv, and of the git that it runs."""
        variables = self._indexes.uv_variables()
        own = dict(self.target.variables)
        if variables is not None:
            own.update(self._for_git(question, variables))
        return {**(variables or os.environ), **own} if own else variables

    def _for_git(self, question: Question, outer: Mapping[str, str]) -> dict[str, str]:
        """Let a repository on disk name submodules on disk, where there is no other."""
        repositories = [*_repositories(question, self.settings)]
        local = all(url.startswith("file://") for url in repositories)
        if not (repositories and local):
            return {}
        number = int(outer.get("GIT_CONFIG_COUNT") or 0)
        return {
            "GIT_CONFIG_COUNT": str(number + 1),
            f"GIT_CONFIG_KEY_{number}": "protocol.file.allow",
            f"GIT_CONFIG_VALUE_{number}": "always",
        }

    @property
    def _indexes(self) -> Indexes:
        return Indexes(
            root=self.root,
            settings=self.settings,
            outer=self.outer,
            logins=self.logins,
        )

    def _synthetic_project(
        self, question: Question, overrides: Sequence[str]
    ) -> dict[str, Any]:
        settings = without_no_binary(self._indexes.resolution_settings())
        stood_in = {stand_in.name for stand_in in question.stand_ins}
        sources = settings.get("sources", {})
        settings["sources"] = {
            name: source
            for name, source in sources.items()
            if canonicalize_name(name) not in stood_in
        }
        settings["dependency-metadata"] = [
            *settings.get("dependency-metadata", ()),
            *_stated_metadata(question),
        ]
        if overrides:
            given = settings.get("override-dependencies", ())
            settings["override-dependencies"] = [*given, *overrides]
        return {
            "project": {
                "name": f"{question.name}-environment",
                "version": "0",
                "requires-python": self.target.interpreter.requires_python,
                "dependencies": list(question.requirements),
            },
            "tool": {"uv": settings},
        }


def write_stand_in(stand_in: StandIn, folder: Path) -> Path:
    """Write the wheel of a stand-in, which holds metadata and nothing else."""
    path = folder / stand_in.file_name
    metadata = stand_in.metadata
    lines = ["Metadata-Version: 2.2", f"Name: {stand_in.name}"]
    lines += [f"Version: {metadata.version}"]
    lines += [f"Requires-Dist: {text}" for text in metadata.requires_dist]
    lines += [f"Provides-Extra: {extra}" for extra in metadata.provides_extra]
    if metadata.requires_python is not None:
        lines += [f"Requires-Python: {metadata.requires_python}"]
    info = "-".join(stand_in.file_name.split("-")[:2]) + ".dist-info"
    wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{info}/WHEEL", wheel)
        archive.writestr(f"{info}/RECORD", "")
    return path


def _repositories(question: Question, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the URLs of the git repositories that a question may lead to."""
    for text in question.requirements:
        kind, _, url = (Requirement(text).url or "").partition("+")
        if kind == "git":
            yield url
    for source in settings.get("sources", {}).values():
        for entry in source if isinstance(source, list) else [source]:
            if "git" in entry:
                yield entry["git"]


def _stated_metadata(question: Question) -> list[dict[str, Any]]:
    """Return entries without which uv would run a backend to learn a version.

    They are as good as any: what these projects require is not asked for.
    """
    return [
        {
            "name": name,
            "requires-dist": [],
            **({"version": "0"} if name in question.unversioned else {}),
        }
        for name in _built(question)
    ]


def _built(question: Question) -> tuple[NormalizedName, ...]:
    return (*question.sources, *question.sdists)


def _failure(
    question: Question, output: str, interpreter: Interpreter
) -> ResolutionError:
    said = redact(output)
    wheel = _NO_WHEEL.search(output)
    if wheel is not None:
        project = canonicalize_name(wheel[1] or wheel[2])
        return NoWheelError(
            name=question.name,
            details=said.splitlines(),
            project=project,
            reason=f"no wheel for {interpreter.short}" if wheel[1] else FROM_SOURCE,
            requirements=question.requirements,
            constraints=question.constraints,
        )
    details = said.splitlines()
    return ResolutionError(name=question.name, details=details, hint=_mend(output))


def _mend(output: str) -> str:
    if is_auth_failure(output):
        return LOGIN_HINT
    match = _NO_SDIST.search(output)
    if match is not None:
        return NO_SDIST.format(match[1])
    return next((hint for pattern, hint in _MENDS if pattern.search(output)), "")


def _read_answer(question: Question, path: Path) -> Pylock | ResolutionError:
    try:
        document = toml.loads(path.read_text(encoding="utf-8"))
        answer = Pylock.from_dict(strip_logins(document))
    except (ValueError, PylockValidationError) as error:
        problem = f"uv's lock can't be read: {error}"
        return ResolutionError(name=question.name, problem=problem)
    for package in answer.packages:
        for file in (*(package.wheels or ()), package.sdist, package.archive):
            if file is not None and "sha256" not in file.hashes:
                problem = f"the index has no sha256 of {file.url or file.path}"
                return ResolutionError(name=question.name, problem=problem)
    return answer


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
