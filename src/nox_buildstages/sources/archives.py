"""Unpack source archives safely: tar files with any compression, and zip files.

Both kinds are checked in the same way, so an entry of a zip file is described by a
``TarInfo`` too.
"""

from __future__ import annotations

import calendar
import io
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from functools import partial
from pathlib import PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING

from nox_buildstages.sources.trees import refuse_outward_links
from nox_buildstages.system.archive_limits import limit_members
from nox_buildstages.system.files import open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path
    from typing import IO, TypeAlias

    Members: TypeAlias = list[tuple[tarfile.TarInfo, Callable[[], IO[bytes] | None]]]
    """The members of an archive, each with a function that opens its content."""

FAILURES = (
    *(OSError, EOFError, RuntimeError, ValueError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""The exceptions of unpacking: unsafe members are ValueErrors."""

_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
_LATEST_MTIME = 2**32 - 1


def unpack_archive(archive: Path, target: Path, *, only: Collection[str] = ()) -> None:
    """Unpack a tar or zip archive into an empty folder, and only there.

    Files get the times of the archive and the modes 0644 or 0755; owners and all
    other bits are dropped. If ``only`` has names of files, other files below the top of
    the archive are checked but not written, unless the archive contains links.

    Raises:
        FAILURES: The archive is damaged, unsafe or of an unknown kind, or a file can't
            be written.
    """
    with open_file(archive) as stream:
        is_zip = stream.read(4) in _ZIP_SIGNATURES
    if is_zip:
        with zipfile.ZipFile(archive) as opened:
            entries = limit_members(
                opened.infolist(), lambda it: (it.filename, it.file_size), target
            )
            members: Members = [
                (_describe_entry(opened, entry), partial(opened.open, entry))
                for entry in entries
            ]
            _write_members(members, target, only)
    else:
        with tarfile.open(archive) as tar:
            infos = limit_members(tar, lambda it: (it.name, it.size), target)
            members = [(info, partial(tar.extractfile, info)) for info in infos]
            _write_members(members, target, only)


def _describe_entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo
) -> tarfile.TarInfo:
    if not entry.filename:
        raise ValueError("a member has no name")
    info = tarfile.TarInfo(entry.filename)
    info.mode = entry.external_attr >> 16
    if entry.is_dir():
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(info.mode):
        info.type = tarfile.SYMTYPE
        info.linkname = archive.read(entry).decode()
    elif stat.S_IFMT(info.mode) not in (0, stat.S_IFREG):
        info.type = tarfile.FIFOTYPE
    # The time zone is unknown; some tools write a month and a day of 0.
    year, month, day, *clock = entry.date_time
    info.mtime = calendar.timegm((year, min(max(month, 1), 12), max(day, 1), *clock))
    return info


def _write_members(members: Members, target: Path, only: Collection[str]) -> None:
    infos = [info for info, _ in members]
    _refuse_unsafe_members(infos)
    if any(info.islnk() or info.issym() for info in infos):
        only = ()
    # A second opinion; Python has the filter from 3.10.12 and 3.11.4 on.
    data_filter = getattr(tarfile, "data_filter", lambda _info, _target: None)
    created = {target}
    for info, open_content in members:
        path = target / PurePosixPath(info.name)
        folder = path if info.isdir() else path.parent
        is_wanted = not only or path.name in only or path.parent == target
        if not is_wanted:  # the folder at the top counts, even without such files
            folder = target / PurePosixPath(info.name).parts[0]
        if folder not in created:
            folder.mkdir(parents=True, exist_ok=True)
            created.add(folder)
        if info.isdir() or not is_wanted:
            continue
        data_filter(info, str(target))
        if info.issym():
            path.symlink_to(info.linkname)
            continue
        path.unlink(missing_ok=True)  # the last of two members of one name counts
        link = (target / info.linkname).open("rb") if info.islnk() else None
        with link or open_content() or io.BytesIO() as content, path.open("xb") as file:
            shutil.copyfileobj(content, file)
        path.chmod(0o755 if info.mode & stat.S_IXUSR else 0o644)
        mtime = max(0, min(info.mtime, _LATEST_MTIME))
        os.utime(path, (mtime, mtime))
    if any(info.issym() for info in infos):
        refuse_outward_links(target)


def _refuse_unsafe_members(infos: Collection[tarfile.TarInfo]) -> None:
    """Refuse members outside the archive's tree.

    Names alone can't show whether a chain of links leads outside; the caller checks
    the written links too.

    Raises:
        ValueError: A member is unsafe; the message names the member.
    """
    links = {PurePosixPath(info.name) for info in infos if info.issym()}
    for info in infos:
        if problem := _find_problem(info, links):
            raise ValueError(f"its member {info.name!r} {problem}")
    paths = (PurePosixPath(info.name) for info in infos if links)
    for path, count in Counter(paths).items():
        if count > 1 and path in links:
            raise ValueError(f"its member {str(path)!r} is there twice, once as a link")


def _find_problem(info: tarfile.TarInfo, links: set[PurePosixPath]) -> str | None:
    path = PurePosixPath(info.name)
    if not (info.isfile() or info.isdir() or info.issym() or info.islnk()):
        return "is a device or a pipe"
    if problem := _find_path_problem(path, links):
        return problem
    if path == PurePosixPath() and not info.isdir():
        return "has no name"
    if info.issym():
        leads = PurePosixPath(normpath(path.parent / info.linkname))
        if leads.is_absolute() or ".." in leads.parts:
            return f"links to {info.linkname!r}, outside the archive"
    if info.islnk():
        leads = PurePosixPath(info.linkname)
        if _find_path_problem(leads, links) or leads in links:
            return f"links to {info.linkname!r}, which isn't a file of the archive"
    return None


def _find_path_problem(path: PurePosixPath, links: set[PurePosixPath]) -> str | None:
    if path.is_absolute():
        return "has an absolute path"
    if ".." in path.parts:
        return "leads out of the archive"
    if links and not links.isdisjoint(path.parents):
        return "lies behind a link"
    return None
