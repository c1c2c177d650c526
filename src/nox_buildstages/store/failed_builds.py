"""The trees of failed builds, which are kept for a look into them.

A store has at most one for each output, for 14 days, and until the output is built.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from nox_buildstages.store.build_dir import KEPT_SECONDS, BuildDirectory
from nox_buildstages.system.locks import try_lock

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.store.store import Store

ROOM = 10 * 10**9
"""Bytes; a disk with less is short, unless a build is known to need more."""


def remove_kept_trees(store: Store, output: str | None = None) -> None:
    """Remove the trees of an output's failed builds, or of all; and those too old.

    A tree stays if a process uses it: a shell, or another build.
    """
    for builds in store.all_builds:
        for marker in builds.glob("*/failed.json"):
            build_dir = BuildDirectory(marker.parent)
            failed = build_dir.failed_build()
            with suppress(OSError):
                is_old = time.time() - marker.stat().st_mtime > KEPT_SECONDS
                if is_old or failed is None or output in (None, failed.output):
                    lock = try_lock(store.key_lock(marker.parent.name))
                    if lock is not None:
                        try:
                            build_dir.clear()
                        finally:
                            lock.release()


def make_room(store: Store, folder: Path, needed: int | None) -> None:
    """Remove the trees of failed builds if the disk of a folder is short."""
    with suppress(OSError):
        if shutil.disk_usage(folder).free < max(needed or 0, ROOM):
            remove_kept_trees(store)
