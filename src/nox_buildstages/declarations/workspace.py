"""uv's workspaces: which folders belong to one, and which project each contains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.errors import DeclarationError
from nox_buildstages.value import Value

Load: TypeAlias = Callable[[Path], dict[str, Any]]
"""Returns a TOML file; raises DeclarationError."""


class Workspace(Value):
    """A workspace of uv: the folder that declares it, and the folders of members."""

    root: Path
    settings: Mapping[str, Any]  # ``[tool.uv]`` of the root, as written
    folders: tuple[Path, ...]  # with the root

    def members(self, load: Load) -> dict[NormalizedName, Path]:
        """Return the folder of each member that has a name."""
        found = {}
        for folder in self.folders:
            name = get_table(load(folder / "pyproject.toml"), "project").get("name")
            if isinstance(name, str):
                found[canonicalize_name(name)] = folder
        return found


def find_workspace(folder: Path, load: Load) -> Workspace | None:
    """Return the workspace of a folder, declared there or in a folder above."""
    for root in (folder, *folder.parents):
        settings: Mapping[str, Any] = {}
        # A file above may be a stranger's, and a folder's name too long for a file.
        with suppress(DeclarationError, OSError):
            if root.joinpath("pyproject.toml").is_file():
                settings = get_table(load(root / "pyproject.toml"), "tool", "uv")
        if "workspace" in settings:
            declared = get_table(settings, "workspace")
            excluded = {*_list_folders(root, declared.get("exclude"))}
            members = dict.fromkeys(_list_folders(root, declared.get("members")))
            folders = (root, *(it for it in members if it not in excluded))
            found = Workspace(root=root, settings=settings, folders=folders)
            return found if folder in folders else None
    return None


def get_table(document: Mapping[str, Any], *steps: str) -> Mapping[str, Any]:
    """Return a table of a document; an empty one if there is none."""
    table: Any = document
    for step in steps:
        table = table.get(step) if isinstance(table, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def _list_folders(root: Path, patterns: object) -> list[Path]:
    """Return the folders with a pyproject.toml that patterns match."""
    found = []
    for pattern in patterns if isinstance(patterns, list) else []:
        if isinstance(pattern, str) and pattern:
            with suppress(NotImplementedError, OSError, ValueError):  # uv says why
                found += sorted(root.glob(pattern.rstrip("/")))
    return [it for it in found if it.joinpath("pyproject.toml").is_file()]
