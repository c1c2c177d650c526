"""Read and verify a wheel file."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import lzma
import re
import zipfile
import zlib
from collections import deque
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from nox_buildstages.errors import WheelError
from nox_buildstages.system.archive_limits import limit_members
from nox_buildstages.system.files import READ_LIMIT, open_file, read_chunks
from nox_buildstages.text import format_size
from nox_buildstages.value import Value
from nox_buildstages.wheels import core_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packaging.tags import Tag
    from packaging.utils import NormalizedName


_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_STRONG_HASHES = frozenset({"sha256", "sha384", "sha512"})
_COLUMNS = 3
_INSTALLED_PACKAGES = re.compile(r"lib/python[\d.]+t?/site-packages/")
"""The folder of packages, as the data of a wheel may name it."""
ELF = b"\x7fELF"
"""The first bytes of a compiled file for Linux."""
_COMPILED = (
    ELF,
    *(b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"),  # Mach-O, of 32 and 64 bits
)
"""The first bytes of compiled files."""
_MACHINE_CODE = (
    *_COMPILED,
    *(b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf"),  # Mach-O, of other byte order
    *(b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"),  # Mach-O, of several processors
    *(b"!<arch>\n", b"!<thin>\n"),  # static libraries
    *(b"MZ", b"BC\xc0\xde", b"\0asm"),  # of Windows, LLVM and WebAssembly
    b"\x50\xed\x55\xba",  # of nvcc, for several GPUs
)
"""The first bytes of files that a compiler may have made."""
_CODE_SUFFIXES = (".obj", ".ptx", ".pyd")
"""The ends of names of such files that don't begin in one way."""
_LONGEST = max(map(len, _MACHINE_CODE))
_LIBC = re.compile(r"(many|musl)linux_(\d+)_(\d+)_")
_LIBC_NAMES = {"many": "glibc", "musl": "musl"}


class WheelFile(Value):
    """A wheel whose file name, folders and METADATA agree; see also CoreMetadata."""

    path: Path
    name: NormalizedName
    version: Version
    tags: frozenset[Tag]
    requires_dist: tuple[str, ...]
    requires_python: str | None

    @property
    def is_pure(self) -> bool:
        """Whether the wheel is for any platform, by its tags."""
        return all(tag.platform == "any" for tag in self.tags)


def read_wheel(path: Path) -> WheelFile:
    """Read a wheel's file name and METADATA, without hashing the contents.

    Raises:
        WheelError: The file isn't a wheel, or parts of the wheel disagree.
    """
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise WheelError(subject=path.name, problem=str(error)) from error
    with open_wheel(path) as archive:
        folder = dist_info_folder(archive)
        content = _read_member(archive, f"{folder}/METADATA")
        try:
            metadata = core_metadata.parse_metadata(content)
        except ValueError as error:
            raise ValueError(f"{folder}/METADATA: {error}") from error
        if f"{folder}/WHEEL" not in archive.namelist():
            raise ValueError(f"{folder}/WHEEL is missing")
        project, _, text = folder.removesuffix(".dist-info").rpartition("-")
        try:
            labels = {folder: (canonicalize_name(project), Version(text))}
        except InvalidVersion as error:
            raise ValueError(f"{folder} isn't NAME-VERSION.dist-info") from error
        labels[f"{folder}/METADATA"] = (metadata.name, metadata.version)
        for location, found in labels.items():
            if found != (name, version):
                raise ValueError(
                    f"{location} says {found[0]} {found[1]}, but the file name says"
                    f" {name} {version}"
                )
    return WheelFile(
        path=path,
        name=name,
        version=version,
        tags=tags,
        requires_dist=metadata.requires_dist,
        requires_python=metadata.requires_python,
    )


def read_metadata(path: Path) -> bytes:
    """Return the METADATA of a wheel, byte for byte, or raise a WheelError."""
    with open_wheel(path) as archive:
        return _read_member(archive, f"{dist_info_folder(archive)}/METADATA")


def member_names(path: Path) -> tuple[str, ...]:
    """Return the names of a wheel's members, or raise a WheelError."""
    with open_wheel(path) as archive:
        return tuple(archive.namelist())


