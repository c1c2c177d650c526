"""What differs between the lock files that there were and those that are new."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from packaging.version import Version

from nox_buildstages.lock.files.pylock import source
from nox_buildstages.model import ArchiveSource, GitSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.pylock import Package, Pylock

    from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
    from nox_buildstages.model import Source

LIMIT = 40
"""How many changes are told one by one."""

_NAMED = 5
"""How many projects are named that merely come from another place."""

_SHORT = 12
"""How much of a commit's hash is shown."""

_OF_ONE_PYTHON = re.compile('^python_version == "[^"]*" and ')
"""How an environment begins where a lock is for several Pythons."""

_WORDS = {
    "new": "the lock of {name} is new: {after}",
    "gone": "the lock of {name} is gone",
    "for": "made for {after}, no longer for {before}: {locks}",
    "version": "{name} {before} → {after} in {locks}",
    "came": "{name} {after} came into {locks}",
    "left": "{name} {before} left {locks}",
    "built": "{name} {after} is built in {locks} now",
    "unbuilt": "{name} {before} is no longer built in {locks}",
    "origin": "{name} comes from {after}, no longer from {before}, in {locks}",
    "commit": "{name} commit {before} → {after} in {locks}",
    "file": "{name} {after} is another file in {locks}",
    "files": "{name} {after} has other files to choose from in {locks}",
    "place": "taken from another place: {name}",
    "fact": "{fact} of {name} changed: {after}",
}

