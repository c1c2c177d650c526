"""Source folders: list the source files, hash them, copy them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.sources import git
from nox_buildstages.system.files import read_text, sha256_of, write_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from nox_buildstages.system.process import Runner

METADATA_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "PKG-INFO")
"""The files of a source tree, besides code, that determine its requirements."""

_SUBMODULE = re.compile(r"^\s*path\s*=\s*(.+?)\s*$", re.MULTILINE)
_MOMENT = 2_000_000_000
"""Nanoseconds within which two changes of a file may have the same time."""

_IGNORED_NAMES = frozenset({".git", ".hg", ".svn", "__pycache__"})


CACHE_VARIABLES = (
    *("TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "UV_CACHE_DIR", "PIP_CACHE_DIR"),
    *("CCACHE_DIR", "SCCACHE_DIR", "CARGO_HOME", "RUSTUP_HOME", "CONDA_PKGS_DIRS"),
    *("UV_PYTHON_INSTALL_DIR", "UV_TOOL_DIR", "PRE_COMMIT_HOME", "VIRTUAL_ENV"),
)
"""Variables that name folders to which tools write while they run."""


def find_caches(outer: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folders of caches, temporary files and our own environment."""
    yield from (Path(outer[it]) for it in CACHE_VARIABLES if outer.get(it))
    if outer.get("HOME"):
        yield Path(outer["HOME"], ".cache")
    yield Path(sys.prefix)


def list_source_files(
    tree: Path, runner: Runner, excluded: Iterable[Path] = ()
) -> dict[str, os.stat_result]:
    """Return the source files and links of a folder, sorted, with their status.

    The folders ``excluded`` are no part of the source, unless they contain it.

    git decides: tracked files count, and untracked files unless ignored. Outside of a
    repository all files count, except in ``__pycache__`` and in folders of version
    control.

    Raises:
        CommandError: The folder is in a repository, and git can't read it.
        ValueError: A file name in git isn't UTF-8.
    """
    top = Path(os.path.realpath(tree))
    # A folder and a link to it are excluded.
    places = {it for path in excluded for it in (path, Path(os.path.realpath(path)))}
    names = {
        place.relative_to(top).as_posix()
        for place in (Path(os.path.realpath(it.parent), it.name) for it in places)
        if place != top and place.is_relative_to(top)
    }
    folders = tuple(f"{name}/" for name in names)
    found = _find_source_files(tree, runner, names)
    return {
        name: found[name]
        for name in sorted(found, key=os.fsencode)
        if name not in names and not name.startswith(folders)
    }


def hash_files(
    tree: Path, files: Mapping[str, os.stat_result], note: Path | None = None
) -> str:
    """Return the hash of ``hash_contents``.

    The files have the status that they had when they were listed.

    The file ``note`` keeps the answer as long as no file has another inode, size or
    time. As in git, files that changed a moment ago are always hashed: they may change
    again with the same time.
    """
    started = time.time_ns()
    stamps, newest = _digest_stamps(files)
    if note is not None:
        with suppress(OSError):
            noted, _, answer = read_text(note, errors="replace").partition(" ")
            if noted == stamps and answer:
                return answer
    answer = hash_contents(tree, files)
    if note is not None and newest < started - _MOMENT:
        with suppress(OSError):  # a store that is full or read-only
            write_text(note, f"{stamps} {answer}")
    return answer


def _digest_stamps(files: Mapping[str, os.stat_result]) -> tuple[str, int]:
    """Return a digest of the stamps of files, and the time of the newest one."""
    lines, newest = [], 0
    for name, it in files.items():
        times = it.st_mtime_ns, it.st_ctime_ns
        lines.append(f"{name}\0{it.st_mode} {it.st_ino} {it.st_size} {times}")
        newest = max(newest, *times)
    text = "\0".join(lines).encode(errors="surrogateescape")
    return hashlib.sha256(text).hexdigest(), newest


def hash_contents(tree: Path, files: Iterable[str]) -> str:
    """Return a sha256, in hex, of the paths, executable bits and contents of files."""
    digest = hashlib.sha256()
    for name in files:
        path = tree / name
        if path.is_symlink():
            kind = "link"
            sha256 = hashlib.sha256(os.fsencode(read_link(tree, path))).hexdigest()
        else:
            kind = "program" if path.stat().st_mode & 0o100 else "file"
            sha256 = sha256_of(path)
        digest.update(f"{kind} {sha256} ".encode() + os.fsencode(name) + b"\0")
    return digest.hexdigest()


