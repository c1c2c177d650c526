"""Files: read, hash, replace and remove them, and notice changes.

Others may have made what lies there: a build backend, a source, another user. So only
regular files are opened, and folders are removed however deep they are.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, BinaryIO, TextIO

FileStamp: TypeAlias = tuple[int, ...]
"""Inode, size and times of a file, to notice that the file has changed."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

IGNORE_FILE = ".gitignore"

_LEVELS = 3
"""The folders around a new one that may have the file: a wheelhouse, its cell, logs."""

_CHUNK_SIZE = 1 << 20

TEMPORARY = "nox-buildstages-tmp-"
"""The prefix of folders in the system's folder for temporary files."""

READ_LIMIT = 256_000_000
"""The most bytes of a file that is read as a whole."""

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
}


def read_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of a stream in pieces of 1 MiB."""
    while chunk := stream.read(_CHUNK_SIZE):
        yield chunk


def open_file(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading, and never wait for one.

    Opening a pipe would wait for a writer, and opening a device may do anything. With
    ``follow=False``, a link isn't a regular file either.

    Raises:
        OSError: The file is missing or isn't regular, or can't be read.
    """
    try:
        status = path.stat() if follow else path.lstat()
    except ValueError as error:  # a NUL in its name
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    _require_regular(path, status)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    flags |= 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    stream = os.fdopen(os.open(path, flags), "rb")
    try:
        _require_regular(path, os.fstat(stream.fileno()))  # it may be another by now
    except OSError:
        stream.close()
        raise
    return stream


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))


def read_file(path: Path, *, follow: bool = True, limit: int = READ_LIMIT) -> bytes:
    """Return the content of a regular file that isn't too large.

    Raises:
        OSError: See ``open_file``; or the file has more bytes than the limit.
    """
    with open_file(path, follow=follow) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        message = f"it has more than {limit} bytes, too many for such a file"
        raise OSError(errno.EFBIG, message, str(path))
    return content


def read_text(path: Path, *, errors: str = "strict") -> str:
    """Return the text of a regular UTF-8 file that isn't too large.

    Raises:
        OSError: See ``read_file``.
        UnicodeDecodeError: The file isn't UTF-8.
    """
    return read_file(path).decode("utf-8", errors)


def open_text(path: Path) -> TextIO:
    """Open a regular file as text; what isn't UTF-8 is replaced.

    Raises:
        OSError: See ``open_file``.
    """
    return io.TextIOWrapper(open_file(path), encoding="utf-8", errors="replace")


def find_files(top: Path, name: str) -> list[Path]:
    """Return the files of a name below a folder, sorted."""
    return sorted(Path(it, name) for it, _, names in walk(top) if name in names)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex, without loading the file into memory.

    Raises:
        OSError: See ``open_file``.
    """
    digest = hashlib.sha256()
    with open_file(path) as stream:
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
    parent folders are created. New files that killed processes left are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_orphans(path.parent, f".{path.name}.")
    while True:
        new = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
        # The kernel applies the umask: reading it means changing it, for all threads.
        new.touch(0o666 if mode is None else 0o600, exist_ok=False)
        lock = _lock_alone(new, waits=True)
        if new.exists():  # another process may have removed it before the lock
            break
        if lock is not None:
            os.close(lock)
    try:
        yield new
        if mode is not None:
            new.chmod(mode)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def create_file(path: Path, content: bytes) -> None:
    """Write a new file; of several processes and machines, only the first can.

    Raises:
        FileExistsError: The file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    new.write_bytes(content)
    try:
        os.link(new, path)
    finally:
        new.unlink()


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, and remove it at the end.

    Folders with the same prefix that killed processes left are removed first.
    """
    from tempfile import gettempdir, mkdtemp  # noqa: PLC0415 - a no-op needs none

    top = parent or Path(gettempdir())
    remove_orphans(top, prefix)
    while True:
        folder = Path(mkdtemp(prefix=prefix, dir=top))
        lock = _lock_alone(folder, waits=True)
        if folder.exists():  # another process may have removed it before the lock
            break
        if lock is not None:
            os.close(lock)
    try:
        yield folder
    finally:
        try:
            remove_tree(folder)
        finally:
            if lock is not None:
                os.close(lock)


def remove_orphans(folder: Path, prefix: str = "") -> None:
    """Remove temporary files and folders whose makers have been killed.

    As long as its maker lives, each is locked. Without a prefix, these are the files
    that would have replaced another one in the folder.
    """
    if sys.platform == "win32":
        return
    try:
        names = os.listdir(folder)  # noqa: PTH208 - there may be many
    except OSError:
        return
    pattern = rf"{re.escape(prefix)}[0-9a-z_]{{8}}" if prefix else r"\..+\.[0-9a-f]{8}"
    for name in names:
        if re.fullmatch(pattern, name):
            path = folder / name
            lock = _lock_alone(path)
            if lock is not None:
                with suppress(OSError):  # of another user, or removed meanwhile
                    if path.is_dir():
                        remove_tree(path)
                    else:
                        path.unlink()
                os.close(lock)


def _lock_alone(path: Path, *, waits: bool = False) -> int | None:
    """Lock a file or folder; None if somebody has the lock, or locks don't work."""
    if sys.platform == "win32":
        return None
    import fcntl  # noqa: PLC0415 - Windows lacks it

    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


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


