"""Notice when a build or a person changes the files of an environment.

A build that has to change files gets a copy of the environment.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING

from nox_buildstages.environments.bytecode import (
    BYTECODE_FOLDER,
    CACHE,
    is_bytecode,
    renew_bytecode,
)
from nox_buildstages.environments.environment import hide_system_packages
from nox_buildstages.environments.listing import (
    OWN_FOLDERS,
    PRIVATE_FOLDER,
    Listing,
    compare_entries,
    find_changes,
    list_entries,
    list_notes,
    load_listing,
    mode_of,
    save_listing,
    take_listing,
)
from nox_buildstages.environments.own_files import copy_file
from nox_buildstages.environments.packages import (
    FILES_NOTE,
    difference_error,
    forget_packages,
    has_packages_record,
    list_files,
)
from nox_buildstages.errors import ChangedEnvironmentError
from nox_buildstages.model import PROJECT
from nox_buildstages.system.files import remove_tree
from nox_buildstages.value import Record, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.environments.listing import Entry
    from nox_buildstages.environments.sync import Syncer


@contextmanager
def copy_environment(environment: Environment) -> Iterator[Environment]:
    """Yield a copy of an environment for a build to change, and remove the copy.

    The path of the copy is always the same. Only scripts contain the path of an
    environment: wheels don't know the path. No file is a link to uv's cache.
    """
    location = environment.location
    copy, skipped = location / PRIVATE_FOLDER, {*OWN_FOLDERS, BYTECODE_FOLDER, "lib"}
    try:
        shutil.copytree(
            location,
            copy,
            symlinks=True,
            ignore=lambda folder, _: skipped if folder == str(location) else (),
            copy_function=copy_file,
        )
        # With UV_LINK_MODE=symlink, packages are links.
        shutil.copytree(
            location / "lib",
            copy / "lib",
            ignore_dangling_symlinks=True,
            copy_function=copy_file,
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
    _before: Listing | None = None
    _notes: Mapping[str, Entry] = field(default_factory=dict)
    _running: list[str] = field(default_factory=list)  # outputs
    _suspects: dict[str, None] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def watch(self, *, output: str, stage: str, log: Path) -> Iterator[Environment]:
        """Yield the environment, and raise an error if a build changes any files.

        The caller occupies the environment, and the listing of files is current. All
        builds running at the time of a change fail. After the last build, added files
        are removed, and the packages are installed again before the next build. Changed
        files in uv's cache are removed, too. New bytecode is replaced by our own.

        Raises:
            ChangedEnvironmentError: A build changed the environment, and this build
                didn't fail otherwise.
        """
        environment, damaged = self.environment, list[str]()
        location = environment.location
        with self._lock:
            if not self._running:
                self._before = load_listing(environment) or take_listing(environment)
                self._notes = list_notes(location)
            self._running.append(output)
            before = self._before or take_listing(environment)
        try:
            yield environment
        finally:
            with self._lock:
                found = find_changes(environment, before, list_entries(location))
                changes, bytecode = _split_bytecode(found)
                changes |= compare_entries(self._notes, list_notes(location))
                if changes:
                    self._suspects |= dict.fromkeys(self._running)
                others = tuple(it for it in self._suspects if it != output)
                owners = find_owners(environment, changes)
                self._running.remove(output)
                if not self._running:
                    self._suspects.clear()
                    if changes:
                        damaged = _undo(
                            environment, before, found | changes, self.syncer
                        )
                    elif bytecode:
                        renew_bytecode(environment, bytecode, self.syncer.runner)
                        save_listing(environment, take_listing(environment))
        if changes:
            details = _describe(changes)
            if damaged:
                details.append(
                    "uv's cache shared changed files: removed"
                    f" {', '.join(damaged)} from it"
                )
            raise ChangedEnvironmentError(
                output=output,
                stage=stage,
                owners=owners,
                others=others,
                details=details,
                log=log,
                hint=private_hint(stage),
            )


def private_hint(stage: str) -> str:
    """Return the advice for a stage whose builds write into the environment."""
    if stage == PROJECT:
        return "change its source, so that it doesn't write into the environment"
    return (
        "give each build of the stage a copy of the environment that it may change:"
        f"\n  [[tool.nox-buildstages.stage]]        # {stage}"
        "\n  private-environment = true"
    )


def record_files(environment: Environment) -> None:
    """Record the files of an environment with the packages of its lock.

    A valid record stays, unless nox doesn't allow installation: then it is compared.

    Raises:
        BuildStagesError: Files have changed, and nox doesn't allow installation.
    """
    if not environment.location.joinpath(FILES_NOTE).exists():
        save_listing(environment, take_listing(environment))
    elif not environment.may_install() and (before := load_listing(environment)):
        entries = list_entries(environment.location)
        changes, _ = _split_bytecode(find_changes(environment, before, entries))
        if changes:
            raise difference_error(environment, _describe(changes))


def restore_files(
    environment: Environment, syncer: Syncer, report: Callable[[str], None]
) -> None:
    """Prepare an environment for reinstallation if somebody has changed files.

    Added files are removed, and after other changes all packages count as different
    from the lock. If a file of the environment itself has changed, or the record of
    files is missing, the environment is made again. The system's packages are hidden,
    and new bytecode is replaced by our own.

    Raises:
        BuildStagesError: The environment can't be made again.
    """
    if not environment.may_install():
        return
    location, before = environment.location, load_listing(environment)
    entries = {} if before is None else list_entries(location)
    if before is None:
        if has_packages_record(environment):
            report(f"{location} has no record of its files; it is made again")
            syncer.create(location, environment.python.resolve())
    elif entries != before.entries:
        found = find_changes(environment, before, entries)
        changes, bytecode = _split_bytecode(found)
        if changes:
            words = _describe(changes)
            more = f" and {len(words) - 1} more" if len(words) > 1 else ""
            added = {*changes.values()} == {"added"}
            what = "what was added is removed" if added else "it is installed again"
            report(f"{location} was changed by hand ({words[0]}{more}); {what}")
            _undo(environment, before, found, syncer)
        else:
            if bytecode:
                renew_bytecode(environment, bytecode, syncer.runner)
            save_listing(environment, take_listing(environment))
    if hide_system_packages(location):
        report(f"{location} showed the packages of the system; they are hidden now")


def _describe(changes: Mapping[str, str]) -> list[str]:
    """Return changes in words; a folder only if nothing in it has changed."""
    names = sorted(changes)
    return [
        f"{changes[name]} {name}"
        for name, following in zip(names, [*names[1:], ""], strict=True)
        if not (name.endswith("/") and following.startswith(name))
    ]


def _split_bytecode(
    found: Mapping[str, str],
) -> tuple[dict[str, str], list[str]]:
    """Return changes without those of imports, and the paths of new bytecode.

    Imports add and replace bytecode, and add folders for it. Bytecode that is missing
    is no change.
    """
    changes, bytecode = {}, []
    for name, change in found.items():
        if is_bytecode(name):
            bytecode += [name] if change != "removed" else []
        elif not (name.endswith(f"/{CACHE}/") and change == "added"):
            changes[name] = change
    return changes, bytecode


def find_owners(environment: Environment, paths: Iterable[str]) -> list[str]:
    """Return the packages in whose folders some files are, sorted.

    The folder of all packages belongs to nobody.
    """
    owners: dict[PurePosixPath, set[str]] = {}
    for name, listed in list_files(environment).items():
        for path in map(PurePosixPath, listed):
            for place in (path, *path.parents):
                owners.setdefault(place, set()).add(name)
    found: set[str] = set()
    files = [it for it in paths if not it.endswith("/")]
    for path in map(PurePosixPath, files or paths):
        places = (place for place in (path, *path.parents) if place in owners)
        place = next(places, path)
        if place == path or "site-packages" in place.parts[:-1]:
            found |= owners.get(place, set())
    return sorted(found)


def _undo(
    environment: Environment,
    before: Listing,
    changes: Mapping[str, str],
    syncer: Syncer,
) -> list[str]:
    """Remove what was added, and have the rest installed again.

    If a file that belongs to no package has changed, the environment is made again.
    Return the packages removed from uv's cache.
    """
    location = environment.location
    changed = [name for name, change in changes.items() if change == "changed"]
    damaged = _clean_cache(environment, changed, syncer)
    # RECORD has no hash of itself; if a package was uninstalled, its folder is gone.
    is_damaged = any(
        ".dist-info/" not in name or location.joinpath(name).parent.is_dir()
        for name, change in changes.items()
        if change != "added" and name in before.hashes and not is_bytecode(name)
    )
    for name, change in sorted(changes.items(), key=lambda it: it[::-1]):
        path, old = location / name, before.entries.get(name, "")
        mode = mode_of(old)
        if change == "added" or is_bytecode(name) or name.endswith(f"/{CACHE}"):
            remove_tree(path)
            with suppress(OSError):  # a folder, or bytecode that isn't there
                path.unlink()
        elif stat.S_ISDIR(mode):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(stat.S_IMODE(mode))
        elif stat.S_ISLNK(mode) and "site-packages" not in name:
            path.unlink(missing_ok=True)
            path.symlink_to(old.partition(" ")[2])
    if is_damaged:
        syncer.create(location, Path(before.python))
    elif any(change != "added" for change in changes.values()):
        forget_packages(environment)
    return damaged


def _clean_cache(
    environment: Environment, changed: Iterable[str], syncer: Syncer
) -> list[str]:
    """Remove from uv's cache the packages of files changed in place.

    uv installs files as links to a cache, so the files changed in the cache and in
    other environments, too. The project's environments with a changed file are
    installed again. Return the packages.
    """
    location, shared = environment.location, []
    for name in changed:
        path = location / name
        if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1):
            shared.append(name)
            for other in location.parent.iterdir():
                with suppress(OSError):  # it has no such file
                    if path.samefile(other / name):
                        forget_packages(replace(environment, location=other))
    damaged = find_owners(environment, shared)
    if damaged:
        syncer.clean_cache(damaged)
    return damaged
