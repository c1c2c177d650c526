"""METADATA and PKG-INFO: the fields that locking and checking wheels need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

if TYPE_CHECKING:
    from packaging.metadata import RawMetadata
    from packaging.utils import NormalizedName

_NEEDED = ("metadata-version", "name", "version", "requires-dist", "dynamic")


@dataclass(frozen=True, kw_only=True, slots=True)
class CoreMetadata:
    """What a distribution says of itself.

    Attributes:
        metadata_version: Of the format; 1.0 where the text doesn't say.
        name: Of the project.
        version: Of the distribution.
        requires_dist: PEP 508 strings, sorted.
        requires_python: A PEP 440 specifier; None where there is no valid one.
        provides_extra: Normalized names, sorted.
        dynamic: Fields that a wheel may say otherwise (PEP 643), in lower case, sorted.
    """

    metadata_version: str
    name: NormalizedName
    version: Version
    requires_dist: tuple[str, ...] = ()
    requires_python: str | None = None
    provides_extra: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()


def parse(text: bytes) -> CoreMetadata:
    """Read core metadata in its e-mail form; be lenient in what isn't needed.

    Raises:
        ValueError: A field that is needed is missing, there more than once, or
            can't be understood.
    """
    from packaging.metadata import parse_email  # noqa: PLC0415 - slow; few runs read

    raw, unread = parse_email(text)
    for field in _NEEDED:
        if field in unread:
            raise ValueError(f"{field.title()} is there twice or isn't UTF-8")
    requires = {str(Requirement(line)) for line in raw.get("requires_dist", ())}
    return CoreMetadata(
        metadata_version=str(Version(raw.get("metadata_version", "1.0"))),
        name=_name(raw),
        version=_version(raw),
        requires_dist=tuple(sorted(requires)),
        requires_python=_requires_python(raw),
        provides_extra=tuple(
            sorted(
                {canonicalize_name(extra) for extra in raw.get("provides_extra", ())}
            )
        ),
        dynamic=tuple(sorted({field.lower() for field in raw.get("dynamic", ())})),
    )


def requires_python(text: bytes) -> str | None:
    """Return a PEP 440 specifier, whatever else is wrong; None for no valid one."""
    from packaging.metadata import parse_email  # noqa: PLC0415 - slow; few runs read

    return _requires_python(parse_email(text)[0])


def _name(raw: RawMetadata) -> NormalizedName:
    if "name" not in raw:
        raise ValueError("Name is missing")
    return canonicalize_name(raw["name"], validate=True)


def _version(raw: RawMetadata) -> Version:
    if "version" not in raw:
        raise ValueError("Version is missing")
    return Version(raw["version"])


def _requires_python(raw: RawMetadata) -> str | None:
    try:
        # Installers ignore an invalid one too: old releases have ">=3.6.*".
        return str(SpecifierSet(raw.get("requires_python", ""))) or None
    except InvalidSpecifier:
        return None
