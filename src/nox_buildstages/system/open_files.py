"""Which files programs are writing, as Linux tells it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROCESSES = Path("/proc")


def written_below(folder: Path, *, here: Path | None = None) -> Iterator[Path]:
    """Yield the files below a folder that a process has open for writing.

    Only processes that we may look at are seen, which those that we start are.

    Args:
        folder: To look at.
        here: Where those may find it that are shown it at another path, as others are
            shown other folders; None where nobody is.
    """
    top = folder.resolve()
    shown = top if here is None else here.resolve()
    for process in _PROCESSES.glob("[0-9]*"):
        try:
            handles = os.listdir(process / "fd")  # noqa: PTH208 - there are thousands
        except OSError:  # it has ended, or isn't ours
            continue
        for handle in handles:
            path = _written(process, handle)
            if path is None:
                continue
            if path.is_relative_to(top):
                yield folder / path.relative_to(top)
            elif path.is_relative_to(shown):
                found = folder / path.relative_to(shown)
                if _is_open(found, process / "fd" / handle):
                    yield found


def _is_open(path: Path, handle: Path) -> bool:
    """Whether that very file is behind a handle."""
    try:
        return path.samefile(handle)
    except OSError:  # not there, or closed by now
        return False


def _written(process: Path, handle: str) -> Path | None:
    """Return the file that is written through a handle; None if it is only read."""
    try:
        path = (process / "fd" / handle).readlink()
        mode = (process / "fd" / handle).lstat().st_mode
    except OSError:
        return None
    return path if mode & stat.S_IWUSR else None
