"""Which file each setting of uv comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.declarations.locations import with_paths_from
from nox_buildstages.declarations.uv_sources import list_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROJECT_KEYS = frozenset(
    (
        *("build-backend", "build-constraint-dependencies", "conflicts"),
        *("constraint-dependencies", "default-groups", "dependency-groups"),
        *("dev-dependencies", "environments", "exclude-dependencies", "managed"),
        *("override-dependencies", "package", "required-environments", "sources"),
        "workspace",
    )
)
"""The keys that ``uv lock`` reads from ``[tool.uv]`` only, never from a uv.toml."""


def combine_files(
    pyproject: Mapping[str, Any], uv_toml: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings in effect for a project with a uv.toml.

    uv ignores ``[tool.uv]`` then, except the keys that describe the project.
    """
    settings = {key: uv_toml[key] for key in uv_toml if key not in PROJECT_KEYS}
    own = {key: pyproject[key] for key in pyproject if key in PROJECT_KEYS}
    return {**settings, **own}


def combine_workspace(
    root: Mapping[str, Any], member: Mapping[str, Any], way: Path
) -> dict[str, Any]:
    """Return the settings in effect for a member of a workspace.

    uv reads the settings of the workspace's root. A member adds sources, and the
    indexes that only its sources name.

    Args:
        root: The settings of the workspace's root.
        member: The settings of the member.
        way: The path from the member to the root.
    """
    shared = with_paths_from(root, way)
    named = {it.get("name") for it in shared.get("index", ())}
    indexes = [
        {**it, "explicit": True}
        for it in member.get("index", ())
        if it.get("name") and it["name"] not in named
    ]
    if indexes:
        shared["index"] = [*shared.get("index", ()), *indexes]
    if "sources" in member:
        shared["sources"] = {**shared.get("sources", {}), **member["sources"]}
    for key in ("conflicts", "package", "managed"):
        shared.pop(key, None)
        if key in member:
            shared[key] = member[key]
    return shared


def combine_folder(
    settings: Mapping[str, Any],
    folder: Mapping[str, Any],
    way: Path,
    *,
    requirements: Iterable[NormalizedName],
    extras: Mapping[NormalizedName, Iterable[Mapping[str, str]]],
) -> dict[str, Any]:
    """Return settings with the sources of a folder for its requirements.

    They become constraints without a version, because a source holds for requirements
    of the project itself, and for constraints.

    Args:
        settings: The settings of the project.
        folder: The settings of the folder.
        way: The path from the project to the folder.
        requirements: The requirements of the folder.
        extras: The extras of the folder, with the project's extras and groups that ask
            for them, as in a source; empty if the project always does.
    """
    moved = with_paths_from(folder, way)
    wanted = {*requirements} - {it for it, _ in list_sources(settings)}
    added: dict[str, list[Mapping[str, Any]]] = {}
    for name, entry in list_sources(moved):
        if name not in wanted or "group" in entry:
            continue
        always = {key: entry[key] for key in entry if key != "extra"}
        if "path" in entry:
            always["path"] = os.path.normpath(entry["path"])
        conditions: Iterable[Mapping[str, str]] = ({},)
        if "extra" in entry:
            conditions = extras.get(canonicalize_name(entry["extra"]), ())
        for condition in conditions:
            added.setdefault(name, []).append({**always, **condition})
    named = {it.get("name") for it in settings.get("index", ())}
    used = {entry.get("index") for entries in added.values() for entry in entries}
    indexes = [
        {**it, "explicit": True}
        for it in moved.get("index", ())
        if it.get("name") in used - named
    ]
    combined = {**settings}
    if added:
        combined["sources"] = {**settings["sources"], **added}
        key = "constraint-dependencies"
        combined[key] = [*settings.get(key, ()), *added]
    if indexes:
        combined["index"] = [*settings.get("index", ()), *indexes]
    return combined


def combine_below(
    settings: Mapping[str, Any], lower: Mapping[str, Any]
) -> dict[str, Any]:
    """Return settings completed by less important ones, as uv combines its files.

    The entries of lists follow each other; of two other values the first counts.
    """
    combined = {**lower, **settings}
    for key in settings.keys() & lower.keys():
        if isinstance(settings[key], list) and isinstance(lower[key], list):
            combined[key] = [*settings[key], *lower[key]]
    return combined


def list_outer_files(
    variables: Mapping[str, str], root: Path
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the files of settings outside a project, if they exist.

    First that of the user, then those of the system, of which uv reads the first.
    ``UV_CONFIG_FILE`` takes the place of all.
    """
    if named := variables.get("UV_CONFIG_FILE"):
        return (root / named,), ()
    if is_on(variables.get("UV_NO_CONFIG", "")):
        return (), ()
    home = variables.get("XDG_CONFIG_HOME") or f"{variables.get('HOME', '')}/.config"
    folders = (variables.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    system = tuple(Path(it, "uv/uv.toml") for it in (*folders, "/etc"))
    has_system = not is_on(variables.get("UV_NO_SYSTEM_CONFIG", ""))
    return (Path(home, "uv/uv.toml"),), system if has_system else ()


def is_on(value: str) -> bool:
    """Whether a value switches on what its variable says, as uv reads it."""
    return value.lower() not in {"", "0", "f", "false", "n", "no", "off"}
