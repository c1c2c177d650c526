"""Describe the differences between the earlier and the new locks of a project."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nox_buildstages.lock.files.pylock import source_of
from nox_buildstages.model import ArchiveSource, GitSource
from nox_buildstages.text import diff

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.pylock import Package, Pylock

    from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
    from nox_buildstages.model import Source

MAX_LINES = 40
"""The maximum number of changes that are shown."""

MAX_MOVED = 5
"""The maximum number of projects to name if only their files have moved."""

COMMIT_LENGTH = 12
"""The number of characters that are shown of a commit."""

_MOVED = "moved"

_ONE_PYTHON = re.compile('^python_version == "[^"]*" and ')
"""The start of an environment marker in a lock for several Pythons."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A change of a project in some locks.

    Attributes:
        name: The project; empty for a change of the lock itself.
        text: The change in words; the names of the locks follow.
        locks: The names of the locks in the order of the stages, ``final`` last.
    """

    name: str
    text: str
    locks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text} {', '.join(self.locks)}".rstrip()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A project in a lock.

    Attributes:
        version: The version; several versions if targets have different ones.
        origin: The kind of source: ``a wheel``, ``an archive``, ``a commit`` …
        commit: The commit of a git repository, or empty.
        files: The sha256 of each file, by name.
        urls: The URLs or paths of the files.
    """

    version: str
    origin: str
    commit: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    urls: frozenset[str] = frozenset()


def describe_changes(old: Mapping[str, Lock], new: Sequence[Lock]) -> Iterator[str]:
    """Yield the lines to print after locking: all changes.

    Args:
        old: The earlier locks by name, as far as they can be read.
        new: The new locks in order.
    """
    if not old:
        names = set().union(*map(_names, new))
        outputs = {output.name for lock in new for output in lock.outputs}
        noun = "environment" if len(new) == 1 else "environments"
        yield (
            f"locked {len(new)} {noun}, {_count(names)} ({len(outputs)} built in"
            " stages)"
        )
        return
    changes = find_changes(old, new)
    yield from map(str, changes[:MAX_LINES])
    if len(changes) > MAX_LINES:
        more = len(changes) - MAX_LINES
        yield f"and {more} more changes; the lock files show them all"
    if not changes:
        yield "no version, file or source changed"


def find_changes(old: Mapping[str, Lock], new: Sequence[Lock]) -> tuple[Change, ...]:
    """Return all changes: first of locks, then of projects by name.

    Equal changes in several locks are merged.
    """
    of_locks = [
        Change(name="", text=f"the lock of {lock.name} is new: {_count(_names(lock))}")
        for lock in new
        if lock.name not in old
    ]
    of_locks += [
        Change(name="", text=f"the lock of {name} is gone")
        for name in sorted(old.keys() - {lock.name for lock in new})
    ]
    found: dict[tuple[str, str], list[str]] = {}
    for lock in new:
        if lock.name in old:
            for change in _changes_of_lock(old[lock.name], lock):
                found.setdefault(change, []).append(lock.name)
    for change in _changes_of_metadata(old.values(), new):
        found[change] = []
    moved = sorted(name for name, text in found if text == _MOVED)
    of_projects = [
        Change(name=name, text=text, locks=tuple(found[name, text]))
        for name, text in sorted(found, key=lambda it: it[0])
        if text != _MOVED
    ]
    if moved:
        names = ", ".join(moved[:MAX_MOVED])
        more = f" and {len(moved) - MAX_MOVED} more" if len(moved) > MAX_MOVED else ""
        text = f"taken from another place: {names}{more}"
        of_projects.append(Change(name="", text=text))
    return (*of_locks, *of_projects)


def _changes_of_lock(old: Lock, new: Lock) -> Iterator[tuple[str, str]]:
    """Yield the changes of a lock: projects and texts."""
    targets = zip(_targets(old.pylock), _targets(new.pylock), strict=True)
    for before, after in targets:
        if before != after:
            yield "", f"made for {after}, no longer for {before}:"
    packages = diff(_packages(old), _packages(new))
    outputs = diff(_outputs(old), _outputs(new))
    for is_output, entries in ((False, packages), (True, outputs)):
        for name, was, now in entries:
            for text in _changes_of_entry(was, now, is_output=is_output):
                yield name, text if text == _MOVED else f"{name} {text}"