def keep_text(path: Path, text: str) -> None:
    """Write a text of low value; on a full or read-only disk, don't."""
    with suppress(OSError):
        clear_place(path, is_folder=False)
        write_text(path, text)


def clear_place(path: Path, *, is_folder: bool) -> None:
    """Remove something of another kind from the place of a file or folder of ours."""
    if not is_folder:
        remove_tree(path)
    elif not path.is_dir():
        path.unlink(missing_ok=True)


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
    """Remove a folder with all content, unless it is missing or no folder.

    The folder may be read-only, and of any depth: one folder at a time is open, and
    folders are found by their parent, because a path has a greatest length.

    Raises:
        OSError: Something can't be removed, or another process moves the folders.
    """
    if path.is_symlink() or not path.is_dir():
        return
    if sys.platform == "win32":
        shutil.rmtree(path)
        return
    at = _open_folder(path)
    try:
        ways = [("", os.fstat(at), _empty_folder(at))]  # name, status, folders left
        while True:
            name, _, folders = ways[-1]
            if folders:
                child = folders.pop()
                inner = _open_folder(child, at)
                os.close(at)
                at = inner
                ways.append((child, os.fstat(at), _empty_folder(at)))
                continue
            ways.pop()
            if not ways:
                break
            outer = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = outer
            if not os.path.samestat(os.fstat(at), ways[-1][1]):
                raise OSError(errno.EBUSY, "folders in it are moved", str(path))
            os.rmdir(name, dir_fd=at)
    finally:
        os.close(at)
    path.rmdir()


def _open_folder(path: Path | str, parent: int | None = None) -> int:
    """Open a folder that isn't a link, even if reading it isn't allowed."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(path, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(path, 0o700, dir_fd=parent)
        return os.open(path, flags, dir_fd=parent)


def _empty_folder(folder: int) -> list[str]:
    """Remove all files in an open folder, and return the names of folders in it."""
    status = os.fstat(folder)
    if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(folder, 0o700)
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    return folders


def walk(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder below a folder, with the names of its folders and files.

    As ``os.walk``, but of any depth on all Pythons; links to folders are files.
    """
    folders = [os.fspath(top)]
    while folders:
        folder = folders.pop()
        inner: list[str] = []
        names: list[str] = []
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                (inner if is_folder else names).append(entry.name)
        yield folder, inner, names
        folders += [f"{folder}/{name}" for name in inner]


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
    """Yield the names of a folder's files and folders, with their stamps."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # a temporary file
                yield entry.name, _stamp_of(entry.stat())


def _stamp_of(status: os.stat_result) -> FileStamp:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
