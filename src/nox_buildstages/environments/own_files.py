"""Give an environment files of its own: no writing changes uv's cache with them."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.environments.listing import OWN_FOLDERS, PRIVATE_FOLDER
from nox_buildstages.environments.packages import FILES_NOTE
from nox_buildstages.system.files import remove_tree, walk

if TYPE_CHECKING:
    from nox_buildstages.environments.environment import Environment

_CLONE = 0x40049409
"""The request for a clone of a file (FICLONE): two files with the same blocks."""


def separate_files(environment: Environment) -> bool:
    """Replace links to files that others have, too, by clones or copies.

    uv installs files as links to its cache, unless the file system can clone. Return
    whether files were copied, because it can't.
    """
    location, is_copied = environment.location, False
    scratch = location / PRIVATE_FOLDER
    remove_tree(scratch)
    for folder, folders, names in walk(location):
        if folder == str(location):
            folders[:] = [it for it in folders if it not in OWN_FOLDERS]
        for name in names:
            path = f"{folder}/{name}"
            status = os.lstat(path)
            is_link = stat.S_ISLNK(status.st_mode)
            if is_link and "site-packages" in folder:  # with UV_LINK_MODE=symlink
                is_shared = os.path.isfile(path) and not _is_inside(path, location)  # noqa: PTH113 - many
            else:
                is_shared = stat.S_ISREG(status.st_mode) and status.st_nlink > 1
            if is_shared:
                scratch.mkdir(exist_ok=True)
                location.joinpath(FILES_NOTE).unlink(missing_ok=True)
                is_copied |= not copy_file(path, f"{scratch}/{name}")
                os.replace(f"{scratch}/{name}", path)  # noqa: PTH105 - many
    remove_tree(scratch)
    return is_copied


def copy_file(source: str, target: str) -> bool:
    """Copy a file with mode and times; return whether the copy shares its blocks."""
    is_clone = False
    try:
        with open(source, "rb") as old, open(target, "wb") as new:  # noqa: PTH123 - fast
            is_clone = _clone(old.fileno(), new.fileno())
            left = 0 if is_clone else os.fstat(old.fileno()).st_size
            while left > 0:
                left -= os.copy_file_range(old.fileno(), new.fileno(), left) or left
        shutil.copystat(source, target)
    except OSError:  # an old kernel, or an unusual file system
        shutil.copy2(source, target)
    return is_clone


def _clone(source: int, target: int) -> bool:
    """Make an empty file a clone of another, if the file system can do that."""
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 - Windows lacks it

    with suppress(OSError):
        fcntl.ioctl(target, _CLONE, source)
        return True
    return False


def _is_inside(path: str, location: Path) -> bool:
    return Path(path).resolve().is_relative_to(location.resolve())
