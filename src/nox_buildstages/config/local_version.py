"""An output's local version: the part after ``+``, with projects in braces."""

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

_PLACEHOLDER = r"\{([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\}"
_LOCAL = r"(?i)[a-z0-9]+(?:[._-][a-z0-9]+)*"
"""A local version identifier (PEP 440)."""


def local_version(item: Item) -> LocalVersion | None:
    """Read the local version of an output."""
    value = text(item)
    if value is None:
        return None
    if not is_local_version(re.sub(_PLACEHOLDER, "0", value)):  # any version will do
        item.expect(
            "letters and digits, with a '.', '-' or '_' between them, and projects in"
            ' braces, such as "torch{torch}"'
        )
    return LocalVersion(text=value, location=item.location)


def fill(wanted: LocalVersion, version: Callable[[NormalizedName], str]) -> str:
    """Return a local version with a version in place of each project in braces."""
    return re.sub(
        _PLACEHOLDER, lambda it: version(canonicalize_name(it[1])), wanted.text
    )


def is_local_version(text: str) -> bool:
    """Return whether a text is a local version identifier."""
    return re.fullmatch(_LOCAL, text) is not None
