"""Limits on the size and age of a store, and the removal of everything beyond."""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from nox_buildstages.errors import UsageError
from nox_buildstages.indexes.url_secrets import redact
from nox_buildstages.store.inventory import (
    Kind,
    foreign_size,
    list_items,
)
from nox_buildstages.store.store import REMOVED_PREFIX
from nox_buildstages.system import files
from nox_buildstages.system.locks import (
    hold_lock,
    hold_shared_lock,
    list_holders,
    try_lock,
)
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nox_buildstages.store.inventory import StoreItem
    from nox_buildstages.store.store import Store

_COMMAND_LENGTH = 60
"""Characters of a command that a message shows."""


class Limits(Value):
    """The limits of a store."""

    older_than: int | None = None  # seconds since the last use of an item
    larger_than: int | None = None  # bytes; the least recently used items go first
    is_none: bool = False  # whether nothing stays


class PruneResult(Value):
    """The result of pruning a store."""

    removed: tuple[StoreItem, ...] = ()  # in a dry run, the items to remove
    left: tuple[StoreItem, ...] = ()
    foreign: int = 0  # bytes of foreign files in the store's folder
    failures: tuple[OSError, ...] = ()  # of items that can't be removed

    @property
    def freed(self) -> int:
        """The bytes of the removed items."""
        return sum(item.size for item in self.removed)

    @property
    def size(self) -> int:
        """The bytes of the store after pruning."""
        return sum(item.size for item in self.left) + self.foreign


def choose_items(
    items: Sequence[StoreItem], limits: Limits, *, now: float, fixed: int = 0
) -> tuple[StoreItem, ...]:
    """Return the items to remove, in order.

    First garbage and items that are too old, then trees of failed builds, then the
    least recently used items, until the rest is small enough. ``fixed`` bytes of the
    store can't be removed.
    """
    age = math.inf if limits.older_than is None else limits.older_than
    most = math.inf if limits.larger_than is None else limits.larger_than
    chosen: list[StoreItem] = []
    rest: list[StoreItem] = []
    for item in items:
        is_old = limits.is_none or now - item.used > age
        (chosen if item.is_garbage or is_old else rest).append(item)
    size = fixed + sum(item.size for item in rest)
    for item in sorted(rest, key=lambda it: (it.kind is not Kind.FAILED, it.used)):
        if size > most:
            size -= item.size
            chosen.append(item)
    return tuple(chosen)


def prune(
    store: Store, limits: Limits, *, report: Callable[[str], None], is_dry: bool = False
) -> PruneResult:
    """Remove garbage and the items beyond the limits from a store.

    Pruning waits until no session uses the store; a dry run only chooses the items.

    Raises:
        UsageError: A session in the store waits for this process.
    """
    if not store.folder.is_dir():
        return PruneResult()
    with ExitStack() as stack:
        try:
            hold = hold_shared_lock if is_dry else hold_lock
            stack.enter_context(
                hold(store.users_lock, on_wait=lambda: report(_describe_wait(store)))
            )
        except OSError as error:
            # On a full disk that lacks the lock's file no session can hold the lock.
            if error.errno not in files.FULL_DISK:
                raise
        if not is_dry:
            with suppress(OSError):  # a full disk
                store.prune_mark.touch()
                stack.callback(store.prune_mark.unlink, missing_ok=True)
        candidates = dict.fromkeys(list_items(store))
        foreign, now = foreign_size(store), time.time()
        removed: list[StoreItem] = []
        locked: list[StoreItem] = []
        failures: list[OSError] = []
        # If an item turns out to be locked, another one may have to go in its place.
        while chosen := choose_items(
            [*candidates],
            limits,
            now=now,
            fixed=foreign + sum(item.size for item in locked),
        ):
            for item in chosen:
                del candidates[item]
                try:
                    is_removed = is_dry or _remove(item)
                except OSError as error:
                    failures.append(error)
                    is_removed = False
                (removed if is_removed else locked).append(item)
    return PruneResult(
        removed=tuple(removed),
        left=(*locked, *candidates),
        foreign=foreign,
        failures=tuple(failures),
    )


def _remove(item: StoreItem) -> bool:
    """Remove an item, unless a process holds the lock; return whether that worked.

    A folder gets another name first: an interrupted removal leaves no partial folder
    under the old name.
    """
    path = item.path
    with ExitStack() as stack:
        # A lock whose file is missing is free; a full disk has no room for the file.
        if item.lock is not None and item.lock.exists():
            lock = try_lock(item.lock)
            if lock is None:
                return False
            stack.callback(lock.release)
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return True
        with suppress(OSError):  # some file systems can't rename a folder
            path = path.rename(path.with_name(f"{REMOVED_PREFIX}{path.name}"))
        try:
            files.remove_tree(path)
        except OSError as error:  # some Pythons name no more than the file within
            raise OSError(error.errno, error.strerror, str(path)) from error
        return True


def _describe_wait(store: Store) -> str:
    """Describe the processes in a store; raise an error if a process waits for us."""
    holders = list_holders(store.users_lock)
    for pid in _ancestors():
        if pid in holders:
            raise UsageError(
                subject="build-stages-prune",
                problem=f"process {pid}, which uses the store, would wait for itself",
                hint="run this outside of other sessions:\n  nox -s build-stages-prune",
            )
    if not holders:
        return "waiting until no other machine or container uses the store"
    commands = (f"{_command_of(pid)} (process {pid})" for pid in holders)
    return f"waiting until these have ended: {', '.join(commands)}"


def _ancestors() -> Iterator[int]:
    """Yield this process, the parent process, and so on."""
    pid = os.getpid()
    while pid:
        yield pid
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return
        pid = int(fields.rpartition(")")[2].split()[1])


def _command_of(pid: int) -> str:
    """Return the command of a process on one line, without folders."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return "a process"
    words = " ".join(Path(it).name if it.startswith("/") else it for it in argv)
    return shorten(redact(words), _COMMAND_LENGTH, placeholder=" …")
