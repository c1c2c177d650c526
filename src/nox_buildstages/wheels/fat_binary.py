"""The GPU code in a compiled file from nvcc.

A section of *fat binaries* is a row of containers. Each has a header and a row of
entries, and each entry has a header and code for a single architecture: machine code
(SASS), or text for the driver to compile (PTX). NVIDIA doesn't document this form;
`cuobjdump` lists the same entries.
"""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING

from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = bytes.fromhex("50ED55BA")
_CONTAINER = struct.Struct("<IHHQ")  # kind, version, size of the header, size
_ENTRY = struct.Struct("<HHIQ12xI8xQ")  # the same of an entry, its number, its flags
_PTX, _SASS = 1, 2
_SUFFIXES = {0x100000: "a", 0x200000: "f"}
"""The flags of code for one architecture, or one family, only."""


class GpuCode(Value, kw_only=False):
    """Code for an architecture of GPUs."""

    major: int
    minor: int
    suffix: str = ""  # a for one architecture alone, f for a family
    is_ptx: bool = False

    def __str__(self) -> str:
        kind = "compute" if self.is_ptx else "sm"
        return f"{kind}_{self.major}{self.minor}{self.suffix}"

    def is_met_by(self, other: GpuCode) -> bool:
        """Whether other code is for the same architecture, or for it alone."""
        same = (self.major, self.minor, self.is_ptx)
        is_same = same == (other.major, other.minor, other.is_ptx)
        return is_same and self.suffix in {"", other.suffix}

    def runs_on(self, other: GpuCode) -> bool:
        """Whether the GPUs that another code is for run this code."""
        mine, theirs = (self.major, self.minor), (other.major, other.minor)
        if self.suffix == "a":
            return mine == theirs
        is_of_family = self.major == other.major and mine <= theirs
        return is_of_family or (self.is_ptx and not self.suffix and mine <= theirs)


def read_fat_binaries(stream: IO[bytes], start: int, size: int) -> Iterator[GpuCode]:
    """Yield the code in a section of fat binaries, which begins at a place of a file.

    Raises:
        ValueError: The section has another form.
    """

    def unpack(form: struct.Struct, at: int, stop: int) -> tuple[int, ...]:
        """Return the fields of a header, after checking its sizes."""
        stream.seek(at)
        fields: tuple[int, ...] = form.unpack(stream.read(form.size))
        if fields[2] < form.size or at + fields[2] + fields[3] > stop:
            raise ValueError(f"the fat binary at byte {at} is longer than its section")
        return fields

    at, end = start, start + size
    while at + _CONTAINER.size <= end:
        stream.seek(at)
        magic = stream.read(len(_MAGIC))
        if not any(magic):  # between containers
            at += len(magic)
            continue
        if magic != _MAGIC:
            raise ValueError(f"there is no fat binary at byte {at}")
        _, _, header, length = unpack(_CONTAINER, at, end)
        at += header
        stop = at + length
        while at < stop:
            kind, _, header, length, number, flags = unpack(_ENTRY, at, stop)
            if kind in {_PTX, _SASS}:
                suffix = next((_SUFFIXES[it] for it in _SUFFIXES if flags & it), "")
                yield GpuCode(*divmod(number, 10), suffix, kind == _PTX)
            at += header + length
