"""The facts of compiled files, from their ELF headers; needs pyelftools."""

from __future__ import annotations

import shutil
import struct
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from nox_buildstages.value import Value, field
from nox_buildstages.wheels.fat_binary import read_fat_binaries
from nox_buildstages.wheels.links import find_linking
from nox_buildstages.wheels.wheel import ELF, open_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from elftools.elf.elffile import ELFFile

    from nox_buildstages.wheels.fat_binary import GpuCode

_SYMBOL = struct.Struct("<IBBHQQ")  # name, info, other, section, value, size
_VERSION = struct.Struct("<H")
_LOCAL, _GLOBAL = 0, 1
_UNDEFINED = 0
_VISIBLE = 0x7FFF
"""The bits of a symbol's version without the one that hides it from the linker."""
_FAT_SECTIONS = (".nv_fatbin", "__nv_relfatbin")


class Library(Value):
    """The symbols of a library, and the libraries that come with it."""

    needed: tuple[str, ...] = ()
    defined: frozenset[str] = frozenset()  # symbols


class Binary(Library):
    """A library, an extension module or a program."""

    name: str  # in the wheel
    folders: tuple[str, ...] = ()  # of RUNPATH, or else of RPATH
    versions: frozenset[str] = frozenset()  # that it needs, such as GLIBC_2.34
    undefined: Mapping[str, str] = field(default_factory=dict)
    """The symbols that another file must define, each with the file that its version
    names; empty if it has no version."""
    gpu_code: frozenset[GpuCode] = frozenset()


def read_binaries(wheel: Path, folder: str = "") -> Iterator[Binary]:
    """Yield the compiled files of a wheel, or those of a folder in it.

    Raises:
        WheelError: The wheel, or one of the files, can't be read.
    """
    with open_wheel(wheel) as archive:
        for info in archive.infolist():
            if not info.filename.startswith(folder):
                continue
            with archive.open(info) as member:
                if member.read(len(ELF)) != ELF:
                    continue
            with TemporaryFile(dir=wheel.parent) as file:
                with archive.open(info) as member:
                    shutil.copyfileobj(member, file)
                yield read_binary(info.filename, file)


def read_binary(name: str, stream: IO[bytes]) -> Binary:
    """Return the facts of an ELF file.

    Raises:
        ValueError: The file is damaged, or of a kind that can't be read.
    """
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - needs an extra

    try:
        return _read_elf(name, ELFFile(stream))
    except Exception as error:  # pyelftools raises anything for a damaged file
        problem = str(error) or type(error).__name__
        raise ValueError(f"{name}: {problem}") from error


def _read_elf(name: str, elf: ELFFile) -> Binary:
    if elf.elfclass != 64 or not elf.little_endian:  # noqa: PLR2004 - bits
        raise ValueError("isn't for a little-endian machine of 64 bits")
    of_kind: dict[str, Any] = {}
    gpu_code: set[GpuCode] = set()
    for section in elf.iter_sections():
        of_kind[section["sh_type"]] = section
        if section.name in _FAT_SECTIONS:
            place = section["sh_offset"], section["sh_size"]
            gpu_code |= {*read_fat_binaries(elf.stream, *place)}
    files: dict[int, str] = {}
    versions: set[str] = set()
    if needs := of_kind.get("SHT_GNU_verneed"):
        for file, entries in needs.iter_versions():
            for it in entries:
                files[it["vna_other"] & _VISIBLE] = file.name
                versions.add(it.name)
    symbols = [*_read_symbols(elf, of_kind, files)]
    linking = find_linking(elf)
    return Binary(
        name=name,
        needed=linking.needed,
        folders=linking.folders,
        versions=frozenset(versions),
        undefined={it: file for it, file in symbols if file is not None},
        defined=frozenset(it for it, file in symbols if file is None),
        gpu_code=frozenset(gpu_code),
    )


def _read_symbols(
    elf: ELFFile, of_kind: dict[str, Any], files: dict[int, str]
) -> Iterator[tuple[str, str | None]]:
    """Yield the dynamic symbols: an undefined symbol with a file, else with None.

    ``files`` has the file of each version. pyelftools would take seconds for a large
    table.
    """
    table = of_kind.get("SHT_DYNSYM")
    if table is None:
        return
    names = elf.get_section(table["sh_link"]).data()
    content = of_kind["SHT_GNU_versym"].data() if files else b""
    indexes = [it & _VISIBLE for (it,) in _VERSION.iter_unpack(content)]
    symbols = _SYMBOL.iter_unpack(table.data())
    for number, (at, info, _, where, _, _) in enumerate(symbols):
        name, binding = names[at : names.index(0, at)].decode(), info >> 4
        if where != _UNDEFINED and binding != _LOCAL:
            yield name, None
        elif where == _UNDEFINED and binding == _GLOBAL:  # a weak one may be missing
            yield name, files.get(indexes[number], "") if indexes else ""
