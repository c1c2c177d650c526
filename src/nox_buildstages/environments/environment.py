"""Environments: made equal to their locks, and what a backend sees of the outer one."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name, canonicalize_version

from nox_buildstages.errors import EnvironmentDiffersError
from nox_buildstages.system.files import atomic_write, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.store.key import Ingredient

OUTER_VARIABLES = (
    "CURL_CA_BUNDLE",
    "LANG",
    "LANGUAGE",
    "PATH",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEMROOT",
    "TZ",
)
"""What of the outer environment a backend sees, besides ``LC_*`` and ``pass-env``."""

INSTALL_HINT = (
    "run nox without -R and --no-install, so that the environment can be updated"
)
"""What mends an environment that nox doesn't let be changed."""

EPOCH = "315532800"
"""1980-01-01, the first moment that a zip file can hold (``SOURCE_DATE_EPOCH``)."""

_STAMP = "nox-buildstages.json"
FILES_NOTE = "nox-buildstages-files.json"
"""What files an environment had when it was made; gone where that isn't known."""


def _yes() -> bool:
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A virtual environment.

    Attributes:
        location: Its folder.
        bin: The folder of its programs.
        python: Its interpreter.
        may_install: Whether nox lets it be changed; not so with ``-R``.
        may_run: Whether nox lets programs run in it; not so with ``--install-only``.
    """

    location: Path
    bin: Path
    python: Path
    may_install: Callable[[], bool] = _yes
    may_run: Callable[[], bool] = _yes


def is_complete(location: Path) -> bool:
    """Say whether a folder is an environment, and not one that is half made."""
    python = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    try:
        settings = location.joinpath("pyvenv.cfg").stat()
    except OSError:
        return False
    return settings.st_size > 0 and location.joinpath(*python).exists()


def check_installed(
    environment: Environment, wanted: Mapping[str, Ingredient], *, hint: str
) -> None:
    """See that an environment holds exactly what is wanted.

    Args:
        environment: To look at.
        wanted: What it should hold.
        hint: What the user can do where it doesn't.

    Raises:
        EnvironmentDiffersError: It doesn't.
    """
    differences = tuple(find_differences(environment, wanted).values())
    if differences:
        raise EnvironmentDiffersError(
            environment=environment.location, differences=differences, hint=hint
        )


def find_differences(
    environment: Environment, wanted: Mapping[str, Ingredient]
) -> dict[str, str]:
    """Return what in an environment isn't as wanted, by project, in words."""
    present = _inventory(environment)
    stamp = _read_stamp(environment)
    differences = {
        name: f"{name} {version} is there and not in the lock"
        for name, (version, _) in present.items()
        if name not in wanted
    }
    for name, ingredient in wanted.items():
        if name not in present:
            differences[name] = f"{name} {ingredient.version} is missing"
            continue
        version, record = present[name]
        if version != ingredient.version:
            differences[name] = f"{name} is {version}, not {ingredient.version}"
        elif stamp.get(name) != [ingredient.sha256, record]:
            differences[name] = f"{name} {version} is not from the locked wheel"
    return dict(sorted(differences.items()))


def write_direct_url(environment: Environment, name: str, folder: Path) -> None:
    """Say of a project in an environment that it leads to a folder (PEP 610, PEP 660).

    Args:
        environment: That it is in.
        name: Its normalized name.
        folder: That holds its source.
    """
    for place in _site_packages(environment.location):
        for info in sorted(place.glob("*.dist-info")):
            if canonicalize_name(info.stem.rpartition("-")[0]) == name:
                _redirect(
                    info, {"url": folder.as_uri(), "dir_info": {"editable": True}}
                )


