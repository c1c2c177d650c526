"""The links of an ELF file to libraries; needs pyelftools, as auditwheel does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.value import Value, replace
from nox_buildstages.wheels.wheel import ELF

if TYPE_CHECKING:
    from pathlib import Path

    from elftools.elf.elffile import ELFFile


class Linking(Value):
    """The libraries that an ELF file needs, and where the loader looks for them."""

    soname: str  # empty without one
    needed: tuple[str, ...]
    folders: tuple[str, ...]  # of RUNPATH, or else of RPATH


def find_linking(elf: ELFFile) -> Linking:
    """Return the instructions of an ELF file to the loader, as they are written."""
    from elftools.elf.dynamic import DynamicSegment  # noqa: PLC0415 - needs an extra

    found: dict[str, list[str]] = {}
    for segment in elf.iter_segments():
        if isinstance(segment, DynamicSegment):
            for tag in segment.iter_tags():
                name = str(tag.entry.d_tag).removeprefix("DT_").lower()
                if name in {"needed", "soname", "rpath", "runpath"}:
                    found.setdefault(name, []).append(getattr(tag, name))
    texts = found.get("runpath") or found.get("rpath") or []
    return Linking(
        soname="".join(found.get("soname", [])),
        needed=tuple(found.get("needed", [])),
        folders=tuple(it for text in texts for it in text.split(":") if it),
    )


def read_linking(path: Path) -> Linking | None:
    """Return the same of an installed file, with whole paths; None for other files."""
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - needs an extra

    with path.open("rb") as stream:
        if stream.read(len(ELF)) != ELF:
            return None
        try:
            linking = find_linking(ELFFile(stream))
        except Exception:  # noqa: BLE001 - pyelftools raises anything for damaged files
            return None
    origin = str(path.parent)
    folders = (it.replace("${ORIGIN}", "$ORIGIN") for it in linking.folders)
    return replace(
        linking, folders=tuple(it.replace("$ORIGIN", origin) for it in folders)
    )
