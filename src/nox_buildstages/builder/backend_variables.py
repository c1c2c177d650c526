"""The environment variables of a build backend."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nox_buildstages.environments.environment import Environment

_PASSED_VARIABLES = (
    *("PATH", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)
"""Variables that a backend always gets, besides ``pass-env``."""

EPOCH = "315532800"
"""1980-01-01, the earliest time in a zip file, for ``SOURCE_DATE_EPOCH``."""


def backend_variables(
    outer: Mapping[str, str],
    environment: Environment,
    *,
    declared: Mapping[str, str],
    home: Path,
    toolchains: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return all environment variables of a build backend.

    The environment's programs come first on ``PATH``, even before a declared ``PATH``.
    ``home`` is an empty folder beside the source, for ``HOME`` and for temporary files.
    ``toolchains`` has variables that name the toolchains in the user's home.
    """
    variables = {
        **{name: outer[name] for name in _PASSED_VARIABLES if name in outer},
        **toolchains,
        "GIT_CEILING_DIRECTORIES": str(home.parent),
        "HOME": str(home),
        "LANG": "C.UTF-8",  # not LC_ALL: then a declared LANG would have no effect
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",  # so that the log of a killed build is complete
        "SOURCE_DATE_EPOCH": EPOCH,
        "TMPDIR": str(home),
        "TZ": "UTC",
        "VIRTUAL_ENV": str(environment.location),
        **declared,
    }
    # No empty part: an empty entry of PATH means the current folder.
    path = os.pathsep.join(filter(None, (str(environment.bin), variables.get("PATH"))))
    return {**variables, "PATH": path}
