"""What a wheel file says, and whether it is sound."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from nox_buildstages.errors import WheelError
from nox_buildstages.system.files import read_chunks
from nox_buildstages.wheels import core_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packaging.tags import Tag
    from packaging.utils import NormalizedName

    from nox_buildstages.wheels.core_metadata import CoreMetadata

_SIGNATURES = ("RECORD", "RECORD.jws", "RECORD.p7s")
_STRONG = frozenset({"sha256", "sha384", "sha512"})
_ROW = 3
_LIBC = re.compile(r"(many|musl)linux_(\d+)_(\d+)_")
_LIBCS = {"many": "glibc", "musl": "musl"}


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelFile:
    """A wheel whose name, folders and METADATA agree.

    Attributes:
        path: Of the file.
        name: Of the project.
        version: Of the wheel.
        tags: That its file name expands to.
        requires_dist: PEP 508 strings, sorted.
        requires_python: A PEP 440 specifier, or None.
        provides_extra: Normalized names, sorted.
    """

    path: Path
    name: NormalizedName
    version: Version
    tags: frozenset[Tag]
    requires_dist: tuple[str, ...]
    requires_python: str | None
    provides_extra: tuple[str, ...]


def read(path: Path) -> WheelFile:
    """Read what a wheel says of itself, as far as its parts agree.

    Its contents are not hashed: that is what ``verify`` is for.

    Raises:
        WheelError: It isn't a wheel, or says one thing here and another there.
    """
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise WheelError(wheel=path.name, problem=str(error)) from error
    with _opened(path) as archive:
        folder = dist_info(archive)
        metadata = _metadata(archive, folder)
        if f"{folder}/WHEEL" not in archive.namelist():
            raise ValueError(f"{folder}/WHEEL is missing")
        _agree(folder, _folder_says(folder), (name, version))
        _agree(f"{folder}/METADATA", (metadata.name, metadata.version), (name, version))
    return WheelFile(
        path=path,
        name=name,
        version=version,
        tags=tags,
        requires_dist=metadata.requires_dist,
        requires_python=metadata.requires_python,
        provides_extra=metadata.provides_extra,
    )


def metadata(path: Path) -> bytes:
    """Return the METADATA of a wheel, byte for byte.

    Raises:
        WheelError: It isn't a wheel, or has none.
    """
    with _opened(path) as archive:
        return _member(archive, f"{dist_info(archive)}/METADATA")


def by_platform(file_names: Iterable[str]) -> dict[str, list[str]]:
    """Return the projects whose wheels name a platform in their tags, by platform."""
    found: dict[str, list[str]] = {}
    for file_name in file_names:
        name, _, _, tags = parse_wheel_filename(file_name)
        for platform in {tag.platform for tag in tags}:
            found.setdefault(platform, []).append(name)
    return {platform: found[platform] for platform in sorted(found)}


def verify(path: Path) -> None:
    """Hold a wheel's contents against its RECORD, both ways.

    Raises:
        WheelError: A member is damaged, unlisted, missing, there twice, or would
            be installed outside its place.
    """
    with _opened(path) as archive:
        files = _files(archive)
        folder = dist_info(archive)
        record = _record(archive, folder)
        exempt = {f"{folder}/{name}" for name in _SIGNATURES}
        for name in record.keys() - files.keys() - exempt:
            raise ValueError(f"RECORD lists {name!r}, which isn't there")
        for name, info in files.items():
            if name not in exempt:
                _verify_member(archive, info, record.get(name))


def c_libraries(tags: Iterable[Tag]) -> Iterator[str]:
    """Yield the C libraries that platform tags name, such as ``glibc 2.28``."""
    for tag in tags:
        found = _LIBC.match(tag.platform)
        if found:
            yield f"{_LIBCS[found[1]]} {found[2]}.{found[3]}"


def dist_info(archive: zipfile.ZipFile) -> str:
    """Return the name of a wheel's .dist-info folder.

    Raises:
        ValueError: There isn't one, or there are several.
    """
    tops = {name.partition("/")[0] for name in archive.namelist() if "/" in name}
    folders = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(folders) != 1:
        found = ", ".join(folders) or "none"
        raise ValueError(f"it must hold one .dist-info folder, found {found}")
    return folders[0]


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a wheel, and word whatever is found wrong in it as a WheelError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (
        ValueError,  # ours, and what core metadata, text and hashes can raise
        OSError,
        EOFError,
        RuntimeError,  # an encrypted member, or an unknown compression
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        problem = str(error) or type(error).__name__
        raise WheelError(wheel=path.name, problem=problem) from error


def _metadata(archive: zipfile.ZipFile, folder: str) -> CoreMetadata:
    name = f"{folder}/METADATA"
    content = _member(archive, name)
    try:
        return core_metadata.parse(content)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise ValueError(f"{name} is missing")
    return archive.read(name)


def _folder_says(folder: str) -> tuple[NormalizedName, Version]:
    name, _, version = folder.removesuffix(".dist-info").rpartition("-")
    try:
        return canonicalize_name(name), Version(version)
    except InvalidVersion as error:
        raise ValueError(f"{folder} isn't NAME-VERSION.dist-info") from error


def _agree(
    place: str, found: tuple[str, Version], filename: tuple[str, Version]
) -> None:
    if found != filename:
        says, wanted = (f"{name} {version}" for name, version in (found, filename))
        raise ValueError(f"{place} says {says}, the file name {wanted}")


def _files(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    files: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{info.filename!r} leads out of the wheel")
        if info.filename in files:
            raise ValueError(f"{info.filename!r} is there twice")
        if not info.is_dir():
            files[info.filename] = info
    return files


def _record(archive: zipfile.ZipFile, folder: str) -> dict[str, tuple[str, str]]:
    """Return hash and size by path."""
    name = f"{folder}/RECORD"
    text = _member(archive, name).decode()
    record: dict[str, tuple[str, str]] = {}
    for row in csv.reader(io.StringIO(text, newline="")):
        if len(row) != _ROW:
            raise ValueError(f"{name} has a line that isn't PATH,HASH,SIZE: {row}")
        path, digest, size = row
        if record.setdefault(path, (digest, size)) != (digest, size):
            raise ValueError(f"{name} lists {path!r} twice, differently")
    return record


def _verify_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, listed: tuple[str, str] | None
) -> None:
    if listed is None:
        raise ValueError(f"{info.filename!r} isn't listed in RECORD")
    algorithm, _, expected = listed[0].partition("=")
    if algorithm not in _STRONG:
        raise ValueError(f"{info.filename!r} has no sha256 or better in RECORD")
    digest, size = hashlib.new(algorithm), 0
    with archive.open(info) as stream:
        for chunk in read_chunks(stream):
            digest.update(chunk)
            size += len(chunk)
    found = base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")
    if found != expected.rstrip("="):
        raise ValueError(f"{info.filename!r} isn't what RECORD says: {algorithm}")
    if listed[1] and listed[1] != str(size):
        raise ValueError(f"{info.filename!r} isn't what RECORD says: size")
