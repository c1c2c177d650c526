"""Bounding the store: what goes, and its removal beside sessions at work."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nox_buildstages.store import in_use as presence
from nox_buildstages.store.in_use import DAY
from nox_buildstages.store.inventory import GONE, Kind, StoreItem, beside, inventory
from nox_buildstages.system import files
from nox_buildstages.system.locks import taken
from nox_buildstages.text import align, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from nox_buildstages.store.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What may stay.

    Attributes:
        older_than: Seconds; what wasn't used for so long goes.
        larger_than: Bytes; what was used longest ago goes until no more are left.
    """

    older_than: int | None = None
    larger_than: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What became of a store.

    Attributes:
        removed: Gone, or to go.
        left: All others, those that can't be removed among them.
        beside: Bytes of what isn't ours.
        since: When the first session at work began; None where none is.
        failures: What the system said of those that can't be removed.
    """

    removed: tuple[StoreItem, ...] = ()
    left: tuple[StoreItem, ...] = ()
    beside: int = 0
    since: float | None = None
    failures: tuple[OSError, ...] = ()

    @property
    def freed(self) -> int:
        """The bytes that are, or would be, free again."""
        return sum(thing.size for thing in self.removed)

    @property
    def held(self) -> int:
        """The bytes that are left."""
        return sum(thing.size for thing in self.left) + self.beside


def choose(
    things: Sequence[StoreItem], limits: Limits, *, now: float, beside: int = 0
) -> tuple[StoreItem, ...]:
    """Return what goes, in the order in which it is to go.

    That is garbage, what wasn't used for long, then whatever else was used longest
    ago, until the rest is small enough.

    Args:
        things: That may be removed.
        limits: For what stays.
        now: In seconds since the epoch.
        beside: Bytes that stay whatever is chosen.
    """
    age = math.inf if limits.older_than is None else limits.older_than
    most = math.inf if limits.larger_than is None else limits.larger_than
    going: list[StoreItem] = []
    staying: list[StoreItem] = []
    for thing in things:
        is_old = now - thing.used > age
        (going if thing.is_garbage or is_old else staying).append(thing)
    left = beside + sum(thing.size for thing in staying)
    for thing in sorted(staying, key=lambda thing: thing.used):
        if left > most:
            left -= thing.size
            going.append(thing)
    return tuple(going)


def prune(
    store: Store,
    limits: Limits,
    *,
    run: str,
    waiting: Callable[[], None],
    is_dry: bool = False,
) -> Pruned:
    """Remove from a store what nobody needs, and what exceeds its limits.

    What a session at work may need stays, and what someone has locked. Nothing is
    written, so that it works on a full disk.

    Args:
        store: To be pruned.
        limits: For what stays.
        run: Our run of nox.
        waiting: Called once, where another one prunes for long.
        is_dry: Only choose.
    """
    if not store.folder.is_dir():
        return Pruned()
    with ExitStack() as stack:
        try:
            stack.enter_context(presence.gate(store.folder, waiting))
        except OSError as error:
            if error.errno not in files.FULL_DISK:  # no session could begin there
                raise
        since = presence.at_work_since(store.folder, run=run)
        return _pruned(store, limits, since, is_dry=is_dry)


def _pruned(
    store: Store, limits: Limits, since: float | None, *, is_dry: bool
) -> Pruned:
    things, others, now = [*inventory(store)], beside(store), time.time()
    removed: list[StoreItem] = []
    failures: list[OSError] = []
    kept = [thing for thing in things if _may_be_needed(thing, since)]
    candidates = dict.fromkeys(it for it in things if not _may_be_needed(it, since))

    def chosen() -> tuple[StoreItem, ...]:
        held = others + sum(thing.size for thing in kept)
        return choose([*candidates], limits, now=now, beside=held)

    # What turns out to be locked stays, and something else may have to go for it.
    while going := chosen():
        for thing in going:
            del candidates[thing]
            try:
                is_gone = is_dry or _remove(thing, is_alone=since is None)
            except OSError as error:
                failures.append(error)
                is_gone = False
            (removed if is_gone else kept).append(thing)
    return Pruned(
        removed=tuple(removed),
        left=(*kept, *candidates),
        beside=others,
        since=since,
        failures=tuple(failures),
    )


def _may_be_needed(thing: StoreItem, since: float | None) -> bool:
    """Whether sessions at work may need something: see ``presence``."""
    return since is not None and (thing.kind is Kind.LOCK or thing.used > since - DAY)


def _remove(thing: StoreItem, *, is_alone: bool) -> bool:
    """Remove something, and return whether nobody had it locked.

    Where nobody is at work, what isn't there isn't locked: a full disk may have no
    room for it.
    """
    with ExitStack() as held:
        for path in thing.locks:
            if is_alone and not path.exists():
                continue
            lock = taken(path)
            if lock is None:
                return False
            held.callback(lock.release)
        _discard(thing.path)
    return True


def _discard(path: Path) -> None:
    """Remove a file, a link, or a folder.

    A folder gets another name first: what a killed process leaves of it is never taken
    for the whole. Some file systems can't do that.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with suppress(OSError):
        path = path.rename(path.with_name(f"{GONE}{path.name}"))
    try:
        files.remove_tree(path)
    except OSError as error:  # some Pythons name no more than the file within
        raise OSError(error.errno, error.strerror, str(path)) from error


def told(pruned: Pruned, limits: Limits, *, is_dry: bool) -> Iterator[str]:
    """Yield what became of the store: a line for each kind, then what is left."""
    head = ("", "to remove" if is_dry else "removed", "size", "left", "size")
    rows = [
        (kind.value, *_counted(kind, pruned.removed), *_counted(kind, pruned.left))
        for kind in Kind
        if any(it.kind is kind for it in (*pruned.removed, *pruned.left))
    ]
    yield from align([head, *rows] if rows else [])
    freed, held = format_size(pruned.freed), format_size(pruned.held)
    if is_dry:
        yield f"would remove {freed}; the store would hold {held}"
    else:
        yield f"removed {freed}; the store holds {held} now"
    if pruned.since is not None:
        yield "sessions are at work: what they may need stays"
    if limits.larger_than is not None and pruned.held > limits.larger_than:
        yield f"more than {format_size(limits.larger_than)} can't be removed now"
    if limits == Limits():
        yield (
            "only what nobody needs was looked for; to bound the store:"
            " -- --older-than 30d, -- --larger-than 20GB, or both"
        )


def _counted(kind: Kind, things: Iterable[StoreItem]) -> tuple[str, str]:
    sizes = [thing.size for thing in things if thing.kind is kind]
    return str(len(sizes)), format_size(sum(sizes))
