"""Files below a URL, by a driver of fsspec, within a time limit."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread, main_thread
from typing import TYPE_CHECKING, Protocol, TypeVar

from nox_buildstages.errors import RemoteStoreUnreachableError, UsageError
from nox_buildstages.indexes.url_secrets import redact
from nox_buildstages.system import files
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SLOWEST = 250_000
"""Bytes in a second; a slower store counts as unreachable."""


class Driver(Protocol):
    """The methods of ``fsspec.AbstractFileSystem`` in use."""

    protocol: str | tuple[str, ...]

    def cat_file(self, path: str) -> bytes:
        """Return the content of a file."""

    def exists(self, path: str) -> bool:
        """Whether a file or folder exists."""

    def get_file(self, rpath: str, lpath: str) -> object:
        """Copy a remote file to a local path."""

    def pipe_file(self, path: str, value: bytes, mode: str) -> object:
        """Write a file; with the mode ``create``, an existing file is an error."""

    def put_file(self, lpath: str, rpath: str) -> object:
        """Copy a local file to a remote path."""


class RemoteFiles(Value):
    """Files below a URL.

    All methods raise ``RemoteStoreUnreachableError`` if the store fails or is slow.
    """

    driver: Driver
    root: str  # the path of the URL, in the driver's form
    timeout: float  # seconds for an answer

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None without the file."""
        work = partial(_if_found, self.driver.cat_file, self._path(name))
        return _run_within(self.timeout, work)

    def fetch(self, name: str, file: Path, *, size: int) -> None:
        """Copy a file of about ``size`` bytes to a local path, if the file exists."""
        work = partial(_if_found, self.driver.get_file, self._path(name), str(file))
        _run_within(self.timeout + size / SLOWEST, work)

    def put(self, file: Path, name: str, *, size: int) -> None:
        """Copy a local file of ``size`` bytes, and replace an existing file.

        A reader sees the old file or the new file: object stores promise as much, and
        on a local disk the file is renamed.
        """

        def work() -> None:
            path = self._path(name)
            if not self._has_scheme("file"):
                self.driver.put_file(str(file), path)
                return
            with files.atomic_write(Path(path)) as new:
                shutil.copyfile(file, new)

        _run_within(self.timeout + size / SLOWEST, work)

    def create(self, name: str, content: bytes) -> None:
        """Write a file unless it exists: of several writers, the first one wins."""

        def work() -> None:
            path = self._path(name)
            with suppress(FileExistsError):
                if self._has_scheme("file"):
                    files.create_file(Path(path), content)
                else:
                    self.driver.pipe_file(path, content, mode="create")

        _run_within(self.timeout, work)

    def exists(self) -> bool:
        """Whether anything is at the URL; web servers aren't asked."""
        if self._has_scheme("http", "https"):
            return True
        return _run_within(self.timeout, partial(self.driver.exists, self.root))

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _has_scheme(self, *schemes: str) -> bool:
        protocol = self.driver.protocol
        own = (protocol,) if isinstance(protocol, str) else protocol
        return not set(own).isdisjoint(schemes)


def open_url(url: str, *, timeout: float) -> RemoteFiles:
    """Return the files below a URL, or below an absolute path.

    Raises:
        UsageError: The driver for the URL isn't installed.
        RemoteStoreUnreachableError: The driver refuses the URL.
    """
    check_driver(url)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_visible)
    from fsspec.core import url_to_fs  # noqa: PLC0415 - slow

    driver, root = _run_within(timeout, partial(url_to_fs, url))
    return RemoteFiles(driver=driver, root=root, timeout=timeout)


def check_driver(url: str) -> None:
    """Check that the driver for a URL is installed, without connecting.

    Raises:
        UsageError: The driver isn't installed.
    """
    try:
        import fsspec  # noqa: PLC0415 - an extra
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


def _is_visible(record: logging.LogRecord) -> bool:
    """Whether nox may show a log record: drivers log headers and signed URLs."""
    is_nox = record.name.partition(".")[0] == "nox"
    return is_nox or record.thread == main_thread().ident


def _run_within(seconds: float, work: Callable[[], T]) -> T:
    """Return the result of some work in a new thread.

    A thread that hangs is left alone until the process ends: some drivers and all
    network disks lack a time limit.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except Exception as error:  # drivers raise the errors of their libraries
        is_late = isinstance(error, FutureTimeoutError) and not future.done()
        reason = f"no answer in {seconds:.0f} s" if is_late else _reason(error)
        raise RemoteStoreUnreachableError(reason=reason) from error


def _if_found(call: Callable[..., T], *arguments: str) -> T | None:
    """Return the result of a call; None if the file is missing."""
    try:
        return call(*arguments)
    except FileNotFoundError:
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return redact(error.strerror)
    first, _, _ = str(error).strip().partition("\n")
    return redact(first) or type(error).__name__
