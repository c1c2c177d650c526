"""Where the time of a build went: the files that took longest."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nox_buildstages.builder.compilers.ninja_log import find_steps
from nox_buildstages.run.log_progress import count_steps
from nox_buildstages.store.compiled import (
    MOST,
    CompiledFiles,
    merge_files,
    read_activity,
    read_compiled,
)
from nox_buildstages.system.files import open_text
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nox_buildstages.store.build_dir import BuildDirectory
    from nox_buildstages.store.compiled import CompiledFile

_LOG = logging.getLogger(__name__)


def collect_compiled(build_dir: BuildDirectory, log: Path) -> CompiledFiles | None:
    """Return the files that a build compiled; None if no compiler was seen.

    The supervisor may have missed short compilers, so compilers in the log are counted,
    too. An unreadable file is no reason to end a build.
    """
    activity = read_activity(build_dir)
    try:
        files = merge_sources(read_compiled(build_dir), find_steps(build_dir))
        with open_text(log) as lines:
            count = count_steps(lines).begun
    except OSError as error:
        _LOG.debug("no files of %s: %s", build_dir.folder, error)
        return None
    if not files:
        return None
    seconds = sum(it.seconds for it in files)
    return CompiledFiles(
        count=max(count, len(files)),
        seconds=max(seconds, activity.seconds if activity else 0),
        jobs=activity.most if activity else 0,
        slowest=tuple(files[:MOST]),
    )


def merge_sources(
    seen: Iterable[CompiledFile], steps: Iterable[CompiledFile]
) -> list[CompiledFile]:
    """Return the files that the supervisor saw and that ninja logged, slowest first.

    Ninja measures exactly, but logs no interrupted step.
    """
    files = merge_files(seen)
    for name, step in merge_files(steps).items():
        known = files.get(name, step)
        files[name] = replace(known, seconds=max(known.seconds, step.seconds))
    return sorted(files.values(), key=lambda it: it.seconds, reverse=True)
