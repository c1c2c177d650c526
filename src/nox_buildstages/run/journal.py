"""The results of the outputs in a run of nox, noted by all processes of the run."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from nox_buildstages.errors import BuildStagesError, BuildTimeoutError
from nox_buildstages.system.files import make_ignored_folder
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

BEGUN, BUILT, CACHED, FAILED = "begun", "built", "cached", "failed"
"""The states of an output."""

SAY, CLOSED = "say", "closed"
"""More states of notes: a line for the user, and a summary that was printed."""

_DAY = 86_400.0
"""A day in seconds."""


class Journal(Value, kw_only=False):
    """A file to which the processes of a run add lines, removed when the run ends.

    The first process of the run outlives the others: it reads the journal and prints
    the remaining results.
    """

    path: Path  # the first note makes the file

    @classmethod
    def of(cls, wheelhouse: Path, run: str) -> Journal:
        """Return the journal of a run of nox."""
        return cls(wheelhouse / f".run-{run}.jsonl")

    def note(self, state: str, **more: object) -> None:
        """Add a line; errors, as of a full disk, are ignored."""
        self.add([{"state": state, **more}])

    def add(self, notes: Iterable[Mapping[str, object]]) -> None:
        """Add several lines in one write, so lines of two processes don't mix."""
        text = "".join(f"{json.dumps(note)}\n" for note in notes)
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

    @contextmanager
    def note_build(self, **output: object) -> Iterator[None]:
        """Note that the build of an output has begun, and whether the build failed.

        A build stopped by the timeout stays begun: the next run resumes the build.
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
        """Note the failure of a stage, or of the final stage."""
        try:
            yield
        except (BuildStagesError, OSError):
            self.note(FAILED, **stage)
            raise

    def notes(self) -> list[Mapping[str, Any]]:
        """Return all notes; none if no file exists."""
        with suppress(OSError):
            whole_lines = self.path.read_bytes().rpartition(b"\n")[0]
            return [json.loads(line) for line in whole_lines.splitlines()]
        return []

    def remove(self) -> None:
        """Remove the file, and files of runs killed a day ago or earlier."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            for path in self.path.parent.glob(".run-*.jsonl"):
                if time.time() - path.stat().st_mtime > _DAY:
                    path.unlink(missing_ok=True)
