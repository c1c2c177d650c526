"""The contents of a store: how large they are, and when they were last used."""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from nox_buildstages import reader
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.store import listing
from nox_buildstages.store.build_dir import KEPT_SECONDS, BuildDirectory
from nox_buildstages.store.key import Recipe
from nox_buildstages.store.store import (
    FAILURES,
    FOLDERS,
    FORMAT,
    LOG,
    RECORD,
    REMOVED_PREFIX,
)
from nox_buildstages.system.documents import read_json
from nox_buildstages.value import Value, field_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.store.store import Store

_KEY = re.compile("[0-9a-f]{64}")
_LEFTOVERS = (".new-", "locking-", "fetching-", REMOVED_PREFIX)
_ITSELF = "."
_CLAIMS = "claims.lock"
"""A lock that processes wait for before they take a job slot; never removed."""


class Kind(Enum):
    """The kinds of things in a store; the values are for tables."""

    WHEEL = "wheels"
    TREE = "unfinished builds"
    FAILED = "failed builds"
    SOURCE = "sources"
    MIRROR = "git mirrors"
    ANSWER = "metadata of backends"
    INTERPRETER = "interpreters"
    COMPILERS = "compiler wrappers"
    LOG = "logs"
    LIST = "lists of wheels"
    FOLDER = "hashes of folders"
    FAILURE = "records of failed builds"
    SELECTION = "locks of interpreters"
    LEFTOVER = "leftovers"
    LOCK = "lock files"


_FILES = {
    Kind.ANSWER: ("answers", ".json"),
    Kind.INTERPRETER: ("interpreters", ".json"),
    Kind.LOG: ("logs", ".log"),
    Kind.LIST: (listing.FOLDER, ".json"),
    Kind.FOLDER: ("folders", ".txt"),
    Kind.FAILURE: (FAILURES, ".json"),
    Kind.SELECTION: ("selections", ".json"),
}
"""The folder and the suffix of each kind of single files."""


class StoreItem(Value):
    """A file or folder of the store, removed as a whole."""

    kind: Kind
    path: Path
    size: int  # bytes on disk
    used: float  # the time of the last use, in seconds since the epoch
    lock: Path | None = None  # held by a process that uses the item
    is_garbage: bool = False  # nothing can use the item any more


def list_items(store: Store) -> Iterator[StoreItem]:
    """Yield all items of a store; files with unknown names are left out."""
    top = store.folder
    by_project = listing.read_list(store).values()
    listed = {key: size for wheels in by_project for key, size in wheels.items()}
    for path in _list_keys(top / "wheels"):
        yield from _wheel_items(store, path, listed.get(path.name))
    for path in (it for builds in store.all_builds for it in _list_keys(builds)):
        yield _tree_item(path, store.processes_lock(path.name))
    for path in _list_keys(top / "sources"):
        yield from _source_items(path)
    for path in _list_keys(top / "git"):
        yield _item(Kind.MIRROR, path)
    for path in _list(top / "compilers"):
        if path.is_dir() and not path.name.startswith(_LEFTOVERS):
            yield _item(Kind.COMPILERS, path)
    for kind, (folder, suffix) in _FILES.items():
        for path in _list(top / folder):
            if path.suffix == suffix and not path.name.startswith("."):
                yield _item(kind, path)
    yield from _leftovers(store)
    yield from _lock_files(top)


def _leftovers(store: Store) -> Iterator[StoreItem]:
    """Yield the unfinished folders and files of killed processes."""
    top = store.folder
    folders = {top / it for it in ("wheels", "sources", "git", "compilers")}
    folders |= {*store.all_builds}
    files = {top / folder for folder, _ in _FILES.values()}
    for folder in sorted(folders | files):
        prefixes = _LEFTOVERS if folder in folders else (".",)
        for path in _list(folder):
            if path.name.startswith(prefixes):
                yield _item(Kind.LEFTOVER, path, is_garbage=True)


def _lock_files(top: Path) -> Iterator[StoreItem]:
    """Yield the files by which processes coordinate; useless afterwards."""
    for path in _list(top / "git"):
        if path.suffix == ".lock":
            yield _item(Kind.LOCK, path, lock=path, is_garbage=True)
    for folder in (top / "locks", *_list(top / "jobs")):
        for path in _list(folder):
            if path.name.startswith(".") or path.suffix == ".run":
                yield _item(Kind.LOCK, path, is_garbage=True)
            elif path.suffix in {".json", ".lock"} and path.name != _CLAIMS:
                lock = path.with_suffix(".lock")
                yield _item(Kind.LOCK, path, lock=lock, is_garbage=True)


def foreign_size(store: Store) -> int:
    """Return the bytes of all foreign files in the store's folder."""
    own_files = (store.users_lock, store.tag, store.prune_mark)
    ours = {*FOLDERS, *(it.name for it in own_files)}
    return sum(disk_size(it) for it in _list(store.folder) if it.name not in ours)


