"""The locks for one interpreter, kept in a file that is much faster to read than TOML.

The name of the file is the digest of everything that the result depends on, so no file
is ever out of date. A file may be missing or damaged: then the lock files are read.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import packaging

from nox_buildstages.errors import BuildStagesError
from nox_buildstages.lock.files.lockfile import read_document, write_document
from nox_buildstages.store.key import digest_json
from nox_buildstages.store.store import note_use
from nox_buildstages.system.files import write_text
from nox_buildstages.value import Value, to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.model import Interpreter

FOLDER = "selections"
"""The folder of the store for these files."""

_FORMAT = 1
"""A new number if the files, or the selection of entries for an interpreter, change."""

_DATE = "datetime"
"""The only key of a table that stands for a date, which JSON doesn't know."""


class Selection(Value):
    """The interpreter that locks are read for, and where the store keeps the result."""

    interpreter: Interpreter
    digest: str = ""  # of the interpreter
    folder: Path | None = None  # None if nothing is kept

    def load(self, contents: Mapping[str, bytes]) -> dict[str, Lock] | None:
        """Return the locks from lock files with these contents, by name, if kept."""
        if self.folder is None:
            return None
        path = self._path(self.folder, contents)
        with suppress(OSError, ValueError, LookupError, TypeError, BuildStagesError):
            digest, _, text = path.read_text(encoding="utf-8").partition("\n")
            if digest == _digest(text):
                note_use(path)
                documents = json.loads(text, object_hook=_decode)
                return {it: read_document(documents[it], name=it) for it in contents}
        return None

    def save(self, contents: Mapping[str, bytes], locks: Mapping[str, Lock]) -> None:
        """Keep the locks that were selected from lock files with these contents."""
        if self.folder is not None:
            documents = {name: write_document(lock) for name, lock in locks.items()}
            text = json.dumps(documents, default=_encode)
            with suppress(OSError):  # a store that is full or read-only
                path = self._path(self.folder, contents)
                write_text(path, f"{_digest(text)}\n{text}")

    def _path(self, folder: Path, contents: Mapping[str, bytes]) -> Path:
        known = {
            "format": _FORMAT,
            "packaging": packaging.__version__,
            "interpreter": self.digest,
            "files": {it: hashlib.sha256(contents[it]).hexdigest() for it in contents},
        }
        return folder / f"{digest_json(known)}.json"


def digest_interpreter(interpreter: Interpreter) -> str:
    """Return a digest of everything that a selection may depend on."""
    return digest_json({**to_dict(interpreter), "tags": [*map(str, interpreter.tags)]})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _encode(value: object) -> dict[str, str]:
    if not isinstance(value, date):
        raise TypeError(f"{value!r} is no date")
    return {_DATE: value.isoformat()}


def _decode(table: dict[str, Any]) -> object:
    is_date = len(table) == 1 and isinstance(table.get(_DATE), str)
    return datetime.fromisoformat(table[_DATE]) if is_date else table
