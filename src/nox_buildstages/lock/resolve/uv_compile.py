"""Ask uv which versions fit together (``uv pip compile``), without building anything.

When an environment is resolved, outputs aren't wheels yet. A *stand-in* takes the place
of each output: a wheel with metadata only, named by path in the constraints. All
requirements for the project get the stand-in, never a package of the same name from an
index; the output's requirements count; and nothing needs to be built.
"""

from __future__ import annotations

import os
import re
import zipfile
from typing import TYPE_CHECKING, Any

from packaging.pylock import PackageWheel, Pylock
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages import reader
from nox_buildstages.declarations.no_binary import find_no_binary, without_no_binary
from nox_buildstages.declarations.settings import NETWORK_OFF, OFFLINE_HINT
from nox_buildstages.declarations.uv_sources import is_direct, list_sources, with_source
from nox_buildstages.errors import NoWheelError, ResolutionError
from nox_buildstages.indexes import url_secrets
from nox_buildstages.lock.files.pylock import read_pylock, select_packages
from nox_buildstages.model import FINAL
from nox_buildstages.system.documents import read_toml
from nox_buildstages.system.files import TEMPORARY, temporary_folder
from nox_buildstages.system.process import Command, Runner
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.markers import Marker

    from nox_buildstages.declarations.settings import Indexes
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.model import Interpreter, Metadata

FROM_SOURCE = "it comes from a source"
"""The reason for a missing wheel if a requirement names a source."""

NO_SDIST = 'take it as a dependency, or name its source: "{0} @ git+https://…@<ref>"'
"""The hint for an output without a source on the index."""

_FREE_THREADED = r"""#!/bin/sh
exec "{python}" -c '
import os, sys
words = sys.argv[1:]
code = words.index("-c") + 1
no_gil = "import sysconfig; sysconfig.get_config_vars()[\"Py_GIL_DISABLED\"] = 1\n"
words[code] = no_gil + words[code]
os.execv(sys.executable, [sys.executable, *words])
' "$@"
"""
"""A Python that tells uv that it is free-threaded: no option of uv's says so."""

_CHANGES = ("override-dependencies", "constraint-dependencies")
"""The keys of ``[tool.uv]`` that change requirements of others."""

_NO_WHEEL = re.compile(
    "Wheels are required for `([^`]+)`"
    "|Building source distributions for `([^`]+)` is disabled"
)
_NO_SDIST = re.compile("A source distribution is required for `([^`]+)`")
"""uv's messages if it would have to build, and if it can't build."""
_UNKNOWN = re.compile(r"Because (\S+) was not found in the package registry")
_FILTERED = re.compile(
    r"`([^`]+)` was filtered by `exclude-newer`.* published at (\d{4}-\d\d-\d\d)T"
)
_NO_VERSION = re.compile(r"there is no version of ([\w.-]+)(?:\[.*?\])?==([\w.+!-]+)")
"""uv's messages about a package that isn't on the indexes, and about a version."""

SYSTEM_HINTS = {
    "No space left on device": (
        "free some space in the temporary folder (TMPDIR) and in uv's cache"
        " (UV_CACHE_DIR)"
    ),
    "Failed to fetch: |Request failed after |error sending request for url": (
        "check the network; with UV_OFFLINE=1, uv uses only what is in its cache"
    ),
    NETWORK_OFF: OFFLINE_HINT,
    "Failed to download `": "check the URL, and that this machine may fetch it",
    "Git operation failed": (
        "check the repository's URL and its branch, tag or commit, and that this"
        " machine can reach it"
    ),
}
"""The hints for uv's messages about the disk, the network and git, by pattern."""


