"""The list of all wheels in a store: one file, so that nobody reads all records.

The list is a hint, and only readers write it. A key is the digest of a recipe, so the
project of a key never changes: no entry of the list is ever wrong. A comparison with
the names of the wheels' folders shows which entries are missing or left over.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages import reader
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.store.store import RECORD
from nox_buildstages.system import files
from nox_buildstages.system.documents import find_json

if TYPE_CHECKING:
    from nox_buildstages.store.store import Store

FOLDER, FILE = "lists", "wheels.json"
"""Another format of the list gets another file."""

Listing: TypeAlias = "dict[str, dict[str, int]]"
"""The bytes of record and wheel together, by project and key."""


def read_list(store: Store) -> Listing:
    """Return the list as it is; empty if it is missing or damaged."""
    path = store.folder / FOLDER / FILE
    sizes = reader.mapping_of(reader.count)
    return find_json(path, reader.mapping_of(sizes)) or {}


def list_wheels(store: Store) -> Listing:
    """Return the list after bringing it up to date."""
    listed, keys = read_list(store), store.keys()
    known = {key for wheels in listed.values() for key in wheels}
    if known == keys:
        return listed
    wheels: Listing = {}
    for name, sizes in listed.items():
        if left := {key: size for key, size in sizes.items() if key in keys}:
            wheels[name] = left
    for key in keys - known:
        # Another process may remove the wheel, and a newer version may have put it.
        with suppress(OSError, BuildStagesError):
            wheel = store.peek(key)
            if wheel is not None:
                record = (store.wheel_folder(key) / RECORD).stat()
                size = record.st_size + wheel.size
                wheels.setdefault(wheel.name, {})[key] = size
    if wheels != listed:
        files.keep_text(store.folder / FOLDER / FILE, json.dumps(wheels))
    return wheels
