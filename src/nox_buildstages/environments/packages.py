"""The packages in an environment: list them, and compare them with a lock.

The *installation record* of an environment names the wheel of each installed
package. A package counts as different without an entry, or if the list of installed
files has changed since.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name, canonicalize_version

from nox_buildstages import reader
from nox_buildstages.environments.environment import INSTALL_HINT
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.store.key import digest_json
from nox_buildstages.system.documents import find_json
from nox_buildstages.system.files import atomic_write, write_text
from nox_buildstages.text import diff

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.key import Ingredient

FILES_NOTE = "nox-buildstages-files.json"
"""The listing of an environment's files; only valid for the current packages."""

IMPORTS_NOTE = "nox-buildstages-imports.txt"
"""A digest of what the last imports depended on; only there if they worked."""

_INSTALLATION_RECORD = "nox-buildstages.json"


def site_packages(environment: Environment) -> Iterator[Path]:
    """Yield the folders of installed packages."""
    for name in ("lib", "lib64"):
        library = environment.location / name
        if not library.is_symlink():
            yield from sorted(library.glob("python*/site-packages"))


def read_metadata(environment: Environment) -> Iterator[bytes]:
    """Yield the METADATA of every installed package."""
    for folder in site_packages(environment):
        for file in sorted(folder.glob("*.dist-info/METADATA")):
            yield file.read_bytes()


def list_packages(environment: Environment) -> dict[str, tuple[str, str]]:
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


def list_files(environment: Environment) -> dict[str, dict[str, str]]:
    """Return the files of each installed package, with the hashes, as in RECORD.

    Paths are relative to the environment. Instead of a missing hash there is the name
    of the package.
    """
    found: dict[str, dict[str, str]] = {}
    for folder in site_packages(environment):
        base = folder.relative_to(environment.location).as_posix()
        for record in sorted(folder.glob("*.dist-info/RECORD")):
            name = canonicalize_name(record.parent.stem.rpartition("-")[0])
            files = found.setdefault(name, {})
            with record.open(
                encoding="utf-8", errors="surrogateescape", newline=""
            ) as stream:
                for path, *hashes in filter(None, csv.reader(stream)):
                    place = f"{base}/{path}"
                    if path.startswith(("..", "/")):  # few of thousands
                        place = os.path.normpath(os.path.join(base, path))  # noqa: PTH118 - as text
                    files[place] = (hashes and hashes[0]) or name
    return found


def check_packages(
    environment: Environment, wanted: Mapping[str, Ingredient], *, hint: str
) -> None:
    """Raise an error unless an environment contains exactly the locked packages.

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
    installed = list_packages(environment)
    record = read_record(environment.location)
    old = {name: version for name, (version, _) in installed.items()}
    new = {name: ingredient.version for name, ingredient in wanted.items()}
    for name in old.keys() & new.keys():
        spellings = {old[name], new[name]}
        if len({*map(canonicalize_version, spellings)}) == 1:
            new[name] = old[name]  # a wheel of 1.0 may spell it 1
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
        for name, (_, listed) in list_packages(environment).items()
        if name in wanted
    }
    environment.location.joinpath(FILES_NOTE).unlink(missing_ok=True)
    path = environment.location / _INSTALLATION_RECORD
    write_text(path, json.dumps(record, indent=1))


def digest_packages(environment: Environment) -> str:
    """Return a digest of the packages in an environment, by their records.

    Names beside the packages count, too: a file from a user may change imports.
    """
    paths = (path for it in site_packages(environment) for path in it.iterdir())
    names = {path.name for path in paths} - {"__pycache__"}
    return digest_json([read_record(environment.location), sorted(names)])


def has_packages_record(environment: Environment) -> bool:
    """Whether packages were installed here, as far as it's recorded."""
    return environment.location.joinpath(_INSTALLATION_RECORD).exists()


def forget_packages(environment: Environment) -> None:
    """Remove the record; every package will be installed again."""
    for name in (FILES_NOTE, IMPORTS_NOTE, _INSTALLATION_RECORD):
        environment.location.joinpath(name).unlink(missing_ok=True)


def write_direct_url(environment: Environment, name: str, folder: Path) -> None:
    """Write the ``direct_url.json`` of an editable package, listed in RECORD."""
    text = json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}})
    content = text.encode()
    sha256 = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    for packages in site_packages(environment):
        for info in sorted(packages.glob("*.dist-info")):
            if canonicalize_name(info.stem.rpartition("-")[0]) != name:
                continue
            write_text(info / "direct_url.json", text)
            file = f"{info.name}/direct_url.json"
            with (info / "RECORD").open(encoding="utf-8", newline="") as stream:
                rows = [row for row in csv.reader(stream) if row and row[0] != file]
            rows.append([file, f"sha256={sha256}", str(len(content))])
            with (
                atomic_write(info / "RECORD") as new,
                new.open("w", encoding="utf-8", newline="") as stream,
            ):
                csv.writer(stream, lineterminator="\n").writerows(rows)


def read_record(location: Path) -> dict[str, list[str]]:
    """Return the wheel of each package, and a digest of its list of files."""
    pair = reader.list_of(reader.text)
    path = location / _INSTALLATION_RECORD
    found = find_json(path, reader.mapping_of(pair)) or {}
    return {name: [*it] for name, it in found.items() if len(it) == 2}  # noqa: PLR2004 - a pair
