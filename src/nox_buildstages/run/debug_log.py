"""The debug log: what the sessions of a project do, and why."""

from __future__ import annotations

import logging
import os
import platform
import re
import shlex
import sys
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.declarations.uv_variables import VARIABLES as VARIABLES_OF_UV
from nox_buildstages.indexes.url_secrets import hide_secrets, redact
from nox_buildstages.run.events import BEGUN
from nox_buildstages.safe_text import show
from nox_buildstages.system.files import make_ignored_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.run.run import Run

VARIABLES = re.compile(
    "(NOX_BUILDSTAGES|UV)_.+|CI|PATH|SOURCE_DATE_EPOCH|AUDITWHEEL_LD_LIBRARY_PATH"
    "|GITHUB_(ACTIONS|OUTPUT|STEP_SUMMARY|WORKSPACE)|GITLAB_CI|NETRC|NO_COLOR|FORCE_COLOR|TERM"
)
"""The environment variables that nox-buildstages reads, and those of uv."""

_PACKAGE = logging.getLogger("nox_buildstages")
_LOG = logging.getLogger(__name__)


class _LineFormatter(logging.Formatter):
    """Formats a record as one line, without logins and queries of URLs."""

    def format(self, record: logging.LogRecord) -> str:
        return show(redact(super().format(record)).replace("\n", "\\n"))


@contextmanager
def write_debug_log(
    run: Run, session: str, *, path: Path, root: Path
) -> Iterator[None]:
    """Append everything that our modules log to a file while a block runs.

    A line is written at once, so processes don't mix their lines.
    """
    make_ignored_folder(path.parent)
    text = "%(asctime)s %(process)d %(session)s: %(message)s"
    with closing(logging.FileHandler(path, encoding="utf-8")) as handler:
        handler.setFormatter(_LineFormatter(text, defaults={"session": session}))
        _PACKAGE.addHandler(handler)
        _PACKAGE.setLevel(logging.DEBUG)
        _PACKAGE.propagate = False
        try:
            run.once(("debug log", path), lambda: _begin(run, path, root))
            yield
            _LOG.debug("the session is done")
        except BaseException as error:
            _LOG.debug("the session failed: %s", getattr(error, "summary", repr(error)))
            raise
        finally:
            _PACKAGE.removeHandler(handler)
            _PACKAGE.setLevel(logging.CRITICAL)


def _begin(run: Run, path: Path, root: Path) -> None:
    """Log what this process is, and print the path, once in a run."""
    versions = (f"{it} {version(it)}" for it in ("nox-buildstages", "nox", "uv"))
    python = f"Python {platform.python_version()} ({sys.executable})"
    _LOG.debug("%s, %s, %s", ", ".join(versions), python, platform.platform())
    _LOG.debug("command line, in %s: %s", Path.cwd(), shlex.join(sys.argv))
    read = {it: run.outer[it] for it in sorted(run.outer) if VARIABLES.fullmatch(it)}
    for name, value in hide_secrets(read).items():
        is_known = not name.startswith("UV_") or name in VARIABLES_OF_UV
        _LOG.debug("variable %s=%s", name, value if is_known else "****")
    # Of all processes of a run, the first to open the file prints the path.
    run.emit("debug-log", BEGUN, path=str(path))
    opened = [
        event.process
        for event in run.journal.events()
        if event.step == "debug-log" and event.facts["path"] == str(path)
    ]
    if opened[:1] in ([], [os.getpid()]):
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        run.report(f"debug log: {shown}")
