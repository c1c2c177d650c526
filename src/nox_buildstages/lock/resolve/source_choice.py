"""The source of an output: a version on an index, a commit, an archive, a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.declarations.uv_sources import is_direct as has_direct_source
from nox_buildstages.errors import HashMismatchError, ResolutionError, SourceError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.resolve.uv_compile import NO_SDIST
from nox_buildstages.model import DirectorySource, GitSource, Output, Project, Source
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from packaging.pylock import Package
    from packaging.version import Version

    from nox_buildstages.lock.files.lockfile import Lock


class SourceChoice(Value):
    """The chosen source of an output."""

    version: Version | None  # None if only the source knows the version
    source: Source


def is_direct(project: Project, output: Output) -> bool:
    """Whether an output's source is a URL or a path, not a version on an index."""
    if output.requirement.url is not None:
        return True
    return has_direct_source(project.uv, output.name)


def without_url(text: str, outputs: Collection[NormalizedName]) -> str:
    """Return a requirement for uv; requirements for outputs lose their URLs.

    An output is always a stage's wheel, even if a URL names another file.
    """
    requirement = Requirement(text)
    if canonicalize_name(requirement.name) in outputs:
        requirement.url = None
    return str(requirement)


def earlier_sources(
    earlier: Mapping[str, Lock], others: Iterable[Package] = ()
) -> str | None:
    """Return the sources in earlier locks as a PEP 751 text, with other packages."""
    packages = {package.name: package for package in others}
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


def source_of(package: Package, output: Output, root: Path) -> Source:
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
