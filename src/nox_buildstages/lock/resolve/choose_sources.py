"""Choose the sources of all outputs together: versions on an index, commits, folders.

uv reads no build requirements, and may run no build backend. So the declarations of
each version picked by uv are read here, and given to uv as the version's metadata
(``dependency-metadata``), until all picked versions have been read. uv itself
backtracks: if the newest versions don't fit, uv picks an older version.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from nox_buildstages.errors import InvalidLockError, ResolutionError, SourceError
from nox_buildstages.lock.files.lockfile import IndexPin
from nox_buildstages.lock.files.merge_targets import select_target
from nox_buildstages.lock.resolve.known_metadata import (
    KnownMetadata,
    find_unmet,
    read_static_metadata,
)
from nox_buildstages.lock.resolve.source_choice import (
    SourceChoice,
    earlier_sources,
    is_direct,
    source_of,
    without_url,
)
from nox_buildstages.lock.resolve.uv_compile import Question, Resolver, StandIn
from nox_buildstages.model import FINAL, ArchiveSource, Metadata, Output, Project
from nox_buildstages.sources.metadata import check_project, metadata_from_core
from nox_buildstages.system.files import path_from_url
from nox_buildstages.system.process import run_in_parallel
from nox_buildstages.value import Record, field, replace

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from packaging.pylock import Package

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.resolve.known_metadata import (
        MetadataProvider,
        RecordedAnswer,
        StaticMetadata,
    )

MAX_VERSIONS = 20
"""How many versions of an output are read, from the newest, to find one that fits."""

OUTPUTS = "outputs"
CONSTRAINTS = "constraints"
RUNTIME = "final.requirements"
"""Places of limits, beside ``stage NAME`` for the dependencies of a stage."""

_ANY_VERSION = Metadata(version=Version("0"), learned="static")
"""The metadata of a stand-in that satisfies all requirements on its version."""

_LOG = logging.getLogger(__name__)


class IncompatibleOutputsError(Record, Exception, kw_only=False):
    """No versions of the outputs fit together."""

    error: ResolutionError  # in uv's words
    chooser: SourceChooser


class SourceChooser(Record):
    """Chooses the sources of all outputs, with all declarations read so far."""

    project: Project
    graph: Graph
    resolvers: Sequence[Resolver]  # one for each Python
    metadata_provider: MetadataProvider
    earlier: Mapping[str, Lock]
    static: dict[tuple[NormalizedName, Version | None], StaticMetadata] = field(
        default_factory=dict
    )
    answers: dict[tuple[NormalizedName, Version | None], RecordedAnswer] = field(
        default_factory=dict
    )
    ignored: frozenset[tuple[str, str]] = frozenset()
    """The ``limits`` that don't count, to find out which of them conflict."""
    direct: dict[NormalizedName, SourceChoice] = field(default_factory=dict)
    _packages: list[dict[NormalizedName, Package]] = field(default_factory=list)
    _has_runtime: bool = True  # whether the last question was about it

    def choose(self) -> dict[NormalizedName, StaticMetadata]:
        """Choose the source of every output, and read the declarations.

        Sources in earlier locks are preferred. The versions suit the runtime
        requirements, the dependencies of stages, the constraints, and the declarations
        of the outputs.

        Raises:
            IncompatibleOutputsError: No versions fit together.
            ResolutionError: An output has no source.
            SourceError: A source can't be fetched or read.
        """
        if not self.direct:
            self.direct = self._choose_direct()
            self._read(self.direct)
        while True:
            # Choose sources, with the declarations read so far.
            choices = self._pick()
            origins = (f"{name} from {it.source}" for name, it in choices.items())
            _LOG.debug("choose sources: %s", "; ".join(origins))

            # Read declarations: of every new source.
            if not self._read(choices):
                return {
                    name: self.static[name, it.version] for name, it in choices.items()
                }

    def _read(self, choices: Mapping[NormalizedName, SourceChoice]) -> bool:
        """Read the static metadata of new sources; return whether any are new."""
        unread = {
            name: choice
            for name, choice in choices.items()
            if (name, choice.version) not in self.static
        }
        for name, choice in unread.items():
            tree = self.metadata_provider.tree(name, choice.source)
            is_patched = bool(self.project.rules(name).patches)
            try:
                check_project(tree)
                static = read_static_metadata(choice, tree, patched=is_patched)
            except SourceError as error:
                subject = f"{name} (stage {self.graph.providers[name].name})"
                raise SourceError(
                    subject=subject, problem=error.problem, hint=error.hint
                ) from error
            self.static[name, choice.version] = static
        _LOG.debug("read declarations: of %s", ", ".join(unread) or "nothing new")

        # In a first stage, the backend can be asked anyway, and no promise is needed.
        dynamic = [
            (name, choice.version)
            for name, choice in unread.items()
            if choice.version is not None
            and self.graph.requires[self.graph.providers[name].name]
            and self.static[name, choice.version].metadata is None
            and not self.project.rules(name).patches
            and self.project.rules(name).requires_dist is None
        ]
        promises = run_in_parallel(partial(self._promise, *it) for it in dynamic)
        for key, promise in zip(dynamic, promises, strict=True):
            self.static[key] = replace(self.static[key], promise=promise)
        return bool(unread)

    def _promise(self, name: NormalizedName, version: Version) -> Metadata | None:
        """Return the metadata of a wheel of a version on the index, of any platform."""
        python = self.static[name, version].identity.requires_python
        supported = SpecifierSet(python or ">=3.8")
        pythons = (f"3.{minor}" for minor in range(99))
        question = Question(
            name="wheel",
            requirements=(f"{name}=={version}",),
            wheels_from=next((it for it in pythons if f"{it}.0" in supported), "3.8"),
        )
        resolver = self.resolvers[0]
        try:
            packages = resolver.resolve(question).packages
        except ResolutionError:
            return None  # there is none
        wheels = [wheel for package in packages for wheel in package.wheels or ()]
        tags = {*resolver.target.interpreter.tags}
        wheel = min(
            wheels,
            key=lambda it: tags.isdisjoint(parse_wheel_filename(it.filename)[3]),
            default=None,
        )
        if wheel is None:
            return None
        source = ArchiveSource(
            location=wheel.url or wheel.path or "", sha256=wheel.hashes["sha256"]
        )
        core = self.metadata_provider.wheel_metadata(source, wheel.size)
        if core is None or (core.name, core.version) != (name, version):
            return None
        return metadata_from_core(core, learned="wheel")

    def _pick(self) -> dict[NormalizedName, SourceChoice]:
        """Return the newest sources that fit, as far as is known now."""
        if self.index_outputs() and not self._fits():
            for has_runtime in (True, False):
                self._has_runtime = has_runtime
                try:
                    self._packages = self._ask(self.question(has_runtime=has_runtime))
                    break
                except ResolutionError as error:
                    # The runtime may be to blame, which its resolution will explain.
                    if not has_runtime:
                        raise IncompatibleOutputsError(error, self) from error
        choices = {}
        for name, output in self.outputs.items():
            if name in self.direct:
                choices[name] = self.direct[name]
            else:
                package = self._packages[0][name]
                source = source_of(package, output, self.project.root)
                choices[name] = SourceChoice(version=package.version, source=source)
        return choices

    def learn(self, known: KnownMetadata) -> bool:
        """Note the answers of build backends; return whether they break a choice.

        If so, the sources are to be chosen again.
        """
        is_new = False
        for name, answer in known.answers.items():
            if name in self.outputs:
                key = (name, known.static[name].choice.version)
                before = self.answers.get(key)
                is_new |= before is None or before.answer != answer.answer
                self.answers[key] = answer
        return is_new and bool(self._packages) and not self._fits()

    def without(self, place: str, limit: str) -> SourceChooser:
        """Return a chooser for which one of the limits doesn't count."""
        return replace(self, ignored=frozenset([(place, limit)]), _packages=[])

    def read_versions(self, name: NormalizedName) -> list[Version | None]:
        """Return the versions read for an output, in order."""
        versions = [version for it, version in self.static if it == name]
        return sorted(versions, key=lambda it: it or _ANY_VERSION.version)

    def index_outputs(self) -> list[NormalizedName]:
        """Return the outputs that are versions on an index."""
        outputs = self.outputs.items()
        return [name for name, it in outputs if not is_direct(self.project, it)]

    def question(self, *, has_runtime: bool = True) -> Question:
        """Return the question to uv about the outputs on indexes.

        With the runtime, the question is about all packages of the runtime environment,
        too. Otherwise only the requirements of the outputs on each other count.
        """
        project, names = self.project, self.index_outputs()
        read = [*self._read_versions(has_runtime=has_runtime)]
        overriding = [
            name
            for name in self.direct
            if self.known(name, None).metadata(name) is None
        ]
        own = project.final.project
        if own is not None:
            overriding.append(own)
            read.append(StandIn(name=own, metadata=_ANY_VERSION))
        constraints = [
            limit
            for place, limit in self.limits()
            if place not in (OUTPUTS, *([RUNTIME] if has_runtime else ()))
            and (place, limit) not in self.ignored
        ]
        for name in names:
            versions = [it.metadata.version for it in read if it.name == name]
            if len(versions) >= MAX_VERSIONS:
                constraints.append(f"{name}>={min(versions)}")
        places = [(RUNTIME, it) for it in project.final.requirements if has_runtime]
        # uv decides in this order, so what is built against an output comes before it.
        for stage in reversed(self.graph.order):
            for output in stage.outputs:
                if output.name in names:
                    places.append((OUTPUTS, self.outputs[output.name].requirement))
                elif output.name in self.outputs:
                    places.append((OUTPUTS, Requirement(output.name)))
        requirements = []
        for place, requirement in places:
            wanted = Requirement(without_url(str(requirement), self.outputs))
            if (place, limit_of(requirement)) in self.ignored:
                wanted.specifier = SpecifierSet()
            requirements.append(str(wanted))
        return Question(
            name="outputs",
            requirements=tuple(requirements),
            constraints=tuple(constraints),
            stand_ins=tuple(it for it in read if it.name not in names),
            overriding=tuple(overriding),
            sdists=tuple(names),
            candidates=tuple(it for it in read if it.name in names),
        )

    def _read_versions(self, *, has_runtime: bool) -> Iterator[StandIn]:
        """Yield the metadata of each version read so far, for uv.

        uv knows no build requirements, so requirements on other outputs are added.
        """
        installed = self._installed_outputs() if has_runtime else ()
        for name, version in self.static:
            known = self.known(name, version).metadata(name) or _ANY_VERSION
            requires = self.requirements_of(name, version, installed)
            metadata = replace(
                known, version=version or known.version, requires_dist=requires
            )
            yield StandIn(name=name, metadata=metadata)

    def limits(self) -> Iterator[tuple[str, str]]:
        """Yield the table's limits on the versions of outputs on indexes, by place.

        Constraints on other projects are among them.
        """
        project, names = self.project, self.index_outputs()
        for constraint in project.constraints:
            yield CONSTRAINTS, without_url(str(constraint), self.outputs)
        places = [(RUNTIME, it) for it in project.final.requirements]
        places += (
            (it.name, wanted) for it in project.stages for wanted in it.dependencies
        )
        places += ((OUTPUTS, self.outputs[name].requirement) for name in names)
        for place, requirement in places:
            if requirement.specifier and canonicalize_name(requirement.name) in names:
                yield place, limit_of(requirement)

    def known(self, name: NormalizedName, version: Version | None) -> KnownMetadata:
        """Return the known metadata of a version of an output."""
        key = (name, version)
        static = {name: self.static[key]}
        answers = {name: self.answers[key]} if key in self.answers else {}
        return KnownMetadata(project=self.project, static=static, answers=answers)

    def requirements_of(
        self,
        name: NormalizedName,
        version: Version | None,
        installed: Container[NormalizedName] = (),
    ) -> tuple[str, ...]:
        """Return the requirements of an output that limit versions of outputs.

        Requirements on other outputs count, for the build or later. All runtime
        requirements count for the outputs installed in the runtime environment.
        """
        known = self.known(name, version)
        found = []
        for text in known.build_requires(name):
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) in self.outputs.keys() - {name}:
                requirement.extras = set()
                found.append(without_url(str(requirement), self.outputs))
        metadata = known.metadata(name)
        for text in () if metadata is None else metadata.requires_dist:
            required = canonicalize_name(Requirement(text).name)
            if name in installed or required in self.outputs.keys() - {name}:
                found.append(without_url(text, self.outputs))
        return tuple(dict.fromkeys(found))

    @property
    def outputs(self) -> dict[NormalizedName, Output]:
        """The outputs by name."""
        return {output.name: output for output in self.project.outputs}

    def _installed_outputs(self) -> set[NormalizedName]:
        """Return the outputs in the runtime environment, as far as is known."""
        found: set[NormalizedName] = set()
        waiting = [canonicalize_name(it.name) for it in self.project.final.requirements]
        while waiting:
            name = waiting.pop()
            if name in self.outputs and name not in found:
                found.add(name)
                for version in self.read_versions(name):
                    metadata = self.known(name, version).metadata(name)
                    if metadata is not None:
                        requires = map(Requirement, metadata.requires_dist)
                        waiting += (canonicalize_name(it.name) for it in requires)
        return found

    def _fits(self) -> bool:
        """Whether the last answers meet everything known now."""
        if not self._packages:
            return False
        direct = {name: self.known(name, None).metadata(name) for name in self.direct}
        installed = self._installed_outputs() if self._has_runtime else ()
        for resolver, packages in zip(self.resolvers, self._packages, strict=True):
            versions = {name: it.version for name, it in packages.items()}
            versions |= {
                name: it.version if it else None for name, it in direct.items()
            }
            pins = [
                IndexPin(name=name, version=version, sha256="")
                for name, version in versions.items()
                if version is not None
            ]
            for name in self.outputs:
                version = None if name in direct else versions[name]
                requires = [
                    text
                    for text in self.requirements_of(name, version, installed)
                    if direct.get(canonicalize_name(Requirement(text).name), True)
                ]
                if find_unmet(requires, pins, resolver.target.interpreter):
                    return False
        return True

    def _ask(self, question: Question) -> list[dict[NormalizedName, Package]]:
        """Return uv's answer for each Python, with the same versions of outputs."""
        # Prefer the sources in earlier locks, and the earlier runtime.
        earlier = []
        for it in self.resolvers:
            runtime: Sequence[Package] = ()
            if FINAL in self.earlier:
                with suppress(InvalidLockError):  # it was for other targets
                    lock = select_target(self.earlier[FINAL], it.target.interpreter)
                    runtime = lock.pylock.packages
            others = [
                package for package in runtime if package.name not in self.outputs
            ]
            earlier.append(earlier_sources(self.earlier, others))
        while True:
            calls = (
                partial(resolver.resolve, question, earlier=text)
                for resolver, text in zip(self.resolvers, earlier, strict=True)
            )
            answers = [
                {package.name: package for package in answer.packages}
                for answer in run_in_parallel(calls)
            ]
            bounds = []
            for name in question.without_wheels:
                found = {answer[name].version for answer in answers}
                versions = {version for version in found if version is not None}
                if len(versions) > 1:
                    bounds.append(f"{name}<={min(versions)}")
            if not bounds:
                return answers
            constraints = (*question.constraints, *bounds)
            question = replace(question, constraints=constraints)

    def _choose_direct(self) -> dict[NormalizedName, SourceChoice]:
        """Choose the sources named by URLs and paths: find commits and hashes."""
        direct = {
            name: it for name, it in self.outputs.items() if is_direct(self.project, it)
        }
        for output in direct.values():
            url = urlsplit(output.requirement.url or "")
            if url.scheme == "file" and not path_from_url(url.path).exists():
                raise SourceError(
                    subject=output.location,
                    problem=f"{output.name}: {path_from_url(url.path)} doesn't exist",
                    hint="correct the path; it is relative to the pyproject.toml",
                )
        if not direct:
            return {}
        question = Question(
            name="outputs",
            requirements=tuple(str(output.requirement) for output in direct.values()),
            sources=tuple(direct),
        )
        packages = self._ask(question)[0]
        root = self.project.root
        return {
            name: SourceChoice(version=None, source=source_of(packages[name], it, root))
            for name, it in direct.items()
        }


def limit_of(requirement: Requirement) -> str:
    """Return a requirement as a constraint: without extras."""
    limit = Requirement(str(requirement))
    limit.extras = set()
    return str(limit)
