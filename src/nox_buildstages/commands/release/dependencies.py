"""Find out which projects of an environment require each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from packaging.utils import NormalizedName

    from nox_buildstages.model import Interpreter
    from nox_buildstages.wheels.core_metadata import CoreMetadata

ROOT = ""
"""The name under which the requirements of the environment itself are listed."""


def find_dependencies(
    names: Collection[str],
    installed: Iterable[CoreMetadata],
    requirements: Iterable[Requirement],
    interpreter: Interpreter,
) -> dict[str, tuple[NormalizedName, ...]]:
    """Return the dependencies of each project within an environment, by name.

    Only the readable metadata of the installed projects is given. ``ROOT`` stands for
    the environment itself, with its requirements.
    """
    metadata = {it.name: it for it in installed}
    markers = {name: str(value) for name, value in interpreter.markers.items()}

    def applicable(
        listed: Iterable[Requirement], extra: str = ""
    ) -> Iterator[Requirement]:
        for it in listed:
            if it.marker is None or it.marker.evaluate({**markers, "extra": extra}):
                yield it

    edges: dict[str, set[NormalizedName]] = {name: set() for name in (ROOT, *names)}
    queue = [(ROOT, it) for it in applicable(requirements)]
    for name, it in metadata.items():
        listed = map(Requirement, it.requires_dist)
        queue += ((name, requirement) for requirement in applicable(listed))
    seen: set[tuple[NormalizedName, str]] = set()
    while queue:
        parent, requirement = queue.pop()
        child = canonicalize_name(requirement.name)
        if child not in edges:
            continue
        edges[parent].add(child)
        for extra in map(canonicalize_name, requirement.extras):
            if child in metadata and (child, extra) not in seen:
                seen.add((child, extra))
                listed = map(Requirement, metadata[child].requires_dist)
                queue += ((child, it) for it in applicable(listed, extra))
    return {name: tuple(sorted(edges[name] - {name})) for name in sorted(edges)}