class StandIn(Value):
    """A wheel without contents, in place of an unbuilt output."""

    name: NormalizedName
    metadata: Metadata

    def write(self, folder: Path) -> Path:
        """Write the wheel; return the path."""
        metadata = self.metadata
        stem = f"{self.name.replace('-', '_')}-{metadata.version}"
        path, info = folder / f"{stem}-py3-none-any.whl", f"{stem}.dist-info"
        lines = ["Metadata-Version: 2.2", f"Name: {self.name}"]
        lines += [f"Version: {metadata.version}"]
        lines += [f"Requires-Dist: {text}" for text in metadata.requires_dist]
        lines += [f"Provides-Extra: {extra}" for extra in metadata.provides_extra]
        if metadata.requires_python is not None:
            lines += [f"Requires-Python: {metadata.requires_python}"]
        wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
            archive.writestr(f"{info}/WHEEL", wheel)
            archive.writestr(f"{info}/RECORD", "")
        return path


class Question(Value):
    """A question to uv, about wheels and all their requirements.

    If there are ``sources``, the question is about these sources without their
    requirements. ``sdists`` are wanted as sdists, with requirements only for the
    versions among the ``candidates``, while other projects are wanted as wheels.
    """

    name: str  # the environment, for messages
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    stand_ins: tuple[StandIn, ...] = ()
    sources: tuple[NormalizedName, ...] = ()
    sdists: tuple[NormalizedName, ...] = ()
    candidates: tuple[StandIn, ...] = ()  # versions of sdists with known requirements
    overriding: tuple[NormalizedName, ...] = ()  # stand-ins for any required version
    is_alone: bool = False  # about wheels without requirements, their own or changed
    wheels_from: str = ""
    """A Python, such as 3.9: then all wheels for it and later ones are wanted, on every
    platform, without their requirements."""

    @property
    def named(self) -> frozenset[NormalizedName]:
        """The projects that the requirements name."""
        names = (Requirement(it).name for it in self.requirements)
        return frozenset(map(canonicalize_name, names))

    @property
    def without_wheels(self) -> tuple[NormalizedName, ...]:
        """The projects whose source is wanted."""
        return (*self.sources, *self.sdists)


