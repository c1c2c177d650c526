"""Wheels with arbitrary contents verify, and damaged wheels never do."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from packaging.version import Version

from nox_buildstages.errors import WheelError
from nox_buildstages.wheels.relabel import relabel_wheel
from nox_buildstages.wheels.wheel import read_wheel, verify_record

INFO = "a-1.dist-info"
METADATA = b"Name: a\nVersion: 1\n"
LABELS = st.from_regex(r"[a-z0-9]{1,4}([._-][a-z0-9]{1,4}){0,2}", fullmatch=True)
PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0\\\r\n", exclude_categories=()),
    min_size=1,
    max_size=8,
).filter(lambda part: part not in {".", ".."})
CONTENTS = st.dictionaries(
    PARTS.map("package/{}".format), st.binary(max_size=64), min_size=1, max_size=4
)


def row(name: str, content: bytes) -> tuple[str, str, int]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
    return name, f"sha256={digest.rstrip('=')}", len(content)


def make(path: Path, contents: dict[str, bytes]) -> None:
    files = {**contents, f"{INFO}/METADATA": METADATA, f"{INFO}/WHEEL": b""}
    record = io.StringIO(newline="")
    rows = [row(*item) for item in files.items()]
    csv.writer(record).writerows([*rows, (f"{INFO}/RECORD", "", "")])
    files[f"{INFO}/RECORD"] = record.getvalue().encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def stored_bytes(path: Path) -> list[int]:
    """Return the offsets of all bytes that are the contents of a member."""
    header = 30
    with zipfile.ZipFile(path) as archive:
        starts = [
            (info.header_offset + header + len(info.filename.encode()), info.file_size)
            for info in archive.infolist()
        ]
    return [offset for start, size in starts for offset in range(start, start + size)]


@given(contents=CONTENTS)
def test_a_sound_wheel_verifies(contents: dict[str, bytes]) -> None:
    """Members may have any names and contents."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a-1-py3-none-any.whl")
        make(path, contents)
        verify_record(path)


@given(contents=CONTENTS, draw=st.data(), flip=st.integers(1, 255))
def test_every_flipped_byte_is_detected(
    contents: dict[str, bytes], draw: st.DataObject, flip: int
) -> None:
    """Every byte of every member counts, including RECORD's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a-1-py3-none-any.whl")
        make(path, contents)
        damaged = bytearray(path.read_bytes())
        damaged[draw.draw(st.sampled_from(stored_bytes(path)))] ^= flip
        path.write_bytes(damaged)
        with pytest.raises(WheelError):
            verify_record(path)


@given(contents=CONTENTS, label=LABELS, data=st.booleans())
def test_a_relabelled_wheel_verifies(
    contents: dict[str, bytes],
    label: str,
    data: bool,  # noqa: FBT001 - hypothesis names it
) -> None:
    """The contents stay, including those of the .data folder."""
    version = Version(f"1+{label}")
    if data:
        contents = {f"a-1.data/{name}": contents[name] for name in contents}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a-1-py3-none-any.whl")
        make(path, contents)
        made = relabel_wheel(read_wheel(path), version)
        verify_record(made)
        assert read_wheel(made).version == version
        with zipfile.ZipFile(made) as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
    for name, content in contents.items():
        assert held[name.replace("a-1.data/", f"a-{version}.data/", 1)] == content
