"""The inputs of the locks as one digest, which needs no network."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from nox_buildstages.declarations.no_binary import NO_BINARY_KEYS
from nox_buildstages.declarations.settings import UV_KEYS
from nox_buildstages.environments.targets import target_markers
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.lock.files.lockfile import FORMAT, digest
from nox_buildstages.sources.trees import METADATA_FILES
from nox_buildstages.store.key import digest_parts
from nox_buildstages.system.files import path_from_url, read_file
from nox_buildstages.text import diff

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.requirements import Requirement

    from nox_buildstages.model import Interpreter, Patch, Project
    from nox_buildstages.run.run import Run

_Files: TypeAlias = tuple[tuple[str, str], ...]
"""The name and the sha256 of each file with metadata in a folder."""

_LOG = logging.getLogger(__name__)


def digest_inputs(
    projects: Sequence[Project], interpreter: Interpreter, run: Run
) -> str:
    """Return a digest that changes if the locks may change.

    The values of the cells count, because the names of the lock files contain them.
    An interpreter of this machine counts for projects that name no Python. Patches and
    folders are read again for each session; the declarations stay.

    Raises:
        SourceError: A patch can't be read.
    """
    hashes, files = _read_files(projects, run)
    question = ("inputs", interpreter, *hashes.items(), *files.items())

    def find_digest() -> str:
        inputs = [_inputs(it, interpreter, hashes, files) for it in projects]
        if _LOG.isEnabledFor(logging.DEBUG):
            for parts in inputs:
                _LOG.debug("inputs of the lock files: %s", digest_parts(parts))
        digests = [*map(digest, inputs)]
        values = [[value for _, value in it.cell.choices] for it in projects]
        return digest([*zip(values, digests, strict=True)]) if values[0] else digests[0]

    return run.once(question, find_digest)


def _read_files(
    projects: Sequence[Project], run: Run
) -> tuple[dict[Patch, str], dict[Path, _Files]]:
    """Return the sha256 of all patches, and of the metadata of all folders."""
    declared_patches, declared_folders = run.once(
        ("declared files",),
        lambda: (
            {patch for it in projects for _, patch in _patches(it)},
            {folder for it in projects for _, folder in list_folders(it)},
        ),
    )
    hashes = {}
    if declared_patches:
        from nox_buildstages.sources.patches import read_patch  # noqa: PLC0415 - few have one

        hashes = {patch: read_patch(patch).sha256 for patch in declared_patches}
    files = {
        folder: tuple(
            (name, hashlib.sha256(read_file(folder / name)).hexdigest())
            for name in METADATA_FILES
            if (folder / name).is_file()
        )
        for folder in declared_folders
    }
    return hashes, files


def digest_declarations(
    projects: Sequence[Project], interpreter: Interpreter, run: Run
) -> dict[str, str]:
    """Return a short digest of each part of the inputs, by a name for users.

    The part before ``: `` is a stage, a package or another table, and the rest a key.
    Cells with the same values count once.

    Raises:
        SourceError: A patch can't be read.
    """
    values: dict[str, set[str]] = {}
    for project in projects:
        inputs = _inputs(project, interpreter, *_read_files(projects, run))
        for name, value in _list_parts(inputs):
            values.setdefault(name, set()).add(digest(value))
        if project.cell.choices:
            values.setdefault("matrix", set()).add(digest([*project.cell.choices]))
    return {
        name: digest(sorted(found)).removeprefix("sha256:")[:8]
        for name, found in sorted(values.items())
    }


def describe_differences(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Return which declarations have changed, from their digests, or an empty text.

    Such as ``stage warp: env CFLAGS, dependencies; final: requirements``.
    """
    changed: dict[str, list[str]] = {}
    groups = [{name.partition(": ")[0] for name in side} for side in (old, new)]
    for name, _, _ in diff(old, new):
        group, _, key = name.partition(": ")
        keys = changed.setdefault(group, [])
        is_stage = group.startswith("stage ")
        if is_stage and group not in groups[0]:
            keys[:] = ["new"]
        elif is_stage and group not in groups[1]:
            keys[:] = ["removed"]
        elif key:
            keys.append(key)
    texts = [
        ": ".join(filter(None, (group, ", ".join(keys))))
        for group, keys in changed.items()
    ]
    more = f"; and {len(texts) - _MAX_SHOWN} more" if len(texts) > _MAX_SHOWN else ""
    return f"{'; '.join(texts[:_MAX_SHOWN])}{more}"


_MAX_SHOWN = 4
"""The number of stages, packages and tables to name if their declarations changed."""


