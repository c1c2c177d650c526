"""The differences between two wheels are listed member by member."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.wheels.compare import compare_wheels

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


def compare(
    folder: Path, first: dict[str, Packed], second: dict[str, Packed]
) -> tuple[str, ...]:
    name = "a-1.0-py3-none-any.whl"
    return compare_wheels(
        wheel(folder / "first" / name, first), wheel(folder / "second" / name, second)
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"a\nb\n", b"a\nc\n", "4 bytes, with different contents"),
        (b"a\n", b"a\r\n", "2 → 3 bytes"),
        (b"\x80", b"", "1 → 0 bytes"),
    ],
)
def test_a_changed_member_is_listed_with_its_sizes(
    tmp_path: Path, old: bytes, new: bytes, expected: str
) -> None:
    """The sizes are listed; diffoscope shows the contents."""
    first, second = ({"a.x": Packed(content=it)} for it in (old, new))
    assert compare(tmp_path, first, second) == (f"a.x: {expected}",)


def test_files_that_one_wheel_has_alone_are_compare(tmp_path: Path) -> None:
    """In either direction."""
    first, second = {"a": Packed(), "b": Packed()}, {"a": Packed(), "c": Packed()}
    assert compare(tmp_path, first, second) == (
        "b: only in the first",
        "c: only in the second",
    )


def test_record_is_listed_only_if_nothing_else_differs(tmp_path: Path) -> None:
    """RECORD has the hashes of all members, so it changes with each of them."""
    first = {RECORD: Packed(content=b"1"), "z": Packed(content=b"1")}
    second = {RECORD: Packed(content=b"2"), "z": Packed(content=b"2")}
    assert compare(tmp_path, first, second) == ("z: 1 bytes, with different contents",)
    alone = {**second, "z": first["z"]}
    assert compare(tmp_path, first, alone) == (
        f"{RECORD}: 1 bytes, with different contents",
    )


def test_how_files_are_packed_is_compare(tmp_path: Path) -> None:
    """Once for all files: an archive's times are the usual culprit."""
    first = {"a": Packed(), "b": Packed(content=b"b" * 50)}
    second = {
        "b": Packed(content=b"b" * 50, compression=zipfile.ZIP_DEFLATED, mode=0o100755),
        "a": Packed(time=(2026, 11, 21, 13, 5, 8), mode=0o100600, extra=b"\1\2\0\0"),
    }
    assert compare(tmp_path, first, second) == (
        "the members are in a different order",
        "a: different time in the archive",
        "a: different mode in the archive (and 1 more)",
        "b: different compression in the archive",
        "a: different extra field in the archive",
    )


def test_another_file_name_is_compare(tmp_path: Path) -> None:
    """It has the version and the tags, and a build may get these from anywhere."""
    first = wheel(tmp_path / "a-1.0-py3-none-any.whl", {})
    second = wheel(tmp_path / "a-1.0-py2.py3-none-any.whl", {})
    assert compare_wheels(first, second) == (
        "the file name is now a-1.0-py2.py3-none-any.whl",
    )


def test_archives_that_differ_otherwise_are_not_called_equal(tmp_path: Path) -> None:
    """The result is never empty, because the hashes of the wheels differ."""
    first = wheel(tmp_path / "first" / "a.whl", {"a": Packed()})
    second = wheel(tmp_path / "second" / "a.whl", {"a": Packed()})
    with zipfile.ZipFile(second, "a") as archive:
        archive.comment = b"hello"
    assert compare_wheels(first, second) == (
        "the members are equal, but the archives are packed differently",
    )
