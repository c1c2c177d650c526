"""The sources of packages in uv's settings, for one choice of extras and groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping


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
            and canonicalize_name(str(item[kind])) in chosen[kind]
            and canonicalize_name(str(item.get("package") or own)) == own
        ]
        if len(found) > 1:
            return found
    return []


DIRECT = frozenset(("git", "path", "url"))
"""The keys of a source that isn't an index."""


def is_direct(
    settings: Mapping[str, Any],
    name: NormalizedName,
    holds: Callable[[Marker], bool] = lambda _: True,
) -> bool:
    """Whether a source, an override or a constraint gives a package a URL or path.

    Args:
        settings: uv's settings.
        name: The package.
        holds: Whether a marker holds; otherwise any marker may.
    """
    for key in ("override-dependencies", "constraint-dependencies"):
        for text in settings.get(key, ()):
            found = Requirement(text) if isinstance(text, str) else None
            if (
                found is not None
                and canonicalize_name(found.name) == name
                and found.url
                and (found.marker is None or holds(found.marker))
            ):
                return True
    return any(
        it == name
        and not DIRECT.isdisjoint(entry)
        and ("marker" not in entry or holds(Marker(entry["marker"])))
        for it, entry in list_sources(settings)
    )


def with_source(text: str, entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a requirement for each direct source of its package, with the source.

    ``uv pip compile`` looks up sources of the project's own requirements only, while
    ``uv lock`` looks them up for overrides and constraints, too.
    """
    found = []
    for entry in entries:
        url = _source_url(entry)
        if url is not None:
            requirement = Requirement(text)
            requirement.specifier, requirement.url = SpecifierSet(), url
            if "marker" in entry:
                marker = Marker(entry["marker"])
                both = requirement.marker
                requirement.marker = marker if both is None else both & marker
            found.append(str(requirement))
    return found


def _source_url(entry: Mapping[str, Any]) -> str | None:
    """Return the URL of a source; None for an index."""
    if "git" in entry:
        url = entry["git"].removeprefix("git+")
        revisions = (entry[key] for key in ("rev", "tag", "branch") if key in entry)
        revision = next(revisions, "")
        url = f"git+{url}@{revision}" if revision else f"git+{url}"
    elif "path" in entry:
        url = Path(entry["path"]).as_uri()
    elif "url" in entry:
        url = entry["url"]
    else:
        return None
    folder = entry.get("subdirectory")
    return f"{url}#subdirectory={folder}" if folder else url
