"""Notice when a build or a person changes the files of an environment."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages.environments.packages import (
    FILES_NOTE,
    difference_error,
    forget_packages,
)
from nox_buildstages.errors import BuildError
from nox_buildstages.system.files import write_text
from nox_buildstages.text import diff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.environments.environment import Environment

_Snapshot: TypeAlias = "Mapping[str, tuple[int, int, int]]"
"""Mode, size and modification time of each file, by its path in the environment."""

SECOND_BUILD_FOLDER = "second-build"
"""The folder in an environment for a second build that differs from the first."""

PROJECT_FOLDER = "project"
"""The folder in an environment for the editable wheel of the project itself."""

_OUR_FOLDERS = {SECOND_BUILD_FOLDER, PROJECT_FOLDER, "tmp"}
"""Folders at the top of an environment that nox-buildstages and nox write to."""

_IGNORED_FOLDERS = {"__pycache__"}
"""Folders that imports write to."""


@contextmanager
def guard_environment(
    environment: Environment, *, output: str, stage: str, log: Path
) -> Iterator[None]:
    """Raise an error if a build changes the environment.

    Added files are removed, and the packages are installed again before the next
    build.

    Raises:
        BuildError: The build changed the environment, and didn't fail otherwise.
    """
    before = _take_snapshot(environment.location)
    try:
        yield
    finally:
        changes = _find_changes(before, _take_snapshot(environment.location))
        if changes:
            _undo(environment, changes)
    if changes:
        hint = "patch its source, so that it doesn't write into the environment"
        if set(changes.values()) != {"added"}:
            hint += "\nuv's cache may share these files; clean it:\n  uv cache clean"
        raise BuildError(
            subject=f"{output} (stage {stage})",
            problem="its build changed the environment that it runs in",
            details=[f"{change} {name}" for name, change in changes.items()],
            log=log,
            hint=hint,
        )


def record_files(environment: Environment) -> None:
    """Record the files of an environment, unless a valid record exists."""
    note = environment.location / FILES_NOTE
    if not note.exists():
        write_text(note, json.dumps(_take_snapshot(environment.location)))


def restore_files(environment: Environment, report: Callable[[str], None]) -> None:
    """Prepare an environment for reinstallation if somebody has changed files.

    Added files are removed, and all packages count as different from the lock.

    Raises:
        BuildStagesError: Files have changed, and nox doesn't allow installation.
    """
    location = environment.location
    note = location / FILES_NOTE
    try:
        recorded = json.loads(note.read_text(encoding="utf-8"))
        before = {name: tuple(status) for name, status in recorded.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        note.unlink(missing_ok=True)
        return
    changes = _find_changes(before, _take_snapshot(location))
    if not changes:
        return
    words = tuple(f"{change} {name}" for name, change in changes.items())
    if not environment.may_install():
        raise difference_error(environment, words)
    more = f" and {len(words) - 1} more" if len(words) > 1 else ""
    report(
        f"{location} was changed by hand ({words[0]}{more});"
        " its packages are installed again"
    )
    _undo(environment, changes)


def _take_snapshot(location: Path) -> _Snapshot:
    """Return all files in an environment, except files in our own folders."""

    def is_folder(entry: os.DirEntry[str]) -> bool:
        return entry.is_dir(follow_symlinks=False)

    snapshot: dict[str, tuple[int, int, int]] = {}
    top = [entry.name for entry in os.scandir(location) if is_folder(entry)]
    folders = [name for name in top if name not in _OUR_FOLDERS | _IGNORED_FOLDERS]
    while folders:
        folder = folders.pop()
        for entry in os.scandir(location / folder):
            name = f"{folder}/{entry.name}"
            if not is_folder(entry):
                status = entry.stat(follow_symlinks=False)
                snapshot[name] = (status.st_mode, status.st_size, status.st_mtime_ns)
            elif entry.name not in _IGNORED_FOLDERS:
                folders.append(name)
    return snapshot


def _find_changes(before: _Snapshot, after: _Snapshot) -> dict[str, str]:
    """Return the changed files, each with ``added``, ``removed`` or ``changed``."""
    return {
        name: "added" if old is None else "removed" if new is None else "changed"
        for name, old, new in diff(before, after)
    }


def _undo(environment: Environment, changes: Mapping[str, str]) -> None:
    """Remove added files, and have the packages installed again."""
    forget_packages(environment)
    for name, change in changes.items():
        if change == "added":
            path = environment.location / name
            path.unlink(missing_ok=True)
            with suppress(OSError):  # a parent folder isn't empty
                os.removedirs(path.parent)
