"""The locks for one interpreter, kept in a file much faster to read than TOML.

The name of the file is the digest of everything with an effect on the result, so no
file is ever out of date. A file may be missing or damaged: then the lock files are
read. If nothing is to be installed, packages aren't parsed, because importing
`packaging.pylock` takes as long as all of our own modules.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import packaging
from packaging.utils import NormalizedName
from packaging.version import Version

from nox_buildstages import reader
from nox_buildstages.lock.files.lockfile import (
    IndexPin,
    LockedOutput,
    Pin,
    StagePin,
    read_outputs,
    write_output,
)
from nox_buildstages.model import ArchiveSource
from nox_buildstages.store.key import digest_json
from nox_buildstages.store.store import note_use
from nox_buildstages.system.files import keep_text, read_text
from nox_buildstages.value import Value, to_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from packaging.pylock import Pylock

    from nox_buildstages.config.cells import Cells
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.model import Interpreter

_FOLDER = "selections"
"""The folder of the store for these files."""

_FORMAT = 2
"""A new number if the files, or the selection of entries for an interpreter, change."""

_DATE = "datetime"
"""The only key of a table that stands for a date, which JSON doesn't know."""


class SelectedLock(Value):
    """The part of a lock for one interpreter."""

    name: str
    inputs: str
    series: str
    declared: Mapping[str, str]
    outputs: tuple[LockedOutput, ...]
    pins: tuple[Pin, ...]
    packages: str  # PEP 751 as JSON
    # The files of all targets: paths from the lock's folder or the root, or URLs.
    local_wheels: tuple[str, ...]
    local_archives: tuple[str, ...]

    @property
    def pylock(self) -> Pylock:
        """The packages."""
        from packaging.pylock import Pylock  # noqa: PLC0415 - slow

        return Pylock.from_dict(json.loads(self.packages, object_hook=_decode))


def select_lock(lock: Lock, interpreter: Interpreter) -> SelectedLock:
    """Return the part of a lock for an interpreter.

    Raises:
        InvalidLockError: The lock is not for the interpreter.
    """
    from nox_buildstages.lock.files import pylock  # noqa: PLC0415 - slow
    from nox_buildstages.lock.files.document import list_pins  # noqa: PLC0415
    from nox_buildstages.lock.files.merge_targets import select_target  # noqa: PLC0415

    files = (
        file
        for package in lock.pylock.packages
        if pylock.providing_stage(package) is None
        for file in (*(package.wheels or ()), package.archive)
        if file is not None
    )
    sources = (output.source for output in lock.outputs)
    selected = select_target(lock, interpreter)
    return SelectedLock(
        name=lock.name,
        inputs=lock.inputs,
        series=lock.series,
        declared=lock.declared,
        outputs=selected.outputs,
        pins=list_pins(selected, interpreter),
        packages=json.dumps(
            pylock.to_document(selected.pylock),
            default=lambda it: {_DATE: it.isoformat()},
        ),
        local_wheels=_list_local(file.path or file.url or "" for file in files),
        local_archives=_list_local(
            source.location for source in sources if isinstance(source, ArchiveSource)
        ),
    )


def _list_local(locations: Iterable[str]) -> tuple[str, ...]:
    return tuple(it for it in locations if "://" not in it or it.startswith("file:"))


def _to_json(lock: SelectedLock) -> dict[str, Any]:
    return {
        **to_dict(lock),
        "outputs": [*map(write_output, lock.outputs)],
        "pins": [
            (pin.name, str(pin.version), pin.sha256, None)
            if isinstance(pin, IndexPin)
            else (pin.name, str(pin.version), None, pin.stage)
            for pin in lock.pins
        ],
    }


def _from_json(table: Mapping[str, Any]) -> SelectedLock:
    pins: list[Pin] = []
    for it, text, sha256, stage in table["pins"]:
        name, version = NormalizedName(it), Version(text)
        pins.append(
            IndexPin(name=name, version=version, sha256=sha256)
            if stage is None
            else StagePin(name=name, version=version, stage=stage)
        )
    return SelectedLock(
        **{
            **table,
            "outputs": read_outputs(reader.Table(table), reader.text),
            "pins": tuple(pins),
            "local_wheels": tuple(table["local_wheels"]),
            "local_archives": tuple(table["local_archives"]),
        }
    )


class KeptText(Value):
    """A text in the store, in a file named by a digest of all inputs."""

    path: Path

    @classmethod
    def of(cls, store: Path, **known: object) -> KeptText:
        """Return the text that depends on some values, and on packaging."""
        known["packaging"] = packaging.__version__
        return cls(path=store / _FOLDER / f"{digest_json(known)}.json")

    def load(self) -> str | None:
        """Return the text; None if missing or damaged."""
        with suppress(OSError, ValueError):
            digest, _, text = read_text(self.path).partition("\n")
            if digest == _digest(text):
                note_use(self.path)
                return text
        return None

    def save(self, text: str) -> None:
        """Keep the text, unless the store is full or read-only."""
        keep_text(self.path, f"{_digest(text)}\n{text}")


class Selection(Value):
    """The interpreter for the locks, and the store for the result."""

    interpreter: Interpreter
    digest: str  # of the interpreter
    store: Path
    cells: Cells | None = None
    """The project, if nobody may have edited the lock files by hand."""

    def load(self, contents: Mapping[str, bytes]) -> dict[str, SelectedLock] | None:
        """Return the locks from lock files with these contents, by name, if kept."""
        for is_checked in (True,) if self.cells else (True, False):
            text = self._place(contents, is_checked=is_checked).load()
            with suppress(ValueError, LookupError, TypeError):
                tables = json.loads(text or "")
                return {name: _from_json(tables[name]) for name in contents}
        return None

    def save(
        self, contents: Mapping[str, bytes], locks: Mapping[str, SelectedLock]
    ) -> None:
        """Keep the locks selected from lock files with these contents."""
        tables = {name: _to_json(lock) for name, lock in locks.items()}
        place = self._place(contents, is_checked=self.cells is not None)
        place.save(json.dumps(tables))

    def _place(self, contents: Mapping[str, bytes], *, is_checked: bool) -> KeptText:
        return KeptText.of(
            self.store,
            format=_FORMAT,
            checked=is_checked,
            interpreter=self.digest,
            files={it: hashlib.sha256(contents[it]).hexdigest() for it in contents},
        )


def digest_interpreter(interpreter: Interpreter) -> str:
    """Return a digest of everything that a selection may depend on."""
    return digest_json({**to_dict(interpreter), "tags": [*map(str, interpreter.tags)]})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _decode(table: dict[str, Any]) -> object:
    is_date = len(table) == 1 and isinstance(table.get(_DATE), str)
    return datetime.fromisoformat(table[_DATE]) if is_date else table
