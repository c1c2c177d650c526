"""Compare the packages in an environment with a lock.

The *installation record* of an environment names the wheel of each installed
package. A package counts as different without an entry, or if the list of installed
files has changed since.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name, canonicalize_version

from nox_buildstages.environments.environment import INSTALL_HINT, site_packages
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.system.files import write_text
from nox_buildstages.text import diff

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.key import Ingredient

FILES_NOTE = "nox-buildstages-files.json"
"""The note of an environment's files; only valid for the current packages."""

_INSTALLATION_RECORD = "nox-buildstages.json"


def check_packages(
    environment: Environment, wanted: Mapping[str, Ingredient], *, hint: str
) -> None:
    """Raise an error unless an environment contains exactly the locked packages.

    Args:
        environment: The environment to check.
        wanted: The locked packages by name.
        hint: How the user can fix differences.

    Raises:
        BuildStagesError: The environment contains other packages.
    """
    differences = tuple(find_differences(environment, wanted).values())
    if differences:
        raise difference_error(environment, differences, hint)


def difference_error(
    environment: Environment, differences: Sequence[str], hint: str = INSTALL_HINT
) -> BuildStagesError:
    """Return the error about the differences between an environment and a lock."""
    return BuildStagesError(
        subject=f"environment {environment.location}",
        problem="differs from its lock",
        details=differences,
        hint=hint,
    )


def find_differences(
    environment: Environment, wanted: Mapping[str, Ingredient]
) -> dict[str, str]:
    """Return the differences from a lock in words, by package."""
    installed = _list_packages(environment)
    record = _read_record(environment)
    old = {name: version for name, (version, _) in installed.items()}
    new = {name: ingredient.version for name, ingredient in wanted.items()}
    differences = {
        name: f"{name} {locked} is missing"
        if found is None
        else f"{name} {found} is installed but not in the lock"
        if locked is None
        else f"{name} is {found}, not {locked}"
        for name, found, locked in diff(old, new)
    }
    for name, ingredient in wanted.items():
        if name not in differences:
            version, listed = installed[name]
            if record.get(name) != [ingredient.sha256, listed]:
                differences[name] = f"{name} {version} is not from the locked wheel"
    return dict(sorted(differences.items()))


def record_packages(environment: Environment, wanted: Mapping[str, Ingredient]) -> None:
    """Record from which wheels the packages of an environment were installed."""
    record = {
        name: [wanted[name].sha256, listed]
        for name, (_, listed) in _list_packages(environment).items()
        if name in wanted
    }
    environment.location.joinpath(FILES_NOTE).unlink(missing_ok=True)
    path = environment.location / _INSTALLATION_RECORD
    write_text(path, json.dumps(record, indent=1))


def forget_packages(environment: Environment) -> None:
    """Remove the record; every package will be installed again."""
    for name in (FILES_NOTE, _INSTALLATION_RECORD):
        environment.location.joinpath(name).unlink(missing_ok=True)


def _list_packages(environment: Environment) -> dict[str, tuple[str, str]]:
    """Return the version of each package, and a digest of the list of files."""
    installed: dict[str, tuple[str, str]] = {}
    for folder in site_packages(environment):
        for info in sorted(folder.glob("*.dist-info")):
            name, _, text = info.name.removesuffix(".dist-info").rpartition("-")
            version = canonicalize_version(text, strip_trailing_zero=False)
            record = info / "RECORD"
            listed = record.read_bytes() if record.is_file() else b""
            digest = hashlib.sha256(listed).hexdigest()
            installed[canonicalize_name(name)] = (version, digest)
        for info in sorted(folder.glob("*.egg-info")):
            name, _, version = info.name.removesuffix(".egg-info").partition("-")
            installed[canonicalize_name(name)] = (version.partition("-py")[0], "")
    return installed


def _read_record(environment: Environment) -> dict[str, list[str]]:
    try:
        text = (environment.location / _INSTALLATION_RECORD).read_text("utf-8")
        record = json.loads(text)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
