"""What became of each output in one run of nox, told by all of its processes."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nox_buildstages.errors import BuildStagesError, BuildTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

BEGUN, BUILT, CACHED, FAILED = "begun", "built", "cached", "failed"
"""States of an output."""

SAY, CLOSED = "say", "closed"
"""Notes of no output: a line for the user; that the closing table was printed."""

_DAY = 86_400.0
"""In seconds."""


@dataclass(frozen=True, slots=True)
class Journal:
    """A file that the processes of a run add lines to, gone when the run ends.

    It is for the process that outlives the others: it tells how things ended where
    no session is left to do so.

    Attributes:
        path: Of the file; made with the first line.
    """

    path: Path

    @classmethod
    def of(cls, wheelhouse: Path, run: str) -> Journal:
        """Return the journal of a run of nox.

        Args:
            wheelhouse: The folder, which every process of a run knows.
            run: Its name.
        """
        return cls(wheelhouse / f".run-{run}.jsonl")

    def note(self, state: str, **more: object) -> None:
        """Add a line; a full disk, for one, isn't told of here."""
        self.add([{"state": state, **more}])

    def add(self, notes: Iterable[Mapping[str, object]]) -> None:
        """Add several lines at once."""
        text = "".join(f"{json.dumps(note)}\n" for note in notes)
        if not text:
            return
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as stream:  # in one piece
                stream.write(text.encode())

    @contextmanager
    def building(self, **output: object) -> Iterator[None]:
        """Note that an output's build has begun, and whether it failed.

        One that had no more time was stopped, and goes on the next time.
        """
        self.note(BEGUN, **output)
        try:
            yield
        except BuildTimeoutError:
            raise
        except (BuildStagesError, OSError):
            self.note(FAILED, **output)
            raise

    @contextmanager
    def note_failure(self, **stage: object) -> Iterator[None]:
        """Note that a stage, or the final stage, failed."""
        try:
            yield
        except (BuildStagesError, OSError):
            self.note(FAILED, **stage)
            raise

    def notes(self) -> list[Mapping[str, Any]]:
        """Return all lines; nothing where there are none."""
        with suppress(OSError):
            whole = self.path.read_bytes().rpartition(b"\n")[0]
            return [json.loads(line) for line in whole.splitlines()]
        return []

    def remove(self) -> None:
        """Remove the file, and those of runs that were killed a day ago or more."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            for path in self.path.parent.glob(".run-*.jsonl"):
                if time.time() - path.stat().st_mtime > _DAY:
                    path.unlink(missing_ok=True)
