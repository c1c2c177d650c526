"""The sources of packages in uv's settings, for one choice of extras and groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.utils import NormalizedName, canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


def list_sources(
    settings: Mapping[str, Any],
) -> Iterator[tuple[NormalizedName, Mapping[str, Any]]]:
    """Yield each entry of ``sources`` with the name of its package."""
    for name, source in settings.get("sources", {}).items():
        for entry in source if isinstance(source, list) else [source]:
            yield canonicalize_name(name), entry


def select_sources(
    settings: Mapping[str, Any],
    *,
    extras: Collection[NormalizedName],
    groups: Collection[NormalizedName],
) -> dict[str, Any]:
    """Return uv's settings with the sources that hold for extras and groups.

    The entries of other extras and groups are left out; those that hold apply to every
    environment, so a stage gets a package from the same place as the runtime. With
    ``no-sources`` none holds, as in uv.
    """
    chosen = {"extra": extras, "group": groups}
    ignored = {*map(canonicalize_name, settings.get("no-sources-package", ()))}
    sources: dict[str, Any] = {}
    for name, source in settings.get("sources", {}).items():
        entries = [
            {key: value for key, value in entry.items() if key not in chosen}
            for entry in (source if isinstance(source, list) else [source])
            if all(
                canonicalize_name(entry[k]) in chosen[k] for k in chosen if k in entry
            )
        ]
        distinct = [it for i, it in enumerate(entries) if it not in entries[:i]]
        if distinct and canonicalize_name(name) not in ignored:
            sources[name] = distinct if isinstance(source, list) else distinct[0]
    if "sources" not in settings:
        return {**settings}
    return {**settings, "sources": {} if settings.get("no-sources") else sources}


def find_conflict(
    settings: Mapping[str, Any],
    *,
    project: NormalizedName | None,
    extras: Collection[NormalizedName],
    groups: Collection[NormalizedName],
) -> list[str]:
    """Return extras and groups that ``conflicts`` forbids together; empty if none."""
    chosen, own = {"extra": extras, "group": groups}, project or ""
    for conflict in settings.get("conflicts", ()):
        found = [
            f"{kind} {item[kind]!r}"
            for item in conflict
            for kind in chosen
            if item.get(kind) is not None
            and canonicalize_name(item[kind]) in chosen[kind]
            and canonicalize_name(item.get("package") or own) == own
        ]
        if len(found) > 1:
            return found
    return []
