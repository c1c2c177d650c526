"""List the members in which two wheels differ."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from nox_buildstages.text import diff

if TYPE_CHECKING:
    from pathlib import Path

_PACKING = {
    "date_time": "time",
    "external_attr": "mode",
    "compress_type": "compression",
    "extra": "extra field",
}
"""Attributes of an archive's members, with the words for them."""


def compare_wheels(first: Path, second: Path) -> tuple[str, ...]:
    """Describe how two sound wheels differ, member by member.

    RECORD is left out if another member differs, because every change affects RECORD.
    """
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        old, new = ({it.filename: it for it in it.infolist()} for it in (one, other))
    found = []
    if first.name != second.name:
        found.append(f"the file name is now {second.name}")
    changes = diff(
        {name: (old[name].CRC, old[name].file_size) for name in old},
        {name: (new[name].CRC, new[name].file_size) for name in new},
    )
    members: list[str] = []
    records: list[str] = []
    for name, was, now in changes:
        if was is None or now is None:
            what = "only in the first" if now is None else "only in the second"
        elif was[1] == now[1]:
            what = f"{was[1]} bytes, with different contents"
        else:
            what = f"{was[1]} → {now[1]} bytes"
        is_record = name.endswith(".dist-info/RECORD")
        (records if is_record else members).append(f"{name}: {what}")
    found += members or records
    common = [name for name in old if name in new]
    if common != [name for name in new if name in old]:
        found.append("the members are in a different order")
    for attribute, word in _PACKING.items():
        names = [
            name
            for name in common
            if getattr(old[name], attribute) != getattr(new[name], attribute)
        ]
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            found.append(f"{names[0]}: different {word} in the archive{more}")
    return (*found,) or (
        "the members are equal, but the archives are packed differently",
    )
