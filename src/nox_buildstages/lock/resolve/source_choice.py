"""Which source each output is built from: a version on an index, a commit, a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from packaging.utils import canonicalize_name

from nox_buildstages.errors import HashMismatchError, ResolutionError, SourceError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.resolve.uv_compile import NO_SDIST, Question
from nox_buildstages.model import ArchiveSource, DirectorySource
from nox_buildstages.system.files import path_from_url
from nox_buildstages.system.process import run_in_parallel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.pylock import Package
    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
    from nox_buildstages.lock.resolve.uv_compile import Resolver
    from nox_buildstages.model import Output, Project, Source

_DIRECT = frozenset(("git", "path", "url"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The source of an output.

    Attributes:
        version: As its index says; None where only the source itself can say.
        source: What is built.
    """

    version: Version | None
    source: Source


def choose(
    project: Project, resolvers: Sequence[Resolver], *, earlier: Mapping[str, Lock]
) -> dict[NormalizedName, Chosen]:
    """Choose the source of every output of a project.

    What the final requirements and the stages' dependencies say of an output's
    version counts; what other packages say is seen when they are resolved.

    Args:
        project: Its outputs are chosen.
        resolvers: Know the indexes, one for each Python; a source suits all of them.
        earlier: Locks of sources chosen before, which are kept.

    Raises:
        ResolutionError: An output has no such source.
    """
    outputs = {output.name: output for output in project.outputs}
    for output in outputs.values():
        _check_folder(output)
    packages = _suiting(_question(project, outputs), resolvers, earlier)
    chosen = {
        name: _chosen(
            packages[name], project.root, versioned=not is_direct(project, output)
        )
        for name, output in outputs.items()
    }
    for name, output in outputs.items():
        _check_hash(output, chosen[name].source)
    return {name: _placed(outputs[name], chosen[name]) for name in chosen}


def _question(project: Project, outputs: Mapping[NormalizedName, Output]) -> Question:
    unversioned = tuple(n for n in outputs if is_direct(project, outputs[n]))
    return Question(
        name="outputs",
        requirements=tuple(str(output.requirement) for output in outputs.values()),
        constraints=tuple(_constraints(project, outputs.keys() - set(unversioned))),
        sources=tuple(outputs),
        unversioned=unversioned,
    )


def _suiting(
    question: Question, resolvers: Sequence[Resolver], earlier: Mapping[str, Lock]
) -> dict[NormalizedName, Package]:
    """Return the answer to a question that is the same from all resolvers."""
    kept = sources_text(earlier)
    while True:
        calls = (partial(it.resolve, question, earlier=kept) for it in resolvers)
        answers = [
            {package.name: package for package in answer.packages}
            for answer in run_in_parallel(calls)
        ]
        bounds = tuple(
            f"{name}<={min(versions)}"
            for name in answers[0]
            if len(versions := _versions(name, answers)) > 1
        )
        if not bounds:
            return answers[0]
        question = replace(question, constraints=(*question.constraints, *bounds))


def _versions(
    name: NormalizedName, answers: Iterable[Mapping[NormalizedName, Package]]
) -> set[Version]:
    found = (answer[name].version for answer in answers)
    return {version for version in found if version is not None}


def _check_folder(output: Output) -> None:
    url = urlsplit(output.requirement.url or "")
    if url.scheme != "file":
        return
    path = path_from_url(url.path)
    if not path.exists():
        raise SourceError(
            source=output.location,
            problem=f"{output.name}: there is no {path}",
            hint="correct the path, which is relative to the pyproject.toml",
        )


def _placed(output: Output, chosen: Chosen) -> Chosen:
    """Take a folder in an archive from the requirement: of one on disk uv drops it."""
    source, subdirectory = chosen.source, _fragment(output).get("subdirectory")
    if subdirectory is None or not isinstance(source, ArchiveSource):
        return chosen
    return replace(chosen, source=replace(source, subdirectory=subdirectory))


def _fragment(output: Output) -> dict[str, str]:
    """Return what stands behind the ``#`` of an output's URL, such as a hash."""
    fragment = parse_qs(urlsplit(output.requirement.url or "").fragment)
    return {name: values[0] for name, values in fragment.items()}


def _check_hash(output: Output, source: Source) -> None:
    expected = _fragment(output).get("sha256")
    if expected is None or not isinstance(source, ArchiveSource):
        return
    if expected.lower() != source.sha256:
        raise HashMismatchError(
            source=output.location,
            problem=f"{source.location} isn't the file that is named there",
            hint="correct the sha256, or the file",
            expected=expected.lower(),
            found=source.sha256,
        )


def sources_text(earlier: Mapping[str, Lock]) -> str | None:
    """Return what was chosen in earlier locks as a PEP 751 text; None for nothing."""
    packages = {
        output.name: pylock.provided(
            output.name, _source_version(output), output.source, stage=name
        )
        for name, lock in earlier.items()
        for output in lock.outputs
        if not isinstance(output.source, DirectorySource)
    }
    return pylock.dumps(pylock.make(packages.values())) if packages else None


def _source_version(output: LockedOutput) -> Version:
    """Return the version of an output's source: its wheel may have a local one."""
    found = pylock.sdist_version(output.name, output.source)
    return output.metadata.version if found is None else found


def is_direct(project: Project, output: Output) -> bool:
    """Whether an output's source is named outright, so that no index has a say."""
    if output.requirement.url is not None:
        return True
    sources = project.uv.get("sources", {})
    return any(
        canonicalize_name(name) == output.name and not _DIRECT.isdisjoint(entry)
        for name, source in sources.items()
        for entry in (source if isinstance(source, list) else [source])
    )


def _constraints(project: Project, names: set[NormalizedName]) -> Iterator[str]:
    yield from map(str, project.constraints)
    for requirement in _mentions(project):
        if canonicalize_name(requirement.name) in names and requirement.specifier:
            marker = f" ; {requirement.marker}" if requirement.marker else ""
            yield f"{requirement.name}{requirement.specifier}{marker}"


def _mentions(project: Project) -> Iterator[Requirement]:
    yield from project.final.requirements
    for stage in project.stages:
        yield from stage.dependencies


def _chosen(package: Package, root: Path, *, versioned: bool) -> Chosen:
    source = pylock.source(package)
    if source is None or _is_wheel(source):
        raise ResolutionError(
            name="outputs",
            output=f"{package.name} {package.version} has wheels but no sdist",
            hint=NO_SDIST.format(package.name),
        )
    return Chosen(
        version=package.version if versioned else None,
        source=_portable(source, root),
    )


def _is_wheel(source: Source) -> bool:
    if not isinstance(source, ArchiveSource):
        return False
    return source.location.partition("#")[0].endswith(".whl")


def _portable(source: Source, root: Path) -> Source:
    if isinstance(source, DirectorySource):
        return DirectorySource(path=_relative(source.path, root))
    if not isinstance(source, ArchiveSource):
        return source
    within = pylock.path_within(source.location, root)
    if within is not None:
        return replace(source, location=within)
    if "://" in source.location:
        return source
    return replace(source, location=_relative(source.location, root))


def _relative(path: str, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
