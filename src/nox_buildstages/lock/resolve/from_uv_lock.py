"""The versions in a uv.lock as an earlier lock, as long as a project has none of ours.

As in uv, earlier versions are preferred: one that doesn't fit any more has no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit, urlunsplit

from packaging.pylock import Package, PackageWheel
from packaging.version import Version

from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
from nox_buildstages.lock.files.merge_targets import merge_targets
from nox_buildstages.lock.files.pylock import make_pylock
from nox_buildstages.model import FINAL, ArchiveSource, GitSource, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.declarations.uv_lock import UvLock, UvPackage
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.model import Project, Source

_NO_HASH = "0" * 64
"""Only versions and commits are preferred; a hash isn't compared with anything."""


def make_preference(
    uv_lock: UvLock, project: Project, targets: Iterable[Target]
) -> Lock:
    """Return a lock of the runtime with the versions of a uv.lock.

    Every package may become an output, so the lock has all sdists and commits, too.

    Raises:
        ValueError: The uv.lock can't be read.
    """
    outputs = [output.requirement for output in project.outputs]
    locks = []
    for target in targets:
        selected = uv_lock.select(
            [*project.final.requirements, *outputs],
            target.interpreter.markers,
            extras=project.final.extras,
            groups=project.final.groups,
        )
        packages = []
        for it in selected.values():  # a wheel of each stands for any
            wheel = f"{it.name.replace('-', '_')}-{it.version}-py3-none-any.whl"
            found = PackageWheel(name=wheel, path=wheel, hashes={"sha256": _NO_HASH})
            version = Version(it.version)
            packages.append(Package(name=it.name, version=version, wheels=[found]))
        lock = Lock(
            name=FINAL,
            inputs="",
            pylock=make_pylock(packages),
            outputs=tuple(
                LockedOutput(
                    name=it.name,
                    source=source,
                    build_requires=(),
                    metadata=Metadata(version=Version(it.version), learned="static"),
                )
                for it in selected.values()
                if (source := _source(it)) is not None
            ),
        )
        locks.append((target, lock))
    return merge_targets(locks)


def _source(package: UvPackage) -> Source | None:
    """Return the commit or the sdist of a package, if it has one."""
    if "git" in package.source:
        url = urlsplit(package.source["git"])
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        return GitSource(
            url=urlunsplit((*url[:3], "", "")),
            commit=url.fragment,
            subdirectory=query.get("subdirectory"),
            revision=query.get("rev") or query.get("tag") or query.get("branch"),
        )
    location = package.sdist.get("url") or package.sdist.get("path")
    if location is None:
        return None
    kind, _, digest = package.sdist.get("hash", "").partition(":")
    sha256 = digest if kind == "sha256" else _NO_HASH
    return ArchiveSource(location=location, sha256=sha256)
