"""A package index on this machine: a folder, served as PEP 691 says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import tarfile
import uuid
import zipfile
from email.parser import BytesParser
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from packaging.utils import (
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

LONG_AGO = "2020-01-01T00:00:00Z"
"""When a file counts as uploaded, if nobody says otherwise."""

PAGE = "application/vnd.pypi.simple.v1+json"
FILE = "application/octet-stream"


class Index:
    """An index that serves whatever lies in its folder while it is open.

    Its URL holds a random part, so that a cache which outlives it can't take its
    files for those of another index that had the same port. The URL of a file holds
    part of its sha256, so that one cache serves all tests that share an index.

    Attributes:
        folder: Of the wheels and sdists.
        login: A name and a password without which nothing is served; or None.
        requests: The paths asked for so far, as ``/simple/NAME/`` and ``/files/FILE``.
        authorizations: The ``Authorization`` headers that came with requests.
    """

    def __init__(self, folder: Path, *, login: tuple[str, str] | None = None) -> None:
        self.folder = folder
        self.login = login
        self.requests: list[str] = []
        self.authorizations: list[str] = []
        self._uploaded: dict[str, str] = {}
        self._token = f"/{uuid.uuid4().hex}"
        folder.mkdir(parents=True, exist_ok=True)
        self._server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def serve(self, folder: Path) -> None:
        """Serve another folder, as if the index were new."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.login = folder, None
        for noted in (self.requests, self.authorizations, self._uploaded):
            noted.clear()

    @property
    def url(self) -> str:
        """What an installer is given as the index's URL."""
        return f"{self._base}/simple/"

    @property
    def url_with_login(self) -> str:
        """The same with name and password in it."""
        name, password = map(partial(quote, safe=""), self.login or ("", ""))
        return self.url.replace("://", f"://{name}:{password}@")

    def admits(self, authorization: str | None) -> bool:
        """Whether a request with that header, which is noted, is let in."""
        if authorization is not None:
            self.authorizations.append(authorization)
        if self.login is None:
            return True
        basic = base64.b64encode(":".join(self.login).encode()).decode()
        return authorization == f"Basic {basic}"

    def file_url(self, filename: str) -> str:
        """The URL of a file in the folder."""
        digest = hashlib.sha256(self.folder.joinpath(filename).read_bytes()).hexdigest()
        return f"{self._base}/files/{digest[:8]}/{quote(filename)}"

    def add(self, path: Path, *, uploaded: str = LONG_AGO) -> Path:
        """Take a file into the folder, uploaded at an RFC 3339 time."""
        own = self.folder / path.name
        if own != path:
            shutil.copyfile(path, own)
        self._uploaded[path.name] = uploaded
        return own

    def remove(self, name: str) -> None:
        """Drop every file of a project."""
        for path in self._files(name):
            path.unlink()

    def reply(self, path: str) -> tuple[str, bytes] | None:
        """Return the content type and the body for a path, or None for no such thing.

        The path is noted among the requests.
        """
        found = unquote(path).partition("?")[0]
        if not found.startswith(f"{self._token}/"):
            return None
        found = re.sub("^/files/[0-9a-f]{8}/", "/files/", found[len(self._token) :])
        self.requests.append(found)
        match found.strip("/").split("/"):
            case ["simple"]:
                return PAGE, json.dumps(self._root()).encode()
            case ["simple", name] if self._files(name):
                return PAGE, json.dumps(self._project(name)).encode()
            case ["files", name] if name in self._names():
                return FILE, self.folder.joinpath(name).read_bytes()
            case ["files", name] if name.removesuffix(".metadata") in self._names():
                wheel = self.folder / name.removesuffix(".metadata")
                return FILE, _metadata(wheel)
        return None

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{self._token}"

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def _files(self, name: str) -> list[Path]:
        wanted = canonicalize_name(name)
        return [
            self.folder / file for file in self._names() if _project_of(file) == wanted
        ]

    def _root(self) -> dict[str, Any]:
        projects = sorted({_project_of(name) for name in self._names()})
        listed = [{"name": name} for name in projects]
        return {"meta": {"api-version": "1.1"}, "projects": listed}

    def _project(self, name: str) -> dict[str, Any]:
        files = self._files(name)
        return {
            "meta": {"api-version": "1.1"},
            "name": canonicalize_name(name),
            "versions": sorted({_version_of(path.name) for path in files}),
            "files": [self._file(path) for path in files],
        }

    def _file(self, path: Path) -> dict[str, Any]:
        metadata = _metadata(path)
        parsed = BytesParser().parsebytes(metadata)
        entry = {
            "filename": path.name,
            "url": self.file_url(path.name),
            "hashes": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
            "requires-python": parsed["Requires-Python"],
            "size": path.stat().st_size,
            "upload-time": self._uploaded.get(path.name, LONG_AGO),
            "yanked": False,
        }
        if path.suffix == ".whl":
            digest = hashlib.sha256(metadata).hexdigest()
            entry["core-metadata"] = {"sha256": digest}
        return entry


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them, and their sockets


class _Handler(BaseHTTPRequestHandler):
    timeout = 5

    def __init__(self, index: Index, *args: Any) -> None:  # noqa: ANN401 - the base's
        self.index = index
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_args: object) -> None:
        """Say nothing; the index notes what was asked for."""

    def _answer(self, *, body: bool) -> None:
        if not self.index.admits(self.headers["Authorization"]):
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        reply = self.index.reply(self.path)
        if reply is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        kind, content = reply
        keep = "no-cache" if kind == PAGE else "max-age=365000000, immutable"
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", keep)
        self.end_headers()
        if body:
            self.wfile.write(content)


def _project_of(filename: str) -> str:
    if filename.endswith(".whl"):
        return parse_wheel_filename(filename)[0]
    return parse_sdist_filename(filename)[0]


def _version_of(filename: str) -> str:
    if filename.endswith(".whl"):
        return str(parse_wheel_filename(filename)[1])
    return str(parse_sdist_filename(filename)[1])


def _metadata(path: Path) -> bytes:
    """Return a wheel's METADATA or an sdist's PKG-INFO."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            own = re.compile(r"[^/]+\.dist-info/METADATA")  # not of a vendored package
            (name,) = filter(own.fullmatch, wheel.namelist())
            return wheel.read(name)
    with tarfile.open(path) as sdist:
        name = f"{path.name.removesuffix('.tar.gz')}/PKG-INFO"
        file = sdist.extractfile(name)
        return file.read() if file else b""
