"""Which files programs are writing, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROCESSES = Path("/proc")


def written_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that a process has open for writing.

    Only processes that we may look at are seen, which those that we start are.
    """
    top = folder.resolve()
    for process in _PROCESSES.glob("[0-9]*"):
        try:
            handles = os.listdir(process / "fd")  # noqa: PTH208 - there are thousands
        except OSError:  # it has ended, or isn't ours
            continue
        for handle in handles:
            path = _written(process, handle)
            if path is not None and path.is_relative_to(top):
                yield folder / path.relative_to(top)


def _written(process: Path, handle: str) -> Path | None:
    """Return the file that is written through a handle; None if it is only read."""
    try:
        path = (process / "fd" / handle).readlink()
        described = (process / "fdinfo" / handle).read_text(encoding="ascii")
    except OSError:
        return None
    flags = next(line for line in described.splitlines() if line.startswith("flags:"))
    mode = int(flags.split()[1], 8) & os.O_ACCMODE
    return None if mode == os.O_RDONLY else path