Kind: TypeAlias = Literal[
    "new",
    "gone",
    "for",
    "version",
    "came",
    "left",
    "built",
    "unbuilt",
    "origin",
    "commit",
    "file",
    "files",
    "place",
    "fact",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One thing that is no longer as it was.

    Attributes:
        kind: What sort of thing.
        name: The project, or the lock that is new or gone.
        fact: What the lock says of an output, such as ``requires-dist``.
        before: As it was.
        after: As it is.
        locks: Where, in the order of the stages, ``final`` last.
    """

    kind: Kind
    name: str = ""
    fact: str = ""
    before: str = ""
    after: str = ""
    locks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _WORDS[self.kind].format(
            name=self.name,
            fact=self.fact,
            before=self.before,
            after=self.after,
            locks=", ".join(self.locks),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    """What one lock says of a project.

    Attributes:
        version: Several, where that depends on the interpreter.
        origin: What it is, in words.
        commit: Of a git repository; empty for anything else.
        files: Their sha256, by name.
        places: From where they are taken.
    """

    version: str
    origin: str
    commit: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    places: frozenset[str] = frozenset()


_Key: TypeAlias = tuple[str, bool]
"""The name of a project, and whether it is built there (or else installed)."""


def describe_changes(old: Mapping[str, Lock], new: Sequence[Lock]) -> Iterator[str]:
    """Yield what a user is told after locking, a line for each change.

    Args:
        old: The locks that there were, as far as they could be read, by name.
        new: The locks that there are now, in order.
    """
    if not old:
        yield _summary(new)
        return
    found = changes(old, new)
    yield from map(str, found[:LIMIT])
    if len(found) > LIMIT:
        yield f"and {len(found) - LIMIT} more changes; the lock files show them all"
    if not found:
        yield "no version, file or source changed"


def changes(old: Mapping[str, Lock], new: Sequence[Lock]) -> tuple[Change, ...]:
    """Return what differs: locks first, then projects by name.

    The same change in several locks is one.
    """
    of_locks = [*_of_locks(old, new)]
    of_projects = [*_of_projects(old, new), *_of_outputs(old, new)]
    named = sorted(_grouped(of_projects), key=lambda change: change.name)
    return (*_grouped(of_locks), *_together(named))


def _of_locks(old: Mapping[str, Lock], new: Sequence[Lock]) -> Iterator[Change]:
    for lock in new:
        if lock.name not in old:
            yield Change(kind="new", name=lock.name, after=_count(_names(lock)))
            continue
        was, now = _made_for(old[lock.name].pylock), _made_for(lock.pylock)
        for before, after in zip(was, now, strict=True):
            if before != after:
                here = (lock.name,)
                yield Change(kind="for", before=before, after=after, locks=here)
    for name in sorted(old.keys() - {lock.name for lock in new}):
        yield Change(kind="gone", name=name)


def _of_projects(old: Mapping[str, Lock], new: Sequence[Lock]) -> Iterator[Change]:
    for lock in new:
        if lock.name not in old:
            continue
        before, after = _holdings(old[lock.name]), _holdings(lock)
        for key in sorted(before.keys() | after.keys()):
            for change in _of_project(key, before.get(key), after.get(key)):
                yield replace(change, name=key[0], locks=(lock.name,))


def _of_project(
    key: _Key, before: _Held | None, after: _Held | None
) -> Iterator[Change]:
    _, built = key
    if before is None or after is None:
        if before is not None:
            yield Change(kind="unbuilt" if built else "left", before=before.version)
        if after is not None:
            yield Change(kind="built" if built else "came", after=after.version)
        return
    if before.version != after.version:
        yield Change(kind="version", before=before.version, after=after.version)
    if before.origin != after.origin:
        yield Change(kind="origin", before=before.origin, after=after.origin)
    elif before.commit != after.commit:
        yield Change(kind="commit", before=before.commit, after=after.commit)
    elif before.version == after.version:
        yield from _of_files(before, after)


def _of_files(before: _Held, after: _Held) -> Iterator[Change]:
    """Yield what differs between files of one version."""
    if before.files == after.files:
        if before.places != after.places:
            yield Change(kind="place")
        return
    common = before.files.keys() & after.files.keys()
    kept = common and all(before.files[name] == after.files[name] for name in common)
    yield Change(kind="files" if kept else "file", after=after.version)


def _of_outputs(old: Mapping[str, Lock], new: Sequence[Lock]) -> Iterator[Change]:
    """Yield what is said of an output otherwise, whichever stage builds it."""
    before, after = _outputs(old.values()), _outputs(new)
    for name in sorted(before.keys() & after.keys()):
        was, now = _facts(before[name]), _facts(after[name])
        for fact in was:
            if was[fact] != now[fact]:
                difference = _difference(was[fact], now[fact])
                yield Change(kind="fact", name=name, fact=fact, after=difference)


def _facts(output: LockedOutput) -> dict[str, Any]:
    metadata = output.metadata
    return {
        "subdirectory": getattr(output.source, "subdirectory", None),
        "revision": getattr(output.source, "revision", None),
        "build-requires": output.build_requires,
        "metadata": metadata.learned,
        "requires-dist": metadata.requires_dist,
        "requires-python": metadata.requires_python,
        "provides-extra": metadata.provides_extra,
    }


def _difference(before: Any, after: Any) -> str:  # noqa: ANN401 - of any fact
    if not isinstance(before, tuple):
        return f"{before or 'none'} → {after or 'none'}"
    added = [f"+ {text}" for text in after if text not in before]
    return ", ".join([*added, *(f"- {text}" for text in before if text not in after)])


def _outputs(locks: Iterable[Lock]) -> dict[str, LockedOutput]:
    return {output.name: output for lock in locks for output in lock.outputs}


def _holdings(lock: Lock) -> dict[_Key, _Held]:
    """Return what a lock says of each project: of its packages, of its outputs."""
    packages: dict[str, list[Package]] = {}
    for package in lock.pylock.packages:
        packages.setdefault(package.name, []).append(package)
    return {
        **{(name, False): _installed(packages[name]) for name in packages},
        **{(output.name, True): _built(output) for output in lock.outputs},
    }


def _installed(packages: Sequence[Package]) -> _Held:
    """Return what a lock installs of one project, on whichever interpreter."""
    held = [_of_package(package) for package in packages]
    versions = {package.version for package in packages if package.version is not None}
    return _Held(
        version=", ".join(map(str, sorted(versions, key=Version.__str__))),
        origin=" or ".join(sorted({one.origin for one in held})),
        commit=", ".join(sorted({one.commit for one in held if one.commit})),
        files={name: one.files[name] for one in held for name in one.files},
        places=frozenset().union(*(one.places for one in held)),
    )


def _of_package(package: Package) -> _Held:
    version = str(package.version)
    built_from = source(package)
    if built_from is not None:
        return _of_source(version, built_from)
    wheels = package.wheels or ()
    return _Held(
        version=version,
        origin="a wheel",
        files={wheel.filename: wheel.hashes.get("sha256", "") for wheel in wheels},
        places=frozenset(wheel.url or wheel.path or "" for wheel in wheels),
    )


def _built(output: LockedOutput) -> _Held:
    return _of_source(str(output.metadata.version), output.source)


def _of_source(version: str, built_from: Source) -> _Held:
    if isinstance(built_from, ArchiveSource):
        file = built_from.location.partition("#")[0].rpartition("/")[2]
        return _Held(
            version=version,
            origin="a wheel" if file.endswith(".whl") else "an archive",
            files={file: built_from.sha256},
            places=frozenset({built_from.location}),
        )
    if isinstance(built_from, GitSource):
        return _Held(
            version=version,
            origin="a commit",
            commit=built_from.commit[:_SHORT],
            places=frozenset({built_from.url}),
        )
    return _Held(
        version=version, origin="a folder", places=frozenset({built_from.path})
    )


def _made_for(pylock: Pylock) -> tuple[str, str]:
    """Return for which interpreters and for which systems a lock was made."""
    environments = (str(marker) for marker in pylock.environments or ())
    systems = dict.fromkeys(_OF_ONE_PYTHON.sub("", it) for it in environments)
    python = f"Python {pylock.requires_python or '*'}"
    return python, " or ".join(systems) or "any system"


def _grouped(found: Iterable[Change]) -> list[Change]:
    """Return each change once, with all the locks where it happened."""
    locks: dict[Change, list[str]] = {}
    for change in found:
        locks.setdefault(replace(change, locks=()), []).extend(change.locks)
    return [replace(change, locks=tuple(locks[change])) for change in locks]


def _together(found: Iterable[Change]) -> Iterator[Change]:
    """Yield the changes, those that are merely of a place as one, at the end."""
    moved = []
    for change in found:
        if change.kind == "place":
            moved.append(change.name)
        else:
            yield change
    if moved:
        more = f" and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
        yield Change(kind="place", name=", ".join(moved[:_NAMED]) + more)


def _summary(locks: Sequence[Lock]) -> str:
    """Return in a line what was locked where there was nothing before."""
    noun = "environment" if len(locks) == 1 else "environments"
    names = set().union(*map(_names, locks))
    outputs = len(_outputs(locks))
    return f"locked {len(locks)} {noun}, {_count(names)} ({outputs} built in stages)"


def _names(lock: Lock) -> set[str]:
    packages = {str(package.name) for package in lock.pylock.packages}
    return packages | {str(output.name) for output in lock.outputs}


def _count(names: set[str]) -> str:
    return f"{len(names)} {'project' if len(names) == 1 else 'projects'}"
