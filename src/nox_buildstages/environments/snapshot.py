"""Seeing that builds, and people, leave the environment of a stage as it is."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages.environments.environment import (
    FILES_NOTE,
    INSTALL_HINT,
    forget_stamp,
)
from nox_buildstages.errors import EnvironmentDiffersError, MeddlingError
from nox_buildstages.system.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.environments.environment import Environment

_Files: TypeAlias = "Mapping[str, tuple[int, int, int]]"
"""Each file's kind, size and time, by its path in the environment."""

SECOND_BUILD_FOLDER = "second-build"
"""The folder, beside what is installed in an environment, for what differs."""

PROJECT_FOLDER = "project"
"""The folder, likewise, for the wheel that leads to the project itself."""

_BESIDE = {SECOND_BUILD_FOLDER, PROJECT_FOLDER, "tmp"}
"""Folders in an environment's that we and nox write to."""

_SHOWN = 10
"""Of the changes that are told."""

_NOT_WATCHED = {"__pycache__"}
"""Folders that importing writes to."""


@contextmanager
def guard_environment(
    environment: Environment, *, output: str, stage: str, log: Path
) -> Iterator[None]:
    """Refuse what is done meanwhile if it changes the environment's files.

    What was added is taken away, and the environment counts as another one, so that
    its projects are installed anew before the next build.

    Args:
        environment: In which a build runs.
        output: That is built, for messages.
        stage: In which stage, for messages.
        log: The build's, for messages.

    Raises:
        MeddlingError: It did, and nothing else went wrong.
    """
    before = _files(environment.location)
    try:
        yield
    finally:
        changes = _changes(before, _files(environment.location))
        if changes:
            _put_right(environment, changes)
    if changes:
        words = tuple(f"{change} {name}" for name, change in changes.items())
        raise MeddlingError(output=output, stage=stage, changes=words, log=log)


def record_files(environment: Environment) -> None:
    """Note what files an environment has, where that isn't known since it was made."""
    note = environment.location / FILES_NOTE
    if not note.exists():
        write_text(note, json.dumps(_files(environment.location)))


def restore_files(environment: Environment, report: Callable[[str], None]) -> None:
    """See that an environment has the files that it had when it was made.

    Where it hasn't, what was added is taken away, and its projects will be installed
    anew.

    Raises:
        EnvironmentDiffersError: It hasn't, and nox doesn't let it be changed.
    """
    location = environment.location
    note = location / FILES_NOTE
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        before = {name: tuple(status) for name, status in noted.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        note.unlink(missing_ok=True)
        return
    changes = _changes(before, _files(location))
    if not changes:
        return
    told = tuple(f"{change} {name}" for name, change in changes.items())
    if not environment.may_install():
        raise EnvironmentDiffersError(
            environment=location,
            differences=told[:_SHOWN],
            hint=INSTALL_HINT,
        )
    more = f" and {len(told) - 1} more" if len(told) > 1 else ""
    report(f"{location} was changed by hand ({told[0]}{more}); it is made anew")
    _put_right(environment, changes)


def _files(location: Path) -> _Files:
    """Return all in an environment's own folders; what lies beside them is ours."""
    found: dict[str, tuple[int, int, int]] = {}
    folders = [it.name for it in os.scandir(location) if _is_folder(it)]
    folders = [name for name in folders if name not in _BESIDE]
    while folders:
        folder = folders.pop()
        for entry in os.scandir(location / folder):
            name = f"{folder}/{entry.name}"
            if _is_folder(entry):
                folders.append(name)
            elif not entry.is_dir(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found[name] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and entry.name not in _NOT_WATCHED


def _changes(before: _Files, after: _Files) -> dict[str, str]:
    """Return what became of each file that isn't as it was."""
    changes = dict.fromkeys(after.keys() - before.keys(), "added")
    changes.update((name, "removed") for name in before.keys() - after.keys())
    common = before.keys() & after.keys()
    changes.update((name, "changed") for name in common if before[name] != after[name])
    return dict(sorted(changes.items()))


def _put_right(environment: Environment, changes: Mapping[str, str]) -> None:
    """Take away what was added, and let its projects be installed anew."""
    forget_stamp(environment)
    for name, change in changes.items():
        if change == "added":
            path = environment.location / name
            path.unlink(missing_ok=True)
            with suppress(OSError):  # it isn't empty
                os.removedirs(path.parent)
