"""What a store holds, how much it takes, and when it was used last."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.store.in_use import FOLDER
from nox_buildstages.store.store import FORMAT, RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.store.store import Store

_KEY = re.compile("[0-9a-f]{64}")
GONE = ".gone-"
"""Begins the name that a folder has while it is removed."""

_LEFTOVERS = (".new-", "locking-", "fetching-", GONE)
_CLAIMS = "claims.lock"
"""What processes wait for before they may claim jobs: it must stay the same file."""


class Kind(Enum):
    """What there is in a store; the values are for tables."""

    WHEEL = "wheels"
    TREE = "half-built trees"
    SOURCE = "sources"
    MIRROR = "git mirrors"
    ANSWER = "answers of backends"
    INTERPRETER = "interpreters"
    COMPILERS = "compilers by way of a cache"
    LOG = "logs"
    LEFTOVER = "leftovers"
    LOCK = "lock files"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreItem:
    """Something in the store that is removed as a whole.

    Attributes:
        kind: Of it.
        path: A folder or a file.
        size: Bytes on disk.
        used: When it was used last, in seconds since the epoch.
        locks: Files that are locked by whoever changes it, or runs something in it.
        is_garbage: Whether nobody will ever use it.
    """

    kind: Kind
    path: Path
    size: int
    used: float
    locks: tuple[Path, ...] = ()
    is_garbage: bool = False


def inventory(store: Store) -> Iterator[StoreItem]:
    """Yield everything in a store that can be removed; no name but ours counts."""
    top = store.folder
    yield from _wheels(store)
    yield from _trees(store)
    yield from _sources(top)
    yield from _mirrors(top)
    yield from _files(top / "answers", Kind.ANSWER, ".json")
    yield from _files(top / "interpreters", Kind.INTERPRETER, ".json")
    yield from _files(top / "logs", Kind.LOG, ".log")
    yield from _compilers(top)
    yield from _locks(top)


def beside(store: Store) -> int:
    """Return the bytes of what others keep in the folder of a store."""
    ours = {"wheels", "builds", "sources", "git", "answers", "interpreters", "logs"}
    ours |= {"compilers", "here", "locks", "jobs", FOLDER}
    return sum(size_of(it) for it in _listed(store.folder) if it.name not in ours)


def size_of(path: Path) -> int:
    """Return the bytes that a file or folder takes on disk.

    Of a file with several names it is a share, so that a clone and its mirror, which
    share files, aren't counted twice.
    """
    if path.is_symlink() or not path.is_dir():
        return _blocks(path)
    walked = os.walk(path)
    return sum(_blocks(Path(at, name)) for at, _, names in walked for name in names)


def _blocks(path: Path) -> int:
    try:
        status = path.lstat()
    except OSError:  # removed by its owner just now
        return 0
    return status.st_blocks * 512 // max(status.st_nlink, 1)


def _used(path: Path) -> float:
    """Return the newest time of change of a path and of the files right in it."""
    within = () if path.is_symlink() else _listed(path)
    return max(map(_changed, (path, *(it for it in within if not it.is_dir()))))


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _thing(kind: Kind, path: Path, *locks: Path, is_garbage: bool = False) -> StoreItem:
    return StoreItem(
        kind=kind,
        path=path,
        size=size_of(path),
        used=_used(path),
        locks=locks,
        is_garbage=is_garbage,
    )


def _garbage(kind: Kind, path: Path, *locks: Path) -> StoreItem:
    return _thing(kind, path, *locks, is_garbage=True)


def _is_broken(store: Store, folder: Path) -> bool:
    """Whether an entry is never found again; one of another format isn't ours."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    if isinstance(record, dict) and record.get("format", FORMAT) != FORMAT:
        return False
    wheel = store.peek(folder.name)
    if wheel is None or not wheel.log.is_file():
        return True
    return not wheel.path.is_file() or wheel.path.stat().st_size != wheel.size


def _wheels(store: Store) -> Iterator[StoreItem]:
    for path in _listed(store.folder / "wheels"):
        if _KEY.fullmatch(path.name):
            lock = _lock_of(store.folder, path)
            yield _thing(Kind.WHEEL, path, lock, is_garbage=_is_broken(store, path))
        elif path.name.startswith(_LEFTOVERS):
            yield _garbage(Kind.LEFTOVER, path)


def _trees(store: Store) -> Iterator[StoreItem]:
    for path in _listed(store.folder / "builds"):
        if _KEY.fullmatch(path.name):
            lock = _lock_of(store.folder, path)
            yield _thing(Kind.TREE, path, lock, store.processes_lock(path.name))
        elif path.name.startswith(_LEFTOVERS):
            yield _garbage(Kind.LEFTOVER, path)


def _lock_of(top: Path, path: Path) -> Path:
    """Return the lock of whoever builds the wheel of a key."""
    return top / "locks" / f"{path.name}.lock"


def _sources(top: Path) -> Iterator[StoreItem]:
    for path in _listed(top / "sources"):
        if _KEY.fullmatch(path.name):
            yield from _source(path)
        elif path.name.startswith(_LEFTOVERS):
            yield _garbage(Kind.LEFTOVER, path)


def _source(folder: Path) -> Iterator[StoreItem]:
    """Yield a fetched file with its folder, and what was on its way when killed."""
    within = _listed(folder)
    downloads = [path for path in within if path.is_dir() and not path.is_symlink()]
    yield from (_garbage(Kind.LEFTOVER, path) for path in downloads)
    files = [path for path in within if path not in downloads]
    yield StoreItem(
        kind=Kind.SOURCE,
        path=folder,
        size=sum(map(_blocks, files)),
        used=_used(folder),
        is_garbage=not files,
    )


def _mirrors(top: Path) -> Iterator[StoreItem]:
    for path in _listed(top / "git"):
        if _KEY.fullmatch(path.name):
            yield _thing(Kind.MIRROR, path, path.with_name(f"{path.name}.lock"))
        elif path.name.startswith(_LEFTOVERS):
            yield _garbage(Kind.LEFTOVER, path)
        elif path.suffix == ".lock":
            yield _garbage(Kind.LOCK, path, path)


def _compilers(top: Path) -> Iterator[StoreItem]:
    for path in _listed(top / "compilers"):
        if path.name.startswith(_LEFTOVERS):
            yield _garbage(Kind.LEFTOVER, path)
        elif path.is_dir():
            yield _thing(Kind.COMPILERS, path)


def _files(folder: Path, kind: Kind, suffix: str) -> Iterator[StoreItem]:
    for path in _listed(folder):
        if path.name.startswith("."):  # was to take the place of another
            yield _garbage(Kind.LEFTOVER, path)
        elif path.suffix == suffix:
            yield _thing(kind, path)


def _locks(top: Path) -> Iterator[StoreItem]:
    """Yield what processes need to get along, and nobody when none runs."""
    for place in (top / "locks", *_listed(top / "jobs")):
        for path in _listed(place):
            if path.name.startswith(".") or path.suffix == ".run":
                yield _garbage(Kind.LOCK, path)
            elif path.suffix in {".json", ".lock"} and path.name != _CLAIMS:
                yield _garbage(Kind.LOCK, path, path.with_suffix(".lock"))
