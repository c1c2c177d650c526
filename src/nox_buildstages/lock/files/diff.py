"""Describe the differences between the earlier and the new locks of a project."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nox_buildstages.lock.files.pylock import source_of
from nox_buildstages.model import ArchiveSource, GitSource, Source
from nox_buildstages.text import diff
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.pylock import Pylock

    from nox_buildstages.lock.files.lockfile import Lock, LockedOutput

MAX_LINES = 40
"""The maximum number of changes that are shown."""

MAX_MOVED = 5
"""The maximum number of projects to name if only their files have moved."""

COMMIT_LENGTH = 12
"""The number of characters that are shown of a commit."""

_MOVED = "moved"

_ONE_PYTHON = re.compile('^python_version == "[^"]*" and ')
"""The start of an environment marker in a lock for several Pythons."""


class _Entry(Value):
    """A project in a lock."""

    version: str  # or several, for different targets
    origin: str  # "a wheel", "an archive", "a commit" …
    commit: str = ""
    files: Mapping[str, str] = field(default_factory=dict)  # the sha256 by name
    urls: frozenset[str] = frozenset()


def describe_changes(old: Mapping[str, Lock], new: Sequence[Lock]) -> Iterator[str]:
    """Yield the lines to print after locking: all changes."""
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
    yield from changes[:MAX_LINES]
    if len(changes) > MAX_LINES:
        more = len(changes) - MAX_LINES
        yield f"and {more} more changes; the lock files show them all"
    if not changes:
        yield "no version, file or source changed"


def find_changes(old: Mapping[str, Lock], new: Sequence[Lock]) -> list[str]:
    """Return all changes in words: first of locks, then of projects by name.

    A change in several locks is one change, with the names of the locks.
    """
    of_locks = [
        f"the lock of {lock.name} is new: {_count(_names(lock))}"
        for lock in new
        if lock.name not in old
    ]
    of_locks += [
        f"the lock of {name} is gone"
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
        f"{text} {', '.join(found[name, text])}".rstrip()
        for name, text in sorted(found, key=lambda it: it[0])
        if text != _MOVED
    ]
    if moved:
        names = ", ".join(moved[:MAX_MOVED])
        more = f" and {len(moved) - MAX_MOVED} more" if len(moved) > MAX_MOVED else ""
        of_projects.append(f"taken from another place: {names}{more}")
    return [*of_locks, *of_projects]


def _changes_of_lock(old: Lock, new: Lock) -> Iterator[tuple[str, str]]:
    """Yield the changes of a lock: projects and texts."""
    targets = zip(_targets(old.pylock), _targets(new.pylock), strict=True)
    for before, after in targets:
        if before != after:
            yield "", f"made for {after}, no longer for {before}:"
    for came, left, entries in (
        ("came into", "left", diff(_packages(old), _packages(new))),
        (
            "is now built in",
            "is no longer built in",
            diff(_outputs(old), _outputs(new)),
        ),
    ):
        for name, was, now in entries:
            if was and now:
                yield from _changes_of_entry(name, was, now)
            elif now:
                yield name, f"{name} {now.version} {came}"
            elif was:
                yield name, f"{name} {was.version} {left}"


def _changes_of_entry(name: str, was: _Entry, now: _Entry) -> Iterator[tuple[str, str]]:
    if was.version != now.version:
        yield name, f"{name} {was.version} → {now.version} in"
    if was.origin != now.origin:
        yield name, f"{name} comes from {now.origin}, no longer from {was.origin}, in"
    elif was.commit != now.commit:
        yield name, f"{name} commit {was.commit} → {now.commit} in"
    elif was.version == now.version and was.files == now.files:
        yield name, _MOVED
    elif was.version == now.version:
        common = was.files.keys() & now.files.keys()
        if common and all(was.files[file] == now.files[file] for file in common):
            yield name, f"{name} {now.version} has other files to choose from in"
        else:
            yield name, f"{name} {now.version} is another file in"


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
        "subdirectory": output.source.subdirectory,
        "revision": getattr(output.source, "revision", None),
        "build-requires": output.build_requires,
        "metadata": output.metadata.learned,
        "requires-dist": output.metadata.requires_dist,
        "requires-python": output.metadata.requires_python,
        "provides-extra": output.metadata.provides_extra,
    }


def _packages(lock: Lock) -> dict[str, _Entry]:
    """Return the packages of a lock, variants for several targets merged."""
    variants: dict[str, list[_Entry]] = {}
    for package in lock.pylock.packages:
        version = "" if package.version is None else str(package.version)
        source, wheels = source_of(package), package.wheels or ()
        files = {wheel.filename: wheel.hashes.get("sha256", "") for wheel in wheels}
        urls = frozenset(wheel.url or wheel.path or "" for wheel in wheels)
        entry = _Entry(version=version, origin="a wheel", files=files, urls=urls)
        if source is not None:
            entry = _source_entry(version, source)
        variants.setdefault(package.name, []).append(entry)
    return {
        name: _Entry(
            version=", ".join(sorted({it.version for it in entries} - {""})),
            origin=" or ".join(sorted({it.origin for it in entries})),
            commit=", ".join(sorted({it.commit for it in entries} - {""})),
            files={file: it.files[file] for it in entries for file in it.files},
            urls=frozenset().union(*(it.urls for it in entries)),
        )
        for name, entries in variants.items()
    }


def _outputs(lock: Lock) -> dict[str, _Entry]:
    return {
        output.name: _source_entry(str(output.metadata.version), output.source)
        for output in lock.outputs
    }


def _source_entry(version: str, source: Source) -> _Entry:
    if isinstance(source, GitSource):
        return _Entry(
            version=version,
            origin="a commit",
            commit=source.commit[:COMMIT_LENGTH],
            urls=frozenset({source.url}),
        )
    if isinstance(source, ArchiveSource):
        file = source.location.partition("#")[0].rpartition("/")[2]
        return _Entry(
            version=version,
            origin="a wheel" if file.endswith(".whl") else "an archive",
            files={file: source.sha256},
            urls=frozenset({source.location}),
        )
    return _Entry(version=version, origin="a folder", urls=frozenset({source.path}))


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
