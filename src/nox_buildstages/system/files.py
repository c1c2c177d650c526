"""Files: hash them, replace them atomically, tell whether they changed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

FileStamp: TypeAlias = tuple[int, ...]
"""Inode, size and times of a file, to notice that the file has changed."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

IGNORE_FILE = ".gitignore"

_LEVELS = 3
"""The folders around a new one that may have the file: a wheelhouse, its cell, logs."""

_CHUNK_SIZE = 1 << 20


def read_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of a stream in pieces of 1 MiB."""
    while chunk := stream.read(_CHUNK_SIZE):
        yield chunk


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex, without loading the file into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in read_chunks(stream):
            digest.update(chunk)
    return digest.hexdigest()


def path_id(path: Path) -> str:
    """Return a short hash of a path, for names of files about this path."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:16]


@contextmanager
def atomic_write(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a new file beside ``path``; the new file replaces ``path`` at the end.

    If the block fails, ``path`` stays unchanged and the new file is removed. Missing
    parent folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    # The kernel applies the umask: reading it means changing it, for all threads.
    new.touch(0o666 if mode is None else 0o600, exist_ok=False)
    try:
        yield new
        if mode is not None:
            new.chmod(mode)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def make_ignored_folder(folder: Path) -> None:
    """Make a folder and missing parents; git ignores all new folders."""
    missing = [it for it in (folder, *folder.parents) if not it.is_dir()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        around = (it / IGNORE_FILE for it in [*missing[-1].parents][:_LEVELS])
        if not any(it.is_file() and it.read_bytes() == b"*\n" for it in around):
            (missing[-1] / IGNORE_FILE).write_text("*\n", encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


def write_if_changed(path: Path, content: bytes) -> None:
    """Write a file atomically, unless the file already has this content."""
    if path.is_file() and path.read_bytes() == content:
        return
    with atomic_write(path) as new:
        new.write_bytes(content)


def remove_if_same(path: Path, sha256: str) -> None:
    """Remove a file, unless the content has changed since."""
    if path.is_file() and sha256_of(path) == sha256:
        path.unlink()


def remove_tree(path: Path) -> None:
    """Remove a folder with all content, read-only or not, unless it is missing."""
    if not path.is_dir():
        return
    path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for name in names:
            child = Path(folder, name)
            if not child.is_symlink():
                child.chmod(0o700)
    shutil.rmtree(path)


def path_from_url(url_path: str) -> Path:
    """Return the local path for the path part of a ``file:`` URL."""
    from urllib.request import url2pathname  # noqa: PLC0415 - slow; few are of files

    return Path(url2pathname(url_path))


def file_stamp(path: Path) -> FileStamp:
    """Return a value for comparison; any change of the file changes the value.

    Raises:
        FileNotFoundError: The file doesn't exist.
    """
    return _stamp_of(path.stat())


def list_stamps(folder: Path) -> Iterator[tuple[str, FileStamp]]:
    """Yield the names of a folder's files, with their stamps."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name, _stamp_of(entry.stat())


def _stamp_of(status: os.stat_result) -> FileStamp:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
