"""A wheel under another version: the same files, and a RECORD that fits them.

The version of a wheel stands in its file's name, in the names of its folders
``NAME-VERSION.dist-info`` and ``.data``, in METADATA, and so in RECORD.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import shutil
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from nox_buildstages.system.files import atomic_write
from nox_buildstages.wheels.wheel import dist_info

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.wheels.wheel import WheelFile

_VERSION = re.compile(
    rb"(?:\A|(?<=[\r\n]))Version:[^\r\n]*(?:(?:\r\n|\r|\n)[ \t][^\r\n]*)*",
    re.IGNORECASE,
)
"""The field of METADATA; the lines that it is folded into begin with a blank."""

_FOLDERS = ("dist-info", "data")
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_KEPT = ("compress_type", "create_system", "external_attr", "internal_attr", "comment")


def relabelled(wheel: WheelFile, version: Version) -> Path:
    """Write a wheel anew under another version, and remove the old file.

    All else is as it was: the members' order, times, modes and compression. So equal
    wheels come out equal. Signatures of RECORD, which hold no longer, are left out.

    Args:
        wheel: A sound one.
        version: Another one.

    Returns:
        The new file, beside where the old one was.
    """
    distribution, _, *rest = wheel.path.name.split("-")
    path = wheel.path.with_name("-".join([distribution, str(version), *rest]))
    with zipfile.ZipFile(wheel.path) as old, atomic_write(path) as new:
        _Renaming(wheel=wheel, version=version).copy(old, new)
    wheel.path.unlink()
    return path


def with_version(metadata: bytes, version: Version) -> bytes:
    """Return METADATA that says another version, and is else the same to the byte."""
    return _VERSION.sub(f"Version: {version}".encode(), metadata, count=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Renaming:
    """Puts what is in one wheel into another.

    Attributes:
        wheel: The one that there is.
        version: Of the other one.
    """

    wheel: WheelFile
    version: Version

    def copy(self, old: zipfile.ZipFile, new: Path) -> None:
        """Write the new wheel."""
        folder = dist_info(old)
        dropped = {f"{folder}/{name}" for name in _SIGNATURES}
        changed = self._changed(old, folder, dropped)
        with zipfile.ZipFile(new, "w") as archive:
            archive.comment = old.comment
            for member in old.infolist():
                if member.filename not in dropped:
                    self._add(archive, member, old, changed.get(member.filename))

    def _changed(
        self, old: zipfile.ZipFile, folder: str, dropped: set[str]
    ) -> dict[str, bytes]:
        """Return the members that hold something else than before."""
        metadata = with_version(old.read(f"{folder}/METADATA"), self.version)
        record = io.StringIO(newline="")
        rows = csv.reader(io.StringIO(old.read(f"{folder}/RECORD").decode(), ""))
        writer = csv.writer(record, lineterminator="\n")
        own = {f"{folder}/METADATA": (_digest(metadata), len(metadata))}
        writer.writerows(
            (self._renamed(name), *own.get(name, listed))
            for name, *listed in rows
            if name not in dropped
        )
        return {
            f"{folder}/METADATA": metadata,
            f"{folder}/RECORD": record.getvalue().encode(),
        }

    def _add(
        self,
        archive: zipfile.ZipFile,
        member: zipfile.ZipInfo,
        old: zipfile.ZipFile,
        content: bytes | None,
    ) -> None:
        entry = zipfile.ZipInfo(self._renamed(member.filename), member.date_time)
        for name in _KEPT:
            setattr(entry, name, getattr(member, name))
        entry.file_size = member.file_size if content is None else len(content)
        source = old.open(member) if content is None else io.BytesIO(content)
        with source, archive.open(entry, "w") as target:
            shutil.copyfileobj(source, target)
        entry.external_attr = member.external_attr  # zipfile has its own mode for none

    def _renamed(self, name: str) -> str:
        """Return a member's name in the new wheel."""
        top, slash, rest = name.partition("/")
        stem, _, kind = top.rpartition(".")
        project, _, version = stem.rpartition("-")
        if kind in _FOLDERS and self._is_of_wheel(project, version):
            top = f"{project}-{self.version}.{kind}"
        return f"{top}{slash}{rest}"

    def _is_of_wheel(self, project: str, version: str) -> bool:
        try:
            found = canonicalize_name(project), Version(version)
        except InvalidVersion:
            return False
        return found == (self.wheel.name, self.wheel.version)


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
    return f"sha256={digest.rstrip('=')}"
