"""Download files from http, https and file URLs."""

from __future__ import annotations

import hashlib
import http.client
import time
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from nox_buildstages.indexes.url_secrets import parse_login
from nox_buildstages.system.files import read_chunks
from nox_buildstages.system.process import check_interrupt

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.model import Login

TIMEOUT = 60.0
"""Seconds without data after which a server counts as unreachable."""

PAUSES = (0.2, 0.5, 1.0)
"""Seconds between attempts."""

FAILURES = (OSError, http.client.HTTPException, ValueError)
"""The exceptions that ``download`` raises."""

_SCHEMES = ("http", "https", "file")
_SERVER_ERROR = 500
_TEMPORARY = (408, 425, 429)
_UNAUTHORIZED = (401, 403)


def download(url: str, file: Path, login: Login | None = None) -> str:
    """Download a URL into a file, and return the sha256 in hex.

    A temporary failure, for instance a timeout, is retried three times. A login in the
    URL takes precedence, and none is sent to the target of a redirect.

    Raises:
        OSError: The download fails, or the file can't be written.
        http.client.HTTPException: The server violates HTTP.
        ValueError: The URL is invalid, or the scheme isn't supported.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"the scheme {parts.scheme!r} is none of {_SCHEMES}")
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    request = Request(bare, headers={"User-Agent": "nox-buildstages"})  # noqa: S310 - see _SCHEMES
    login = parse_login(url) or login
    if login is not None:
        # A redirect must not carry the login to another host.
        request.add_unredirected_header("Authorization", login.header)
    for pause in PAUSES:
        try:
            return _attempt(request, file)
        except (OSError, http.client.HTTPException) as error:
            if not _is_temporary(error):
                raise
        time.sleep(pause)
    return _attempt(request, file)


def describe_failure(error: Exception) -> str:
    """Return the reason of a failed download in a few words."""
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def lacks_login(error: Exception) -> bool:
    """Whether a server refused a download because of a missing or wrong login."""
    return isinstance(error, HTTPError) and error.code in _UNAUTHORIZED


def _attempt(request: Request, file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with (
            urlopen(request, timeout=TIMEOUT) as response,  # noqa: S310 - see _SCHEMES
            file.open("wb") as stream,
        ):
            for chunk in read_chunks(response):
                check_interrupt()
                digest.update(chunk)
                stream.write(chunk)
            # http.client takes a lost connection for the end of the file.
            if getattr(response, "length", None):
                raise ConnectionError(f"it ended {response.length} bytes early")
    except HTTPError as error:
        error.close()
        raise
    return digest.hexdigest()


def _is_temporary(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code >= _SERVER_ERROR or error.code in _TEMPORARY
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return _is_temporary(error.reason)
    return isinstance(
        error, (TimeoutError, ConnectionError, http.client.IncompleteRead)
    )
