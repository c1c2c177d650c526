"""What differs between two wheels, file by file."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from nox_buildstages.system.files import read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from zipfile import ZipFile, ZipInfo

_LONGEST_TEXT = 1 << 20
_LONGEST_LINE = 60
_FIELDS = {
    "date_time": "time",
    "external_attr": "mode",
    "compress_type": "compression",
    "extra": "extra field",
}
"""Of a file in an archive, with the words for them."""


def differences(first: Path, second: Path) -> tuple[str, ...]:
    """Return what differs between two sound wheels, in words.

    What follows from something else isn't told: a RECORD of files that differ, other
    than that.
    """
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        found = (
            *_renamed(first, second),
            *_contents(one, other),
            *_archive(one, other),
        )
    return found or ("all files in them are equal; the archives are packed otherwise",)


def _renamed(first: Path, second: Path) -> Iterator[str]:
    if first.name != second.name:
        yield f"the file is {second.name} now"


def _contents(one: ZipFile, other: ZipFile) -> Iterator[str]:
    old, new = set(one.namelist()), set(other.namelist())
    told = [
        *(f"{name}: only in the first" for name in sorted(old - new)),
        *(f"{name}: only in the second" for name in sorted(new - old)),
    ]
    for name in sorted(old & new, key=_record_last):
        if not (told and _is_record(name)):
            told += _content(one, other, name)
    yield from told


def _content(one: ZipFile, other: ZipFile, name: str) -> Iterator[str]:
    place = _first_difference(one, other, name)
    if place is None:
        return
    sizes = (one.getinfo(name).file_size, other.getinfo(name).file_size)
    if max(sizes) <= _LONGEST_TEXT:
        lines = _lines(one.read(name), other.read(name))
        if lines:
            yield f"{name}: {lines}"
            return
    size = (
        f"{sizes[0]} bytes"
        if sizes[0] == sizes[1]
        else f"{sizes[0]} → {sizes[1]} bytes"
    )
    yield f"{name}: {size}, different from byte {place} on"


def _first_difference(one: ZipFile, other: ZipFile, name: str) -> int | None:
    """Return the offset of the first byte that differs; None where none does."""
    offset = 0
    with one.open(name) as old, other.open(name) as new:
        for was in read_chunks(old):
            now = new.read(len(was))
            if was != now:
                pairs = zip(was, now, strict=False)
                same = next((i for i, (a, b) in enumerate(pairs) if a != b), len(now))
                return offset + same
            offset += len(was)
        return offset if new.read(1) else None


def _lines(old: bytes, new: bytes) -> str:
    """Return the first line that differs of two texts; nothing where one is none."""
    try:
        was, now = (content.decode().splitlines() for content in (old, new))
    except UnicodeDecodeError:
        return ""
    if sorted(was) == sorted(now):
        return "the same lines in another order" if was != now else "other line ends"
    length = max(len(was), len(now))
    padded = ([*lines, *([None] * (length - len(lines)))] for lines in (was, now))
    number, a, b = next(
        (number, a, b)
        for number, (a, b) in enumerate(zip(*padded, strict=True), 1)
        if a != b
    )
    return f"line {number}: {_line(a)} → {_line(b)}"


def _line(line: str | None) -> str:
    if line is None:
        return "none"
    shown = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
    return repr(shown)


def _archive(one: ZipFile, other: ZipFile) -> Iterator[str]:
    """Yield what differs in how the files that both have are packed."""
    old, new = (
        {it.filename: it for it in zipped.infolist()} for zipped in (one, other)
    )
    common = [name for name in old if name in new]
    if common != [name for name in new if name in old]:
        yield "the archive has its files in another order"
    for field, word in _FIELDS.items():
        changed = [
            it for it in common if getattr(old[it], field) != getattr(new[it], field)
        ]
        if changed:
            yield _packed(word, field, [(old[it], new[it]) for it in changed])


def _packed(word: str, field: str, changed: list[tuple[ZipInfo, ZipInfo]]) -> str:
    was, now = changed[0]
    values = " → ".join(_value(field, getattr(it, field)) for it in (was, now))
    more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    return f"{was.filename}: {word} in the archive {values}{more}"


def _value(field: str, value: object) -> str:
    match field, value:
        case "date_time", (year, month, day, *clock):
            time = ":".join(f"{it:02}" for it in clock)
            return f"{year}-{month:02}-{day:02} {time}"
        case "external_attr", int(attributes):
            return f"{attributes >> 16:o}"
        case _, bytes(extra):
            return extra.hex() or "none"
        case _:
            return str(value)


def _is_record(name: str) -> bool:
    return name.endswith(".dist-info/RECORD")


def _record_last(name: str) -> tuple[bool, str]:
    return _is_record(name), name
