"""The journal of a run of nox: the events of all its processes, in a file."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from nox_buildstages.reader import UnreadableError
from nox_buildstages.run.events import Event
from nox_buildstages.system.files import make_ignored_folder, open_file
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DAY = 86_400.0
"""A day in seconds."""


class Journal(Value, kw_only=False):
    """A file to which the processes of a run add lines, removed when the run ends.

    The first process of the run outlives the others: it prints what no session did. The
    journal of a run that was killed stays.
    """

    path: Path  # the first event makes the file

    @classmethod
    def of(cls, wheelhouse: Path, run: str) -> Journal:
        """Return the journal of a run of nox."""
        return cls(wheelhouse / f".run-{run}.jsonl")

    def add(self, *events: Event) -> None:
        """Add events in one write, so lines of two processes don't mix.

        Errors, as of a full disk, are ignored.
        """
        text = "".join(it.to_line() for it in events)
        if not text:
            return
        with suppress(OSError):
            try:
                stream = self.path.open("ab", buffering=0)
            except FileNotFoundError:
                make_ignored_folder(self.path.parent)
                stream = self.path.open("ab", buffering=0)
            with stream:
                stream.write(text.encode())

    def events(self) -> list[Event]:
        """Return all events; none if no file exists."""
        return [*self.read_from(0)[0]]

    def read_from(self, offset: int) -> tuple[list[Event], int]:
        """Return the events behind an offset in bytes, and the offset after them.

        Lines that this version doesn't know are left out.
        """
        try:
            with open_file(self.path) as stream:
                stream.seek(offset)
                whole_lines, end, _ = stream.read().rpartition(b"\n")
        except OSError:
            return [], offset
        return [*_parse(whole_lines)], offset + len(whole_lines) + len(end)

    def others(self) -> list[Journal]:
        """Return the journals of other runs in the same folder."""
        found = self.path.parent.glob(".run-*.jsonl")
        return [Journal(path) for path in found if path != self.path]

    def remove(self) -> None:
        """Remove the file, and files of runs killed a day ago or earlier."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            for other in self.others():
                if time.time() - other.path.stat().st_mtime > _DAY:
                    other.path.unlink(missing_ok=True)


def _parse(lines: bytes) -> Iterator[Event]:
    for line in lines.splitlines():
        with suppress(UnreadableError):
            yield Event.from_line(line)
