"""Merge the locks of several targets; different entries get markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from packaging.markers import Marker
from packaging.pylock import Package, PylockSelectError
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nox_buildstages.errors import InvalidLockError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
    from nox_buildstages.model import Interpreter

T = TypeVar("T", bound="Package | LockedOutput")


def merge_targets(locks: Iterable[tuple[Target, Lock]]) -> Lock:
    """Return a lock for all targets."""
    ordered = sorted(
        locks, key=lambda it: (it[0].interpreter.kind, Version(_python_of(it[0])))
    )
    targets = [target for target, _ in ordered]
    first = ordered[0][1]
    if len(targets) == 1:
        return first
    packages = [(target, lock.pylock.packages) for target, lock in ordered]
    outputs = [(target, lock.outputs) for target, lock in ordered]
    releases = sorted({Version(_python_of(target)).release for target in targets})
    (major, minor), (last_major, last_minor) = releases[0], releases[-1]
    python = f">={major}.{minor},<{last_major}.{last_minor + 1}"
    return replace(
        first,
        pylock=pylock.make_pylock(
            _merge_entries(packages, _merge_packages),
            environments=[Marker(target.marker) for target in targets],
            requires_python=SpecifierSet(python),
        ),
        outputs=tuple(_merge_entries(outputs, _merge_outputs)),
    )


def select_target(lock: Lock, interpreter: Interpreter) -> Lock:
    """Return the part of a lock for an interpreter.

    Raises:
        InvalidLockError: The lock is not for the interpreter.
    """
    try:
        found = pylock.select_packages(lock.pylock, interpreter)
        packages = [replace(package, marker=None) for package, _ in found]
    except PylockSelectError as error:
        raise InvalidLockError(
            subject=file_name(lock.name), problem=str(error)
        ) from error
    return replace(
        lock,
        pylock=pylock.restrict_to(pylock.make_pylock(packages), interpreter),
        outputs=tuple(
            replace(output, marker=None)
            for output in lock.outputs
            if output.marker is None or interpreter.satisfies(output.marker)
        ),
    )


def _merge_entries(
    locks: Sequence[tuple[Target, Sequence[T]]], merge: Callable[[T, T], T | None]
) -> Iterator[T]:
    """Yield the entries of all targets, with a marker unless all targets agree.

    Two entries that differ merge to None.
    """
    variants: dict[str, list[tuple[T, list[Target]]]] = {}
    for target, entries in locks:
        for entry in entries:
            known = variants.setdefault(entry.name, [])
            for index, (other, targets) in enumerate(known):
                merged = merge(other, entry)
                if merged is not None:
                    known[index] = merged, [*targets, target]
                    break
            else:
                known.append((entry, [target]))
    everywhere = [target for target, _ in locks]
    for known in variants.values():
        for entry, targets in known:
            yield replace(entry, marker=_marker(targets, everywhere))


def _merge_packages(one: Package, other: Package) -> Package | None:
    wheels = {
        (wheel.filename, wheel.url or wheel.path or "", wheel.hashes["sha256"]): wheel
        for wheel in (*(one.wheels or ()), *(other.wheels or ()))
    }
    merged = replace(one, wheels=[wheels[key] for key in sorted(wheels)] or None)
    if merged != replace(other, wheels=merged.wheels):
        return None
    # Two different files of one name are different packages.
    file_names = {wheel.filename for wheel in wheels.values()}
    return merged if len(file_names) == len(wheels) else None


def _merge_outputs(one: LockedOutput, other: LockedOutput) -> LockedOutput | None:
    asked = tuple(dict.fromkeys((*one.asked, *other.asked)))
    merged = replace(one, asked=asked)
    return merged if replace(other, asked=asked) == merged else None


def _marker(some: Sequence[Target], everywhere: Sequence[Target]) -> Marker | None:
    """Return a marker: true for some targets and false for all others."""
    if len(some) == len(everywhere):
        return None
    every = _versions_by_platform(everywhere)
    platforms: dict[tuple[str, ...], list[str]] = {}
    for platform, versions in _versions_by_platform(some).items():
        platforms.setdefault(versions, []).append(platform)
    clauses = []
    for versions, kinds in platforms.items():
        parts = []
        if any(versions != every[kind] for kind in kinds):
            parts.append(_any(f'python_version == "{version}"' for version in versions))
        if len(kinds) < len(every):
            parts.append(_any(kinds))
        clauses.append(" and ".join(parts))
    return Marker(_any(clauses))


def _versions_by_platform(targets: Iterable[Target]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for target in targets:
        kind = target.interpreter.kind
        found[kind] = (*found.get(kind, ()), _python_of(target))
    return found


def _python_of(target: Target) -> str:
    """Return the version as markers have it, which don't know free-threaded Pythons."""
    return target.interpreter.markers["python_version"]


def _any(clauses: Iterable[str]) -> str:
    alternatives = tuple(clauses)
    if len(alternatives) == 1:
        return alternatives[0]
    return f"({' or '.join(alternatives)})"
