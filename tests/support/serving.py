"""A folder on a web server of this machine."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike
    from pathlib import Path


class Pages(SimpleHTTPRequestHandler):
    """Serves files, and what folders hold, as any static web server would."""

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


class Files(Pages):
    """Serves files alone."""

    def list_directory(self, path: str | PathLike[str]) -> None:
        """Show no folder."""
        del path
        self.send_error(HTTPStatus.FORBIDDEN)


@contextmanager
def served(folder: Path, how: type[Pages] = Pages) -> Iterator[str]:
    """Serve a folder, and yield its URL."""
    handler = partial(how, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
