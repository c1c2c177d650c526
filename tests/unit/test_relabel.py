"""A wheel gets another version, and everything else stays."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from nox_buildstages.system.files import sha256_of
from nox_buildstages.wheels.relabel import (
    relabel_wheel,
    replace_requires,
    replace_version,
)
from nox_buildstages.wheels.wheel import read_wheel, verify_record

if TYPE_CHECKING:
    from pathlib import Path

LABELLED = Version("0.3.0+torch2.13.0")
OLD, NEW = "Grouped.Gemm-0.3.0+cu12", "Grouped.Gemm-0.3.0+torch2.13.0"
INFO = f"{OLD}.dist-info"
METADATA = (
    b"Metadata-Version: 2.1\r\nName: Grouped.Gemm\r\nVersion: 0.3+cu12\r\n"
    b"\r\nVersion: 1\n"
)
FILES = {
    "gemm/": b"",
    "gemm/__init__.py": b'__version__ = "0.3.0+cu12"\n',
    "gemm/kernel, fast.so": b"\x7fELF" * 500,
    "gemm-9.data/kept": b"not this wheel's",
    "gemm-x.data/kept": b"nor this",
    "gemm.data/kept": b"nor this",
    f"{OLD}.data/scripts/gemm-tune": b"#!python\n",
    f"{INFO}/METADATA": METADATA,
    f"{INFO}/WHEEL": b"Wheel-Version: 1.0\n",
    f"{INFO}/entry_points.txt": b"[console_scripts]\ngemm = gemm:main\n",
    f"{INFO}/RECORD.jws": b"{}",
    f"{INFO}/RECORD.p7s": b"signed",
}
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


def record() -> bytes:
    lines = []
    for name, content in FILES.items():
        digest = base64.urlsafe_b64encode(hashlib.sha384(content).digest()).decode()
        listed = f"sha384={digest},{len(content)}"
        if not name.endswith("/"):
            lines.append(f'"{name}",{"," if "RECORD" in name else listed}\r\n')
    return "".join([*lines, f"{INFO}/RECORD,,\r\n"]).encode()


def make(folder: Path) -> Path:
    """Make a wheel whose members are all packed differently."""
    path = folder / "Grouped.Gemm-0.3+cu12-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"made by hand"
        for number, (name, content) in enumerate(
            {**FILES, f"{INFO}/RECORD": record()}.items()
        ):
            member = zipfile.ZipInfo(name, (1980 + number, 1, 2, 3, 4, 6))
            member.compress_type = COMPRESSIONS[number % 3]
            member.create_system = number % 2 * 3
            member.comment = f"number {number}".encode()
            archive.writestr(member, content)
            member.external_attr = (0o100644 + number % 2 * 0o111) << 16
            if number == 1:
                member.external_attr = 0
    return path


def packing(path: Path) -> dict[str, tuple[object, ...]]:
    """Return how each member is packed, in order."""
    with zipfile.ZipFile(path) as archive:
        return {
            it.filename: (
                *(it.date_time, it.compress_type, it.create_system, it.comment),
                *(it.external_attr, it.internal_attr),
            )
            for it in archive.infolist()
        }


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_only_names_and_version_change(tmp_path: Path) -> None:
    """Contents, order, times, modes, compression and comments of members stay."""
    path = make(tmp_path)
    before, packed = contents(path), packing(path)
    made = relabel_wheel(read_wheel(path), LABELLED)
    assert [*tmp_path.iterdir()] == [made]
    assert made.name == "Grouped.Gemm-0.3.0+torch2.13.0-1-py3-none-any.whl"
    kept = [name for name in before if not name.endswith((".jws", ".p7s"))]
    expected = {name.replace(f"{OLD}.d", f"{NEW}.d"): name for name in kept}
    after = contents(made)
    assert [*after] == [*expected]
    assert packing(made) == {new: packed[old] for new, old in expected.items()}
    changed = {new for new, old in expected.items() if after[new] != before[old]}
    assert changed == {f"{NEW}.dist-info/METADATA", f"{NEW}.dist-info/RECORD"}
    with zipfile.ZipFile(made) as archive:
        assert archive.comment == b"made by hand"


def test_the_new_wheel_is_sound(tmp_path: Path) -> None:
    """Folders, METADATA and RECORD agree, and every hash is right."""
    made = relabel_wheel(read_wheel(make(tmp_path)), LABELLED)
    verify_record(made)
    assert (read_wheel(made).name, read_wheel(made).version) == (
        "grouped-gemm",
        LABELLED,
    )
    listed = contents(made)[f"{NEW}.dist-info/RECORD"].decode().splitlines()
    assert listed[-1] == f"{NEW}.dist-info/RECORD,,"
    assert f"{NEW}.data/scripts/gemm-tune" in listed[5]
    assert not any(".jws" in line or ".p7s" in line for line in listed)


def test_equal_wheels_become_equal_wheels(tmp_path: Path) -> None:
    """The new wheel depends on the bytes of the old wheel alone."""
    found = set()
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        found.add(sha256_of(relabel_wheel(read_wheel(make(folder)), LABELLED)))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (b"Name: a\nVersion: 1\n", b"Name: a\nVersion: 2+t\n"),
        (b"Version:1", b"Version: 2+t"),
        (b"version:\r\n 1\r\nName: a\r\n", b"Version: 2+t\r\nName: a\r\n"),
        (b"Name: a\rVERSION:\t1\rX: \xff", b"Name: a\rVersion: 2+t\rX: \xff"),
        (
            b"Metadata-Version: 2.1\nSummary: a\n Version: 0\nVersion: 1\n\nVersion: 3",
            (
                b"Metadata-Version: 2.1\nSummary: a\n Version: 0\n"
                b"Version: 2+t\n\nVersion: 3"
            ),
        ),
    ],
)
def test_only_the_version_of_metadata_changes(metadata: bytes, expected: bytes) -> None:
    """Line ends, folded fields, the description and invalid UTF-8 stay."""
    assert replace_version(metadata, Version("2+t")) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (
            b"Name: a\nRequires-Dist: b\n\nbody\n",
            b"Name: a\nRequires-Dist: c>1\n\nbody\n",
        ),
        (
            b"Name: a\r\nrequires-dist: B[x]>1;\r\n extra == 'y'\r\nX: 1\r\n",
            b"Name: a\r\nX: 1\r\nRequires-Dist: c>1\n",
        ),
        (b"Requires-Dist: d", b"Requires-Dist: d\nRequires-Dist: c>1\n"),
        (b"Requires-Dist: c>1\n", b"Requires-Dist: c>1\n"),
        (
            b"Name: a\n\nRequires-Dist: b\n",
            b"Name: a\nRequires-Dist: c>1\n\nRequires-Dist: b\n",
        ),
    ],
)
def test_only_requirements_change(metadata: bytes, expected: bytes) -> None:
    """The description stays, whatever it contains."""
    assert replace_requires(metadata, remove={"b"}, add=["c>1"]) == expected


def test_a_wheel_gets_other_requirements(tmp_path: Path) -> None:
    """Its name stays, and RECORD is right."""
    path = make(tmp_path)
    before = contents(path)
    wheel = read_wheel(path)
    made = relabel_wheel(wheel, wheel.version, add=["torch==2.13.0"])
    assert made == path
    verify_record(made)
    assert read_wheel(made).requires_dist == ("torch==2.13.0",)
    after = contents(made)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"{INFO}/METADATA", f"{INFO}/RECORD"}
