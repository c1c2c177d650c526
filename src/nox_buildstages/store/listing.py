"""The list of all wheels in a store: one file, so that nobody reads all records.

The list is a hint, and only readers write it. A key is the digest of a recipe, so the
project of a key never changes: no entry of the list is ever wrong. A comparison with
the names of the wheels' folders shows which entries are missing or left over.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from nox_buildstages.errors import BuildStagesError
from nox_buildstages.store.store import RECORD
from nox_buildstages.system import files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nox_buildstages.store.store import Store

FOLDER, FILE = "lists", "wheels.json"
"""Another format of the list gets another file."""


class ListedWheel(NamedTuple):
    """An entry of the list."""

    name: str  # the project
    size: int  # bytes of the record and of the wheel


def read_list(store: Store) -> Mapping[str, ListedWheel]:
    """Return the list by key as some reader has left it; empty if it is damaged."""
    try:
        document = json.loads((store.folder / FOLDER / FILE).read_bytes())
        return {key: ListedWheel(*entry) for key, entry in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def list_wheels(store: Store) -> Mapping[str, ListedWheel]:
    """Return the list of all wheels by key, and write it if it was out of date."""
    listed, keys = read_list(store), store.keys()
    wheels = {key: listed[key] for key in keys & listed.keys()}
    for key in keys - listed.keys():
        # Another process may remove the wheel, and a newer version may have put it.
        with suppress(OSError, BuildStagesError):
            wheel = store.peek(key)
            if wheel is not None:
                record = (store.wheel_folder(key) / RECORD).stat()
                wheels[key] = ListedWheel(wheel.name, record.st_size + wheel.size)
    if wheels != listed:
        with suppress(OSError):  # the store is read-only, or the disk is full
            files.write_text(store.folder / FOLDER / FILE, json.dumps(wheels))
    return wheels
