"""What differs between two wheels is told file by file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.wheels.compare import differences

if TYPE_CHECKING:
    from pathlib import Path

RECORD = "a-1.0.dist-info/RECORD"


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A file in an archive, and how it is packed."""

    content: bytes = b""
    time: tuple[int, int, int, int, int, int] = (1980, 1, 1, 0, 0, 0)
    mode: int = 0o100644
    compression: int = zipfile.ZIP_STORED
    extra: bytes = b""


def wheel(path: Path, members: dict[str, Packed]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, packed in members.items():
            info = zipfile.ZipInfo(name, packed.time)
            info.external_attr = packed.mode << 16
            info.compress_type = packed.compression
            info.extra = packed.extra
            archive.writestr(info, packed.content)
    return path


def told(
    folder: Path, first: dict[str, Packed], second: dict[str, Packed]
) -> tuple[str, ...]:
    name = "a-1.0-py3-none-any.whl"
    return differences(
        wheel(folder / "first" / name, first), wheel(folder / "second" / name, second)
    )


BINARY = bytes(range(128, 256))
LONG = b"x" * (1 << 20)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"a\nb\n", b"a\nc\n", "line 2: 'b' → 'c'"),
        (b"a\n", b"a\nb\n", "line 2: none → 'b'"),
        (b"a\nb\n", b"b\n", "line 1: 'a' → 'b'"),
        (b"y" * 99, b"z", f"line 1: '{'y' * 60}…' → 'z'"),
        (b"a\nb\n", b"b\na\n", "the same lines in another order"),
        (b"a\n", b"a\r\n", "other line ends"),
        (BINARY, BINARY[:3] + b"x" * 125, "128 bytes, different from byte 3 on"),
        (BINARY, BINARY[:5], "128 → 5 bytes, different from byte 5 on"),
        (BINARY, BINARY * 2, "128 → 256 bytes, different from byte 128 on"),
        (LONG + b"a", LONG + b"b", "1048577 bytes, different from byte 1048576 on"),
    ],
)
def test_a_file_that_differs_is_told_with_the_first_place(
    tmp_path: Path, old: bytes, new: bytes, expected: str
) -> None:
    """Of texts it is a line, of anything else, and of what is long, a byte."""
    first, second = ({"a.x": Packed(content=it)} for it in (old, new))
    assert told(tmp_path, first, second) == (f"a.x: {expected}",)


def test_files_that_one_wheel_has_alone_are_told(tmp_path: Path) -> None:
    """In either direction."""
    first, second = {"a": Packed(), "b": Packed()}, {"a": Packed(), "c": Packed()}
    assert told(tmp_path, first, second) == (
        "b: only in the first",
        "c: only in the second",
    )


def test_record_is_told_where_nothing_else_explains_it(tmp_path: Path) -> None:
    """It has the hashes of all files, so it differs whenever one of them does."""
    first = {RECORD: Packed(content=b"1"), "z": Packed(content=b"1")}
    second = {RECORD: Packed(content=b"2"), "z": Packed(content=b"2")}
    assert told(tmp_path, first, second) == ("z: line 1: '1' → '2'",)
    alone = {**second, "z": first["z"]}
    assert told(tmp_path, first, alone) == (f"{RECORD}: line 1: '1' → '2'",)


def test_how_files_are_packed_is_told(tmp_path: Path) -> None:
    """Once for all files: an archive's times are the usual culprit."""
    first = {"a": Packed(), "b": Packed(content=b"b" * 50)}
    second = {
        "b": Packed(content=b"b" * 50, compression=zipfile.ZIP_DEFLATED, mode=0o100755),
        "a": Packed(time=(2026, 11, 21, 13, 5, 8), mode=0o100600, extra=b"\1\2\0\0"),
    }
    assert told(tmp_path, first, second) == (
        "the archive has its files in another order",
        "a: time in the archive 1980-01-01 00:00:00 → 2026-11-21 13:05:08",
        "a: mode in the archive 100644 → 100600 (and 1 more)",
        "b: compression in the archive 0 → 8",
        "a: extra field in the archive none → 01020000",
    )


def test_another_file_name_is_told(tmp_path: Path) -> None:
    """It has the version and the tags, and a build may get these from anywhere."""
    first = wheel(tmp_path / "a-1.0-py3-none-any.whl", {})
    second = wheel(tmp_path / "a-1.0-py2.py3-none-any.whl", {})
    assert differences(first, second) == ("the file is a-1.0-py2.py3-none-any.whl now",)


def test_archives_that_differ_otherwise_are_not_called_equal(tmp_path: Path) -> None:
    """Something is always told, for their hashes differ."""
    first = wheel(tmp_path / "first" / "a.whl", {"a": Packed()})
    second = wheel(tmp_path / "second" / "a.whl", {"a": Packed()})
    with zipfile.ZipFile(second, "a") as archive:
        archive.comment = b"hello"
    assert differences(first, second) == (
        "all files in them are equal; the archives are packed otherwise",
    )