def compiled_members(path: Path) -> tuple[str, ...]:
    """Return the compiled members of a wheel: programs and libraries of Unix systems.

    Wheels for any platform may contain programs for Windows, as setuptools does.

    Raises:
        WheelError: The file isn't a wheel.
    """
    found = []
    with open_wheel(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as stream:
                if stream.read(4) in _COMPILED or info.filename.endswith(".pyd"):
                    found.append(info.filename)
    return tuple(found)


def has_machine_code(path: Path) -> bool:
    """Whether a wheel contains anything that a compiler may have made, for any system.

    Raises:
        WheelError: The file isn't a wheel.
    """
    with open_wheel(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(_CODE_SUFFIXES):
                return True
            with archive.open(info) as stream:
                if stream.read(_LONGEST).startswith(_MACHINE_CODE):
                    return True
    return False


def verify_record(path: Path) -> None:
    """Compare a wheel's members with RECORD, in both directions.

    Raises:
        WheelError: A member is damaged, unlisted, missing or duplicated, or would be
            installed outside the environment.
    """
    with open_wheel(path) as archive:
        files: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            name = PurePosixPath(info.filename)
            if name.is_absolute() or ".." in name.parts:
                raise ValueError(f"{info.filename!r} points outside the wheel")
            if info.filename in files:
                raise ValueError(f"{info.filename!r} is in the archive twice")
            if not info.is_dir():
                files[info.filename] = info
        folder = dist_info_folder(archive)
        record = _read_record(archive, f"{folder}/RECORD")
        unhashed = {f"{folder}/{name}" for name in _UNHASHED}
        for missing in record.keys() - files.keys() - unhashed:
            raise ValueError(f"RECORD lists {missing!r}, which is missing")
        for file, info in files.items():
            if file not in unhashed:
                _verify_member(archive, info, record.get(file))


def installed_files(path: Path) -> dict[str, str]:
    """Return what a wheel installs: paths in an environment, with contents.

    Packages are in ``site-packages``. A content is a hash, or the object that a script
    calls.

    Raises:
        WheelError: RECORD or the entry points can't be read.
    """
    with open_wheel(path) as archive:
        folder = dist_info_folder(archive)
        project = folder.removesuffix(".dist-info")
        places = {
            "purelib": "site-packages/",
            "platlib": "site-packages/",
            "scripts": "bin/",
            "headers": f"include/{project.rpartition('-')[0]}/",
        }
        files: dict[str, str] = {}
        for member, (digest, _) in _read_record(archive, f"{folder}/RECORD").items():
            scheme, _, file = member.removeprefix(f"{project}.data/").partition("/")
            if not member.startswith(f"{project}.data/"):
                files[f"site-packages/{member}"] = digest
            elif scheme in places:
                files[places[scheme] + file] = digest
            else:
                files[_INSTALLED_PACKAGES.sub("site-packages/", file)] = digest
        entry_points = configparser.ConfigParser(
            delimiters=("=",), interpolation=None, strict=False
        )
        entry_points.optionxform = str  # type: ignore[assignment,method-assign]
        if f"{folder}/entry_points.txt" in archive.namelist():
            text = archive.read(f"{folder}/entry_points.txt").decode()
            try:
                entry_points.read_string(text)
            except configparser.Error as error:
                raise ValueError(f"{folder}/entry_points.txt: {error}") from error
        for section in {"console_scripts", "gui_scripts"} & {*entry_points.sections()}:
            for script, call in entry_points[section].items():
                files[f"bin/{script}"] = call
    return files


def libc_versions(tags: Iterable[Tag]) -> Iterator[str]:
    """Yield the C libraries in platform tags, for example ``glibc 2.28``."""
    for tag in tags:
        found = _LIBC.match(tag.platform)
        if found:
            yield f"{_LIBC_NAMES[found[1]]} {found[2]}.{found[3]}"


def projects_by_platform(file_names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of the projects with wheels for each platform tag."""
    found: dict[str, list[str]] = {}
    for file_name in file_names:
        name, _, _, tags = parse_wheel_filename(file_name)
        for platform in {tag.platform for tag in tags}:
            found.setdefault(platform, []).append(name)
    return {platform: found[platform] for platform in sorted(found)}


def dist_info_folder(archive: zipfile.ZipFile) -> str:
    """Return the name of a wheel's only .dist-info folder, or raise a ValueError."""
    tops = {name.partition("/")[0] for name in archive.namelist() if "/" in name}
    folders = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(folders) != 1:
        found = ", ".join(folders) or "none"
        raise ValueError(f"a wheel has one .dist-info folder, this has {found}")
    return folders[0]


@contextmanager
def open_wheel(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a wheel, and raise every fault found in the block as a WheelError."""
    try:
        with open_file(path) as stream, zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            deque(limit_members(members, _describe_member, path.parent), maxlen=0)
            yield archive
    except (
        ValueError,  # ours, and those of core metadata, text and hashes
        OSError,
        EOFError,
        LookupError,  # a member without a name
        RuntimeError,  # an encrypted member, or an unknown compression
        csv.Error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        problem = str(error) or type(error).__name__
        raise WheelError(subject=path.name, problem=problem) from error


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise ValueError(f"{name} is missing")
    if archive.getinfo(name).file_size > READ_LIMIT:
        raise ValueError(f"{name} is larger than {format_size(READ_LIMIT)}")
    return archive.read(name)


def _describe_member(member: zipfile.ZipInfo) -> tuple[str, int]:
    return member.filename, member.file_size


def _read_record(archive: zipfile.ZipFile, name: str) -> dict[str, tuple[str, str]]:
    """Return the hash and the size in RECORD, by member."""
    text = _read_member(archive, name).decode()
    record: dict[str, tuple[str, str]] = {}
    for row in csv.reader(io.StringIO(text, newline="")):
        if len(row) != _COLUMNS:
            raise ValueError(f"{name} has a line that isn't PATH,HASH,SIZE: {row}")
        path, digest, size = row
        if record.setdefault(path, (digest, size)) != (digest, size):
            raise ValueError(f"{name} lists {path!r} twice, with different hashes")
    return record


def _verify_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, listed: tuple[str, str] | None
) -> None:
    if listed is None:
        raise ValueError(f"{info.filename!r} isn't listed in RECORD")
    algorithm, _, expected = listed[0].partition("=")
    if algorithm not in _STRONG_HASHES:
        raise ValueError(f"{info.filename!r} has no sha256 or stronger hash in RECORD")
    digest, size = hashlib.new(algorithm), 0
    with archive.open(info) as stream:
        for chunk in read_chunks(stream):
            digest.update(chunk)
            size += len(chunk)
    found = base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")
    if found != expected.rstrip("="):
        raise ValueError(f"{info.filename!r} doesn't match its {algorithm} in RECORD")
    if listed[1] and listed[1] != str(size):
        raise ValueError(f"{info.filename!r} doesn't match its size in RECORD")
