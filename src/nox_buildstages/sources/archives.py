"""Unpacking archives from strangers: tar, however compressed, and zip."""

from __future__ import annotations

import calendar
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING

from nox_buildstages.sources.trees import refuse_outward_links

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path
    from typing import IO

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_LATEST = 2**32 - 1


class MemberKind(Enum):
    """What a member of an archive is."""

    FILE = auto()
    FOLDER = auto()
    SYMLINK = auto()
    HARDLINK = auto()
    SPECIAL = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveMember:
    """An entry of an archive.

    Attributes:
        name: As the archive has it.
        kind: What it is.
        link: Where a link leads: relative to its folder for a symbolic one, to the
            archive's top for a hard one.
        executable: Whether its owner may run it.
        mtime: Seconds since 1970.
        content: Opens what a file holds.
        vet: A second opinion, asked just before it is written.
    """

    name: str
    kind: MemberKind
    link: str = ""
    executable: bool = False
    mtime: float = 0
    content: Callable[[], IO[bytes]] = io.BytesIO
    vet: Callable[[], object] = lambda: None

    @property
    def path(self) -> PurePosixPath:
        """Its name without the noise, such as a leading ``./``."""
        return PurePosixPath(self.name)


def unpack_archive(archive: Path, target: Path, *, only: Collection[str] = ()) -> None:
    """Unpack a tar or zip archive into an empty folder, and nowhere else.

    Files get the archive's times and the modes 0644 or 0755; owners and every
    other bit are dropped.

    Args:
        archive: To unpack; all of it is looked at, whatever is wanted.
        target: The folder.
        only: Names without folders: of what else lies below the archive's top no
            more than the folders is made. Where the archive has links, or nothing
            is named, everything is.

    Raises:
        ValueError: A member is refused; it is named.
        OSError: The archive is damaged, or something can't be written.
        EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
            lzma.LZMAError: The archive is damaged, or of a kind that can't be read.
    """
    with archive.open("rb") as stream:
        is_zip = stream.read(4) in _ZIP
    if is_zip:
        with zipfile.ZipFile(archive) as opened:
            _write_all(list(_zip_members(opened)), target, only)
    else:
        with tarfile.open(archive) as tar:
            _write_all(list(_tar_members(tar, target)), target, only)


def refuse_unsafe_members(members: Collection[ArchiveMember]) -> None:
    """See that no member, once written, lies or leads outside the archive's tree.

    Chains of links can't be judged by their names alone: whoever writes the
    members looks at those afterwards.

    Raises:
        ValueError: One would; it is named.
    """
    links = {member.path for member in members if member.kind is MemberKind.SYMLINK}
    for member in members:
        if problem := _problem(member, links):
            raise ValueError(f"its member {member.name!r} {problem}")
    for path, count in Counter(member.path for member in members).items():
        if count > 1 and path in links:
            raise ValueError(f"its member {str(path)!r} is there twice, once as a link")


def _problem(member: ArchiveMember, links: set[PurePosixPath]) -> str | None:
    if member.kind is MemberKind.SPECIAL:
        return "is a device or a pipe"
    if problem := _misplaced(member.path, links):
        return problem
    if member.path == PurePosixPath() and member.kind is not MemberKind.FOLDER:
        return "has no name"
    if member.kind is MemberKind.SYMLINK:
        leads = PurePosixPath(normpath(member.path.parent / member.link))
        if leads.is_absolute() or ".." in leads.parts:
            return f"links to {member.link!r}, outside the archive"
    if member.kind is MemberKind.HARDLINK:
        leads = PurePosixPath(member.link)
        if _misplaced(leads, links) or leads in links:
            return f"links to {member.link!r}, which isn't a file of the archive"
    return None


def _misplaced(path: PurePosixPath, links: set[PurePosixPath]) -> str | None:
    if path.is_absolute():
        return "has an absolute path"
    if ".." in path.parts:
        return "leads out of the archive"
    if not links.isdisjoint(path.parents):
        return "lies behind a link"
    return None