def copy_files(tree: Path, files: Iterable[str], target: Path) -> None:
    """Copy files with their times, executable or not, and links as links.

    Raises:
        ValueError: A link leads out of the tree.
    """
    for name in files:
        path = tree / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            (target / name).symlink_to(read_link(tree, path))
        else:
            shutil.copy2(path, target / name)
            is_program = path.stat().st_mode & 0o100
            (target / name).chmod(0o755 if is_program else 0o644)
    refuse_outward_links(target)


def read_link(tree: Path, link: Path) -> str:
    """Return the target of a link, with a path which holds in a copy of the tree.

    An absolute path into the tree, or a path through folders above the tree, becomes a
    relative path within the tree.
    """
    target = link.readlink()
    top, folder = tree.resolve(), link.parent.resolve()
    within = Path(os.path.normpath(folder.relative_to(top) / target))
    if within.is_absolute() or within.parts[:1] == ("..",):
        found = Path(os.path.normpath(folder / target))
        found = found.parent.resolve() / found.name
        if found.is_relative_to(top):
            return os.path.relpath(found, folder)
    return os.fspath(target)


def find_empty_submodules(tree: Path, listed: Collection[str] = ()) -> tuple[str, ...]:
    """Return the submodules of a tree that are missing or empty folders.

    Submodules are those of ``.gitmodules``, and the folders among the files that git
    lists.
    """
    declared: list[str] = []
    with suppress(OSError):
        text = read_text(tree / ".gitmodules", errors="replace")
        declared = _SUBMODULE.findall(text)
    found = {name for name in listed if (tree / name).is_dir()}.union(declared)
    return tuple(
        sorted(
            name
            for name in found
            if not (tree / name).is_dir() or not any((tree / name).iterdir())
        )
    )


def widen(root: Path, top: Path, folder: Path, outside: Path) -> str | None:
    """Return the path of the folder that holds an output's source and a path outside.

    The path is relative to a project's root, and ends with ``#subdirectory=`` for the
    output's folder. None if the path is in the source, or if the folder around both is
    above the project.
    """
    root, top, folder, outside = (
        Path(os.path.realpath(it)) for it in (root, top, folder, outside)
    )
    whole = Path(os.path.commonpath((top, outside)))
    if whole == top or (whole != root and root.is_relative_to(whole)):
        return None
    subdirectory = folder.resolve().relative_to(whole).as_posix()
    path = Path(os.path.relpath(whole, root)).as_posix()
    prefix = "" if path.startswith(".") else "./"
    return f"{prefix}{path}#subdirectory={subdirectory}"


def refuse_outward_links(tree: Path) -> None:
    """Raise a ValueError if a link or a chain of links leads out of a tree."""
    for link in find_outward_links(tree):
        raise ValueError(f"{link}, outside the source tree")


def find_outward_links(tree: Path) -> Iterator[str]:
    """Yield a description of each link out of a tree."""
    root = Path(os.path.realpath(tree))
    for name in _walk(tree):
        path = tree / name
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            yield f"{name!r} links to {path.readlink().as_posix()!r}"


def _find_source_files(
    tree: Path, runner: Runner, skipped: Collection[str] = ()
) -> dict[str, os.stat_result]:
    # git's list is empty in a folder that the repository around it ignores, such as
    # a folder of vendored sources; and there is none outside of a repository.
    listed = git.list_files(tree, runner) or tuple(_walk(tree, _IGNORED_NAMES, skipped))
    statuses = {name: _status_of(f"{tree}/{name}") for name in listed}
    links = tuple(
        f"{name}/" for name, it in statuses.items() if it and stat.S_ISLNK(it.st_mode)
    )
    found: dict[str, os.stat_result] = {}
    for name, status in statuses.items():
        if name.startswith(links):
            continue  # git's index still has a folder that a link has replaced
        if status is None:
            if "\N{REPLACEMENT CHARACTER}" in name:
                raise ValueError(f"the file name {name!r} isn't UTF-8")
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            found[name] = status
        elif stat.S_ISDIR(status.st_mode) and (tree / name / ".git").exists():
            # A submodule that isn't empty.
            inner = _find_source_files(tree / name, runner)
            found.update({f"{name}/{file}": it for file, it in inner.items()})
    return found


def _status_of(path: str) -> os.stat_result | None:
    """Return the status of a file, without following links; None if it is missing."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def _walk(
    tree: Path, ignored: Collection[str] = (), skipped: Collection[str] = ()
) -> Iterator[str]:
    """Yield the POSIX paths of all files and links below a folder.

    Entries with an ``ignored`` name, and the paths ``skipped``, are left out.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(tree / folder) as entries:  # much faster than paths
            for entry in entries:
                if entry.name in ignored or f"{folder}{entry.name}" in skipped:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{folder}{entry.name}/")
                else:
                    yield f"{folder}{entry.name}"
