"""The remote store: wheels by key, on a disk or server shared by many machines."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from nox_buildstages import reader
from nox_buildstages.errors import (
    BuildStagesError,
    RemoteStoreUnreachableError,
    UsageError,
    WheelError,
)
from nox_buildstages.indexes.url_secrets import redact
from nox_buildstages.model import RemoteStore
from nox_buildstages.store.key import seal_values
from nox_buildstages.store.store import (
    LOG,
    RECORD,
    SALT,
    is_salt,
    load_record,
    make_salt,
)
from nox_buildstages.system.documents import read_json
from nox_buildstages.system.files import (
    TEMPORARY,
    sha256_of,
    temporary_folder,
    write_text,
)
from nox_buildstages.system.machine import libc
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.model import Project
    from nox_buildstages.store.key import Recipe
    from nox_buildstages.store.remote_files import RemoteFiles
    from nox_buildstages.store.store import Store, StoredWheel

_LOG = logging.getLogger(__name__)

URL_VARIABLE = "NOX_BUILDSTAGES_REMOTE_STORE"
WRITE_VARIABLE = "NOX_BUILDSTAGES_REMOTE_STORE_WRITE"

_READ = "read"
_WRITE = "written to"
_CONSEQUENCES = {
    _READ: "this run continues without it",
    _WRITE: "the wheels of this run stay in the local store",
}
_SHA256 = re.compile("[0-9a-f]{64}")
_LARGEST = 10**12
"""Bytes of a wheel."""


class Remote(Value):
    """A shared store for wheels that the local store lacks.

    A folder named by the key has a record, which names a wheel by hash. The wheel and
    the log are in a folder named by the hash. The record is written last, so a reader
    finds the recorded wheel, even during a replacement.

    If the remote store can't be reached, the first process of a run to notice reports
    the failure, and the run continues without the remote store. All methods raise a
    ``UsageError`` if the driver for the URL isn't installed.
    """

    declared: RemoteStore
    store: Store  # the local store
    report: Callable[[str], None]
    run: str  # the id of this run of nox
    offline: str = ""  # see ``Indexes.offline``
    timeout: float = 30.0  # seconds for an answer
    libc: str = field(default_factory=libc)
    """The C library of this machine. No part of the key, because a machine has only
    one, so machines share wheels only if their C libraries are the same."""
    _opened: list[RemoteFiles] = field(default_factory=list)

    def check(self) -> None:
        """Check that the driver for the URL is installed, without connecting."""
        from nox_buildstages.store import remote_files  # noqa: PLC0415 - few have one

        remote_files.check_driver(self.declared.url)

    def peek(self, recipe: Recipe) -> StoredWheel | None:
        """Return the wheel of a recipe, unfetched, with paths in the local store."""
        if not self._is_off(_READ):
            with self._report_failure(_READ), suppress(WheelError):
                record = self._read_record(recipe)
                return None if record is None else self._load(recipe, record)
        return None

    def fetch(
        self, recipe: Recipe, *, check: Callable[[Path], object] = str
    ) -> StoredWheel | None:
        """Copy the wheel of a recipe into the local store, and return the copy.

        A damaged wheel, or another recipe's, counts as missing. So does a wheel for
        which ``check`` raises a WheelError, or that a newer version recorded. If
        several processes want the same wheel, only the first process fetches.
        """
        with self.store.hold_lock(recipe.key):
            wheel = self.store.find(recipe.key)
            if wheel is not None and not recipe.accepts(wheel.recipe):
                wheel = None
            if wheel is not None or self._is_off(_READ):
                return wheel
            started = time.monotonic()
            with self._report_failure(_READ):
                record = self._read_record(recipe)
                if record is None:
                    return None
                problem = "is damaged"
                try:
                    remote = self._load(recipe, record)
                    if remote is not None:
                        wheel = self._copy(remote, recipe, check)
                except WheelError as error:
                    problem = f"isn't used: {error.problem}"
                if wheel is None:
                    self.report(
                        f"the wheel of {recipe.name} in the remote store {problem};"
                        " building it"
                    )
                else:
                    source = f"{redact(self.declared.url)} in {_seconds(started)}"
                    self.report(f"fetched {wheel.path.name} from {source}")
            return wheel

    def put(self, wheel: StoredWheel, passed: Mapping[str, str]) -> None:
        """Copy a wheel to the remote store, if the project may write to the store.

        A record that a newer version wrote stays there.

        ``passed`` are the variables of ``pass-env``: the record has digests with the
        remote store's salt, so that all who use it can compare.
        """
        if not self.declared.write or self._is_off(_READ, _WRITE):
            return
        folder = self._folder(wheel.recipe)
        started = time.monotonic()
        with self._report_failure(_WRITE):
            remote = self._files()
            kept = remote.read(f"{folder}/{RECORD}")
            try:
                if kept is not None:
                    self._load(wheel.recipe, kept)
            except WheelError as error:
                self.report(
                    f"{wheel.path.name} isn't put into the remote store, which has a"
                    f" record {error.problem}"
                )
                return
            for file in (wheel.path, wheel.log):
                name = f"{folder}/{wheel.sha256}/{file.name}"
                remote.put(file, name, size=wheel.size)
            record = wheel.log.with_name(RECORD)
            with temporary_folder(TEMPORARY) as scratch:
                if passed:
                    document = read_json(record, reader.plain)
                    salt = self._salt(remote)
                    document["recipe"]["passed"] = seal_values(passed, salt)
                    record = scratch / RECORD
                    write_text(record, json.dumps(document, indent=1, sort_keys=True))
                remote.put(record, f"{folder}/{RECORD}", size=wheel.size)
            target = f"{redact(self.declared.url)} in {_seconds(started)}"
            self.report(f"put {wheel.path.name} into {target}")

    def _copy(
        self, remote: StoredWheel, recipe: Recipe, check: Callable[[Path], object]
    ) -> StoredWheel | None:
        """Copy a wheel into the local store; None unless the hash is the record's."""
        folder = self.store.folder / "builds"
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder("fetching-", folder) as scratch:
            wheel, log = scratch / remote.path.name, scratch / LOG
            for file in (wheel, log):
                name = f"{self._folder(remote.recipe)}/{remote.sha256}/{file.name}"
                self._files().fetch(name, file, size=remote.size)
            is_same = (
                log.is_file()
                and wheel.is_file()
                and wheel.stat().st_size == remote.size
                and sha256_of(wheel) == remote.sha256
            )
            if not is_same:
                return None
            check(wheel)
            return self.store.put(
                replace(recipe, unused=remote.recipe.unused),
                wheel,
                log=log,
                seconds=remote.seconds,
                run=remote.run,
                tree_size=remote.tree_size,
                memory=remote.memory,
                compiled=remote.compiled,
                compilers=remote.compilers,
            )

    def _read_record(self, recipe: Recipe) -> bytes | None:
        remote = self._files()
        record = remote.read(f"{self._folder(recipe)}/{RECORD}")
        state = "lacks" if record is None else "has"
        _LOG.debug("the remote store %s %s", state, recipe.key)
        # A writer starts with nothing; for a reader, a wrong URL looks the same.
        if record is None and not self.declared.write and not remote.exists():
            raise RemoteStoreUnreachableError(reason="nothing is there")
        return record

    def _load(self, recipe: Recipe, record: bytes) -> StoredWheel | None:
        """Return the wheel of a record from an untrusted author.

        None if the record describes another recipe's wheel, or has impossible values.

        Raises:
            WheelError: A newer version wrote the record. Others may use it, so nobody
                has to update.
        """
        try:
            wheel = load_record(record, self.store.wheel_folder(recipe.key))
        except BuildStagesError as error:
            raise WheelError(subject=recipe.name, problem=error.problem) from None
        if wheel is None:
            return None
        try:
            name, version, _, _ = parse_wheel_filename(wheel.path.name)
        except InvalidWheelFilename:
            return None
        is_sound = (
            recipe.equals_foreign(wheel.recipe)
            and recipe.accepts(wheel.recipe)
            and (name, version) == (wheel.name, wheel.version)
            and isinstance(wheel.size, int)
            and 0 < wheel.size < _LARGEST
            and isinstance(wheel.seconds, (int, float))
            and isinstance(wheel.sha256, str)
            and _SHA256.fullmatch(wheel.sha256) is not None
            and isinstance(wheel.run, str)
        )
        return wheel if is_sound else None

    def _salt(self, remote: RemoteFiles) -> str:
        """Return the remote store's salt; the first machine to write makes it."""
        for _ in range(2):
            salt = (remote.read(SALT) or b"").decode("ascii", "replace")
            if is_salt(salt):
                return salt
            remote.create(SALT, make_salt().encode())
        raise RemoteStoreUnreachableError(reason=f"its file {SALT} is damaged")

    def _folder(self, recipe: Recipe) -> str:
        libc = "any" if recipe.has_no_compilers else self.libc
        return f"wheels/{libc}/{recipe.key}"

    def _files(self) -> RemoteFiles:
        url = self.declared.url
        if self.offline and "://" in url and not url.startswith("file:"):
            reason = f"the network is off: {self.offline}"
            raise RemoteStoreUnreachableError(reason=reason)
        if not self._opened:
            from nox_buildstages.store import remote_files  # noqa: PLC0415 - few have one

            self._opened.append(remote_files.open_url(url, timeout=self.timeout))
        return self._opened[0]

    @contextmanager
    def _report_failure(self, action: str) -> Iterator[None]:
        """Report the store's failure once in a run, and then avoid the store."""
        try:
            yield
        except RemoteStoreUnreachableError as error:
            mark = self._failure_mark(action)
            mark.parent.mkdir(parents=True, exist_ok=True)
            try:
                mark.touch(exist_ok=False)
            except FileExistsError:
                return
            self.report(
                f"the remote store {redact(self.declared.url)} can't be {action}"
                f" ({error.reason}); {_CONSEQUENCES[action]}"
            )

    def _is_off(self, *actions: str) -> bool:
        return any(self._failure_mark(action).exists() for action in actions)

    def _failure_mark(self, action: str) -> Path:
        """Return the file that exists if an action has failed in this run."""
        url = hashlib.sha256(self.declared.url.encode()).hexdigest()[:16]
        name = f"remote-{url}-{action.partition(' ')[0]}-{self.run}.run"
        return self.store.folder / "locks" / name


def choose_remote_store(
    project: Project, outer: Mapping[str, str]
) -> RemoteStore | None:
    """Return the remote store of the environment or the table, with an absolute path.

    The environment wins. The table's permission to write is for the table's own store.

    Raises:
        UsageError: A variable has an invalid value.
    """
    declared = project.remote_store
    url = outer.get(URL_VARIABLE)
    if url is not None:
        declared = RemoteStore(url=url.strip()) if url.strip() else None
    write = outer.get(WRITE_VARIABLE)
    if write not in (None, "", "0", "1"):
        raise UsageError(
            problem=f"{WRITE_VARIABLE} is {write!r}",
            hint="set it to 1 to put wheels into the remote store, or to 0",
        )
    if declared is None:
        return None
    if "://" not in declared.url:
        path = os.path.normpath(project.root / declared.url)
        declared = replace(declared, url=path)
    return replace(declared, write=write == "1") if write else declared


def _seconds(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"