def disk_size(path: Path) -> int:
    """Return the size of a file or folder on disk, in bytes.

    A file with several names counts as a share, because clones and mirrors share files.
    """
    return _total_size(path, _scan(path))


def _total_size(path: Path, scan: Mapping[str, os.stat_result]) -> int:
    size, scans = 0, [(path, scan)]
    while scans:
        folder, scan = scans.pop()
        for name, status in scan.items():
            if not stat.S_ISDIR(status.st_mode):
                size += status.st_blocks * 512 // max(status.st_nlink, 1)
            elif name != _ITSELF:
                scans.append((folder / name, _scan(folder / name)))
    return size


def _scan(path: Path) -> dict[str, os.stat_result]:
    """Return the status of a path, and of each entry of a folder."""
    found = {}
    with suppress(OSError):  # its owner has just removed the file
        found[_ITSELF] = path.lstat()
        if stat.S_ISDIR(found[_ITSELF].st_mode):
            with os.scandir(path) as entries:
                for entry in entries:
                    with suppress(OSError):
                        found[entry.name] = entry.stat(follow_symlinks=False)
    return found


def _list(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _list_keys(folder: Path) -> list[Path]:
    return [path for path in _list(folder) if _KEY.fullmatch(path.name)]


def _item(
    kind: Kind, path: Path, *, lock: Path | None = None, is_garbage: bool = False
) -> StoreItem:
    scan = _scan(path)
    return StoreItem(
        kind=kind,
        path=path,
        size=_total_size(path, scan),
        used=_last_use(scan),
        lock=lock,
        is_garbage=is_garbage,
    )


def _tree_item(path: Path, lock: Path) -> StoreItem:
    """Return the item of a build directory; of a failed build it may be too old."""
    try:
        failed = BuildDirectory(path).failure.stat().st_mtime
    except OSError:
        return _item(Kind.TREE, path, lock=lock)
    is_old = time.time() - failed > KEPT_SECONDS
    return _item(Kind.FAILED, path, lock=lock, is_garbage=is_old)


def _wheel_items(store: Store, folder: Path, listed: int | None) -> Iterator[StoreItem]:
    """Yield the newest wheel of a key, and the rests of earlier wheels.

    The record is read only if the list doesn't fit, or the key has several wheels.
    """
    scan = _scan(folder)
    places = [name for name in scan if _KEY.fullmatch(name)]
    superseded: list[str] = []
    if places and len(scan) > len((_ITSELF, RECORD, *places[:1])):
        with suppress(BuildStagesError):  # a newer version's
            wheel = store.peek(folder.name)
            if wheel is not None:
                kept = {_ITSELF, RECORD, wheel.path.parent.name}
                superseded = sorted(scan.keys() - kept)
    for name in superseded:
        yield _item(Kind.LEFTOVER, folder / name, is_garbage=True)
    scan = {name: scan[name] for name in scan.keys() - set(superseded)}
    inner = [_scan(folder / it) for it in places if it in scan]
    parts = {name: it for one in (*inner, scan) for name, it in one.items()}
    sizes = {
        name: it.st_size
        for name, it in parts.items()
        if not stat.S_ISDIR(it.st_mode) and name != LOG
    }
    is_whole = RECORD in scan and LOG in parts
    is_as_listed = is_whole and sum(sizes.values()) == listed
    yield StoreItem(
        kind=Kind.WHEEL,
        path=folder,
        size=_total_size(folder, scan),
        used=_last_use(scan),
        is_garbage=not is_as_listed and _is_broken(store, folder),
    )


def _last_use(scan: Mapping[str, os.stat_result]) -> float:
    """Return the newest modification time of a path and the files of a folder."""
    times = (
        status.st_mtime
        for name, status in scan.items()
        if name == _ITSELF or not stat.S_ISDIR(status.st_mode)
    )
    return max(times, default=0.0)


def _is_broken(store: Store, folder: Path) -> bool:
    """Whether no version finds a wheel; other versions may have other records."""
    try:
        record = read_json(folder / RECORD, reader.plain)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    if isinstance(record, dict):
        recipe = record.get("recipe")
        known = {*field_names(Recipe)}
        has_more = isinstance(recipe, dict) and not recipe.keys() <= known
        if has_more or record.get("format", FORMAT) != FORMAT:
            return False
    wheel = store.peek(folder.name)
    if wheel is None or not wheel.log.is_file():
        return True
    return not wheel.path.is_file() or wheel.path.stat().st_size != wheel.size


def _source_items(folder: Path) -> Iterator[StoreItem]:
    """Yield a downloaded file with the folder, and interrupted downloads."""
    files = []
    for path in _list(folder):
        if path.is_dir() and not path.is_symlink():
            yield _item(Kind.LEFTOVER, path, is_garbage=True)
        else:
            files.append(path)
    yield StoreItem(
        kind=Kind.SOURCE,
        path=folder,
        size=sum(map(disk_size, files)),
        used=_last_use(_scan(folder)),
        is_garbage=not files,
    )
