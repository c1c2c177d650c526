"""Give a wheel another version: in file and folder names, METADATA and RECORD."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import shutil
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from nox_buildstages.system.files import atomic_write
from nox_buildstages.wheels.wheel import dist_info_folder

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.wheels.wheel import WheelFile

_VERSION = re.compile(
    rb"(?:\A|(?<=[\r\n]))Version:[^\r\n]*(?:(?:\r\n|\r|\n)[ \t][^\r\n]*)*",
    re.IGNORECASE,
)
"""The Version field of METADATA; continuation lines begin with a blank."""

_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_PACKING = (
    *("compress_type", "create_system", "external_attr", "internal_attr", "comment"),
)


def relabel_wheel(wheel: WheelFile, version: Version) -> Path:
    """Write a sound wheel under another version, and remove the old file.

    Order, times, modes and compression of the members stay, so equal wheels become
    equal wheels. Signatures of RECORD are left out, because they no longer hold.
    """
    distribution, _, *rest = wheel.path.name.split("-")
    path = wheel.path.with_name("-".join([distribution, str(version), *rest]))
    with zipfile.ZipFile(wheel.path) as old, atomic_write(path) as new:
        folder = dist_info_folder(old)
        signatures = {f"{folder}/{name}" for name in _SIGNATURES}
        metadata = replace_version(old.read(f"{folder}/METADATA"), version)
        digest = base64.urlsafe_b64encode(hashlib.sha256(metadata).digest()).decode()
        changed_row = (f"sha256={digest.rstrip('=')}", len(metadata))
        record = io.StringIO(newline="")
        writer = csv.writer(record, lineterminator="\n")
        for name, *row in csv.reader(
            io.StringIO(old.read(f"{folder}/RECORD").decode(), "")
        ):
            if name not in signatures:
                listed = changed_row if name == f"{folder}/METADATA" else row
                writer.writerow((_rename_member(name, wheel, version), *listed))
        changed = {
            f"{folder}/METADATA": metadata,
            f"{folder}/RECORD": record.getvalue().encode(),
        }
        with zipfile.ZipFile(new, "w") as archive:
            archive.comment = old.comment
            for member in old.infolist():
                if member.filename in signatures:
                    continue
                name = _rename_member(member.filename, wheel, version)
                entry = zipfile.ZipInfo(name, member.date_time)
                for attribute in _PACKING:
                    setattr(entry, attribute, getattr(member, attribute))
                content = changed.get(member.filename)
                entry.file_size = member.file_size if content is None else len(content)
                source = old.open(member) if content is None else io.BytesIO(content)
                with source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target)
                entry.external_attr = member.external_attr  # zipfile replaces mode 0
    wheel.path.unlink()
    return path


def replace_version(metadata: bytes, version: Version) -> bytes:
    """Return METADATA with another version, and every other byte unchanged."""
    return _VERSION.sub(f"Version: {version}".encode(), metadata, count=1)


def _rename_member(name: str, wheel: WheelFile, version: Version) -> str:
    """Return a member's name in the new wheel: its folders name the version."""
    top, slash, rest = name.partition("/")
    stem, _, kind = top.rpartition(".")
    project, _, found = stem.rpartition("-")
    if kind in {"dist-info", "data"}:
        with suppress(InvalidVersion):  # a folder of some other package
            is_same = Version(found) == wheel.version
            if is_same and canonicalize_name(project) == wheel.name:
                return f"{project}-{version}.{kind}{slash}{rest}"
    return name
