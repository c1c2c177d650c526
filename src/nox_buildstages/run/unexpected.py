"""The last line of defence: a message for any exception, and never a traceback."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import traceback
from importlib.metadata import version
from pathlib import Path

from nox_buildstages.errors import BuildStagesError, file_system_error
from nox_buildstages.indexes.url_secrets import redact
from nox_buildstages.reader import UnreadableError

_NOT_UTF_8 = "surrogates not allowed"
"""Why a text can't be encoded that Python has read from bytes that aren't UTF-8."""


def explain(error: Exception) -> BuildStagesError:
    """Return the message for an exception; the traceback of a bug goes to a file.

    The file is in the folder for temporary files, where only the user reads it: a
    traceback may contain anything.
    """
    if isinstance(error, BuildStagesError):
        return error
    if isinstance(error, OSError):
        return file_system_error(error)
    if isinstance(error, UnreadableError):
        return BuildStagesError(problem=str(error))
    if isinstance(error, UnicodeEncodeError) and error.reason == _NOT_UTF_8:
        return BuildStagesError(
            subject=redact(error.object[max(error.start - 50, 0) : error.end + 50]),
            problem="a path or a variable isn't UTF-8",
            hint="change it; if it looks right elsewhere, set a locale with UTF-8:\n"
            "  export LC_ALL=C.UTF-8",
        )
    versions = " ".join(f"{it} {version(it)}" for it in ("nox-buildstages", "nox"))
    lines = [
        f"{versions}, Python {sys.version.split()[0]} on {sys.platform}",
        f"nox {shlex.join(sys.argv[1:])}",
        *redact("".join(traceback.format_exception(error))).splitlines(),
    ]
    log = None
    try:
        descriptor, name = tempfile.mkstemp(
            prefix="nox-buildstages-bug-", suffix=".txt"
        )
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.writelines(f"{line}\n" for line in lines)
        log = Path(name)
    except OSError:  # a full disk
        details = lines
    else:
        details = []
    return BuildStagesError(
        subject="this is a bug in nox-buildstages",
        problem=redact(" ".join(f"{type(error).__name__}: {error}".split()))[:200],
        details=details,
        log=log,
        hint="report it, with the text in that file",
    )
