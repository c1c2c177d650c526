"""Read a pyproject.toml, with the settings of uv that hold for the project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages import reader
from nox_buildstages.declarations.uv_files import (
    combine_files,
    combine_folder,
    combine_workspace,
)
from nox_buildstages.declarations.uv_shapes import check_settings, check_uv
from nox_buildstages.declarations.uv_sources import list_sources
from nox_buildstages.declarations.workspace import (
    Workspace,
    find_workspace,
    get_table,
)
from nox_buildstages.errors import DeclarationError, Problem
from nox_buildstages.system.documents import read_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def read_document(path: Path) -> dict[str, Any]:
    """Return a parsed pyproject.toml; ``[tool.uv]`` has the settings in effect.

    If ``[tool.uv]`` is faulty, the document is returned unchanged: the reader of the
    table reports the fault with all other problems.

    Raises:
        DeclarationError: The pyproject.toml, a uv.toml beside it, or a file of its
            workspace can't be read.
    """
    document = _parse(path, lambda _: None)
    with suppress(reader.UnreadableError):
        check_uv(document)
        return complete_document(document, path)
    return document


def complete_document(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the document of a pyproject.toml with uv's settings in effect.

    They come from a uv.toml beside the file, and from the root of uv's workspace. Each
    member of the workspace that is a source has the path of its folder. A source folder
    adds the sources of the folder's requirements. The group ``dev`` contains the
    ``dev-dependencies``.

    Raises:
        DeclarationError: Another file can't be read, or the workspace has no member of
            a name.
    """
    own = get_table(document, "tool", "uv")
    settings = _with_sources_of_folders(_read_settings(document, path), document, path)
    result = document
    if settings != own:
        result = {**result, "tool": {**result.get("tool", {}), "uv": settings}}
    dev = own.get("dev-dependencies")
    if isinstance(dev, list):
        groups = get_table(document, "dependency-groups")
        dev = [*groups.get("dev", ()), *dev]
        result = {**result, "dependency-groups": {**groups, "dev": dev}}
    return result


