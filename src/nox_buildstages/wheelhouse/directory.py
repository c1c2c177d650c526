"""The wheelhouse: a folder of wheels with their logs, a manifest and the bound lock."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from nox_buildstages.errors import WheelError
from nox_buildstages.indexes.url_secrets import redact_logins
from nox_buildstages.model import LOGS, minor_version
from nox_buildstages.store.memory import memory_field
from nox_buildstages.system.files import (
    IGNORE_FILE,
    atomic_write,
    file_stamp,
    find_files,
    make_ignored_folder,
    read_file,
    remove_if_same,
    remove_orphans,
    sha256_of,
    write_if_changed,
)
from nox_buildstages.system.locks import hold_lock
from nox_buildstages.value import Value, field, replace
from nox_buildstages.wheelhouse.manifest import (
    MANIFEST,
    Manifest,
    format_manifest,
    log_of_project,
    parse_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.builder.stage import OutputResult
    from nox_buildstages.config.cells import Cells
    from nox_buildstages.run.run import Run
    from nox_buildstages.store.store import StoredWheel

    T = TypeVar("T")

BOUND_LOCK = "pylock.toml"


class Wheelhouse(Value, kw_only=False):
    """A folder of wheels that several sessions and runs may write to at once."""

    folder: Path  # created with the first wheel
    run: Run | None = field(default=None, compare=False)
    """Remembers files that the sessions of a process have read, until they change."""

    @property
    def logs(self) -> Path:
        """The folder of the build logs."""
        return self.folder / LOGS

    @property
    def _lock(self) -> Path:
        return self.folder / ".lock"

    def deliver(self, results: Collection[OutputResult]) -> None:
        """Copy wheels and logs from the store into the folder, and list them.

        Raises:
            WheelError: A wheel in the store was damaged meanwhile.
        """
        if not self.has(results):  # else without waiting for the lock
            make_ignored_folder(self.folder)
            with self.hold_lock():
                self.put(results)

    def put(self, results: Collection[OutputResult]) -> list[dict[str, Any]]:
        """Copy wheels and logs as ``deliver``; return their entries in the manifest.

        A wheel with the right hash isn't copied again. The wheel of an earlier version
        of the same output is removed. The caller holds the lock.
        """
        entries = [*map(manifest_entry, results)]
        if self.has(results):
            return entries
        before = self.read_manifest()
        for it in results:
            wheel, log = it.wheel, self.folder / log_of_project(it.wheel.name)
            copy_wheel(wheel.path, self.folder, sha256=wheel.sha256)
            with atomic_write(log) as new:
                shutil.copyfile(wheel.log, new)
        names = {it["name"] for it in entries}
        others = [it for it in before.wheels if it["name"] not in names]
        after = replace(before, wheels=(*others, *entries), invalid=())
        self.change_manifest(before, after)
        return entries

    def lists(self, results: Collection[OutputResult]) -> bool:
        """Whether the manifest lists the wheels of results, whatever the files are."""
        listed = {it["name"]: it.get("sha256") for it in self.read_manifest().wheels}
        return all(listed.get(it.output.name) == it.wheel.sha256 for it in results)

    def has(self, results: Collection[OutputResult]) -> bool:
        """Whether the folder has and lists the wheels of results."""
        entries = [*map(manifest_entry, results)]
        listed = self.read_manifest().wheels
        with suppress(FileNotFoundError):
            return (self.folder / MANIFEST).is_file() and all(
                entry in listed
                and self._hash(self.folder / entry["file"]) == entry["sha256"]
                and self._hash(self.folder / entry["log"]) == self._hash(it.wheel.log)
                for it, entry in zip(results, entries, strict=True)
            )
        return False

    def keep_only(self, names: Collection[str]) -> None:
        """Remove all wheels of other projects, and all files of a merge.

        The caller holds the lock.
        """
        before = self.read_manifest()
        kept = tuple(it for it in before.wheels if it["name"] in names)
        after = Manifest(wheels=kept, run=before.run)
        if replace(before, invalid=()) != after:
            self.remove_merge(before, after)

    def write_bound_lock(
        self, lock: Pylock, wheels: Mapping[NormalizedName, StoredWheel]
    ) -> Path:
        """Write the final lock, with outputs bound to the wheels in this folder."""
        return self.write_bound_text(self.bind(lock, wheels))

    def write_bound_text(self, text: str) -> Path:
        """Write the text of a bound lock."""
        path = self.folder / BOUND_LOCK
        write_if_changed(path, text.encode())
        return path

    def bind(self, lock: Pylock, wheels: Mapping[NormalizedName, StoredWheel]) -> str:
        """Return the text of a lock, with outputs bound to wheels in this folder."""
        from nox_buildstages.lock.files import pylock  # noqa: PLC0415 - slow

        here = {
            name: replace(wheel, path=self.folder / wheel.path.name)
            for name, wheel in wheels.items()
        }
        return pylock.dump_pylock(pylock.bind_wheels(lock, here, folder=self.folder))

    def read_manifest(self) -> Manifest:
        """Return the manifest; empty if missing or damaged."""
        path = self.folder / MANIFEST
        try:
            return self._remember(
                "manifest",
                path,
                lambda: parse_manifest(read_file(path), path=str(path)),
            )
        except (OSError, ValueError):
            return Manifest()

    def _hash(self, path: Path) -> str:
        return self._remember("sha256", path, lambda: sha256_of(path))

    def _remember(self, kind: str, path: Path, read: Callable[[], T]) -> T:
        """Return the content of a file, read again only after a change of the stamp."""
        if self.run is None:
            return read()
        return self.run.once((kind, path, file_stamp(path)), read)

    def change_manifest(self, before: Manifest, after: Manifest) -> None:
        """Write a new manifest, and remove the files of the old manifest alone.

        Other files than wheels and logs are removed only if they are unchanged.
        The caller holds the lock.
        """
        write_if_changed(self.folder / MANIFEST, format_manifest(after).encode())
        self._remove_old_files(before, after)

    def _remove_old_files(self, before: Manifest, after: Manifest) -> None:
        left = {*after.files(), *(after.merged or ())}
        for name in before.files():
            if name not in left:
                (self.folder / name).unlink(missing_ok=True)
        for name, sha256 in (before.merged or {}).items():
            if name not in left:
                remove_if_same(self.folder / name, sha256)

    def remove_merge(self, before: Manifest, after: Manifest) -> None:
        """Remove the files of a merge, with index and sums, and change the manifest.

        The caller holds the lock.
        """
        self._remove_old_files(before, after)
        if before.merged is not None:
            from nox_buildstages.wheelhouse import checksums  # noqa: PLC0415 - rarely needed

            checksums.withdraw_release(self.folder)
        write_if_changed(self.folder / MANIFEST, format_manifest(after).encode())

    @contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Lock the folder, which must exist, against other writers.

        Half-written files that killed processes left are removed.
        """
        with hold_lock(self._lock):
            for folder in (self.folder, self.logs):
                remove_orphans(folder)
            yield

    def remove_own_files(self) -> None:
        """Remove the lock file and .gitignore if the folder holds no other file."""
        ours = {self._lock, self.folder / IGNORE_FILE}
        if ours.issuperset(self.folder.iterdir()):
            for path in ours:
                path.unlink(missing_ok=True)


