"""Local versions of outputs, made of versions in their stage's environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.config.local_version import fill, is_local_version
from nox_buildstages.errors import LocalVersionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.files.lockfile import Pin
    from nox_buildstages.model import LocalVersion


def local_version(
    template: LocalVersion, pins: Iterable[Pin], *, output: NormalizedName, stage: str
) -> str:
    """Return the local version of an output, normalized.

    Raises:
        LocalVersionError: The template names a project outside the environment, or the
            result is no local version.
    """
    versions = {pin.name: pin.version.public for pin in pins}

    def error(problem: str, hint: str) -> LocalVersionError:
        return LocalVersionError(output=output, stage=stage, problem=problem, hint=hint)

    def version(name: NormalizedName) -> str:
        if name in versions:
            return versions[name]
        raise error(
            f"local-version uses {{{name}}}, which is neither a package in the"
            f" environment of stage {stage} nor an axis{did_you_mean(name, versions)}",
            f'correct {template.location}, or add "{name}" to the dependencies of'
            f" stage {stage}",
        )

    result = fill(template, version)
    if not is_local_version(result):
        raise error(
            f"local-version gives {result!r}, which isn't a valid local version",
            f"change {template.location}",
        )
    return str(Version(f"0+{result}").local)


def with_local_version(version: Version, local: str) -> Version:
    """Return a version with another local part."""
    return Version(f"{version.public}+{local}")