def _read_settings(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return uv's settings for a pyproject.toml, with the paths of members."""

    def load(file: Path) -> dict[str, Any]:
        return document if file == path else _load(file)

    settings = _with_uv_toml(get_table(document, "tool", "uv"), path.parent)
    workspace = find_workspace(path.parent, load)
    if workspace is not None and workspace.root != path.parent:
        shared = _with_uv_toml(workspace.settings, workspace.root)
        way = Path(os.path.relpath(workspace.root, path.parent))
        settings = combine_workspace(shared, settings, way)
    sources = settings.get("sources")
    if isinstance(sources, Mapping) and "workspace" in str(sources):
        members = _SourceMembers(path=path, workspace=workspace)
        settings["sources"] = {
            name: entries if isinstance(source, list) else entries[0]
            for name, source in sources.items()
            if (entries := [*members.lower(name, source)])
        }
    return settings


def _with_sources_of_folders(
    settings: dict[str, Any], document: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    """Return settings with folders' sources for their requirements.

    The settings have the last word. A folder's entry for an extra of the folder holds
    wherever the extra is asked for.
    """
    combined, seen = settings, {path.parent}
    asked: dict[tuple[NormalizedName, NormalizedName], list[dict[str, str]]] = {}
    for extra, condition in _list_extras(document):
        asked.setdefault(extra, []).append(condition)
    queue = [*_list_folders(settings, path.parent)]
    while queue:
        folder = queue.pop(0)
        file = folder / "pyproject.toml"
        if folder in seen or not os.path.isfile(file):  # noqa: PTH113 - long names
            continue
        seen.add(folder)
        inner_document = _load(file)
        inner = _read_settings(inner_document, file)
        queue += _list_folders(inner, folder)
        for it, condition in _list_extras(inner_document):
            if not condition:
                asked.setdefault(it, []).append(condition)
        own = get_table(inner_document, "project").get("name")
        combined = combine_folder(
            combined,
            inner,
            Path(os.path.relpath(folder, path.parent)),
            requirements=(
                canonicalize_name(it.name)
                for it, _ in _list_requirements(inner_document)
            ),
            extras={
                extra: conditions
                for (name, extra), conditions in asked.items()
                if name == canonicalize_name(str(own))
            },
        )
    return combined


def _list_folders(settings: Mapping[str, Any], root: Path) -> Iterator[Path]:
    """Yield the folders among the sources."""
    sources = settings.get("sources")
    for _, entry in list_sources(settings) if isinstance(sources, Mapping) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("path"), str):
            yield Path(os.path.normpath(root / entry["path"]))


def _list_requirements(
    document: Mapping[str, Any],
) -> Iterator[tuple[Requirement, dict[str, str]]]:
    """Yield requirements of a pyproject.toml, each with its extra or group, if any."""
    own = get_table(document, "project")
    lists: list[tuple[dict[str, str], object]] = [({}, own.get("dependencies"))]
    for kind, table in (
        ("extra", get_table(own, "optional-dependencies")),
        ("group", get_table(document, "dependency-groups")),
    ):
        lists += (({kind: name}, entries) for name, entries in table.items())
    for condition, entries in lists:
        for text in entries if isinstance(entries, list) else ():
            with suppress(InvalidRequirement, TypeError):
                yield Requirement(text), condition


def _list_extras(
    document: Mapping[str, Any],
) -> Iterator[tuple[tuple[NormalizedName, NormalizedName], dict[str, str]]]:
    """Yield the extras of other projects that a pyproject.toml asks for."""
    for requirement, condition in _list_requirements(document):
        for extra in requirement.extras:
            name = canonicalize_name(requirement.name)
            yield (name, canonicalize_name(extra)), condition


class _SourceMembers:
    """The members of workspaces that sources name."""

    def __init__(self, *, path: Path, workspace: Workspace | None) -> None:
        self.path = path
        self.workspaces = {"": workspace}
        self.members: dict[str, dict[NormalizedName, Path]] = {}

    def lower(self, name: str, source: object) -> Iterator[object]:
        """Yield the entries of a source, with the paths of members."""
        for entry in source if isinstance(source, list) else [source]:
            if not isinstance(entry, Mapping) or "workspace" not in entry:
                yield entry
            elif entry["workspace"] is not False:  # which means the index
                rest = {k: v for k, v in entry.items() if k != "workspace"}
                yield {**rest, "path": self.find(name, entry["workspace"])}

    def find(self, name: str, reference: object) -> str:
        """Return the path of a member, relative to the pyproject.toml."""
        key = reference if isinstance(reference, str) else ""
        if key not in self.members:
            workspace = self.workspaces.get(key)
            if key:
                start = Path(os.path.normpath(self.path.parent / key))
                workspace = find_workspace(start, _load)
            self.members[key] = workspace.members(_load) if workspace else {}
        folder = self.members[key].get(canonicalize_name(name))
        if folder is None:
            problem = Problem(
                location=f"tool.uv.sources.{name}",
                message="no member of the workspace has this name; name its folder in"
                " members of [tool.uv.workspace]",
            )
            raise DeclarationError(path=self.path, problems=(problem,))
        return Path(os.path.relpath(folder, self.path.parent)).as_posix()


def _with_uv_toml(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings of a folder, whose uv.toml comes first."""
    uv_toml = folder / "uv.toml"
    return (
        combine_files(settings, _load(uv_toml)) if uv_toml.is_file() else {**settings}
    )


def _load(path: Path) -> dict[str, Any]:
    """Return the document of another file, with sound settings of uv."""
    return _parse(path, check_settings if path.name == "uv.toml" else check_uv)


def _parse(path: Path, check: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    location = path.name
    try:
        document = read_toml(path)
        check(document)
    except FileNotFoundError:
        fix = "an empty one is enough"
        if (path.parent.parent / path.name).is_file():  # the noxfile is in a subfolder
            fix = f'the folder above has one: write register("../{path.name}")'
        message = f"there is no such file in {path.parent}; {fix}"
    except OSError as error:
        message = f"can't be read: {error.strerror}"
    except reader.UnreadableError as error:
        message = error.problem
        if error.steps:
            location = reader.location_of(error.steps)
    else:
        return document
    problem = Problem(location=location, message=message)
    raise DeclarationError(path=path, problems=(problem,))
