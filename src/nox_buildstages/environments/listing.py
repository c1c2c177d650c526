"""List the files of an environment, to notice every change.

A listing has every file, link and folder, except our own notes at the top and the
folders for our own work. Equal modes, sizes, times and inodes mean that nothing has
changed. Otherwise the contents decide: RECORD has the hashes of most files, and the
listing has those of all others.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from nox_buildstages import reader
from nox_buildstages.environments.packages import FILES_NOTE, list_files
from nox_buildstages.system.documents import find_json
from nox_buildstages.system.files import sha256_of, write_text
from nox_buildstages.text import diff
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nox_buildstages.environments.environment import Environment

Entry: TypeAlias = str
"""Mode, size, modification time, inode and time of the last change of a file; the mode
of a folder; the mode and the target of a link. Words, the mode as an octal number."""

SECOND_BUILD_FOLDER = "second-build"
"""The folder in an environment for a second build that differs from the first."""

PROJECT_FOLDER = "project"
"""The folder in an environment for the editable wheel of the project itself."""

PRIVATE_FOLDER = "private"
"""The folder in an environment for the copy that a build may change."""

OWN_FOLDERS = {SECOND_BUILD_FOLDER, PROJECT_FOLDER, PRIVATE_FOLDER, "tmp"}
"""Folders at the top of an environment that nox-buildstages and nox write to."""

_NOTE = re.compile(r"\.?(nox-buildstages|pylock)\b.*|\.lock")
"""The names of files at the top of an environment that nox-buildstages and uv write."""

_FORMAT = 1


class Listing(Value):
    """The files of an environment at one time."""

    python: str  # the program that the environment was made of
    entries: Mapping[str, Entry]  # by path; paths of folders end with a slash
    hashes: Mapping[str, str]  # as in RECORD, of files for which RECORD has none


def list_entries(location: Path) -> dict[str, Entry]:
    """Return all files, links and folders of an environment, except our own."""
    found: dict[str, Entry] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        # A path may be too long, or the folder closed: then its own entry is new.
        with suppress(OSError), os.scandir(f"{location}/{folder}") as entries:
            for entry in entries:
                name, status = folder + entry.name, entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    if folder or name not in OWN_FOLDERS:
                        found[f"{name}/"] = f"{status.st_mode:o}"
                        folders.append(f"{name}/")
                elif folder or not _NOTE.fullmatch(name):
                    found[name] = _make_entry(entry.path, status)
    return found


def list_notes(location: Path) -> dict[str, Entry]:
    """Return our own notes at the top of an environment."""
    with os.scandir(location) as entries:
        return {
            it.name: entry_of(it.path)
            for it in entries
            if _NOTE.fullmatch(it.name) and not it.is_dir(follow_symlinks=False)
        }


def take_listing(environment: Environment) -> Listing:
    """Return the files of an environment as they are."""
    location = environment.location
    entries, known = list_entries(location), _hashes_in_record(environment)
    return Listing(
        python=os.path.realpath(environment.python),
        entries=entries,
        hashes={
            name: _hash_file(location / name)
            for name, entry in entries.items()
            if stat.S_ISREG(mode_of(entry)) and name not in known
        },
    )


def save_listing(environment: Environment, listing: Listing) -> None:
    """Note the files of an environment, valid until packages are installed."""
    text = json.dumps(
        {
            "format": _FORMAT,
            "python": listing.python,
            "entries": listing.entries,
            "hashes": listing.hashes,
        }
    )
    write_text(environment.location / FILES_NOTE, text)


def load_listing(environment: Environment) -> Listing | None:
    """Return the noted files of an environment; None without a valid note."""

    def read(note: reader.Table) -> Listing | None:
        if note.get("format", reader.integer) != _FORMAT:
            return None
        texts = reader.mapping_of(str, key=str)  # names may be no UTF-8
        return Listing(
            python=note.get("python", reader.text),
            entries=note.get("entries", texts),
            hashes=note.get("hashes", texts),
        )

    return find_json(environment.location / FILES_NOTE, reader.table(read))


def is_as_noted(environment: Environment) -> bool:
    """Whether an environment is as it was noted, without a look at contents."""
    noted = load_listing(environment)
    return noted is not None and list_entries(environment.location) == noted.entries


def mode_of(entry: Entry) -> int:
    """Return the mode of an entry; 0 if it is empty."""
    return int(entry.partition(" ")[0] or "0", 8)


def compare_entries(
    before: Mapping[str, Entry], after: Mapping[str, Entry]
) -> dict[str, str]:
    """Return the changed paths, each with ``added``, ``removed`` or ``changed``."""
    return {
        name: "added" if old is None else "removed" if new is None else "changed"
        for name, old, new in diff(before, after)
    }


def find_changes(
    environment: Environment, before: Listing, entries: Mapping[str, Entry]
) -> dict[str, str]:
    """Return the changed paths, as ``compare_entries``, if the contents differ, too."""
    changes, known = compare_entries(before.entries, entries), dict[str, str]()
    for name in [it for it in changes if changes[it] == "changed"]:
        old, new = before.entries[name], entries[name]
        is_file = stat.S_ISREG(mode_of(new))
        if is_file and old.split()[:2] == new.split()[:2]:
            known = known or {**_hashes_in_record(environment), **before.hashes}
            with suppress(OSError):
                if known.get(name) == _hash_file(environment.location / name):
                    del changes[name]
    return changes


def entry_of(path: str) -> Entry:
    """Return the entry of a file or link."""
    return _make_entry(path, os.lstat(path))


def _make_entry(path: str, status: os.stat_result) -> Entry:
    mode = status.st_mode
    if not stat.S_ISLNK(mode):
        return (
            f"{mode:o} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
            f" {status.st_ctime_ns}"
        )
    found = f"{mode:o} {os.readlink(path)}"  # noqa: PTH115 - many
    if "site-packages" in path:  # with UV_LINK_MODE=symlink, to uv's cache
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116 - many
            if stat.S_ISREG(status.st_mode):
                found += f" {_make_entry(path, status)}"
    return found


def _hashes_in_record(environment: Environment) -> dict[str, str]:
    """Return the hashes in RECORD, by path in the environment."""
    listed: Any = list_files(environment).values()
    return {
        path: digest
        for files in listed
        for path, digest in files.items()
        if digest.startswith("sha256=")
    }


def _hash_file(path: Path) -> str:
    """Return the hash of a file, as in RECORD."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256_of(path))).decode()
    return f"sha256={digest.rstrip('=')}"