class Resolver(Value):
    """Asks uv for a target, with the indexes and sources of a project."""

    uv: Path
    python: Path  # any interpreter of this machine
    target: Target
    runner: Runner
    indexes: Indexes
    exclude_newer: str | None = None  # an RFC 3339 time
    exclude_newer_package: Mapping[str, str] = field(default_factory=dict)
    upgrade: bool = False
    upgrade_packages: tuple[str, ...] = ()
    answers: dict[tuple[Target, Question, str | None], Pylock | ResolutionError] = (
        field(default_factory=dict, repr=False, compare=False)
    )

    def with_overrides(self, requirements: Sequence[str]) -> Resolver:
        """Return a resolver with additional ``override-dependencies``."""
        settings, key = self.indexes.settings, "override-dependencies"
        settings = {**settings, key: [*settings.get(key, ()), *requirements]}
        indexes = replace(self.indexes, settings=settings)
        return replace(self, indexes=indexes, answers={})

    def no_binary_setting(self, name: NormalizedName) -> str | None:
        """Return uv's setting against a project's wheels, if any."""
        outer = self.indexes.outer
        variables = os.environ if outer is None else outer
        return find_no_binary(name, self.indexes.settings, variables)

    def resolve(self, question: Question, *, earlier: str | None = None) -> Pylock:
        """Return the newest compatible versions, or earlier versions if compatible.

        uv is asked each question once. Earlier versions are the text of a lock file.

        Raises:
            ResolutionError: No versions fit together, or an index can't be reached.
        """
        key = (self.target, question, earlier)
        if key not in self.answers:
            with temporary_folder(TEMPORARY) as scratch:
                self.answers[key] = self._ask_uv(question, earlier, scratch)
        answer = self.answers[key]
        if isinstance(answer, ResolutionError):
            raise answer
        return answer

    def _ask_uv(
        self, question: Question, earlier: str | None, scratch: Path
    ) -> Pylock | ResolutionError:
        settings = self._settings(question)
        found = []
        for key, text in self._list_index_packages(question, settings):
            # Find the wheel on its index first: only a URL leaves no doubt about where
            # a package comes from that no requirement of the project names.
            alone = replace(
                question,
                requirements=(text,),
                stand_ins=(),
                overriding=(),
                is_alone=True,
            )
            answer = self._run_compile(alone, settings, earlier, scratch)
            if isinstance(answer, ResolutionError):
                if key == "override-dependencies":
                    return answer
                continue
            for package, file in select_packages(answer, self.target.interpreter):
                if isinstance(file, PackageWheel):
                    requirement = Requirement(text)
                    requirement.specifier, requirement.url = SpecifierSet(), file.url
                    changed = [it for it in settings[key] if it != text]
                    settings[key] = [*changed, str(requirement)]
                    found.append(package)
        answer = self._run_compile(question, settings, earlier, scratch)
        if found and isinstance(answer, Pylock):
            by_name = {package.name: package for package in found}
            packages = (by_name.get(it.name, it) for it in answer.packages)
            return replace(answer, packages=[*packages])
        return answer

    def _run_compile(
        self,
        question: Question,
        settings: dict[str, Any],
        earlier: str | None,
        scratch: Path,
    ) -> Pylock | ResolutionError:
        if question.is_alone:
            settings = {it: settings[it] for it in settings if it not in _CHANGES}
        lock = scratch / "pylock.toml"
        lock.unlink(missing_ok=True)
        if earlier is not None and not self.upgrade:
            lock.write_text(earlier, encoding="utf-8")
        stand_ins = {
            it.name: f"{it.name} @ {it.write(scratch).as_uri()}"
            for it in question.stand_ins
        }
        constraints = "".join(
            f"{line}\n" for line in (*question.constraints, *stand_ins.values())
        )
        (scratch / "constraints.txt").write_text(constraints, encoding="utf-8")
        overrides = [stand_ins[name] for name in question.overriding]
        if overrides:
            key = "override-dependencies"
            settings = {**settings, key: [*settings.get(key, ()), *overrides]}
        project = {
            "name": f"{question.name}-environment",
            "version": "0",
            "requires-python": f">={question.wheels_from}"
            if question.wheels_from
            else self.target.interpreter.requires_python,
            "dependencies": list(question.requirements),
        }
        variables = self.indexes.write_project(scratch, settings, project)
        command = Command(
            argv=tuple(self._arguments(question, scratch)),
            cwd=scratch,
            env=self._with_git_variables(question, variables),
        )
        completed = self.runner(command)
        if completed.returncode:
            return _uv_error(question, completed.stderr, self.target.interpreter)
        try:
            document = read_toml(lock)
            answer = read_pylock(url_secrets.strip_logins(document))
        except (OSError, reader.UnreadableError) as error:
            problem = f"uv's lock can't be read: {error}"
            return ResolutionError(name=question.name, problem=problem)
        for package in answer.packages:
            for file in (*(package.wheels or ()), package.sdist, package.archive):
                if file is not None and "sha256" not in file.hashes:
                    problem = f"the index has no sha256 of {file.url or file.path}"
                    return ResolutionError(name=question.name, problem=problem)
        return answer

    def _arguments(self, question: Question, scratch: Path) -> Iterator[str]:
        yield from (str(self.uv), "pip", "compile", "pyproject.toml", "--quiet")
        # In an environment, it would run files .pth of the packages there.
        python = (self.target.python or self.python).resolve()
        if self.target.python is None and self.target.version.endswith("t"):
            text = _FREE_THREADED.format(python=python)
            python = scratch / "python"
            python.write_text(text, encoding="utf-8")
            python.chmod(0o755)
        yield from ("--python", str(python), "--no-python-downloads")
        if question.wheels_from:
            yield from ("--universal", "--python-version", question.wheels_from)
        elif self.target.python is None:
            yield from ("--python-version", self.target.version.removesuffix("t"))
        if self.target.platform is not None and not question.wheels_from:
            yield from ("--python-platform", self.target.platform)
        yield from ("--format", "pylock.toml", "--output-file", "pylock.toml")
        yield from ("--no-header", "--constraints", "constraints.txt")
        if question.sources or question.wheels_from or question.is_alone:
            yield "--no-deps"
        if question.without_wheels:
            # --no-build would refuse the sdists, too.
            yield from ("--only-binary", ":all:")
            for name in question.without_wheels:
                yield from ("--no-binary", name)
        else:
            yield "--no-build"
        if self.exclude_newer is not None:
            yield from ("--exclude-newer", self.exclude_newer)
        for project, time in self.exclude_newer_package.items():
            yield from ("--exclude-newer-package", f"{project}={time}")
        yield from (f"--upgrade-package={name}" for name in self.upgrade_packages)

    def _with_git_variables(
        self, question: Question, variables: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Return the environment variables of uv, and of uv's git."""
        own = dict(self.target.variables)
        sources = list_sources(self.indexes.settings)
        repositories = [entry["git"] for _, entry in sources if "git" in entry]
        for text in question.requirements:
            kind, _, url = (Requirement(text).url or "").partition("+")
            if kind == "git":
                repositories.append(url)
        if repositories and all(url.startswith("file://") for url in repositories):
            # Repositories on disk may have submodules on disk, which git doesn't clone
            # by default (CVE-2022-39253).
            number = url_secrets.git_config_count(variables)
            own["GIT_CONFIG_COUNT"] = str(number + 1)
            own[f"GIT_CONFIG_KEY_{number}"] = "protocol.file.allow"
            own[f"GIT_CONFIG_VALUE_{number}"] = "always"
        return {**variables, **own}

    def _settings(self, question: Question) -> dict[str, Any]:
        """Return ``[tool.uv]`` for a question, such that uv never runs a backend."""
        settings = without_no_binary(self.indexes.resolution_settings())
        if question.name != FINAL:
            settings.pop("exclude-dependencies", None)  # as in uv, not for builds
        if question.name != FINAL and not question.without_wheels:
            # A build gets what it names itself, even if the runtime goes without.
            named = question.named
            settings["override-dependencies"] = [
                text
                for text in settings.get("override-dependencies", ())
                if not self._removes_one(text, named)
            ]
        stand_ins = {stand_in.name for stand_in in question.stand_ins}
        sources: dict[NormalizedName, list[Mapping[str, Any]]] = {}
        for name, entry in list_sources(settings):
            if name not in stand_ins:
                sources.setdefault(name, []).append(entry)
        settings["sources"] = sources
        for key in _CHANGES:
            if key in settings:
                settings[key] = [
                    lowered
                    for text in settings[key]
                    for lowered in _lower(text, sources, stand_ins)
                ]
        # uv would run a backend to learn the version and the requirements of a source.
        # Neither matters here, so any metadata will do. uv accepts one entry only.
        wanted = question.without_wheels
        declared = settings.get("dependency-metadata", ())
        others = [
            it
            for it in declared
            if canonicalize_name(it["name"]) not in {*wanted, *stand_ins}
        ]
        settings["dependency-metadata"] = [
            *others,
            *(
                {
                    "name": name,
                    "requires-dist": [],
                    **({"version": "0"} if self._is_direct(question, name) else {}),
                }
                for name in wanted
            ),
            *(
                {
                    "name": it.name,
                    "version": str(it.metadata.version),
                    "requires-dist": list(it.metadata.requires_dist),
                    "provides-extra": list(it.metadata.provides_extra),
                }
                for it in question.candidates
            ),
        ]
        # If uv needs a build nevertheless, it fails before any code of the source runs.
        nothing = "nothing @ file:///nox-buildstages/builds/it-0-py3-none-any.whl"
        settings["extra-build-dependencies"] = {name: [nothing] for name in wanted}
        return settings

    def _is_direct(self, question: Question, name: NormalizedName) -> bool:
        """Whether a package comes from a URL or a path for this target."""
        requirements = map(Requirement, question.requirements)
        return any(
            canonicalize_name(it.name) == name and it.url for it in requirements
        ) or is_direct(self.indexes.settings, name, self._holds)

    def _holds(self, marker: Marker) -> bool:
        return self.target.interpreter.satisfies(marker)

    def _removes_one(self, override: Any, names: Container[NormalizedName]) -> bool:  # noqa: ANN401 - uv's own schema
        """Whether an override removes one of some projects."""
        found = Requirement(override) if isinstance(override, str) else None
        return (
            found is not None
            and found.marker is not None
            and not self._holds(found.marker)
            and canonicalize_name(found.name) in names
        )

    def _list_index_packages(
        self, question: Question, settings: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        """Yield overrides and constraints whose package has an index as its source.

        ``uv pip compile`` takes a requirement of the project from its index, but not
        what overrides or constrains the requirements of others.
        """
        if question.sources or question.is_alone:
            return
        named = question.named
        for key in _CHANGES:
            for text in settings.get(key, ()):
                requirement = Requirement(text) if isinstance(text, str) else None
                if requirement is None or requirement.url:
                    continue
                name, marker = canonicalize_name(requirement.name), requirement.marker
                if key == "constraint-dependencies" and name in named:
                    continue
                has_index = any(
                    "index" in it for it in settings["sources"].get(name, ())
                )
                if has_index and (marker is None or self._holds(marker)):
                    yield key, text


def _lower(
    text: Any,  # noqa: ANN401 - uv's own schema
    sources: Mapping[NormalizedName, Any],
    stand_ins: Collection[NormalizedName],
) -> list[Any]:
    """Return an override or constraint with the sources of its package."""
    if not isinstance(text, str):
        return [text]
    requirement = Requirement(text)
    name = canonicalize_name(requirement.name)
    if name in stand_ins:  # the stage's wheel, wherever else it could come from
        requirement.url = None
        return [str(requirement)]
    if requirement.url:
        return [text]
    return with_source(text, sources.get(name, ())) or [text]


def _uv_error(
    question: Question, output: str, interpreter: Interpreter
) -> ResolutionError:
    """Return the error for a failure of uv, with a hint for known messages."""
    details = url_secrets.redact(output).splitlines()
    wheel, sdist = _NO_WHEEL.search(output), _NO_SDIST.search(output)
    if wheel is not None:
        project = canonicalize_name(wheel[1] or wheel[2])
        return NoWheelError(
            name=question.name,
            details=details,
            project=project,
            reason=f"no wheel for {interpreter.short}" if wheel[1] else FROM_SOURCE,
            requirements=question.requirements,
            constraints=question.constraints,
        )
    hints = (hint for it, hint in SYSTEM_HINTS.items() if re.search(it, output))
    hint, problem = next(hints, ""), "can't be locked"
    if url_secrets.is_auth_failure(output):
        hint = url_secrets.LOGIN_HINT
    elif sdist is not None:
        hint = NO_SDIST.format(sdist[1])
        problem = f"{sdist[1]} has no source distribution, so it can't be built"
    elif (filtered := _FILTERED.search(output)) is not None:
        name, date = filtered.groups()
        problem = f"exclude-newer leaves out each {name} that fits"
        dates = f'exclude-newer-package = {{ {name} = "{date}" }}'
        hint = f"allow a later one, in pyproject.toml:\n  [tool.uv]\n  {dates}"
    elif (unknown := _UNKNOWN.search(output)) is not None:
        problem = f"no index has {unknown[1]}"
        hint = hint or "correct its name, or add its index to [[tool.uv.index]]"
    elif (missing := _NO_VERSION.search(output)) is not None:
        problem = f"no index has {missing[1]} {missing[2]}"
    return ResolutionError(
        name=question.name, problem=problem, details=details, hint=hint
    )