def _tar_members(tar: tarfile.TarFile, target: Path) -> Iterator[ArchiveMember]:
    # From 3.10.12 and 3.11.4 on.
    data_filter = getattr(tarfile, "data_filter", lambda info, _: info)
    for info in tar.getmembers():
        yield ArchiveMember(
            name=info.name,
            kind=_tar_kind(info),
            link=info.linkname,
            executable=bool(info.mode & stat.S_IXUSR),
            mtime=info.mtime,
            content=partial(_tar_content, tar, info, target),
            vet=partial(data_filter, info, str(target)),
        )


def _tar_kind(info: tarfile.TarInfo) -> MemberKind:
    if info.isdir():
        return MemberKind.FOLDER
    if info.issym():
        return MemberKind.SYMLINK
    if info.islnk():
        return MemberKind.HARDLINK
    return MemberKind.FILE if info.isfile() else MemberKind.SPECIAL


def _tar_content(
    tar: tarfile.TarFile, info: tarfile.TarInfo, target: Path
) -> IO[bytes]:
    if info.islnk():
        return (target / info.linkname).open("rb")
    return tar.extractfile(info) or io.BytesIO()


def _zip_members(archive: zipfile.ZipFile) -> Iterator[ArchiveMember]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        kind = _zip_kind(info, mode)
        yield ArchiveMember(
            name=info.filename,
            kind=kind,
            link=archive.read(info).decode() if kind is MemberKind.SYMLINK else "",
            executable=bool(mode & stat.S_IXUSR),
            mtime=_zip_mtime(info),
            content=partial(archive.open, info),
        )


def _zip_kind(info: zipfile.ZipInfo, mode: int) -> MemberKind:
    if info.is_dir():
        return MemberKind.FOLDER
    if stat.S_ISLNK(mode):
        return MemberKind.SYMLINK
    return (
        MemberKind.FILE
        if stat.S_IFMT(mode) in (0, stat.S_IFREG)
        else MemberKind.SPECIAL
    )


def _zip_mtime(info: zipfile.ZipInfo) -> float:
    """Read its time as UTC; some tools write a month and a day of 0."""
    year, month, day, *clock = info.date_time
    return calendar.timegm((year, min(max(month, 1), 12), max(day, 1), *clock))


def _write_all(
    members: Collection[ArchiveMember], target: Path, only: Collection[str]
) -> None:
    refuse_unsafe_members(members)
    kinds = {member.kind for member in members}
    if not kinds.isdisjoint((MemberKind.SYMLINK, MemberKind.HARDLINK)):
        only = ()
    made = {target}
    for member in members:
        path = target / member.path
        folder = path if member.kind is MemberKind.FOLDER else path.parent
        if folder not in made:
            folder.mkdir(parents=True, exist_ok=True)
            made.add(folder)
        if member.kind is not MemberKind.FOLDER and _is_wanted(path, target, only):
            member.vet()
            _write(member, path)
    if MemberKind.SYMLINK in kinds:
        refuse_outward_links(target)


def _is_wanted(path: Path, target: Path, only: Collection[str]) -> bool:
    return not only or path.name in only or path.parent == target


def _write(member: ArchiveMember, path: Path) -> None:
    if member.kind is MemberKind.SYMLINK:
        path.symlink_to(member.link)
        return
    with member.content() as content, _created(path) as file:
        shutil.copyfileobj(content, file)
    path.chmod(0o755 if member.executable else 0o644)
    mtime = max(0, min(member.mtime, _LATEST))
    os.utime(path, (mtime, mtime))


def _created(path: Path) -> IO[bytes]:
    """Open a new file; tar's rule is that of two of one name the last counts."""
    try:
        return path.open("xb")
    except FileExistsError:
        path.unlink()
        return path.open("xb")
