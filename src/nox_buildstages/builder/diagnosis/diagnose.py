"""Diagnose a failed hook from the log."""

from __future__ import annotations

import os
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from nox_buildstages.builder.diagnosis.causes import find_causes, is_suspicious
from nox_buildstages.builder.diagnosis.hints import (
    Hint,
    find_hint,
    find_missing_library,
    find_unseen_variable,
    is_full_disk,
    is_out_of_memory,
    memory_hint,
)
from nox_buildstages.model import PROJECT
from nox_buildstages.system.files import open_file, read_chunks
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nox_buildstages.builder.diagnosis.situation import Situation

_LINE = 2_000
"""The number of bytes after which a line is read as two."""

_MOST = 16_000_000
"""The bytes at the end of a long log that are searched."""


class Diagnosis(Value):
    """Why a hook failed."""

    lines: tuple[str, ...]  # of the log, to show
    excerpt: tuple[str, ...]  # of the lines
    log_length: int  # lines of the whole log
    hint: Hint
    is_compile_error: bool
    out_of_memory: bool
    full_disk: bool


def diagnose(log: Path, start: int, reason: str, situation: Situation) -> Diagnosis:
    """Return why a hook failed; ``start`` is the size of the log before the hook.

    Advice comes from the lines that show the cause. The rest of the log counts only if
    none of them is an error in a known format: builds try many things in vain.
    """
    causes = find_causes(read_log(log, start))
    out_of_memory = full_disk = False
    for line in chain([reason], filter(is_suspicious, read_log(log, start))):
        out_of_memory = out_of_memory or is_out_of_memory(line)
        full_disk = full_disk or is_full_disk(line)
    hint = find_hint(["\n".join((*causes.lines, reason))], situation)
    if out_of_memory and situation.stage != PROJECT:
        hint = Hint(text=memory_hint(situation.stage, jobs=2))
    elif not hint.text and not causes.is_certain:
        hint = find_hint(filter(is_suspicious, read_log(log, start)), situation)
    if hint.is_download:
        library = find_missing_library(read_log(log, start))
        hint = replace(hint, text=library or hint.text)
    if not hint.text:
        variable = find_unseen_variable((*causes.lines, reason), situation)
        hint = replace(hint, text=variable)
    return Diagnosis(
        lines=causes.lines,
        excerpt=causes.excerpt,
        log_length=_count_lines(log),
        hint=hint,
        is_compile_error=causes.is_compile_error,
        out_of_memory=out_of_memory,
        full_disk=full_disk,
    )


def read_log(log: Path, start: int = 0) -> Iterator[str]:
    """Yield the lines of a log after a position; none if the file doesn't exist.

    Of a long log, these are the last lines.
    """
    if not log.is_file():
        return
    with open_file(log) as stream:
        stream.seek(max(start, os.fstat(stream.fileno()).st_size - _MOST))
        for line in iter(partial(stream.readline, _LINE), b""):
            yield line.decode("utf-8", "replace")


def _count_lines(log: Path) -> int:
    if not log.is_file():
        return 0
    with open_file(log) as stream:
        return sum(chunk.count(b"\n") for chunk in read_chunks(stream))
