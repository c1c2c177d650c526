"""Reading PEP 508 requirements; a folder they name becomes an absolute URL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement

from nox_buildstages.model import Output

if TYPE_CHECKING:
    from nox_buildstages.config.getters import Item

# Two letters or more: one is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def requirement(item: Item) -> Requirement | None:
    """Read a requirement."""
    if not isinstance(item.value, str):
        item.expected("a requirement such as 'torch>=2.8'")
        return None
    found = _parsed(item.value, item)
    return None if found is None else located(found, item)


def output(item: Item) -> Output | None:
    """Read a requirement that a stage is to build."""
    found = requirement(item)
    if found is None:
        return None
    if found.marker is not None:
        item.fault("an output is one wheel, always: it can't have a marker")
    if found.extras:
        item.fault("an output is one wheel, with all its extras: it can't name some")
    if _names_wheel(found):
        item.fault("a wheel is built already: an output is the source of one")
    return Output(requirement=found, location=item.location)


def located(found: Requirement, item: Item) -> Requirement:
    """Make the URL of a requirement absolute where it names a file or folder."""
    location, mark, fragment = (found.url or "").partition("#")
    path = _path(location, item) if _is_local(found.url) else None
    if path is not None:
        absolute = Path(os.path.normpath(item.document.path.parent / path))
        found.url = absolute.as_uri() + mark + fragment
    return found


def _is_local(url: str | None) -> bool:
    if url is None:
        return False
    scheme = _SCHEME.match(url)
    return scheme is None or scheme[1].lower() == "file"


def _path(location: str, item: Item) -> str | None:
    scheme = _SCHEME.match(location)
    if scheme is None:
        return location
    path = location[scheme.end() :]
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        if host not in {"", "localhost"}:
            item.fault(f"{location!r} names a host; a folder is written './folder'")
            return None
        path = slash + path
    return unquote(path)


def _names_wheel(found: Requirement) -> bool:
    location = re.split("[?#]", found.url or "", maxsplit=1)[0]
    return location.endswith(".whl")


def _parsed(text: str, item: Item) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0]
        item.fault(f"{item.value!r} is not a requirement: {reason}")
        return None
