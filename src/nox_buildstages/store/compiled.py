"""The files that a build compiled: lines of the supervisor, and fields of records."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nox_buildstages.system.files import read_text
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nox_buildstages.store.build_dir import BuildDirectory

MOST = 20
"""Number of files that a record names."""


_FOREVER = 1e9
"""Seconds that no build takes."""


class CompiledFile(Value):
    """A file that compilers worked on, in all attempts of a build."""

    file: str  # relative to the source tree, if it is in it
    seconds: float
    memory: int | None = None  # bytes that a compiler had at most; None if unknown
    architectures: tuple[str, ...] = ()  # of GPUs

    def merge(self, other: CompiledFile) -> CompiledFile:
        """Return the sum of two measurements of a file."""
        both = dict.fromkeys((*self.architectures, *other.architectures))
        memory = max(self.memory or 0, other.memory or 0) or None
        return CompiledFile(
            file=self.file,
            seconds=self.seconds + other.seconds,
            memory=memory,
            architectures=tuple(both),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the file as JSON."""
        return {
            "file": self.file,
            "seconds": round(self.seconds, 1),
            "memory": self.memory,
            "architectures": [*self.architectures],
        }


class CompiledFiles(Value):
    """All files that a build compiled."""

    count: int
    seconds: float  # of all files together
    jobs: int  # compilers that ran at once at most; 0 if unknown
    slowest: tuple[CompiledFile, ...]  # the slowest first, at most ``MOST``

    def to_dict(self) -> dict[str, Any]:
        """Return the files as JSON."""
        return {
            "count": self.count,
            "seconds": round(self.seconds, 1),
            "jobs": self.jobs,
            "slowest": [it.to_dict() for it in self.slowest],
        }

    @classmethod
    def from_dict(cls, value: Any) -> CompiledFiles | None:  # noqa: ANN401 - any JSON
        """Return the files of a record; None if the record has none, or wrong ones."""
        try:
            return cls(
                count=int(value["count"]),
                seconds=_parse_seconds(value["seconds"]),
                jobs=int(value["jobs"]),
                slowest=tuple(
                    CompiledFile(
                        file=str(it["file"]),
                        seconds=_parse_seconds(it["seconds"]),
                        memory=None if it["memory"] is None else int(it["memory"]),
                        architectures=tuple(map(str, it["architectures"])),
                    )
                    for it in value["slowest"][:MOST]
                ),
            )
        except (LookupError, TypeError, ValueError, OverflowError):
            return None


def _parse_seconds(value: object) -> float:
    if isinstance(value, (int, float)) and 0 <= value < _FOREVER:
        return float(value)
    raise ValueError(value)


def facts_of_files(files: CompiledFiles | None) -> dict[str, Any]:
    """Return the facts of an output's event; none if no compiler was seen."""
    if files is None:
        return {}
    return {
        "slowest": [it.to_dict() for it in files.slowest],
        "files": files.count,
        "files_seconds": round(files.seconds, 1),
        "jobs_used": files.jobs,
    }


class Activity(Value):
    """The activity of a build's processes at a moment."""

    memory: int  # bytes of all processes
    files: tuple[str, ...]  # that are being compiled
    done: int  # number of files that were compiled in this attempt
    most: int  # compilers that ran at once at most, in all attempts
    seconds: int  # of all compilers together, in all attempts


def read_activity(build_dir: BuildDirectory) -> Activity | None:
    """Return what the processes of a build do; None if unknown."""
    try:
        text = read_text(build_dir.memory, errors="replace")
        head, *lines = text.splitlines()
        _, _, most, seconds, memory, done = map(int, head.split())
    except (OSError, ValueError):
        return None
    found = parse_compiled(lines, build_dir.shorten())
    return Activity(
        memory=memory,
        files=tuple(dict.fromkeys(it.file for it in found)),
        done=done,
        most=most,
        seconds=seconds,
    )


def read_compiled(build_dir: BuildDirectory) -> list[CompiledFile]:
    """Return what the supervisor of a build has seen of compilers, one for each."""
    lines: list[str] = []
    for file in (build_dir.compiled, build_dir.memory):  # that have ended, and others
        with suppress(OSError):
            lines += read_text(file, errors="replace").splitlines()
    return [*parse_compiled(lines, build_dir.shorten())]


def parse_compiled(
    lines: Iterable[str], shorten: Callable[[str], str]
) -> Iterator[CompiledFile]:
    """Yield the files in the supervisor's lines; ``shorten`` makes paths relative.

    Other lines are skipped: on a full disk a line may be cut off.
    """
    for line in lines:
        with suppress(ValueError):
            began, ended, peak, options, file = line.rstrip("\n").split("\t")
            yield CompiledFile(
                file=shorten(file),
                seconds=float(ended) - float(began),
                memory=int(peak) or None,
                architectures=find_architectures(options.split()),
            )


def find_architectures(values: Iterable[str]) -> tuple[str, ...]:
    """Return the architectures of GPUs in the values of compilers' options."""
    found: dict[str, None] = {}
    for value in values:
        codes = value.rpartition("code=")[2]
        found |= dict.fromkeys(re.findall(r"\w[\w-]*", codes))
    return tuple(found)


def merge_files(files: Iterable[CompiledFile]) -> dict[str, CompiledFile]:
    """Return the files by name, each once."""
    merged: dict[str, CompiledFile] = {}
    for it in files:
        earlier = merged.get(it.file)
        merged[it.file] = it if earlier is None else earlier.merge(it)
    return merged
