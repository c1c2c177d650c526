"""Files below a URL, by whatever driver fsspec has for it, within a time limit."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread, main_thread
from typing import TYPE_CHECKING, Protocol, TypeVar

from nox_buildstages.errors import RemoteStoreUnreachableError, UsageError
from nox_buildstages.indexes.logins import redact
from nox_buildstages.system import files

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds without an answer after which a store counts as away."""

SLOWEST = 250_000
"""Bytes in a second below which it does, too."""

_UNLISTED = ("http", "https")


class Driver(Protocol):
    """What of ``fsspec.AbstractFileSystem`` is used."""

    protocol: str | tuple[str, ...]

    def cat_file(self, path: str) -> bytes:
        """Return what a file holds."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""

    def get_file(self, rpath: str, lpath: str) -> object:
        """Write a file of its own to a local path."""

    def put_file(self, lpath: str, rpath: str) -> object:
        """Write a local file to a path of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Objects:
    """Files below a URL, and nothing of folders.

    Attributes:
        driver: Of the URL's scheme.
        root: Of the files, as the driver has it.
        patience: Seconds that it may take to answer.
    """

    driver: Driver
    root: str
    patience: float = PATIENCE

    def read(self, name: str) -> bytes | None:
        """Return what a file holds; None where there is none.

        Raises:
            RemoteStoreUnreachableError: That can't be found out.
        """
        return self._ask(partial(_found, self.driver.cat_file, self._path(name)))

    def fetch(self, name: str, file: Path, *, size: int) -> None:
        """Write a file to another one here, where there is one.

        Args:
            name: Of the file.
            file: To write.
            size: In bytes, as far as it is known.

        Raises:
            RemoteStoreUnreachableError: It can't be had.
        """
        get = self.driver.get_file
        self._ask(partial(_found, get, self._path(name), str(file)), size)

    def put(self, file: Path, name: str, *, size: int) -> None:
        """Write a file there, in place of what there may be.

        Who reads it meanwhile sees the one or the other. That is how object stores
        are; on a local disk it is renamed into its place.

        Args:
            file: To be copied.
            name: Of the file there.
            size: In bytes, as far as it is known.

        Raises:
            RemoteStoreUnreachableError: It can't be written.
        """
        path = self._path(name)
        work = partial(self.driver.put_file, str(file), path)
        if self._speaks("file"):
            work = partial(_replace, file, Path(path))
        self._ask(work, size)

    def is_there(self) -> bool:
        """Whether anything is at the URL; where nobody can tell, it is.

        Raises:
            RemoteStoreUnreachableError: That can't be found out.
        """
        if self._speaks(*_UNLISTED):
            return True
        return self._ask(partial(self.driver.exists, self.root))

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _speaks(self, *schemes: str) -> bool:
        protocol = self.driver.protocol
        own = (protocol,) if isinstance(protocol, str) else protocol
        return not set(own).isdisjoint(schemes)

    def _ask(self, work: Callable[[], T], size: int = 0) -> T:
        """Return what some work comes to, its errors translated.

        Raises:
            RemoteStoreUnreachableError: It doesn't come to anything.
        """
        return _translated(work, self.patience + size / SLOWEST)


def opened(url: str, *, patience: float = PATIENCE) -> Objects:
    """Return the files below a URL.

    Raises:
        UsageError: There is no driver for it.
        RemoteStoreUnreachableError: The driver doesn't take it.
    """
    check(url)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_no_drivers)
    from fsspec.core import url_to_fs  # noqa: PLC0415 - for a remote store alone

    driver, root = _translated(partial(url_to_fs, url), patience)
    return Objects(driver=driver, root=root, patience=patience)


def check(url: str) -> None:
    """See that there is a driver for a URL; nobody is asked for anything.

    Raises:
        UsageError: There is none.
    """
    try:
        import fsspec  # noqa: PLC0415 - for a remote store alone
        from fsspec.utils import get_protocol  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            subject=f"remote store {redact(url)}",
            problem="fsspec isn't installed",
            hint="install it next to nox:\n  pip install 'nox-buildstages[remote]'",
        ) from error
    try:
        fsspec.get_filesystem_class(get_protocol(url))
    except (ImportError, ValueError) as error:
        raise UsageError(
            subject=f"remote store {redact(url)}",
            problem=f"fsspec has no driver for it ({_reason(error)})",
            hint="install the driver next to nox: s3fs for s3://, gcsfs for gs://,"
            " adlfs for abfs://, aiohttp for https://",
        ) from error


def _is_no_drivers(record: logging.LogRecord) -> bool:
    """Whether a log record is none of a driver, all of which work in threads.

    Nox shows whatever is logged, and theirs have headers and signed URLs in them.
    """
    is_nox = record.name.partition(".")[0] == "nox"
    return is_nox or record.thread == main_thread().ident


def _translated(work: Callable[[], T], seconds: float) -> T:
    try:
        return _within(seconds, work)
    except RemoteStoreUnreachableError:
        raise
    except Exception as error:  # drivers raise whatever their libraries do
        raise RemoteStoreUnreachableError(reason=_reason(error)) from error


def _within(seconds: float, work: Callable[[], T]) -> T:
    """Return what some work comes to.

    A thread of its own does it. Where it hangs, it is left alone, and ends with the
    process: not every driver has a time limit, and a network disk has none.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except FutureTimeoutError as error:
        if future.done():
            raise
        raise RemoteStoreUnreachableError(
            reason=f"no answer in {seconds:.0f} s"
        ) from error


def _found(call: Callable[..., T], *arguments: str) -> T | None:
    """Return what a call comes to; None where there is no such file."""
    try:
        return call(*arguments)
    except FileNotFoundError:
        return None


def _replace(file: Path, path: Path) -> object:
    """Put a copy of a file in the place of another one."""
    with files.atomic_write(path) as new:
        return shutil.copyfile(file, new)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return redact(error.strerror)
    first, _, _ = str(error).strip().partition("\n")
    return redact(first) or type(error).__name__
