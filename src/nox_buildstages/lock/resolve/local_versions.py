"""Local versions and requirements, made of versions in a stage's environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import Version

from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.config.local_version import fill, is_local_version
from nox_buildstages.errors import LocalVersionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.files.lockfile import Pin
    from nox_buildstages.model import Template


def local_version(
    template: Template, pins: Iterable[Pin], *, output: NormalizedName, stage: str
) -> str:
    """Return the local version of an output, normalized.

    Raises:
        LocalVersionError: The template names a project outside the environment, or the
            result is no local version.
    """
    result = fill_template(
        template, pins, key="local-version", output=output, stage=stage
    )
    if not is_local_version(result):
        raise LocalVersionError(
            output=output,
            stage=stage,
            problem=f"local-version gives {result!r}, which isn't a valid local"
            " version",
            hint=f"change {template.location}",
        )
    return str(Version(f"0+{result}").local)


def added_requirements(
    templates: Iterable[Template],
    pins: Collection[Pin],
    *,
    output: NormalizedName,
    stage: str,
) -> tuple[str, ...]:
    """Return the requirements that the table adds to an output's wheel.

    Raises:
        LocalVersionError: A template names a project outside the environment.
    """
    texts = (
        fill_template(it, pins, key="requires-dist", output=output, stage=stage)
        for it in templates
    )
    return tuple(str(Requirement(text)) for text in texts)


def fill_template(
    template: Template,
    pins: Iterable[Pin],
    *,
    key: str,
    output: NormalizedName,
    stage: str,
) -> str:
    """Return a text with the versions of an environment.

    Raises:
        LocalVersionError: The template names a project outside the environment.
    """
    versions = {pin.name: pin.version.public for pin in pins}

    def version(name: NormalizedName) -> str:
        if name in versions:
            return versions[name]
        raise LocalVersionError(
            output=output,
            stage=stage,
            problem=f"{key} uses {{{name}}}, which is neither a package in the"
            f" environment of stage {stage} nor an axis{did_you_mean(name, versions)}",
            hint=f'correct {template.location}, or add "{name}" to the dependencies of'
            f" stage {stage}",
        )

    return fill(template, version)


def with_local_version(version: Version, local: str) -> Version:
    """Return a version with another local part."""
    return Version(f"{version.public}+{local}")
