"""A store behind the store: wheels by key, on a disk or a server that many share."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from nox_buildstages.errors import RemoteStoreUnreachableError
from nox_buildstages.indexes.logins import redact
from nox_buildstages.store import remote_files as objects
from nox_buildstages.store.remote_files import PATIENCE
from nox_buildstages.store.store import LOG, RECORD, load_record
from nox_buildstages.system import files
from nox_buildstages.system.files import sha256_of
from nox_buildstages.system.machine import libc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nox_buildstages.model import RemoteStore
    from nox_buildstages.store.key import Recipe
    from nox_buildstages.store.remote_files import Objects
    from nox_buildstages.store.store import Store, StoredWheel

_READING = "reading"
_WRITING = "writing"
_AWAY = {
    _READING: "is away ({reason}); this run goes on without it",
    _WRITING: "takes nothing ({reason}); what this run builds stays here",
}
_SHA256 = re.compile("[0-9a-f]{64}")
_LARGEST = 10**12
"""Bytes of a wheel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A store that is asked for what the store here hasn't.

    In a folder named by the key, a record names a wheel by its hash; the wheel and
    its log are in a folder named by that. The record is written last: who reads it
    finds the wheel that it names, even while another one takes its place.

    Where it is away, that is told once in a run of nox, and the run goes on.

    Attributes:
        declared: Where it is, and what is allowed.
        store: To which it adds.
        report: Tells the user.
        run: Identifies this run of nox, all of its processes.
        patience: Seconds that it may take to answer.
        libc: The C library of this machine. It is no part of the key, for one machine
            has one; wheels are shared with those that have the same.
    """

    declared: RemoteStore
    store: Store
    report: Callable[[str], None]
    run: str
    patience: float = PATIENCE
    libc: str = field(default_factory=libc)
    _opened: list[Objects] = field(default_factory=list)

    def check(self) -> None:
        """See that there is a driver for it; it isn't asked for anything.

        Raises:
            UsageError: There is none.
        """
        objects.check(self.declared.url)

    def peek(self, recipe: Recipe) -> StoredWheel | None:
        """Return what it says of a wheel, which isn't looked at.

        The entry's files are where they will be once they are in the store.

        Raises:
            UsageError: There is no driver for it.
        """
        if not self._is_off(_READING):
            with self._going_on_without(_READING):
                record = self._record(recipe)
                return None if record is None else self._entry(recipe, record)
        return None

    def fetch(self, recipe: Recipe) -> StoredWheel | None:
        """Put a wheel that it has into the store; None where it has none.

        A wheel that isn't sound, or isn't of the recipe, is none. Of several
        processes that want the same one, one fetches it.

        Raises:
            UsageError: There is no driver for it.
        """
        with self.store.hold_lock(recipe.key):
            found = self.store.find(recipe.key)
            if found is None and not self._is_off(_READING):
                found = self._fetch(recipe)
            return found

    def put(self, wheel: StoredWheel) -> None:
        """Put a wheel of the store there, where that is allowed.

        Raises:
            UsageError: There is no driver for it.
        """
        if not self.declared.write or self._is_off(_READING, _WRITING):
            return
        place = self._place(wheel.recipe)
        started = time.monotonic()
        with self._going_on_without(_WRITING):
            there = self._objects()
            for file in (wheel.path, wheel.log):
                name = f"{place}/{wheel.sha256}/{file.name}"
                there.put(file, name, size=wheel.size)
            record = wheel.log.with_name(RECORD)
            there.put(record, f"{place}/{RECORD}", size=wheel.size)
            self.report(f"put {wheel.path.name} into {self._named(started)}")

    def _fetch(self, recipe: Recipe) -> StoredWheel | None:
        started = time.monotonic()
        with self._going_on_without(_READING):
            record = self._record(recipe)
            if record is None:
                return None
            announced = self._entry(recipe, record)
            entry = None if announced is None else self._take(announced)
            if entry is None:
                self.report(
                    f"the remote store's wheel of {recipe.name} is damaged; it is built"
                )
                return None
            name = entry.path.name
            self.report(f"fetched {name} from {self._named(started)}")
            return entry
        return None

    def _take(self, announced: StoredWheel) -> StoredWheel | None:
        """Take a wheel into the store; None where it isn't the one announced."""
        place = f"{self._place(announced.recipe)}/{announced.sha256}"
        with self._scratch() as scratch:
            wheel, log = scratch / announced.path.name, scratch / LOG
            for file in (wheel, log):
                name = f"{place}/{file.name}"
                self._objects().fetch(name, file, size=announced.size)
            if not (log.is_file() and _is_same(wheel, announced)):
                return None
            return self.store.put(
                announced.recipe,
                wheel,
                log=log,
                seconds=announced.seconds,
                run=announced.run,
            )

    def _record(self, recipe: Recipe) -> bytes | None:
        there = self._objects()
        record = there.read(f"{self._place(recipe)}/{RECORD}")
        # Who may write begins with nothing; for others a wrong URL looks like that.
        if record is None and not self.declared.write and not there.is_there():
            raise RemoteStoreUnreachableError(reason="nothing is there")
        return record

    def _entry(self, recipe: Recipe, record: bytes) -> StoredWheel | None:
        """Return what a record says, where it is of a recipe and whole."""
        entry = load_record(record, self.store.wheel_folder(recipe.key))
        return entry if entry is not None and _is_of(recipe, entry) else None

    def _place(self, recipe: Recipe) -> str:
        return f"wheels/{self.libc}/{recipe.key}"

    def _objects(self) -> Objects:
        if not self._opened:
            url = self.declared.url
            self._opened.append(objects.opened(url, patience=self.patience))
        return self._opened[0]

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        folder = self.store.folder / "builds"
        folder.mkdir(parents=True, exist_ok=True)
        # A driver that hangs may write something yet.
        with tempfile.TemporaryDirectory(
            prefix="fetching-", dir=folder, ignore_cleanup_errors=True
        ) as scratch:
            yield Path(scratch)

    @contextmanager
    def _going_on_without(self, doing: str) -> Iterator[None]:
        """Tell that it is away, once in a run, and don't ask it again."""
        try:
            yield
        except RemoteStoreUnreachableError as error:
            with self.store.hold_lock(self._name):
                if self._is_off(doing):
                    return
                files.write_text(self._stamp(doing), self.run)
            words = _AWAY[doing].format(reason=error.reason)
            self.report(f"the remote store {redact(self.declared.url)} {words}")

    def _is_off(self, *doing: str) -> bool:
        return any(map(self._was_away, doing))

    def _was_away(self, doing: str) -> bool:
        try:
            return self._stamp(doing).read_text(encoding="utf-8") == self.run
        except OSError:
            return False

    def _stamp(self, doing: str) -> Path:
        """Return the file that says in which run it was away last."""
        return self.store.folder / "locks" / f"{self._name}.{doing}"

    @property
    def _name(self) -> str:
        digest = hashlib.sha256(self.declared.url.encode()).hexdigest()
        return f"remote-{digest[:16]}"

    def _named(self, started: float) -> str:
        seconds = time.monotonic() - started
        return f"{redact(self.declared.url)} in {seconds:.1f} s"


def _is_of(recipe: Recipe, entry: StoredWheel) -> bool:
    """Whether an entry that someone else wrote is of a recipe, and its fields sound."""
    wheel = entry
    try:
        name, version, _, _ = parse_wheel_filename(wheel.path.name)
    except InvalidWheelFilename:
        return False
    return (
        entry.recipe.key == recipe.key
        and (name, version) == (wheel.name, wheel.version)
        and isinstance(wheel.size, int)
        and 0 < wheel.size < _LARGEST
        and isinstance(wheel.seconds, (int, float))
        and isinstance(wheel.sha256, str)
        and _SHA256.fullmatch(wheel.sha256) is not None
        and isinstance(entry.run, str)
    )


def _is_same(file: Path, wheel: StoredWheel) -> bool:
    return (
        file.is_file()
        and file.stat().st_size == wheel.size
        and sha256_of(file) == wheel.sha256
    )
