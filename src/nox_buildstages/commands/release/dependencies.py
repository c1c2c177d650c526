"""What in an environment requires what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from packaging.utils import NormalizedName

    from nox_buildstages.model import Interpreter
    from nox_buildstages.wheels.core_metadata import CoreMetadata

ASKED = ""
"""Requires what an environment was made for."""


def required(
    names: Collection[str],
    installed: Iterable[CoreMetadata],
    asked: Iterable[Requirement],
    interpreter: Interpreter,
) -> dict[str, tuple[NormalizedName, ...]]:
    """Return what each project in an environment requires of the others, by name.

    Args:
        names: Of the projects in it.
        installed: What each of them says of itself, as far as that can be read.
        asked: What the environment was made for; names extras, too.
        interpreter: Of the environment.

    Returns:
        It has also what was asked for, under ``ASKED``.
    """
    said = {metadata.name: metadata for metadata in installed}
    edges: dict[str, set[NormalizedName]] = {name: set() for name in (ASKED, *names)}
    queue = [(ASKED, it) for it in _that_hold(asked, "", interpreter)]
    for name, metadata in said.items():
        queue += ((name, it) for it in _requires(metadata, "", interpreter))
    seen: set[tuple[NormalizedName, str]] = set()
    while queue:
        parent, requirement = queue.pop()
        child = canonicalize_name(requirement.name)
        if child not in edges:
            continue
        edges[parent].add(child)
        for extra in map(canonicalize_name, requirement.extras):
            if child in said and (child, extra) not in seen:
                seen.add((child, extra))
                more = _requires(said[child], extra, interpreter)
                queue += ((child, it) for it in more)
    return {name: tuple(sorted(edges[name] - {name})) for name in sorted(edges)}


def _requires(
    metadata: CoreMetadata, extra: str, interpreter: Interpreter
) -> Iterator[Requirement]:
    requirements = map(Requirement, metadata.requires_dist)
    yield from _that_hold(requirements, extra, interpreter)


def _that_hold(
    requirements: Iterable[Requirement], extra: str, interpreter: Interpreter
) -> Iterator[Requirement]:
    markers = {name: str(value) for name, value in interpreter.markers.items()}
    for requirement in requirements:
        marker = requirement.marker
        if marker is None or marker.evaluate({**markers, "extra": extra}):
            yield requirement
