"""One lock for several targets: what differs between them gets a marker (PEP 751)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from packaging.markers import Marker
from packaging.pylock import PylockSelectError
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nox_buildstages.errors import InvalidLockError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.names import file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from packaging.pylock import Package, PackageWheel

    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
    from nox_buildstages.model import Interpreter

T = TypeVar("T", bound="Package | LockedOutput")


def merged(locks: Iterable[tuple[Target, Lock]]) -> Lock:
    """Return one lock that holds for every target that one was made for.

    Args:
        locks: Of one stage, each with its target.
    """
    ordered = sorted(locks, key=lambda it: (it[0].kind, Version(it[0].version)))
    targets = [target for target, _ in ordered]
    first = ordered[0][1]
    if len(targets) == 1:
        return first
    packages = _united(
        [(target, lock.pylock.packages) for target, lock in ordered], _one_package
    )
    outputs = _united([(target, lock.outputs) for target, lock in ordered], _one_output)
    return replace(
        first,
        pylock=pylock.make(
            packages,
            environments=[Marker(target.marker) for target in targets],
            requires_python=_requires_python(targets),
        ),
        outputs=tuple(outputs),
    )


def selected(lock: Lock, interpreter: Interpreter) -> Lock:
    """Return what a lock holds for one interpreter, as a lock for that alone.

    Raises:
        InvalidLockError: The lock is not for this interpreter.
    """
    try:
        found = pylock.select(lock.pylock, interpreter)
        packages = [replace(package, marker=None) for package, _ in found]
    except PylockSelectError as error:
        raise InvalidLockError(
            subject=file_name(lock.name), problem=str(error)
        ) from error
    return replace(
        lock,
        pylock=pylock.restrict(pylock.make(packages), interpreter),
        outputs=tuple(
            replace(output, marker=None)
            for output in lock.outputs
            if output.marker is None or interpreter.satisfies(output.marker)
        ),
    )


def _united(
    locks: Sequence[tuple[Target, Sequence[T]]], unite: Callable[[T, T], T | None]
) -> Iterator[T]:
    """Yield what the locks list, each with a marker where not all have it so.

    Args:
        locks: By target, in order.
        unite: Makes one of two entries of a name; None where they differ.
    """
    variants: dict[str, list[tuple[T, list[Target]]]] = {}
    for target, entries in locks:
        for entry in entries:
            known = variants.setdefault(entry.name, [])
            known[:] = [*_joined(known, entry, target, unite)]
    everywhere = [target for target, _ in locks]
    for found in variants.values():
        for entry, targets in found:
            yield replace(entry, marker=_marker(targets, everywhere))


def _joined(
    known: Sequence[tuple[T, list[Target]]],
    entry: T,
    target: Target,
    unite: Callable[[T, T], T | None],
) -> Iterator[tuple[T, list[Target]]]:
    """Yield the variants of a name, with one entry more."""
    joined = False
    for other, targets in known:
        both = None if joined else unite(other, entry)
        joined = joined or both is not None
        yield (other, targets) if both is None else (both, [*targets, target])
    if not joined:
        yield entry, [target]


def _one_package(one: Package, other: Package) -> Package | None:
    wheels = {
        _place(wheel): wheel for wheel in (*(one.wheels or ()), *(other.wheels or ()))
    }
    united = replace(one, wheels=[wheels[place] for place in sorted(wheels)] or None)
    same = replace(other, wheels=united.wheels)
    contradict = len({wheel.filename for wheel in wheels.values()}) < len(wheels)
    return None if contradict or united != same else united


def _place(wheel: PackageWheel) -> tuple[str, str, str]:
    """Return what tells a wheel from others: its name first, which sorts."""
    return wheel.filename, wheel.url or wheel.path or "", wheel.hashes["sha256"]


def _one_output(one: LockedOutput, other: LockedOutput) -> LockedOutput | None:
    asked = tuple(dict.fromkeys((*one.asked, *other.asked)))
    united = replace(one, asked=asked)
    return united if replace(other, asked=asked) == united else None


def _marker(some: Sequence[Target], everywhere: Sequence[Target]) -> Marker | None:
    """Return a marker that is true for some of the targets and for no other."""
    if len(some) == len(everywhere):
        return None
    every = _versions(everywhere)
    groups: dict[tuple[str, ...], list[str]] = {}
    for kind, versions in _versions(some).items():
        groups.setdefault(versions, []).append(kind)
    clauses = []
    for versions, kinds in groups.items():
        parts = []
        if any(versions != every[kind] for kind in kinds):
            parts.append(_any(f'python_version == "{version}"' for version in versions))
        if len(kinds) < len(every):
            parts.append(_any(kinds))
        clauses.append(" and ".join(parts))
    return Marker(_any(clauses))


def _versions(targets: Iterable[Target]) -> dict[str, tuple[str, ...]]:
    """Return the Pythons of each platform."""
    found: dict[str, tuple[str, ...]] = {}
    for target in targets:
        found[target.kind] = (*found.get(target.kind, ()), target.version)
    return found


def _any(clauses: Iterable[str]) -> str:
    listed = tuple(clauses)
    return listed[0] if len(listed) == 1 else f"({' or '.join(listed)})"


def _requires_python(targets: Iterable[Target]) -> SpecifierSet:
    releases = sorted({Version(target.version).release for target in targets})
    (major, minor), (last_major, last_minor) = releases[0], releases[-1]
    return SpecifierSet(f">={major}.{minor},<{last_major}.{last_minor + 1}")
