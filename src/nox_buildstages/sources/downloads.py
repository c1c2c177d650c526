"""Files from somewhere: http, https and file URLs."""

from __future__ import annotations

import hashlib
import http.client
import time
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from nox_buildstages.indexes.logins import parse_login
from nox_buildstages.system.files import read_chunks

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from nox_buildstages.model import Login

TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as gone."""

PAUSES = (0.2, 0.5, 1.0)
"""Seconds between attempts."""

FAILURES = (OSError, http.client.HTTPException, ValueError)
"""What ``download`` raises."""

_SCHEMES = ("http", "https", "file")
_HEADERS = {"User-Agent": "nox-buildstages"}
_SERVER_ERROR = 500
_COME_BACK = (408, 425, 429)
_UNKNOWN_TO_IT = (401, 403)


def download(url: str, file: Path, login: Login | None = None) -> str:
    """Write what a URL gives into a file, and return its sha256 in hex.

    What may go away by itself, such as a timeout, is tried again three times.

    Args:
        url: May hold a login itself, which counts more.
        file: To write.
        login: For the server, and no other that it sends us to.

    Raises:
        OSError: It can't be had, or not be written.
        http.client.HTTPException: The server doesn't speak HTTP.
        ValueError: The URL isn't one, or of another scheme.
    """
    request = _request(url, login)
    for pause in PAUSES:
        try:
            return _attempt(request, file)
        except (OSError, http.client.HTTPException) as error:
            if not _may_pass(error):
                raise
        time.sleep(pause)
    return _attempt(request, file)


def describe_failure(error: Exception) -> str:
    """Say in a few words why a download failed."""
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def lacks_login(error: Exception) -> bool:
    """Whether a server didn't give a file because it doesn't know us."""
    return isinstance(error, HTTPError) and error.code in _UNKNOWN_TO_IT


def _request(url: str, login: Login | None) -> Request:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"the scheme {parts.scheme!r} is none of {_SCHEMES}")
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    request = Request(bare, headers=_HEADERS)  # noqa: S310 - see _SCHEMES
    login = parse_login(url) or login
    if login is not None:
        # Unredirected: another host that we are sent to has no right to it.
        request.add_unredirected_header("Authorization", login.header)
    return request


def _attempt(request: Request, file: Path) -> str:
    try:
        with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310 - see _SCHEMES
            digest = _write(response, file)
            # http.client takes a connection that is cut for the end of the file.
            if getattr(response, "length", None):
                raise ConnectionError(f"it ended {response.length} bytes early")
            return digest
    except HTTPError as error:
        error.close()
        raise


def _write(response: IO[bytes], file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("wb") as stream:
        for chunk in read_chunks(response):
            digest.update(chunk)
            stream.write(chunk)
    return digest.hexdigest()


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code >= _SERVER_ERROR or error.code in _COME_BACK
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return _may_pass(error.reason)
    return isinstance(
        error, (TimeoutError, ConnectionError, http.client.IncompleteRead)
    )