_TABLES = {"format", "stages", "packages", "folders", "uv", "project"}
_NAMES = {"final": "final: requirements", "targets": "python or environments"}
"""The names for users of keys at the top of the inputs, if they differ."""


def _list_parts(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each part of the inputs of a cell."""
    tables = {f"stage {it['name']}": {**it, "name": ""} for it in inputs["stages"]}
    tables |= {f"package {name}": it for name, it in inputs["packages"].items()}
    tables |= {f"folder of {name}": files for name, files in inputs["folders"]}
    tables |= {"tool.uv": inputs["uv"], "project": inputs.get("project", {})}
    for title, table in tables.items():
        for key, value in table.items():
            if isinstance(value, dict):
                yield from ((f"{title}: {key} {it}", value[it]) for it in value)
            elif value or (key == "requires-dist" and value is not None):
                yield f"{title}: {key}", value
    for key, value in inputs.items():
        if value and key not in _TABLES:
            yield _NAMES.get(key, key), value


def _texts(root: Path, requirements: Iterable[Requirement]) -> list[str]:
    """Return requirements with relative paths, the same in every checkout."""
    texts = []
    for requirement in requirements:
        text, url = str(requirement), urlsplit(requirement.url or "")
        if url.scheme == "file":
            path = Path(os.path.relpath(path_from_url(url.path), root)).as_posix()
            text = text.replace(f"file://{url.path}", f"file:{path}")
        texts.append(text)
    return texts


def _inputs(
    project: Project,
    interpreter: Interpreter,
    hashes: Mapping[Patch, str],
    files: Mapping[Path, _Files],
) -> dict[str, Any]:
    """Return the inputs of the locks of one cell."""
    root, final = project.root, project.final
    patches: dict[str, list[str]] = {}
    for name, patch in _patches(project):
        patches.setdefault(name, []).append(hashes[patch])
    inputs = {
        "format": FORMAT,
        "targets": target_markers(project, interpreter),
        "lock-dir": Path(os.path.relpath(project.lock_dir, root)).as_posix(),
        "stages": [
            {
                "name": stage.name,
                "dependencies": _texts(root, stage.dependencies),
                "outputs": _texts(root, [it.requirement for it in stage.outputs]),
                "needs": stage.needs,
                "env": dict(stage.env),
                "pass-env": stage.pass_env,
                **({"network": "on"} if stage.network == "on" else {}),
                **({"sandbox": "off"} if stage.sandbox == "off" else {}),
            }
            for stage in project.stages
        ],
        "packages": {
            name: {
                # Only if there are any, so that the digest of a package without stays.
                **({"patches": patches[name]} if name in patches else {}),
                "add": _texts(root, rules.build_requires_add),
                "remove": rules.build_requires_remove,
                "config-settings": dict(rules.config_settings),
                "env": dict(rules.env),
                "requires-dist": (
                    None
                    if rules.requires_dist is None
                    else _texts(root, rules.requires_dist)
                ),
                **(
                    {"requires-dist add": [it.text for it in rules.requires_dist_add]}
                    if rules.requires_dist_add
                    else {}
                ),
                **(
                    {"requires-dist remove": rules.requires_dist_remove}
                    if rules.requires_dist_remove
                    else {}
                ),
                **(
                    {"local-version": rules.local_version.text}
                    if rules.local_version
                    else {}
                ),
            }
            for name, rules in project.packages.items()
        },
        "final": _texts(root, final.requirements),
        "match-runtime": project.match_runtime,
        "constraints": _texts(root, project.constraints),
        "build-constraints": _texts(root, project.build_constraints),
        "exclude-newer": project.exclude_newer,
        "uv": strip_logins(
            {key: project.uv[key] for key in _LOCKED_UV_KEYS if key in project.uv}
        ),
        "folders": [
            (name, dict(files[folder]))
            for name, folder in list_folders(project)
            if name != final.project
        ],
    }
    if final.project is not None:
        # The rest of the project's own pyproject.toml changes all the time.
        own = {name: it for name, it in files[root] if name.startswith("setup.")}
        system = strip_logins(dict(final.build_system))
        inputs["project"] = {
            "name": final.project,
            "build-system": system,
            "setup": own,
        }
    return inputs


_LOCKED_UV_KEYS = (*UV_KEYS, *NO_BINARY_KEYS)


def _patches(project: Project) -> Iterator[tuple[str, Patch]]:
    for name, rules in project.packages.items():
        for patch in rules.patches:
            yield name, patch


def list_folders(project: Project) -> Iterator[tuple[str, Path]]:
    """Yield all outputs whose source is a folder, with the folder."""
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