def _changes_of_entry(
    was: _Entry | None, now: _Entry | None, *, is_output: bool
) -> Iterator[str]:
    if was is None and now is not None:
        yield f"{now.version} {'is now built in' if is_output else 'came into'}"
    if was is not None and now is None:
        yield f"{was.version} {'is no longer built in' if is_output else 'left'}"
    if was is None or now is None:
        return
    if was.version != now.version:
        yield f"{was.version} → {now.version} in"
    if was.origin != now.origin:
        yield f"comes from {now.origin}, no longer from {was.origin}, in"
    elif was.commit != now.commit:
        yield f"commit {was.commit} → {now.commit} in"
    elif was.version != now.version:
        return  # with other files, of course
    elif was.files == now.files:
        yield _MOVED
    else:
        common = was.files.keys() & now.files.keys()
        if common and all(was.files[name] == now.files[name] for name in common):
            yield f"{now.version} has other files to choose from in"
        else:
            yield f"{now.version} is another file in"


def _changes_of_metadata(
    old: Iterable[Lock], new: Iterable[Lock]
) -> Iterator[tuple[str, str]]:
    """Yield other changes of outputs, whichever stage builds them."""
    before = {output.name: output for lock in old for output in lock.outputs}
    after = {output.name: output for lock in new for output in lock.outputs}
    for name in sorted(before.keys() & after.keys()):
        for key, was, now in diff(_metadata(before[name]), _metadata(after[name])):
            text = f"{was or 'none'} → {now or 'none'}"
            if isinstance(was, tuple) and isinstance(now, tuple):
                added = [f"+ {it}" for it in now if it not in was]
                removed = [f"- {it}" for it in was if it not in now]
                text = ", ".join([*added, *removed])
            yield name, f"{key} of {name} changed: {text}"


def _metadata(output: LockedOutput) -> dict[str, Any]:
    return {
        "subdirectory": getattr(output.source, "subdirectory", None),
        "revision": getattr(output.source, "revision", None),
        "build-requires": output.build_requires,
        "metadata": output.metadata.learned,
        "requires-dist": output.metadata.requires_dist,
        "requires-python": output.metadata.requires_python,
        "provides-extra": output.metadata.provides_extra,
    }


def _packages(lock: Lock) -> dict[str, _Entry]:
    """Return the packages of a lock, variants for several targets merged."""
    found: dict[str, _Entry] = {}
    for package in lock.pylock.packages:
        entry, other = _package_entry(package), found.get(package.name)
        found[package.name] = entry if other is None else _united(other, entry)
    return found


def _united(one: _Entry, other: _Entry) -> _Entry:
    def both(old: str, new: str, separator: str) -> str:
        found = {*old.split(separator), *new.split(separator)} - {""}
        return separator.join(sorted(found))

    return _Entry(
        version=both(one.version, other.version, ", "),
        origin=both(one.origin, other.origin, " or "),
        commit=both(one.commit, other.commit, ", "),
        files={**one.files, **other.files},
        urls=one.urls | other.urls,
    )


def _outputs(lock: Lock) -> dict[str, _Entry]:
    return {
        output.name: _source_entry(str(output.metadata.version), output.source)
        for output in lock.outputs
    }


def _package_entry(package: Package) -> _Entry:
    version = "" if package.version is None else str(package.version)
    built_from = source_of(package)
    if built_from is not None:
        return _source_entry(version, built_from)
    wheels = package.wheels or ()
    return _Entry(
        version=version,
        origin="a wheel",
        files={wheel.filename: wheel.hashes.get("sha256", "") for wheel in wheels},
        urls=frozenset(wheel.url or wheel.path or "" for wheel in wheels),
    )


def _source_entry(version: str, built_from: Source) -> _Entry:
    if isinstance(built_from, GitSource):
        return _Entry(
            version=version,
            origin="a commit",
            commit=built_from.commit[:COMMIT_LENGTH],
            urls=frozenset({built_from.url}),
        )
    if isinstance(built_from, ArchiveSource):
        file = built_from.location.partition("#")[0].rpartition("/")[2]
        return _Entry(
            version=version,
            origin="a wheel" if file.endswith(".whl") else "an archive",
            files={file: built_from.sha256},
            urls=frozenset({built_from.location}),
        )
    return _Entry(version=version, origin="a folder", urls=frozenset({built_from.path}))


def _targets(pylock: Pylock) -> tuple[str, str]:
    """Return the Pythons and the systems of a lock in words."""
    environments = (str(marker) for marker in pylock.environments or ())
    systems = dict.fromkeys(_ONE_PYTHON.sub("", it) for it in environments)
    python = f"Python {pylock.requires_python or '*'}"
    return python, " or ".join(systems) or "any system"


def _names(lock: Lock) -> set[str]:
    packages = {str(package.name) for package in lock.pylock.packages}
    return packages | {str(output.name) for output in lock.outputs}


def _count(names: set[str]) -> str:
    return f"{len(names)} {'project' if len(names) == 1 else 'projects'}"
