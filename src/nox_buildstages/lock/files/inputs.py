"""Everything that lock files are made from, as one digest; no network is needed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from nox_buildstages.environments.targets import target_markers
from nox_buildstages.indexes.logins import strip_logins
from nox_buildstages.indexes.no_binary import NO_BINARY_KEYS
from nox_buildstages.indexes.settings import UV_KEYS
from nox_buildstages.lock.files.lockfile import FORMAT, digest
from nox_buildstages.sources import patches
from nox_buildstages.sources.metadata import METADATA_FILES
from nox_buildstages.system.files import path_from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from packaging.requirements import Requirement

    from nox_buildstages.model import Interpreter, PackageRules, Patch, Project, Stage

_UV_KEYS = (*UV_KEYS, *NO_BINARY_KEYS)
_KEPT = 1024
"""Of how many cells something is kept; each session asks for that of all of them."""


def digest_of_cells(projects: Sequence[Project], interpreter: Interpreter) -> str:
    """Return a digest that differs whenever the locks might come out differently.

    The values of cells are in it, as the names of the files are made of them.

    Args:
        projects: What is declared for each cell: their locks are made together.
        interpreter: One of this machine: that which counts where the projects name
            none.

    Raises:
        SourceError: A patch can't be read.
    """
    reading = _Reading(patch=cache(_sha256), folder=cache(_metadata_files))
    digests = [reading.digest_of(project, interpreter) for project in projects]
    values = [[value for _, value in it.cell.choices] for it in projects]
    return digest([*zip(values, digests, strict=True)]) if values[0] else digests[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reading:
    """Reads what counts of the files that cells name, each once for all of them.

    Attributes:
        patch: Returns the sha256 of a patch.
        folder: Returns that of each file in a folder that declares metadata, by name.
    """

    patch: Callable[[Patch], str]
    folder: Callable[[Path], tuple[tuple[str, str], ...]]

    def digest_of(self, project: Project, interpreter: Interpreter) -> str:
        """Return the digest of a cell."""
        patched = tuple(
            (name, tuple(map(self.patch, rules.patches)))
            for name, rules in project.packages.items()
        )
        folders = tuple((name, self.folder(it)) for name, it in _folders(project))
        return _digest(project, interpreter, patched, folders)


@lru_cache(maxsize=_KEPT)
def _digest(
    project: Project,
    interpreter: Interpreter,
    patched: tuple[tuple[str, tuple[str, ...]], ...],
    folders: tuple[tuple[str, tuple[tuple[str, str], ...]], ...],
) -> str:
    """Return the digest; the sessions of a process mostly ask for the same one.

    Args:
        project: What is declared.
        interpreter: As above.
        patched: The sha256 of each patch, by output.
        folders: The sha256 of each file that declares metadata, by output and name.
    """
    root, hashes = project.root, dict(patched)
    return digest(
        {
            "format": FORMAT,
            "targets": target_markers(project, interpreter),
            "lock-dir": Path(os.path.relpath(project.lock_dir, root)).as_posix(),
            "stages": [_stage(stage, root) for stage in project.stages],
            "packages": {
                name: _rules(rules, root, hashes[name])
                for name, rules in project.packages.items()
            },
            "final": _texts(project.final.requirements, root),
            **_own(project, dict(folders)),
            "match-runtime": project.match_runtime,
            "constraints": _texts(project.constraints, root),
            "build-constraints": _texts(project.build_constraints, root),
            "exclude-newer": project.exclude_newer,
            "uv": strip_logins(
                {key: project.uv[key] for key in _UV_KEYS if key in project.uv}
            ),
            "folders": [
                (name, dict(files))
                for name, files in folders
                if name != project.final.project
            ],
        }
    )


def _own(
    project: Project, folders: Mapping[str, tuple[tuple[str, str], ...]]
) -> dict[str, Any]:
    """Return what decides on the lock of the project itself, where it has one.

    Of its pyproject.toml that is the table alone: the rest changes all the time.
    """
    own = project.final.project
    if own is None:
        return {}
    setup = {name: it for name, it in folders[own] if name.startswith("setup.")}
    system = strip_logins(dict(project.final.build_system))
    return {"project": {"name": own, "build-system": system, "setup": setup}}


def _stage(stage: Stage, root: Path) -> dict[str, Any]:
    return {
        "name": stage.name,
        "dependencies": _texts(stage.dependencies, root),
        "outputs": _texts((output.requirement for output in stage.outputs), root),
        "needs": stage.needs,
        "env": dict(stage.env),
        "pass-env": stage.pass_env,
        **({"network": "on"} if stage.network == "on" else {}),
    }


def _rules(rules: PackageRules, root: Path, patched: tuple[str, ...]) -> dict[str, Any]:
    requires_dist = rules.requires_dist
    return {
        # Their contents, wherever they lie; what has none has the digest it always had.
        **({"patches": patched} if patched else {}),
        "add": _texts(rules.build_requires_add, root),
        "remove": rules.build_requires_remove,
        "config-settings": dict(rules.config_settings),
        "env": dict(rules.env),
        "requires-dist": None if requires_dist is None else _texts(requires_dist, root),
        **({"local-version": rules.local_version.text} if rules.local_version else {}),
    }


def _texts(requirements: Iterable[Requirement], root: Path) -> list[str]:
    return [_text(requirement, root) for requirement in requirements]


def _text(requirement: Requirement, root: Path) -> str:
    """Return a requirement as it is in any checkout, wherever that lies."""
    url = urlsplit(requirement.url or "")
    if url.scheme != "file":
        return str(requirement)
    path = Path(os.path.relpath(path_from_url(url.path), root)).as_posix()
    return str(requirement).replace(f"file://{url.path}", f"file:{path}")


@lru_cache(maxsize=_KEPT)
def _folders(project: Project) -> tuple[tuple[str, Path], ...]:
    """Return the outputs that are built from a folder, with the folder."""
    return tuple(_of_folders(project))


def _of_folders(project: Project) -> Iterator[tuple[str, Path]]:
    sources: dict[str, list[dict[str, Any]]] = {
        canonicalize_name(name): source if isinstance(source, list) else [source]
        for name, source in project.uv.get("sources", {}).items()
    }
    if project.final.project is not None:
        yield project.final.project, project.root
    for output in project.outputs:
        url = urlsplit(output.requirement.url or "")
        if url.scheme == "file":
            yield output.name, path_from_url(url.path)
        for source in sources.get(output.name, ()):
            if "path" in source:
                yield output.name, project.root / source["path"]


def _sha256(patch: Patch) -> str:
    return patches.read_patch(patch).sha256


def _metadata_files(folder: Path) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
        for name in METADATA_FILES
        if (folder / name).is_file()
    )