def unused_wheelhouses(cells: Cells) -> list[str]:
    """Return the wheelhouses of former cells, except results of merges.

    The paths are relative to the parent folder of the project's wheelhouse.
    """
    project = cells.first.project
    folder = project.wheelhouse
    used = {
        it.wheelhouse_of(it.cell, minor_version(python))
        for it in cells.projects
        for python in it.cell_pythons or ("",)
    }
    found = (path.parent for path in find_files(folder, MANIFEST))
    return sorted(
        os.path.relpath(it, folder.parent)
        for it in found
        if it not in used and Wheelhouse(it).read_manifest().own
    )


def copy_wheel(
    wheel: Path, folder: Path, *, sha256: str, origin: str = "the store"
) -> None:
    """Copy a wheel into a folder, or raise a WheelError if its hash is wrong."""
    path = folder / wheel.name
    if has_sha256(path, sha256):
        return
    with atomic_write(path) as new:
        shutil.copyfile(wheel, new)
        if sha256_of(new) != sha256:
            problem = f"the copy in {origin} was damaged after the build"
            raise WheelError(subject=path.name, problem=problem)


def has_sha256(path: Path, sha256: str) -> bool:
    """Return whether a file exists and has this hash."""
    return path.is_file() and sha256_of(path) == sha256


def manifest_entry(result: OutputResult) -> dict[str, Any]:
    """Return the manifest entry of an output's wheel."""
    wheel = result.wheel
    environment = wheel.recipe.environment
    source = [redact_logins(str(result.output.source))]
    source += (f"patched with {patch}" for patch in result.patches)
    return {
        "name": wheel.name,
        "version": str(wheel.version),
        "file": wheel.path.name,
        "stage": result.stage,
        "key": wheel.key,
        "sha256": wheel.sha256,
        "size": wheel.size,
        "seconds": wheel.seconds,
        **memory_field(wheel.memory),
        "status": "built" if result.is_built else "cached",
        "source": ", ".join(source),
        "environment": {name: environment[name].version for name in environment},
        "log": log_of_project(wheel.name),
    }
