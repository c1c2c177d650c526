"""Limits of archives: a small file can contain more than a disk holds."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, TypeVar

from nox_buildstages.text import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    T = TypeVar("T")

MOST_MEMBERS = 1_000_000
MOST_BYTES = 200 * 10**9
DEEPEST = 100
"""The most folders in each other."""


def limit_members(
    members: Iterable[T], describe: Callable[[T], tuple[str, int]], folder: Path
) -> Iterator[T]:
    """Yield the members of an archive, up to a limit.

    ``describe`` returns the name and the size of a member. Together they must fit on
    the disk of a folder.

    Raises:
        ValueError: The archive has too many members, or too large or deep ones.
        OSError: The disk is too small.
    """
    free, size = shutil.disk_usage(folder).free, 0
    for count, member in enumerate(members, 1):
        name, bytes_of_member = describe(member)
        size += bytes_of_member
        if count > MOST_MEMBERS:
            raise ValueError(f"it has more than {MOST_MEMBERS:,} members")
        if size > MOST_BYTES:
            raise ValueError(f"it contains more than {format_size(MOST_BYTES)}")
        if size > free:
            full = errno.ENOSPC
            raise OSError(full, os.strerror(full), str(folder))
        if name.count("/") > DEEPEST:
            raise ValueError(f"{name[:60]!r}… is more than {DEEPEST} folders deep")
        yield member