def _redirect(info: Path, origin: Mapping[str, object]) -> None:
    """Replace where an installer has something from, in its RECORD too."""
    text = json.dumps(origin)
    write_text(info / "direct_url.json", text)
    name = f"{info.name}/direct_url.json"
    digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
    with (info / "RECORD").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.reader(stream) if row and row[0] != name]
    rows.append([name, f"sha256={digest.rstrip('=')}", str(len(text.encode()))])
    with atomic_write(info / "RECORD") as new, new.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def read_metadata(environment: Environment) -> Iterator[bytes]:
    """Yield the METADATA of every project in an environment."""
    for folder in _site_packages(environment.location):
        for file in sorted(folder.glob("*.dist-info/METADATA")):
            yield file.read_bytes()


def list_files(environment: Environment) -> Iterator[str]:
    """Yield the files of every project in an environment, as its RECORD names them."""
    for folder in _site_packages(environment.location):
        for record in sorted(folder.glob("*.dist-info/RECORD")):
            with record.open(encoding="utf-8", newline="") as stream:
                yield from (row[0] for row in csv.reader(stream) if row)


def backend_variables(
    outer: Mapping[str, str],
    environment: Environment,
    *,
    declared: Mapping[str, str],
    home: Path,
) -> dict[str, str]:
    """Return the environment variables of a build backend.

    Args:
        outer: The variables that nox was started with.
        environment: In which the backend runs; its programs come first on ``PATH``,
            whatever is declared.
        declared: The variables that the table declares or lets through.
        home: A folder of its own, for ``HOME`` and for temporary files.
    """
    let_through = {
        name: value
        for name, value in outer.items()
        if name in OUTER_VARIABLES or name.startswith("LC_")
    }
    variables = {
        **let_through,
        "HOME": str(home),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",  # a log has its last words when it is killed
        "SOURCE_DATE_EPOCH": EPOCH,
        "TMPDIR": str(home),
        "VIRTUAL_ENV": str(environment.location),
        **declared,
    }
    path = os.pathsep.join(filter(None, (str(environment.bin), variables.get("PATH"))))
    return {**variables, "PATH": path}


def _inventory(environment: Environment) -> dict[str, tuple[str, str]]:
    """Return each project's version, and a digest of the list of its files."""
    found: dict[str, tuple[str, str]] = {}
    for folder in _site_packages(environment.location):
        for info in sorted(folder.glob("*.dist-info")):
            name, _, spelled = info.name[: -len(".dist-info")].rpartition("-")
            version = canonicalize_version(spelled, strip_trailing_zero=False)
            record = info / "RECORD"
            listed = record.read_bytes() if record.is_file() else b""
            digest = hashlib.sha256(listed).hexdigest()
            found[canonicalize_name(name)] = (version, digest)
        for info in sorted(folder.glob("*.egg-info")):
            name, _, version = info.name[: -len(".egg-info")].partition("-")
            found[canonicalize_name(name)] = (version.partition("-py")[0], "")
    return found


def _site_packages(location: Path) -> Iterator[Path]:
    for library in ("lib", "lib64"):
        if not (location / library).is_symlink():
            yield from sorted((location / library).glob("python*/site-packages"))
    if os.name == "nt":  # pragma: no cover
        yield location / "Lib" / "site-packages"


def _read_stamp(environment: Environment) -> dict[str, list[str]]:
    try:
        text = (environment.location / _STAMP).read_text(encoding="utf-8")
        stamp = json.loads(text)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(environment: Environment, wanted: Mapping[str, Ingredient]) -> None:
    """Note from which wheels an environment has been made."""
    present = _inventory(environment)
    stamp = {
        name: [wanted[name].sha256, record]
        for name, (_, record) in present.items()
        if name in wanted
    }
    environment.location.joinpath(FILES_NOTE).unlink(missing_ok=True)
    write_text(environment.location / _STAMP, json.dumps(stamp, indent=1))


def forget_stamp(environment: Environment) -> None:
    """Let an environment count as made from other wheels, so that it is made anew."""
    for name in (FILES_NOTE, _STAMP):
        environment.location.joinpath(name).unlink(missing_ok=True)
