"""Notice when a build or a person changes the files of an environment.

A build that has to change files gets a copy of the environment.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages import reader
from nox_buildstages.environments.packages import (
    FILES_NOTE,
    difference_error,
    forget_packages,
    list_files,
)
from nox_buildstages.errors import ChangedEnvironmentError
from nox_buildstages.model import PROJECT
from nox_buildstages.system.documents import find_json
from nox_buildstages.system.files import remove_tree, write_text
from nox_buildstages.text import diff
from nox_buildstages.value import Record, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.environments.sync import Syncer

_Snapshot: TypeAlias = "Mapping[str, tuple[int, int, int]]"
"""Mode, size and modification time of each file, by its path in the environment."""

SECOND_BUILD_FOLDER = "second-build"
"""The folder in an environment for a second build that differs from the first."""

PROJECT_FOLDER = "project"
"""The folder in an environment for the editable wheel of the project itself."""

PRIVATE_FOLDER = "private"
"""The folder in an environment for the copy that a build may change."""

_OUR_FOLDERS = {SECOND_BUILD_FOLDER, PROJECT_FOLDER, PRIVATE_FOLDER, "tmp"}
"""Folders at the top of an environment that nox-buildstages and nox write to."""

_IGNORED_FOLDERS = {"__pycache__"}
"""Folders that imports write to."""


@contextmanager
def copy_environment(environment: Environment) -> Iterator[Environment]:
    """Yield a copy of an environment for a build to change, and remove the copy.

    The path of the copy is always the same. Only scripts contain the path of an
    environment: wheels don't know the path. No file is a link to uv's cache.
    """
    location = environment.location
    copy, skipped = location / PRIVATE_FOLDER, {*_OUR_FOLDERS, "lib"}
    try:
        shutil.copytree(
            location,
            copy,
            symlinks=True,
            ignore=lambda folder, _: skipped if folder == str(location) else (),
            copy_function=_copy_file,
        )
        # With UV_LINK_MODE=symlink, packages are links.
        shutil.copytree(
            location / "lib",
            copy / "lib",
            ignore_dangling_symlinks=True,
            copy_function=_copy_file,
        )
        private = replace(
            environment,
            location=copy,
            bin=copy / environment.bin.relative_to(location),
            python=copy / environment.python.relative_to(location),
        )
        for script in private.bin.iterdir():
            if script.is_file() and not script.is_symlink():
                old = script.read_bytes()
                new = old.replace(
                    os.fsencode(environment.bin), os.fsencode(private.bin)
                )
                if new != old:
                    script.write_bytes(new)
        yield private
    finally:
        remove_tree(copy)


class EnvironmentGuard(Record):
    """Notices if builds change their environment."""

    environment: Environment
    syncer: Syncer
    _before: _Snapshot = field(default_factory=dict)
    _running: list[str] = field(default_factory=list)  # outputs
    _suspects: dict[str, None] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def watch(self, *, output: str, stage: str, log: Path) -> Iterator[Environment]:
        """Yield the environment, and raise an error if a build changes any files.

        The caller occupies the environment, and the record of files is current. All
        builds running at the time of a change fail. After the last build, added files
        are removed, and the packages are installed again before the next build. Changed
        files in uv's cache are removed, too.

        Raises:
            ChangedEnvironmentError: A build changed the environment, and this build
                didn't fail otherwise.
        """
        environment, damaged = self.environment, list[str]()
        location = environment.location
        with self._lock:
            if not self._running:
                recorded = _read_recorded_files(location)
                self._before = recorded or _take_snapshot(location)
            self._running.append(output)
        try:
            yield environment
        finally:
            with self._lock:
                changes = _find_changes(self._before, _take_snapshot(location))
                if changes:
                    self._suspects |= dict.fromkeys(self._running)
                others = tuple(it for it in self._suspects if it != output)
                self._running.remove(output)
                if changes and not self._running:
                    self._suspects.clear()
                    damaged = _undo(environment, changes, self.syncer)
        if changes:
            details = [f"{change} {name}" for name, change in changes.items()]
            if damaged:
                details.append(
                    "uv's cache shared changed files: removed"
                    f" {', '.join(damaged)} from it"
                )
            hint = (
                "change its source, so that it doesn't write into the environment"
                if stage == PROJECT
                else "give each build of the stage a copy of the environment that it"
                f" may change:\n  [[tool.nox-buildstages.stage]]        # {stage}\n"
                "  private-environment = true"
            )
            raise ChangedEnvironmentError(
                output=output,
                stage=stage,
                owners=_find_owners(environment, changes),
                others=others,
                details=details,
                log=log,
                hint=hint,
            )


def record_files(environment: Environment) -> None:
    """Record the files of an environment, unless a valid record exists."""
    note = environment.location / FILES_NOTE
    if not note.exists():
        write_text(note, json.dumps(_take_snapshot(environment.location)))


def restore_files(
    environment: Environment, syncer: Syncer, report: Callable[[str], None]
) -> None:
    """Prepare an environment for reinstallation if somebody has changed files.

    Added files are removed, and all packages count as different from the lock. Changed
    files in uv's cache are removed, too.

    Raises:
        BuildStagesError: Files have changed, and nox doesn't allow installation.
    """
    location = environment.location
    before = _read_recorded_files(location)
    if before is None:
        location.joinpath(FILES_NOTE).unlink(missing_ok=True)
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
    _undo(environment, changes, syncer)


def _read_recorded_files(location: Path) -> _Snapshot | None:
    """Return the recorded files of an environment; None without a valid record."""

    def status(value: object) -> tuple[int, int, int]:
        mode, size, changed = reader.list_of(reader.integer)(value)
        return mode, size, changed

    return find_json(location / FILES_NOTE, reader.mapping_of(status))


def _copy_file(source: str, target: str) -> None:
    """Copy a file with mode and times.

    The copy shares the blocks of the file if the file system supports this.
    """
    try:
        with open(source, "rb") as old, open(target, "wb") as new:  # noqa: PTH123 - fast
            left = os.fstat(old.fileno()).st_size
            while left > 0:
                left -= os.copy_file_range(old.fileno(), new.fileno(), left) or left
        shutil.copystat(source, target)
    except OSError:  # an old kernel, or an unusual file system
        shutil.copy2(source, target)


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
                # With UV_LINK_MODE=symlink, packages are links to uv's cache.
                is_package = "site-packages" in folder and entry.is_file()
                status = entry.stat(follow_symlinks=is_package)
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


def _find_owners(environment: Environment, paths: Iterable[str]) -> list[str]:
    """Return the packages in whose folders some files are, sorted.

    The folder of all packages belongs to nobody.
    """
    owners: dict[PurePosixPath, set[str]] = {}
    for name, listed in list_files(environment).items():
        for path in map(PurePosixPath, listed):
            for place in (path, *path.parents):
                owners.setdefault(place, set()).add(name)
    found: set[str] = set()
    for path in map(PurePosixPath, paths):
        places = (place for place in (path, *path.parents) if place in owners)
        place = next(places, path)
        if place == path or "site-packages" in place.parts[:-1]:
            found |= owners.get(place, set())
    return sorted(found)


def _undo(
    environment: Environment, changes: Mapping[str, str], syncer: Syncer
) -> list[str]:
    """Remove added files, and have the packages installed again.

    uv installs files as links to uv's cache, so a file changed in place changed in the
    cache and in other environments, too. Return the packages removed from the cache.
    The project's environments with such a file are installed again, too.
    """
    location = environment.location
    forget_packages(environment)
    shared = set()
    for name, change in changes.items():
        path = location / name
        if change == "added":
            path.unlink(missing_ok=True)
            with suppress(OSError):  # a parent folder isn't empty
                os.removedirs(path.parent)
        elif change == "changed" and (path.is_symlink() or path.stat().st_nlink > 1):
            shared.add(name)
            for other in location.parent.iterdir():
                with suppress(OSError):  # it has no such file
                    if path.samefile(other / name):
                        forget_packages(replace(environment, location=other))
    damaged = _find_owners(environment, shared)
    if damaged:
        syncer.clean_cache(damaged)
    return damaged
