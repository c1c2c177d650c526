"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages.system.digests import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Stamp: TypeAlias = tuple[int, ...]
"""Tells a file from what it was before."""


FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a new file beside ``path`` that takes its place at the end.

    Where the block fails, ``path`` stays as it was and the new file is gone.

    Args:
        path: Of the file.
        mode: Its permissions; None for those that a new file has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    new = Path(name)
    try:
        yield new
        new.chmod(0o666 & ~_umask() if mode is None else mode)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, so that no reader sees a part of it."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


def put(path: Path, content: bytes) -> None:
    """Write a file, unless it is as it should be."""
    if path.is_file() and path.read_bytes() == content:
        return
    with replacing(path) as new:
        new.write_bytes(content)


def remove_same(path: Path, sha256: str) -> None:
    """Remove a file, unless somebody has written another one since."""
    if path.is_file() and sha256_of(path) == sha256:
        path.unlink()


def path_of(url_path: str) -> Path:
    """Return what the path in a ``file:`` URL names."""
    from urllib.request import url2pathname  # noqa: PLC0415 - slow; few are of files

    return Path(url2pathname(url_path))


def stamp(path: Path) -> Stamp:
    """Return what is another once a file has been written to, or replaced.

    Raises:
        FileNotFoundError: It isn't there.
    """
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def remove(path: Path) -> None:
    """Remove a folder and all in it, read-only folders too, if it is there."""
    if not path.is_dir():
        return
    path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for name in names:
            child = Path(folder, name)
            if not child.is_symlink():
                child.chmod(0o700)
    shutil.rmtree(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
