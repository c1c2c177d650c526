"""The logs of ninja: how long each step of a build took."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.store.compiled import CompiledFile
from nox_buildstages.system.files import open_text, read_text, walk
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nox_buildstages.store.build_dir import BuildDirectory

LOG = ".ninja_log"

_HEADER = re.compile(r"# ninja log v[567]\n?")
_WORD = re.compile(r"(?:\$.|[^\s:$])+|:")
"""A path in a file of ninja, or the colon between results and inputs."""

_ESCAPED = re.compile(r"\$([$ :])")


class NinjaStep(Value):
    """A step in a log of ninja."""

    result: str  # the first file that it made, relative to the folder of the log
    seconds: float


def read_log(lines: Iterable[str]) -> list[NinjaStep]:
    """Return the steps in a log of ninja, of the formats 5 to 7.

    The log has a line for each result: begin and end in milliseconds since ninja began,
    the time of the file, its name, and a hash of the command. A later line replaces
    earlier ones for the same result. One step may have several results.
    """
    found: dict[str, tuple[str, ...]] = {}
    rest = iter(lines)
    if not _HEADER.fullmatch(next(rest, "")):
        return []
    for line in rest:
        fields = line.rstrip("\n").split("\t")
        with suppress(ValueError):
            begin, end, _, result, command = fields
            found.pop(result, None)
            found[result] = (begin, end, command)
    steps: dict[tuple[str, ...], NinjaStep] = {}
    for result, step in found.items():
        with suppress(ValueError):
            seconds = (int(step[1]) - int(step[0])) / 1000
            steps.setdefault(step, NinjaStep(result=result, seconds=seconds))
    return [*steps.values()]


def read_sources(text: str) -> dict[str, str]:
    """Return the first input of each result in a file of ninja.

    Paths with variables stay as they are.
    """
    found: dict[str, str] = {}
    for line in text.replace("$\n", " ").splitlines():
        if line.startswith("build "):
            words = [*_WORD.findall(line), "|", ":", "|", "|"]
            colon = words.index(":")
            _rule, first, *_ = words[colon + 1 :]
            if not first.startswith("|"):
                source = _ESCAPED.sub(r"\1", first)
                results = (it for it in words[1:colon] if it != "|")
                found |= {_ESCAPED.sub(r"\1", it): source for it in results}
    return found


def find_steps(build_dir: BuildDirectory) -> Iterator[CompiledFile]:
    """Yield the steps of ninja in a build: the file that each compiled, or made.

    The source may contain logs of builds elsewhere. Their results are older than ours.
    """
    shorten, top = build_dir.shorten(), build_dir.folder.resolve()
    for folder in [it for it, _, names in walk(top) if LOG in names]:
        log = Path(folder, LOG)
        if log.stat().st_mtime_ns < build_dir.begun:
            continue
        sources: dict[str, str] = {}
        for file in log.parent.glob("*.ninja"):
            sources |= read_sources(read_text(file, errors="replace"))
        with open_text(log) as lines:
            steps = read_log(lines)
        for step in steps:
            path = os.path.normpath(Path(folder, step.result))
            with suppress(OSError):
                real = top / (build_dir.relative(Path(path)) or path)
                if real.lstat().st_mtime_ns < build_dir.begun:
                    continue
            if step.result.endswith((".o", ".obj")):
                path = os.path.normpath(Path(folder, sources.get(step.result, path)))
            yield CompiledFile(file=shorten(path), seconds=step.seconds)
