"""Let one run of nox at a time make the environments of a project's sessions.

Nox makes a session's environment before it runs the session, and takes no lock: two
runs that make the same one at the same moment disturb each other. So a process that
runs sessions of ours holds a lock while nox may be making an environment: from the
registration of the sessions until the first of them starts, and between two sessions.
While a session works, perhaps for hours, the lock is free. Environments that were made
are noted in a file, so that a run that needs no new ones never takes the lock.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.config.graph import session_folder
from nox_buildstages.environments.environment import is_complete
from nox_buildstages.system import files
from nox_buildstages.system.files import path_id
from nox_buildstages.value import Record, field

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from nox_buildstages.run.nox_command_line import NoxInvocation
    from nox_buildstages.store.store import Store

WAITING = (
    "another run of nox makes this project's environments for the first time;"
    " waiting for it"
)
_HOLDER = "NOX_BUILDSTAGES_MAKING"
"""Names the project to the children of a process that holds the lock."""


class EnvironmentLock(Record):
    """The lock around the environments that this process of nox makes."""

    pyproject: Path
    invocation: NoxInvocation
    _missing: frozenset[str] = frozenset()
    _notes: dict[str, dict[str, str]] = field(default_factory=dict)
    _lock: ExitStack = field(default_factory=ExitStack)
    _has_reported: bool = False

    def acquire_for(self, sessions: Collection[str]) -> None:
        """Wait until this process may make the environments that aren't there yet.

        The parent of ``-j`` doesn't wait, because its children make them. If they make
        all again in each run, the parent holds the lock until the run ends.
        """
        others_make = self.invocation.is_parallel and not self.invocation.remakes
        if self.invocation.makes_environments and not others_make:
            self._missing = frozenset(sessions)
            self._acquire()

    @contextmanager
    def release_during(self, session: str, location: Path | None) -> Iterator[None]:
        """Let other runs make environments while a session works in its own.

        A session without a location has no environment. It may be a prune, which waits
        for the sessions of other runs, so they mustn't wait for this run.
        """
        note = {**self._settings, "location": str(location)}
        is_new = location is not None and self._notes.get(session) != note
        if self.invocation.makes_environments and is_new:
            with suppress(OSError):
                self._write_notes({session: note})
        self._missing -= {session}
        if location is None or not self.invocation.remakes:
            self._lock.close()
        try:
            yield
        except Exception:  # nox runs the next session; on Ctrl-C it doesn't
            self._acquire()
            raise
        self._acquire()

    def _acquire(self) -> None:
        """Take the lock, and remove half-made environments, which nox would reuse.

        A Python may be in an environment before it is complete, so a note is written
        before nox makes one.
        """
        project = path_id(self.pyproject)
        self._update_missing()
        if not self._missing or os.environ.get(_HOLDER) == project:
            return
        with suppress(OSError):  # the session reports that the store can't be used
            self._lock.enter_context(
                _store().hold_lock(f"making-{project}", on_wait=self._report)
            )
            self._lock.callback(os.environ.pop, _HOLDER, None)
            os.environ[_HOLDER] = project
            self._update_missing()
            begun = {}
            for name in self._missing:
                folder = Path(self.invocation.envdir, session_folder(name))
                location = (self._noted_location(name) or folder).absolute()
                note = {"begun": str(location)}
                if not is_complete(location) or self._notes.get(name) == note:
                    _discard(location)
                    begun[name] = note
            if begun:
                self._write_notes(begun)
        if not self._missing:
            self._lock.close()

    def _report(self) -> None:
        if not self._has_reported:
            print(WAITING, file=sys.stderr, flush=True)  # noqa: T201 - no session yet
        self._has_reported = True

    def _update_missing(self) -> None:
        """Forget the sessions whose environments are there: nox won't make them."""
        if self._missing and not self.invocation.remakes:
            self._notes = self._read_notes()
            self._missing = frozenset(
                name
                for name in self._missing
                if (location := self._noted_location(name)) is None
                or not is_complete(location)
            )

    @property
    def _settings(self) -> dict[str, str]:
        """The settings of nox with which environments are made: others make others."""
        return {"backend": self.invocation.backend, "envdir": self.invocation.envdir}

    def _noted_location(self, session: str) -> Path | None:
        """Return the location of an environment that was made with these settings."""
        note = self._notes.get(session, {})
        is_noted = self._settings.items() <= note.items()
        return Path(note["location"]) if is_noted else None

    @property
    def _file(self) -> Path:
        name = f"{path_id(self.pyproject)}.environments.json"
        return _store().folder / "locks" / name

    def _read_notes(self) -> dict[str, dict[str, str]]:
        try:
            notes = json.loads(self._file.read_text(encoding="utf-8"))
            return {name: dict(notes[name]) for name in notes}
        except (OSError, ValueError, TypeError):
            return {}

    def _write_notes(self, notes: Mapping[str, dict[str, str]]) -> None:
        self._notes = {**self._read_notes(), **notes}
        files.write_text(self._file, json.dumps(self._notes, indent=1))


def _discard(location: Path) -> None:
    """Remove a folder at once, out of reach of a process that still writes into it."""
    if location.is_dir():
        aside = location.with_name(f".{location.name}.half-made")
        files.remove_tree(aside)
        location.replace(aside)
        with suppress(OSError):
            files.remove_tree(aside)


def _store() -> Store:
    from nox_buildstages.store.store import Store  # noqa: PLC0415 - --list is instant

    return Store.of_user(os.environ)
