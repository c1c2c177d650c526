"""METADATA and PKG-INFO: the fields that locking and checking wheels need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.value import Value

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_NEEDED = ("metadata-version", "name", "version", "requires-dist", "dynamic")


class CoreMetadata(Value):
    """The core metadata of a distribution; tuples are sorted."""

    metadata_version: str  # 1.0 if the text names none
    name: NormalizedName
    version: Version
    requires_dist: tuple[str, ...] = ()  # PEP 508 strings
    requires_python: str | None = None  # None if missing or invalid
    provides_extra: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()  # fields that may differ in a wheel (PEP 643)


def parse_metadata(text: bytes) -> CoreMetadata:
    """Parse core metadata in e-mail form; ignore faults in unneeded fields.

    Raises:
        ValueError: A needed field is missing, duplicated or invalid.
    """
    from packaging.metadata import parse_email  # noqa: PLC0415 - slow, and rarely needed

    raw, unread = parse_email(text)
    for field in _NEEDED:
        if field in unread:
            raise ValueError(f"{field.title()} is duplicated or isn't UTF-8")
    if "name" not in raw:
        raise ValueError("Name is missing")
    if "version" not in raw:
        raise ValueError("Version is missing")
    requires = {str(Requirement(line)) for line in raw.get("requires_dist", ())}
    extras = {canonicalize_name(extra) for extra in raw.get("provides_extra", ())}
    return CoreMetadata(
        metadata_version=str(Version(raw.get("metadata_version", "1.0"))),
        name=canonicalize_name(raw["name"], validate=True),
        version=Version(raw["version"]),
        requires_dist=tuple(sorted(requires)),
        requires_python=_valid_specifier(raw.get("requires_python", "")),
        provides_extra=tuple(sorted(extras)),
        dynamic=tuple(sorted({field.lower() for field in raw.get("dynamic", ())})),
    )


def parse_requires_python(text: bytes) -> str | None:
    """Parse Requires-Python alone; return None if missing or invalid."""
    from packaging.metadata import parse_email  # noqa: PLC0415 - slow, and rarely needed

    return _valid_specifier(parse_email(text)[0].get("requires_python", ""))


def _valid_specifier(text: str) -> str | None:
    try:
        # Installers ignore an invalid specifier too: old releases have ">=3.6.*".
        return str(SpecifierSet(text)) or None
    except InvalidSpecifier:
        return None
