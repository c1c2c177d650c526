"""The changes of a source tree by a person, as a patch.

Files that a build has written are noted, so they don't count.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages import reader
from nox_buildstages.errors import CommandError
from nox_buildstages.system.documents import find_json
from nox_buildstages.system.files import TEMPORARY, read_file, temporary_folder, walk
from nox_buildstages.system.process import Command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nox_buildstages.system.process import Runner

Stamps: TypeAlias = "dict[str, list[int] | None]"
"""Size, time and mode of files by relative path; None for a file that is missing."""

_IGNORED = frozenset({".git", ".hg", ".svn", "__pycache__"})
_EDITORS = (".swp", ".swo", "~", ".orig", ".rej")
"""The ends of names of files that editors and patch write."""


def list_stamps(tree: Path) -> Stamps:
    """Return the stamps of all files and links below a folder."""
    found: Stamps = {}
    for folder, names, files in walk(tree):
        names[:] = [it for it in names if it not in _IGNORED]
        for name in files:
            path = f"{folder}/{name}"
            status = os.lstat(path)
            relative = os.path.relpath(path, tree)
            found[relative] = [status.st_size, status.st_mtime_ns, status.st_mode]
    return found


def note_made(note: Path, before: Stamps, after: Stamps) -> None:
    """Note the files that a build wrote or removed, in addition to those noted."""
    made = load_made(note) or {}
    for name in before.keys() | after.keys():
        if before.get(name) != after.get(name):
            made[name] = after.get(name)
    note.write_text(json.dumps(made), encoding="utf-8")


def load_made(note: Path) -> Stamps | None:
    """Return the noted files; None without a note."""
    stamp = reader.nullable(lambda it: [*reader.list_of(reader.integer)(it)])
    return find_json(note, reader.mapping_of(stamp))


def find_changes(original: Path, tree: Path, made: Mapping[str, object]) -> list[str]:
    """Return the files that differ from the original, except as noted."""
    before, after = list_stamps(original), list_stamps(tree)
    return [
        name
        for name in sorted(before.keys() | after.keys())
        if not name.endswith(_EDITORS)
        if name not in made or made[name] != after.get(name)
        if not _are_equal(original / name, tree / name)
    ]


def _are_equal(old: Path, new: Path) -> bool:
    """Whether two files, or links, have the same content, executable or not."""
    if old.is_symlink() or new.is_symlink():
        both = old.is_symlink() and new.is_symlink()
        return both and old.readlink() == new.readlink()
    if not (old.is_file() and new.is_file()):
        return False
    modes = (it.stat().st_mode & 0o100 for it in (old, new))
    return len({*modes}) == 1 and filecmp.cmp(old, new, shallow=False)


def is_source(original: Path, tree: Path, name: str) -> bool:
    """Whether a changed file belongs into a patch.

    A new file does if it is text in a folder of the source: commands such as make
    leave others.
    """
    if os.path.lexists(original / name):
        return True
    if not (original / name).parent.is_dir():
        return False
    try:
        return b"\0" not in read_file(tree / name)
    except OSError:  # a link that leads nowhere
        return False


def find_roots(original: Path, names: Iterable[str]) -> Iterator[str]:
    """Yield the files, or the topmost new folder of each, once."""
    seen = set()
    for name in names:
        parents = [str(it) for it in reversed(PurePosixPath(name).parents)][1:]
        new = (f"{it}/" for it in parents if not (original / it).is_dir())
        root = next(new, name)
        if root not in seen:
            seen.add(root)
            yield root


def make_patch(
    original: Path, tree: Path, names: Iterable[str], runner: Runner
) -> bytes:
    """Return a patch with the changes of some files, with the paths ``a/`` and ``b/``.

    Raises:
        CommandError: git can't be started, or fails.
    """
    with temporary_folder(TEMPORARY) as scratch:
        for side, top in (("a", original), ("b", tree)):
            (scratch / side).mkdir()
            for name in names:
                if os.path.lexists(top / name):
                    copy = scratch / side / name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(top / name, copy, follow_symlinks=False)
        output = scratch / "patch"
        options = ("--no-index", "--no-prefix", "--binary", f"--output={output}")
        command = Command(
            argv=("git", "diff", *options, "a", "b"),
            cwd=scratch,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(scratch),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CEILING_DIRECTORIES": str(scratch),
            },
        )
        completed = runner(command)
        if completed.returncode != 1:  # different
            raise CommandError(
                command=str(command),
                reason=f"exit status {completed.returncode}",
                output=completed.stderr,
            )
        return read_file(output)
