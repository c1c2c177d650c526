"""Whether locking again could change anything, without asking uv or a build backend.

The digest in the lock files is the same on every machine, and so can't contain
everything with an effect on a resolution. The rest is looked up here. The store
remembers which lock files were the result in which surroundings.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nox_buildstages.builder.context import SESSION
from nox_buildstages.declarations.uv_files import list_outer_files
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.lock.files import folder
from nox_buildstages.lock.files.inputs import list_folders
from nox_buildstages.model import PROJECT, DirectorySource
from nox_buildstages.store.key import digest_json
from nox_buildstages.store.store import note_use
from nox_buildstages.system.files import (
    file_stamp,
    path_from_url,
    read_text,
    write_text,
)
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.lock.files.selection import SelectedLock
    from nox_buildstages.model import Project
    from nox_buildstages.system.files import FileStamp

_PROMISES = ("static", "wheel")
"""The origins of metadata that count without an answer of the build backend."""


def are_final(contexts: Sequence[BuildContext]) -> bool:
    """Whether locking would write the same locks for all cells again.

    This machine made them or found nothing to change in them, and nothing with an
    effect on a resolution has changed since.
    """
    with suppress(BuildStagesError, OSError):
        record = _find_record(contexts)
        if record.is_file():
            note_use(record)
            return True
    return False


def record_final(contexts: Sequence[BuildContext]) -> None:
    """Record in the store that locking gives these locks here and now."""
    with suppress(BuildStagesError, OSError):  # then the next run locks again
        project = contexts[0].project
        write_text(_find_record(contexts), json.dumps({"project": str(project.root)}))


def note_surroundings(contexts: Sequence[BuildContext]) -> str:
    """Return a digest of a project's surroundings before locking.

    These are the locking program, the Pythons, the variables and files of uv, the
    variables and tools visible to builds, and the contents of source folders.

    Raises:
        SourceError: A folder is unreadable.
    """
    tools = contexts[0].tools

    def digest() -> str:
        projects = [context.project for context in contexts]
        outer, root = tools.run.outer, projects[0].root
        stages = [stage for project in projects for stage in project.stages]
        passed = {name for stage in stages for name in stage.pass_env}
        programs = {f"python{it}" for project in projects for it in project.pythons}
        programs |= {name for stage in stages for name in stage.programs}
        found = {it: which(it, path=outer.get("PATH")) or "" for it in programs}
        interpreter = contexts[0].interpreter
        folders = {path for it in projects for _, path in list_folders(it)}
        trees = (os.path.relpath(path, root) for path in folders if path.is_dir())
        return digest_json(
            {
                "program": version("nox-buildstages"),
                "python": interpreter.markers["python_full_version"],
                "platform": interpreter.tags[0].platform,
                "programs": {
                    it: (path, _stamp(path)) for it, path in found.items() if path
                },
                "variables": {
                    name: value
                    for name, value in outer.items()
                    if name.startswith("UV_") or name in passed
                },
                "files": [*map(_read, chain(*list_outer_files(outer, root)))],
                "folders": {
                    tree: tools.sources.identity(DirectorySource(path=tree))
                    for tree in trees
                },
            }
        )

    return tools.run.once((SESSION, "surroundings"), digest)


def _find_record(contexts: Sequence[BuildContext]) -> Path:
    """Return the path of the record of the locks as they are."""
    files: dict[Path, FileStamp] = {}
    missing: dict[str, tuple[str, ...]] = {}
    tools = contexts[0].tools
    for context in contexts:
        project, local = context.project, replace(tools, remote=None)
        for name, lock in context.locks.items():
            label = project.stage_label(name)
            if label in missing:
                continue  # cells share the stage
            files |= {it: _stamp(it) for it in _list_local_files(project, lock)}
            # Before the wheels of earlier stages are built, a promise is enough; then
            # the backend is asked in the whole environment.
            learned = {output.metadata.learned for output in lock.outputs}
            is_promised = name == PROJECT or not learned.isdisjoint(_PROMISES)
            missing[label] = (
                replace(context, tools=local).missing_wheels(name)
                if is_promised
                else ()
            )
    known = (
        note_surroundings(contexts),
        folder.digest_files([context.project for context in contexts]),
        sorted((str(path), stamp) for path, stamp in files.items()),
        missing,
    )
    return tools.store.folder / "answers" / f"{digest_json(known)}.json"


def _list_local_files(project: Project, lock: SelectedLock) -> Iterator[Path]:
    """Yield the wheels and archives of this machine that a lock names."""
    for start, locations in (
        (project.lock_dir, lock.local_wheels),
        (project.root, lock.local_archives),
    ):
        for location in locations:
            url = urlsplit(location)
            is_url = url.scheme == "file"
            yield path_from_url(url.path) if is_url else start / location


def _stamp(path: Path | str) -> FileStamp:
    """Return the stamp of a file; empty without the file."""
    try:
        return file_stamp(Path(path))
    except OSError:
        return ()


def _read(path: Path) -> str:
    """Return the text of a file; an empty text if unreadable."""
    try:
        return read_text(path, errors="replace")
    except OSError:
        return ""
