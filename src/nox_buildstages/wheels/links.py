"""The links of an ELF file to libraries; needs pyelftools, as auditwheel does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.value import Value

if TYPE_CHECKING:
    from pathlib import Path

_ELF = b"\x7fELF"


class Linking(Value):
    """The libraries that an ELF file needs, and where the loader looks for them."""

    soname: str  # empty without one
    needed: tuple[str, ...]
    folders: tuple[str, ...]  # of RUNPATH, or else of RPATH


def read_linking(path: Path) -> Linking | None:
    """Return what an ELF file says to the loader; None for any other file."""
    from elftools.elf.dynamic import DynamicSegment  # noqa: PLC0415 - needs an extra
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    found: dict[str, list[str]] = {}
    with path.open("rb") as stream:
        if stream.read(len(_ELF)) != _ELF:
            return None
        try:
            for segment in ELFFile(stream).iter_segments():
                if isinstance(segment, DynamicSegment):
                    for tag in segment.iter_tags():
                        name = str(tag.entry.d_tag).removeprefix("DT_").lower()
                        if name in {"needed", "soname", "rpath", "runpath"}:
                            found.setdefault(name, []).append(getattr(tag, name))
        except Exception:  # noqa: BLE001 - pyelftools raises anything for damaged files
            return None
    texts = found.get("runpath") or found.get("rpath") or []
    origin = str(path.parent)
    return Linking(
        soname="".join(found.get("soname", [])),
        needed=tuple(found.get("needed", [])),
        folders=tuple(
            folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
            for text in texts
            for folder in filter(None, text.split(":"))
        ),
    )
