"""Texts with projects in braces: an output's local version, and its requirements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import Item, text
from nox_buildstages.config.values import requirement
from nox_buildstages.model import Template
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from packaging.utils import NormalizedName

_PLACEHOLDER = r"\{([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\}"
_LOCAL = r"(?i)[a-z0-9]+(?:[._-][a-z0-9]+)*"
"""A local version identifier (PEP 440)."""


def local_version(item: Item) -> Template | None:
    """Read the local version of an output."""
    value = text(item)
    if value is None:
        return None
    if not is_local_version(re.sub(_PLACEHOLDER, "0", value)):  # any version will do
        item.expect(
            "letters and digits, with a '.', '-' or '_' between them, and projects in"
            ' braces, such as "torch{torch}"'
        )
    return Template(text=value, location=item.location)


def added_requirement(item: Item) -> Template | None:
    """Read a requirement that is added to those of an output's wheel."""
    value = text(item)
    if value is None:
        return None
    any_version = re.sub(_PLACEHOLDER, "0", value)
    found = requirement(replace(item, value=any_version))
    if found is not None and urlsplit(found.url or "").scheme == "file":
        item.fault("is a path of this machine, which no wheel may require")
    return Template(text=value.strip(), location=item.location)


def has_placeholder(template: Template) -> bool:
    """Return whether a text has a project in braces."""
    return re.search(_PLACEHOLDER, template.text) is not None


def fill(wanted: Template, version: Callable[[NormalizedName], str]) -> str:
    """Return a text with a version in place of each project in braces."""
    return re.sub(
        _PLACEHOLDER, lambda it: version(canonicalize_name(it[1])), wanted.text
    )


def is_local_version(text: str) -> bool:
    """Return whether a text is a local version identifier."""
    return re.fullmatch(_LOCAL, text) is not None
