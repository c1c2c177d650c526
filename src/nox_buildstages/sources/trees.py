"""Folders of source files: which files count, their digest, a copy."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.sources import git
from nox_buildstages.system.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.system.process import Runner

_LEFT_OUT = frozenset({".git", ".hg", ".svn", "__pycache__"})


def list_source_files(tree: Path, runner: Runner) -> tuple[str, ...]:
    """Return the files and links of a tree that belong to its source.

    That is what git tracks or would track; all but version control's own folders
    and ``__pycache__`` where git has no say.

    Returns:
        POSIX paths relative to the tree, sorted.

    Raises:
        ValueError: git names a file that can't be found by that name.
    """
    return tuple(sorted(_source_files(tree, runner), key=os.fsencode))


def hash_files(tree: Path, files: tuple[str, ...]) -> str:
    """Return the sha256, in hex, of files' paths, executable bits and contents."""
    whole = hashlib.sha256()
    for name in files:
        whole.update(f"{_kind_and_hash(tree / name)} ".encode())
        whole.update(os.fsencode(name) + b"\0")
    return whole.hexdigest()


def copy_files(tree: Path, files: tuple[str, ...], target: Path) -> None:
    """Copy files of a tree with their modes and times, links as links.

    Raises:
        ValueError: A link leads out of the tree.
    """
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree / name, target / name, follow_symlinks=False)
    refuse_outward_links(target)


def refuse_outward_links(tree: Path) -> None:
    """See that no link in a tree, or chain of links, leads out of it.

    Raises:
        ValueError: One does.
    """
    for words in find_outward_links(tree):
        raise ValueError(f"{words}, outside the source tree")


def find_outward_links(tree: Path) -> Iterator[str]:
    """Yield the links of a tree that lead out of it, each with where to, in words."""
    root = Path(os.path.realpath(tree))
    for name in _walk(tree, left_out=frozenset()):
        path = tree / name
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            yield f"{name!r} links to {path.readlink().as_posix()!r}"


def _source_files(tree: Path, runner: Runner) -> set[str]:
    # Nothing at all is what git answers in a folder that the repository around
    # it ignores, such as one of vendored sources.
    listed = git.list_files(tree, runner) or _walk(tree, left_out=_LEFT_OUT)
    links = {name for name in listed if (tree / name).is_symlink()}
    found: set[str] = set()
    for name in listed:
        path = tree / name
        if not links.isdisjoint(parent.as_posix() for parent in Path(name).parents):
            continue  # replaced by a link, git still has it in its index
        if name in links or path.is_file():
            found.add(name)
        elif path.is_dir():
            found.update(f"{name}/{inner}" for inner in _nested(path, runner))
        elif "\N{REPLACEMENT CHARACTER}" in name:
            raise ValueError(f"the file name {name!r} isn't UTF-8")
    return found


def _nested(tree: Path, runner: Runner) -> set[str]:
    """Return the source files of a submodule; of an empty one, none."""
    if (tree / ".git").exists():
        return _source_files(tree, runner)
    return set()


def _walk(tree: Path, *, left_out: frozenset[str]) -> tuple[str, ...]:
    return tuple(path.relative_to(tree).as_posix() for path in _leaves(tree, left_out))


def _leaves(folder: Path, left_out: frozenset[str]) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in left_out:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _leaves(path, left_out)
        else:
            yield path


def _kind_and_hash(path: Path) -> str:
    if path.is_symlink():
        return f"link {hashlib.sha256(os.fsencode(path.readlink())).hexdigest()}"
    kind = "program" if path.stat().st_mode & 0o100 else "file"
    return f"{kind} {sha256_of(path)}"
