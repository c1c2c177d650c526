"""Choose the source of each output: a version on an index, a commit or a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.errors import HashMismatchError, ResolutionError, SourceError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.resolve.uv_compile import NO_SDIST, Question, Resolver
from nox_buildstages.model import DirectorySource, GitSource, Output, Project, Source
from nox_buildstages.system.files import path_from_url
from nox_buildstages.system.process import run_in_parallel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.pylock import Package
    from packaging.version import Version

    from nox_buildstages.lock.files.lockfile import Lock

_DIRECT = frozenset(("git", "path", "url"))


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceChoice:
    """The chosen source of an output."""

    version: Version | None  # None if only the source knows the version
    source: Source


def choose_sources(
    project: Project, resolvers: Sequence[Resolver], *, earlier: Mapping[str, Lock]
) -> dict[NormalizedName, SourceChoice]:
    """Choose the source of every output of a project.

    The final requirements and the dependencies of stages limit the versions of outputs.
    Requirements of other packages are unknown yet. The sources suit all resolvers, one
    for each Python; sources in earlier locks are preferred.

    Raises:
        ResolutionError: An output has no suitable source.
        SourceError: A folder is missing, or an archive has another hash.
    """
    outputs = {output.name: output for output in project.outputs}
    if not outputs:
        return {}
    for output in outputs.values():
        url = urlsplit(output.requirement.url or "")
        if url.scheme == "file" and not path_from_url(url.path).exists():
            raise SourceError(
                subject=output.location,
                problem=f"{output.name}: {path_from_url(url.path)} doesn't exist",
                hint="correct the path; it is relative to the pyproject.toml",
            )
    unversioned = [name for name in outputs if is_direct(project, outputs[name])]
    constraints = [*map(str, project.constraints)]
    requirements = [*project.final.requirements]
    requirements += (it for stage in project.stages for it in stage.dependencies)
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if requirement.specifier and name in outputs and name not in unversioned:
            marker = f" ; {requirement.marker}" if requirement.marker else ""
            constraints.append(f"{requirement.name}{requirement.specifier}{marker}")
    question = Question(
        name="outputs",
        requirements=tuple(str(output.requirement) for output in outputs.values()),
        constraints=tuple(constraints),
        sources=tuple(outputs),
        unversioned=tuple(unversioned),
    )
    packages = _common_answer(question, resolvers, earlier_sources(earlier))
    choices = {}
    for name, output in outputs.items():
        package = packages[name]
        source = _source_of(package, output, project.root)
        version = None if name in unversioned else package.version
        choices[name] = SourceChoice(version=version, source=source)
    return choices


def is_direct(project: Project, output: Output) -> bool:
    """Whether an output's source is a URL or a path, not a version on an index."""
    if output.requirement.url is not None:
        return True
    sources = project.uv.get("sources", {})
    return any(
        canonicalize_name(name) == output.name and not _DIRECT.isdisjoint(entry)
        for name, source in sources.items()
        for entry in (source if isinstance(source, list) else [source])
    )


def _common_answer(
    question: Question, resolvers: Sequence[Resolver], earlier: str | None
) -> dict[NormalizedName, Package]:
    """Return the newest packages for all resolvers."""
    while True:
        calls = (partial(it.resolve, question, earlier=earlier) for it in resolvers)
        answers = [
            {package.name: package for package in answer.packages}
            for answer in run_in_parallel(calls)
        ]
        bounds = []
        for name in answers[0]:
            found = {answer[name].version for answer in answers}
            versions = {version for version in found if version is not None}
            if len(versions) > 1:
                bounds.append(f"{name}<={min(versions)}")
        if not bounds:
            return answers[0]
        question = replace(question, constraints=(*question.constraints, *bounds))


def earlier_sources(earlier: Mapping[str, Lock]) -> str | None:
    """Return the sources in earlier locks as a PEP 751 text, if any."""
    packages = {}
    for name, lock in earlier.items():
        for output in lock.outputs:
            if not isinstance(output.source, DirectorySource):
                # The wheel's version may have a local part that the source lacks.
                version = pylock.sdist_version(output.name, output.source)
                packages[output.name] = pylock.stage_package(
                    output.name,
                    version or output.metadata.version,
                    output.source,
                    stage=name,
                )
    return (
        pylock.dump_pylock(pylock.make_pylock(packages.values())) if packages else None
    )


def _source_of(package: Package, output: Output, root: Path) -> Source:
    """Return the source of an output, with paths relative to the project."""
    source = pylock.source_of(package)
    fragment = parse_qs(urlsplit(output.requirement.url or "").fragment)
    if "sha256" in fragment and isinstance(source, DirectorySource | GitSource):
        raise SourceError(
            subject=output.location,
            problem=f"{output.name}: its source isn't a file, so it has no sha256",
            hint="remove #sha256=",
        )
    if isinstance(source, DirectorySource):
        # uv drops the subdirectory of a folder and of an archive on disk.
        path = Path(os.path.relpath(source.path, root)).as_posix()
        subdirectory = "".join(fragment.get("subdirectory", ())) or None
        return DirectorySource(path=path, subdirectory=subdirectory)
    if isinstance(source, GitSource):
        return source
    if source is None or source.location.partition("#")[0].endswith(".whl"):
        raise ResolutionError(
            name="outputs",
            problem=f"{package.name} {package.version} has wheels but no sdist",
            hint=NO_SDIST.format(package.name),
        )
    location = pylock.path_within(source.location, root)
    if location is None and "://" not in source.location:
        location = Path(os.path.relpath(source.location, root)).as_posix()
    source = replace(source, location=location or source.location)
    for expected in fragment.get("sha256", ()):
        if expected.lower() != source.sha256:
            raise HashMismatchError(
                subject=output.location,
                problem=f"{source.location} isn't the file named there",
                hint="correct the sha256",
                expected=expected.lower(),
                found=source.sha256,
            )
    for subdirectory in fragment.get("subdirectory", ()):
        return replace(source, subdirectory=subdirectory)
    return source
