"""What is to follow the ``+`` in an output's version, with names in braces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import text
from nox_buildstages.model import LocalVersion

if TYPE_CHECKING:
    from collections.abc import Callable

    from packaging.utils import NormalizedName

    from nox_buildstages.config.getters import Item

_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\}")
_LOCAL = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", re.IGNORECASE)
"""A local version identifier (PEP 440)."""


def local_version(item: Item) -> LocalVersion | None:
    """Read the local version that an output is to have."""
    value = text(item)
    if value is None:
        return None
    # "0" is what any version may stand for.
    if not is_local(_PLACEHOLDER.sub("0", value)):
        item.expected(
            "letters and digits, with a '.', '-' or '_' between them, and projects in"
            ' braces, such as "torch{torch}"'
        )
    return LocalVersion(text=value, location=item.location)


def filled(wanted: LocalVersion, version: Callable[[NormalizedName], str]) -> str:
    """Return a local version with the version of each project that it names.

    Args:
        wanted: As declared.
        version: Of a project.
    """
    return _PLACEHOLDER.sub(
        lambda found: version(canonicalize_name(found[1])), wanted.text
    )


def is_local(written: str) -> bool:
    """Whether something is a local version identifier."""
    return _LOCAL.fullmatch(written) is not None
