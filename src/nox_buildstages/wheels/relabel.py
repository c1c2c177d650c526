"""Change the METADATA of a wheel, or add files to it; RECORD lists the changes."""

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

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from nox_buildstages.system.files import atomic_write
from nox_buildstages.wheels.wheel import dist_info_folder, read_metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path
    from typing import IO

    from nox_buildstages.wheels.wheel import WheelFile

_END = rb"(?:\r\n|\r(?!\n)|\n)"
_FIELD = rb"(?:\A|(?<=[\r\n]))%b:([^\r\n]*(?:" + _END + rb"[ \t][^\r\n]*)*)"
"""A field of METADATA, and its value; continuation lines begin with a blank."""

_VERSION = re.compile(_FIELD % b"Version", re.IGNORECASE)
_REQUIRES = re.compile(_FIELD % b"Requires-Dist" + _END, re.IGNORECASE)
_BODY = re.compile(_END + b"(?=" + _END + b")")
"""The end of the fields: a blank line follows."""

_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_PACKING = (
    *("compress_type", "create_system", "external_attr", "internal_attr", "comment"),
)
_MODE = 0o100644
"""The mode of an added file."""


def relabel_wheel(
    wheel: WheelFile,
    version: Version,
    *,
    remove: Collection[str] = (),
    add: Iterable[str] = (),
) -> Path:
    """Write a sound wheel with another version or requirements; remove the old file.

    ``remove`` has projects that the wheel no longer requires.
    """
    path = wheel.path
    if version != wheel.version:
        distribution, _, *rest = path.name.split("-")
        path = path.with_name("-".join([distribution, str(version), *rest]))
    metadata = replace_version(read_metadata(wheel.path), version)
    metadata = replace_requires(metadata, remove=remove, add=add)
    rewrite_wheel(wheel, path, version=version, changed={"METADATA": metadata})
    if path != wheel.path:
        wheel.path.unlink()
    return path


def rewrite_wheel(
    wheel: WheelFile, path: Path, *, version: Version, changed: Mapping[str, bytes]
) -> None:
    """Write a sound wheel with other or more files in its ``.dist-info``.

    Order, times, modes and compression of the other members stay, so equal wheels
    become equal wheels. Signatures of RECORD are left out, because they no longer hold.
    """
    with zipfile.ZipFile(wheel.path) as old, atomic_write(path) as new:
        folder = dist_info_folder(old)
        signatures = {f"{folder}/{name}" for name in _SIGNATURES}
        contents = {f"{folder}/{name}": changed[name] for name in changed}
        record = io.StringIO(newline="")
        writer = csv.writer(record, lineterminator="\n")
        rows = csv.reader(io.StringIO(old.read(f"{folder}/RECORD").decode(), ""))
        listed = {name: row for name, *row in rows if name not in signatures}
        for name, content in contents.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
            text = f"sha256={digest.decode().rstrip('=')}"
            listed[name] = [text, str(len(content))]
        for name, row in listed.items():
            writer.writerow((_rename_member(name, wheel, version), *row))
        contents[f"{folder}/RECORD"] = record.getvalue().encode()
        with zipfile.ZipFile(new, "w") as archive:
            archive.comment = old.comment
            for member in old.infolist():
                if member.filename in signatures:
                    continue
                name = _rename_member(member.filename, wheel, version)
                entry = zipfile.ZipInfo(name, member.date_time)
                for attribute in _PACKING:
                    setattr(entry, attribute, getattr(member, attribute))
                new_content = contents.get(member.filename)
                entry.file_size = member.file_size
                source: IO[bytes] = old.open(member)
                if new_content is not None:
                    entry.file_size = len(new_content)
                    source = io.BytesIO(new_content)
                with source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target)
                entry.external_attr = member.external_attr  # zipfile replaces mode 0
            for name in sorted(contents.keys() - {*old.namelist()}):
                entry = zipfile.ZipInfo(_rename_member(name, wheel, version))
                entry.create_system, entry.external_attr = 3, _MODE << 16
                archive.writestr(entry, contents[name])


def replace_version(metadata: bytes, version: Version) -> bytes:
    """Return METADATA with another version, and every other byte unchanged."""
    return _VERSION.sub(f"Version: {version}".encode(), metadata, count=1)


def replace_requires(
    metadata: bytes, *, remove: Collection[str], add: Iterable[str]
) -> bytes:
    """Return METADATA with other requirements, and every other byte unchanged."""
    end = _BODY.search(metadata)
    split = end.end() if end else len(metadata)
    fields, body = metadata[:split], metadata[split:]
    if not fields.endswith((b"\r", b"\n")):
        fields += b"\n"
    known: set[str] = set()

    def keep(match: re.Match[bytes]) -> bytes:
        requirement = Requirement(" ".join(match[1].decode().split()))
        if canonicalize_name(requirement.name) in remove:
            return b""
        known.add(str(requirement))
        return match[0]

    fields = _REQUIRES.sub(keep, fields)
    lines = (f"Requires-Dist: {text}\n" for text in add if text not in known)
    return fields + "".join(lines).encode() + body


def _rename_member(name: str, wheel: WheelFile, version: Version) -> str:
    """Return a member's name in the new wheel: its folders name the version."""
    top, slash, rest = name.partition("/")
    stem, _, kind = top.rpartition(".")
    project, _, found = stem.rpartition("-")
    if version != wheel.version and kind in {"dist-info", "data"}:
        with suppress(InvalidVersion):  # a folder of some other package
            is_same = Version(found) == wheel.version
            if is_same and canonicalize_name(project) == wheel.name:
                return f"{project}-{version}.{kind}{slash}{rest}"
    return name
