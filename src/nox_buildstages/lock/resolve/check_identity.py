"""Compare what a source and its build backend say they are with what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.config import writing
from nox_buildstages.errors import MetadataError
from nox_buildstages.lock.files.pylock import sdist_version
from nox_buildstages.model import ArchiveSource, DirectorySource

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from nox_buildstages.lock.resolve.known_metadata import (
        KnownMetadata,
        StaticMetadata,
    )
    from nox_buildstages.model import Metadata, Output

_NO_NAME = canonicalize_name("UNKNOWN")
_NO_VERSION = Version("0.0.0")
"""Fallbacks of setuptools if it finds no name or no version."""

_FALLBACKS = {
    "setuptools-git-versioning": Version("0.0.1"),
    "versioneer": Version("0+unknown"),
}
"""The versions of projects that look for one in a git repository, if there is none."""


def check_name(output: str, stage: str, found: NormalizedName | None) -> None:
    """Raise a MetadataError if a source is the source of another project."""
    problem = f"its source is the source of {found}"
    hint = f"name {found} in the outputs of stage {stage}"
    if found is None or found == output:
        return
    if found == _NO_NAME:
        problem = "its build backend doesn't know its name"
        table = writing.build_requires_table(output, add=["setuptools>=61"], remove=())
        first = "older versions of setuptools don't read [project]; take a newer one:"
        hint = "\n".join((first, *table))
    raise MetadataError(output=output, stage=stage, problem=problem, hint=hint)


def check_source(output: Output, stage: str, static: StaticMetadata) -> None:
    """Raise a MetadataError if a source isn't the project or version asked for."""
    check_name(output.name, stage, static.identity.name)
    named, stated = _version_in_name(output, static), static.identity.version
    if static.is_patched or named is None or stated is None:
        return
    if _public(named) != _public(stated):
        raise MetadataError(
            output=output.name,
            stage=stage,
            problem=f"its sdist is {named} by its name, and {stated} by its metadata",
            hint="choose another version, or name its source:"
            f' "{output.name} @ git+https://…@<ref>"',
        )


def check_version(
    output: Output, stage: str, known: KnownMetadata, metadata: Metadata
) -> None:
    """Raise a MetadataError if an output has another version than the lock.

    An unpatched archive has the stated version. Other sources may state a version out
    of date, so only the fallback of a backend is a contradiction.
    """
    static, found = known.static[output.name], metadata.version
    plugin = static.identity.version_plugin
    stated = static.identity.version or _version_in_name(output, static)
    is_archive = isinstance(static.choice.source, ArchiveSource)
    is_fallback = found == _NO_VERSION or (
        plugin is not None
        and isinstance(static.choice.source, DirectorySource)
        and found == _FALLBACKS.get(plugin[0])
    )
    if (
        stated is not None
        and _public(stated) != _public(found)
        and (is_fallback or (is_archive and not static.is_patched))
    ):
        kind = "sdist" if is_archive else "source"
        problem = f"its {kind} is {stated}, and its build backend says {found}"
    elif stated is None and is_fallback and plugin is not None:
        problem = f"its build backend finds no version and says {found}"
    elif not output.accepts(found):
        wanted = output.requirement.specifier
        problem = f"its version is {found}, and {wanted} is wanted"
    else:
        return
    hint = f"correct {output.location}, or the version in the source"
    if is_fallback and plugin is not None:
        hint = _plugin_hint(output.name, plugin, known, stated) or hint
    raise MetadataError(output=output.name, stage=stage, problem=problem, hint=hint)


def _plugin_hint(
    output: NormalizedName,
    plugin: tuple[str, str],
    known: KnownMetadata,
    version: Version | None,
) -> str:
    """Return the hint to let a plugin find a version; none if that was tried."""
    name, variable = plugin
    if not variable:
        return (
            f'builds see no git repository of a folder: use "{output} @ git+https://…"'
        )
    asked = known.answers.get(output)
    if asked is None or name not in {pin.name for pin in asked.pins}:
        table = writing.build_requires_table(output, add=[name], remove=())
        return "\n".join((f"it may lack {name}; add it in pyproject.toml:", *table))
    variable = variable.format(output.replace("-", "_").upper())
    if variable in known.project.rules(output).env:
        return ""
    table = writing.package_table(output, "env", {variable: str(version or "1.0")})
    return "\n".join((f"{name} needs its version, in pyproject.toml:", *table))


def _version_in_name(output: Output, static: StaticMetadata) -> Version | None:
    """Return the version in the name of an sdist, if any."""
    choice = static.choice
    return choice.version or sdist_version(output.name, choice.source)


def _public(version: Version) -> Version:
    return Version(version.public)
