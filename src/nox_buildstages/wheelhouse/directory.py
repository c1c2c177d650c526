"""The wheelhouse: a folder of wheels, its manifest, and the bound lock."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from nox_buildstages.digests import sha256_of
from nox_buildstages.errors import WheelError
from nox_buildstages.files import replacing, stamp, write_text
from nox_buildstages.lock import pylock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.files import Stamp
    from nox_buildstages.model import BuiltWheel

MANIFEST = "build-stages.json"
BOUND_LOCK = "pylock.toml"
LOGS = "logs"
FORMAT = 1
"""Of the manifest."""

_FIELDS = frozenset(
    (
        *("name", "version", "file", "stage", "key", "sha256", "size", "seconds"),
        *("status", "source", "environment", "log"),
    )
)


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

    wheel: BuiltWheel
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
            before = {entry["name"]: entry for entry in self.manifest()}
            entries = {**before, **told}
            for delivery in deliveries:
                wheel = delivery.wheel
                _copy(wheel, self.folder / wheel.path.name)
                self._copy_log(wheel)
            self._write_manifest(entries.values())
            files = {entry["file"] for entry in entries.values()}
            for entry in before.values():
                if entry["file"] not in files:
                    (self.folder / entry["file"]).unlink(missing_ok=True)

    def _has(
        self, deliveries: Collection[Delivery], told: Mapping[str, dict[str, Any]]
    ) -> bool:
        """Whether all of it is here; then there is nothing to write or to wait for."""
        entries = {entry["name"]: entry for entry in self.manifest()}
        return all(
            entries.get(delivery.wheel.name) == told[delivery.wheel.name]
            and _is(delivery.wheel, self.folder / delivery.wheel.path.name)
            and _same(self._log(delivery.wheel), delivery.wheel.log)
            for delivery in deliveries
        )

    def keep_only(self, names: Collection[str]) -> None:
        """Remove the wheels that were delivered once and are no output any more."""
        with self.locked():
            entries = self.manifest()
            gone = [entry for entry in entries if entry["name"] not in names]
            for entry in gone:
                (self.folder / entry["file"]).unlink(missing_ok=True)
                (self.folder / entry["log"]).unlink(missing_ok=True)
            if gone:
                self._write_manifest(entry for entry in entries if entry not in gone)

    def exchange(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Let other wheels, which are here, take the places of those delivered.

        The next delivery puts these back. The folder has to be locked.

        Args:
            told: By project, what the manifest is to be told of the wheel otherwise.
        """
        before = self.manifest()
        self._write_manifest(
            {**entry, **told.get(entry["name"], {})} for entry in before
        )
        for entry in before:
            if entry["file"] != told.get(entry["name"], entry)["file"]:
                (self.folder / entry["file"]).unlink(missing_ok=True)

    def bind(self, lock: Pylock, wheels: Mapping[NormalizedName, BuiltWheel]) -> Path:
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
        bound = pylock.dumps(pylock.bind(lock, here, folder=self.folder))
        path = self.folder / BOUND_LOCK
        if not path.is_file() or path.read_text(encoding="utf-8") != bound:
            write_text(path, bound)
        return path

    def manifest(self) -> list[dict[str, Any]]:
        """Return what the manifest says of each wheel; nothing where there is none."""
        path = self.folder / MANIFEST
        try:
            return [*_entries(path, stamp(path))]
        except (OSError, ValueError, LookupError, TypeError):
            return []

    def _write_manifest(self, entries: Iterable[Mapping[str, Any]]) -> None:
        wheels = sorted(entries, key=lambda entry: str(entry["name"]))
        text = json.dumps({"format": FORMAT, "wheels": wheels}, indent=2) + "\n"
        write_text(self.folder / MANIFEST, text)

    def _copy_log(self, wheel: BuiltWheel) -> None:
        with replacing(self._log(wheel)) as new:
            shutil.copyfile(wheel.log, new)

    def _log(self, wheel: BuiltWheel) -> Path:
        return self.logs / f"{wheel.name}.log"

    def locked(self) -> FileLock:
        """Keep others from writing to the folder, which has to be there."""
        return FileLock(self.folder / ".lock")


@lru_cache(maxsize=4)
def _entries(manifest: Path, _stamp: Stamp) -> tuple[dict[str, Any], ...]:
    """Return what a manifest says; the sessions of a process mostly find it so."""
    wheels = json.loads(manifest.read_bytes())["wheels"]
    return tuple(entry for entry in wheels if _is_ours(entry))


def _is_ours(entry: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
    """Whether an entry of the manifest names files that can be those of a delivery."""
    if not isinstance(entry, dict) or not entry.keys() >= _FIELDS:
        return False
    path = PurePath(entry["file"])
    is_wheel = path.suffix == ".whl" and path.name == entry["file"]
    return is_wheel and entry["log"] == f"{LOGS}/{entry['name']}.log"


def _copy(wheel: BuiltWheel, path: Path) -> None:
    if _is(wheel, path):
        return
    with replacing(path) as new:
        shutil.copyfile(wheel.path, new)
        if sha256_of(new) != wheel.sha256:
            problem = "the store's copy isn't what was built"
            raise WheelError(wheel=path.name, problem=problem)


def _is(wheel: BuiltWheel, path: Path) -> bool:
    return path.is_file() and sha256_of(path) == wheel.sha256


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
        "log": f"{LOGS}/{wheel.name}.log",
    }
