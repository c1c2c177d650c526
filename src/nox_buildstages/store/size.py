"""The size of a store, for a line at the end of a run; measured once a day."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from nox_buildstages import reader
from nox_buildstages.store.inventory import list_items
from nox_buildstages.store.listing import FOLDER
from nox_buildstages.store.store import DAY
from nox_buildstages.system import files
from nox_buildstages.system.documents import find_json
from nox_buildstages.text import format_size

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.store.store import Store

LARGE = 20 * 10**9
"""Bytes; a store that takes more is worth a line."""


def describe_large_store(store: Store) -> str:
    """Return a line about a store with much content; empty for a smaller store.

    The status of each file is read, at most once a day. So this is for runs after which
    something was built.
    """
    note = size_note(store)
    size = None
    with suppress(OSError, ValueError):
        if time.time() - note.stat().st_mtime < DAY:
            size = find_json(note, reader.count)
    if size is None:
        size = sum(item.size for item in list_items(store))
        files.keep_text(note, json.dumps(size))
    if size <= LARGE:
        return ""
    command = "nox -s build-stages-prune -- --larger-than 20GB"
    return f"the store takes {format_size(size)}; to limit it: {command}"


def size_note(store: Store) -> Path:
    """Return the file with the size at the last measurement."""
    return store.folder / FOLDER / "size.json"
