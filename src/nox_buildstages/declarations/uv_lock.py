"""Read a uv.lock: the versions chosen by uv for a project."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from packaging.markers import Marker
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.system.documents import read_toml
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from packaging.markers import Environment
    from packaging.requirements import Requirement

UV_LOCK = "uv.lock"
"""The name of the file."""

_VERSION = 1
_CONFLICT = re.compile(r"""extra (==|!=) ['"]((?:extra|group)-\d+-[^'"]*)['"]""")
"""A condition about an extra or a group among the ``conflicts`` of a project."""

_Entry: TypeAlias = "Mapping[str, Any]"


class UvPackage(Value):
    """A package with the version and the source chosen by uv."""

    name: NormalizedName
    version: str
    source: Mapping[str, str]  # ``registry``, or ``git``: a URL with the commit
    sdist: Mapping[
        str, Any
    ]  # ``url`` or ``path``, and ``hash``; empty if there is none


class UvLock(Value):
    """The contents of a uv.lock, for one project of a workspace."""

    packages: Mapping[NormalizedName, tuple[_Entry, ...]]
    project: _Entry = field(default_factory=dict)  # empty if the file lacks it

    @classmethod
    def read(cls, path: Path, project: str = ".") -> UvLock:
        """Read a file for a project, given by its folder, relative to the file's.

        Raises:
            ValueError: The file isn't what this version of uv writes.
        """
        document = read_toml(path)
        version = document.get("version")
        if version != _VERSION:
            raise ValueError(f"it has version {version}, and we read {_VERSION}")
        packages: dict[NormalizedName, tuple[_Entry, ...]] = {}
        own: _Entry = {}
        try:
            for entry in document.get("package", ()):
                name = canonicalize_name(entry["name"])
                packages[name] = (*packages.get(name, ()), entry)
                source = entry["source"]
                if project in (source.get("editable"), source.get("virtual")):
                    own = entry
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(f"it has an unknown form: {error}") from error
        return cls(packages=packages, project=own)

    def select(
        self,
        requirements: Iterable[Requirement],
        environment: Environment,
        *,
        extras: Collection[str] = (),
        groups: Collection[str] = (),
    ) -> dict[NormalizedName, UvPackage]:
        """Return what the file has of the environment that requirements lead to.

        The requirements are the project's, with some extras and groups. If uv's
        resolution has forks, only forks with true markers count.

        Raises:
            ValueError: A marker can't be read.
        """
        name = self.project.get("name", "")
        active = {f"extra-{len(name)}-{name}-{it}" for it in extras}
        active |= {f"group-{len(name)}-{name}-{it}" for it in groups}
        found, seen = {}, set()
        queue = [*self._first_edges(requirements, extras, groups)]
        while queue:
            edge = queue.pop()
            wanted = edge.get("extra", ())
            if not _holds([edge.get("marker", "")], environment, active):
                continue
            for entry in self.packages.get(canonicalize_name(edge["name"]), ()):
                # An edge names one of several entries by its version and source.
                names = ("version", "source")
                if any(edge.get(it) not in (None, entry.get(it)) for it in names):
                    continue
                version, source = entry.get("version"), entry["source"]
                step = (entry["name"], version, str(source), *wanted)
                forks = entry.get("resolution-markers", [""])
                if step in seen or not _holds(forks, environment, active):
                    continue
                seen.add(step)
                queue += entry.get("dependencies", ())
                optional = entry.get("optional-dependencies", {})
                for extra in wanted:
                    queue += optional.get(extra, ())
                if version is not None and not {"git", "registry"}.isdisjoint(source):
                    package = UvPackage(
                        name=canonicalize_name(entry["name"]),
                        version=version,
                        source=source,
                        sdist=entry.get("sdist", {}),
                    )
                    found[package.name] = package
        return found

    def _first_edges(
        self,
        requirements: Iterable[Requirement],
        extras: Collection[str],
        groups: Collection[str],
    ) -> Iterator[_Entry]:
        """Yield the project's own edges to requirements, or edges to any version."""
        declared = [*self.project.get("dependencies", ())]
        for table, names in (
            ("optional-dependencies", extras),
            ("dev-dependencies", groups),
        ):
            for name, edges in self.project.get(table, {}).items():
                if canonicalize_name(name) in names:
                    declared += edges
        for requirement in requirements:
            name = canonicalize_name(requirement.name)
            edges = [it for it in declared if canonicalize_name(it["name"]) == name]
            yield from edges or [{"name": name, "extra": [*requirement.extras]}]


def find_uv_lock(root: Path) -> UvLock | None:
    """Return the uv.lock of a project: beside it, or above, at its workspace's root.

    Raises:
        OSError: The file can't be read.
        ValueError: The file isn't what this version of uv writes.
    """
    for folder in (root, *root.parents):
        path = folder / UV_LOCK
        if path.is_file():
            if folder == root:
                return UvLock.read(path)
            with suppress(OSError, ValueError):  # it may be a stranger's
                lock = UvLock.read(path, root.relative_to(folder).as_posix())
                return lock if lock.project else None
            return None
    return None


def _holds(
    markers: Iterable[str], environment: Environment, active: Collection[str]
) -> bool:
    """Whether a marker is true, with conflicting extras and groups; so is none."""

    def decide(condition: re.Match[str]) -> str:
        is_true = (condition[2] in active) == (condition[1] == "==")
        return f"os_name {'!=' if is_true else '=='} ''"

    values = {name: str(value) for name, value in environment.items()}
    return any(
        not it or Marker(_CONFLICT.sub(decide, it)).evaluate(values) for it in markers
    )
