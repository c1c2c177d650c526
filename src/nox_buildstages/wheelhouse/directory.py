"""The wheelhouse: a folder of wheels, its manifest, and the bound lock."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from nox_buildstages.errors import WheelError
from nox_buildstages.lock.files import pylock
from nox_buildstages.system.files import (
    atomic_write,
    file_stamp,
    remove_if_same,
    sha256_of,
    write_if_changed,
)
from nox_buildstages.wheelhouse import manifest
from nox_buildstages.wheelhouse.manifest import LOGS, MANIFEST, Manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.store.store import StoredWheel
    from nox_buildstages.system.files import FileStamp

BOUND_LOCK = "pylock.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A wheel on its way into the wheelhouse.

    Attributes:
        wheel: In the store.
        stage: That provides it.
        built: Whether it was built in this run; else it was found in the store.
        source: What it was built from, in words.
        environment: The versions that its stage's environment held, by project.
    """

    wheel: StoredWheel
    stage: str
    built: bool
    source: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wheelhouse:
    """A folder that several sessions, and several runs, may write to at once.

    Attributes:
        folder: Made when the first wheel comes.
    """

    folder: Path

    @property
    def logs(self) -> Path:
        """The folder of the builds' logs."""
        return self.folder / LOGS

    def deliver(self, deliveries: Iterable[Delivery]) -> list[dict[str, Any]]:
        """Put wheels and their logs into the folder, and tell the manifest.

        A wheel that is there already, by its hash, is left alone. Another version
        of an output, delivered before, goes.

        Returns:
            What the manifest was told of each; another run may tell it otherwise.

        Raises:
            WheelError: A wheel in the store isn't what it was.
        """
        deliveries = tuple(deliveries)
        told = {str(delivery.wheel.name): _entry(delivery) for delivery in deliveries}
        if not self._has(deliveries, told):
            self._take(deliveries, told)
        return [*told.values()]

    def _take(
        self, deliveries: Collection[Delivery], told: Mapping[str, dict[str, Any]]
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.locked():
            before = self.record()
            others = [it for it in before.wheels if it["name"] not in told]
            for delivery in deliveries:
                wheel = delivery.wheel
                copy(wheel.path, self.folder, sha256=wheel.sha256, keeper="the store")
                self._copy_log(wheel)
            after = replace(before, wheels=(*others, *told.values()), strange=())
            self.write_record(after)
            self.remove_gone(before, after)

    def _has(
        self, deliveries: Collection[Delivery], told: Mapping[str, dict[str, Any]]
    ) -> bool:
        """Whether all of it is here; then there is nothing to write or to wait for."""
        entries = [it for it in self.record().wheels if it["name"] in told]
        return len(entries) == len(told) and all(
            told[delivery.wheel.name] in entries
            and is_file(self.folder / delivery.wheel.path.name, delivery.wheel.sha256)
            and _same(self._log(delivery.wheel), delivery.wheel.log)
            for delivery in deliveries
        )

    def keep_only(self, names: Collection[str]) -> None:
        """Remove the wheels that were delivered once and are no output any more.

        What a merge brought is no output.
        """
        with self.locked():
            before = self.record()
            kept = tuple(it for it in before.wheels if it["name"] in names)
            after = Manifest(wheels=kept)
            if replace(before, strange=()) != after:
                self.forget_merge(before, after)

    def exchange(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Let other wheels, which are here, take the places of those delivered.

        The next delivery puts these back. The folder has to be locked.

        Args:
            told: By project, what the manifest is to be told of the wheel otherwise.
        """
        before = self.record()
        wheels = tuple({**it, **told.get(it["name"], {})} for it in before.wheels)
        after = replace(before, wheels=wheels)
        self.write_record(after)
        self.remove_gone(before, after)

    def bind(self, lock: Pylock, wheels: Mapping[NormalizedName, StoredWheel]) -> Path:
        """Write the final lock with each output bound to its wheel here.

        Args:
            lock: The final lock.
            wheels: In the store, of what the lock says that stages provide.

        Returns:
            The bound lock.
        """
        here = {
            name: replace(wheel, path=self.folder / wheel.path.name)
            for name, wheel in wheels.items()
        }
        bound = pylock.dump_pylock(pylock.bind_wheels(lock, here, folder=self.folder))
        path = self.folder / BOUND_LOCK
        write_if_changed(path, bound.encode())
        return path

    def manifest(self) -> list[dict[str, Any]]:
        """Return what the manifest says of each wheel; nothing where there is none."""
        return [dict(entry) for entry in self.record().wheels]

    def record(self) -> Manifest:
        """Return the manifest; an empty one where there is none, or it is damaged."""
        path = self.folder / MANIFEST
        try:
            return _read(path, file_stamp(path))
        except (OSError, ValueError):
            return Manifest()

    def write_record(self, record: Manifest) -> None:
        """Write the manifest, unless it says that already."""
        write_if_changed(self.folder / MANIFEST, manifest.dumps(record).encode())

    def remove_gone(self, before: Manifest, after: Manifest) -> None:
        """Remove the files that one manifest names, and the next one doesn't.

        What is no wheel and no log goes only as it came.
        """
        left = {*after.files(), *(after.merged or ())}
        for name in before.files():
            if name not in left:
                (self.folder / name).unlink(missing_ok=True)
        for name, sha256 in (before.merged or {}).items():
            if name not in left:
                remove_if_same(self.folder / name, sha256)

    def forget_merge(self, before: Manifest, after: Manifest) -> None:
        """Remove what a merge brought, and all that it made to publish the whole."""
        self.remove_gone(before, after)
        if before.merged is not None:
            from nox_buildstages.wheelhouse import publishing  # noqa: PLC0415 - rare

            publishing.withdraw(self.folder)
        self.write_record(after)

    def _copy_log(self, wheel: StoredWheel) -> None:
        with atomic_write(self._log(wheel)) as new:
            shutil.copyfile(wheel.log, new)

    def _log(self, wheel: StoredWheel) -> Path:
        return self.logs / f"{wheel.name}.log"

    def locked(self) -> FileLock:
        """Keep others from writing to the folder, which has to be there."""
        return FileLock(self._lock)

    def forget_lock(self) -> None:
        """Remove the file that stands for the lock, where nothing else is left."""
        if [*self.folder.iterdir()] == [self._lock]:
            self._lock.unlink()

    @property
    def _lock(self) -> Path:
        return self.folder / ".lock"


@lru_cache(maxsize=4)
def _read(path: Path, _stamp: FileStamp) -> Manifest:
    """Return what a manifest says; the sessions of a process mostly find it so."""
    return manifest.loads(path.read_bytes())


def copy(wheel: Path, folder: Path, *, sha256: str, keeper: str) -> None:
    """Copy a wheel into a folder, unless it is there.

    Raises:
        WheelError: It isn't of that hash any more, whoever keeps it.
    """
    path = folder / wheel.name
    if is_file(path, sha256):
        return
    with atomic_write(path) as new:
        shutil.copyfile(wheel, new)
        if sha256_of(new) != sha256:
            problem = f"the copy of {keeper} isn't what was built"
            raise WheelError(subject=path.name, problem=problem)


def is_file(path: Path, sha256: str) -> bool:
    """Whether there is a file of that hash."""
    return path.is_file() and sha256_of(path) == sha256


def _same(log: Path, kept: Path) -> bool:
    return log.is_file() and log.read_bytes() == kept.read_bytes()


def _entry(delivery: Delivery) -> dict[str, Any]:
    wheel = delivery.wheel
    return {
        "name": wheel.name,
        "version": str(wheel.version),
        "file": wheel.path.name,
        "stage": delivery.stage,
        "key": wheel.key,
        "sha256": wheel.sha256,
        "size": wheel.size,
        "seconds": wheel.seconds,
        "status": "built" if delivery.built else "cached",
        "source": delivery.source,
        "environment": dict(delivery.environment),
        "log": manifest.log_of_project(wheel.name),
    }
