"""Let one process at a time make the environment of a session.

Nox makes a session's environment before the session runs, and takes no lock: two
processes disturb each other if both make the same environment at the same moment. So
a process holds a lock for each environment that nox may be making there: from the
registration of the sessions until the first of them starts, and between two sessions.
While a session works, perhaps for hours, the locks are free. A finished environment
gets a note, so a run without new environments takes no lock.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.config.graph import session_folder
from nox_buildstages.environments.environment import is_complete
from nox_buildstages.safe_text import show
from nox_buildstages.system import files
from nox_buildstages.system.files import path_id, read_text
from nox_buildstages.system.terminal import print_lines
from nox_buildstages.value import Record, field

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager

    from nox_buildstages.run.nox_command_line import NoxInvocation

WAITING = "waiting for another run of nox, which makes the environment {}"
_HOLDER = "NOX_BUILDSTAGES_MAKING"
"""The environments that are locked by the process that started this one."""

_NOTE = "nox-buildstages-made.txt"
"""The file in a finished environment, with the backend that nox was called with."""

_LONGEST_PATH = 87
_LONGEST_ENVDIR = 91
"""The lengths between which nox names an environment by a hash."""


class EnvironmentLock(Record):
    """The locks around the environments made by this process of nox."""

    invocation: NoxInvocation
    _missing: set[Path] = field(default_factory=set)
    _locks: ExitStack = field(default_factory=ExitStack)

    def acquire_for(self, sessions: Collection[str]) -> None:
        """Wait until this process may make the missing environments.

        The parent of ``-j`` makes none: each child makes its own.
        """
        if self.invocation.makes_environments and not self.invocation.is_parallel:
            envdir = self.invocation.envdir
            self._missing = set()
            for name in map(session_folder, sessions):
                folder = Path(envdir, name)
                # Nox shortens a long path.
                if len(str(folder)) > _LONGEST_PATH and len(envdir) < _LONGEST_ENVDIR:
                    digest = hashlib.sha1(name.encode(), usedforsecurity=False)
                    folder = Path(envdir, digest.hexdigest()[:8])
                self._missing.add(folder.absolute())
            self._acquire()

    @contextmanager
    def release_during(self, location: Path | None) -> Iterator[None]:
        """Let other runs make environments while a session works in its own.

        A session without a location has no environment. It may be a prune, which waits
        for the sessions of other runs, so they mustn't wait for this run. If nox makes
        all environments again in each run, other runs wait for the end of this run.
        """
        if location is not None and self.invocation.makes_environments:
            if not self._is_noted(location):
                with suppress(OSError):
                    note = location / _NOTE
                    note.write_text(self.invocation.backend, encoding="utf-8")
            self._missing.discard(location)
        if location is None or not self.invocation.remakes:
            self._locks.close()
        try:
            yield
        except Exception:  # nox runs the next session; on Ctrl-C it doesn't
            self._acquire()
            raise
        self._acquire()

    def _acquire(self) -> None:
        """Take the locks, and remove half-made environments, which nox would reuse.

        All processes take locks in the same order, so no two wait for each other.
        A Python may be in an incomplete environment, so a file beside the environment
        stays if we are killed before nox has finished.
        """
        self._missing = {it for it in self._missing if not self._is_made(it)}
        for location in sorted(self._missing, key=path_id):
            held = os.environ.get(_HOLDER, "")
            if str(location) in held.split(os.pathsep):
                continue
            # The session reports an error; Windows lacks the lock.
            with suppress(OSError, ImportError), ExitStack() as lock:
                lock.enter_context(_hold_lock(location))
                if self._is_made(location):  # by another process meanwhile
                    self._missing.discard(location)
                    continue
                marker = location.with_name(f".{location.name}.making")
                if marker.exists() or not is_complete(location):
                    _discard(location)
                marker.parent.mkdir(parents=True, exist_ok=True)
                marker.touch()
                lock.callback(marker.unlink, missing_ok=True)
                lock.callback(os.environ.update, {_HOLDER: held})
                os.environ[_HOLDER] = f"{held}{os.pathsep}{location}"
                self._locks.push(lock.pop_all())
        if not self._missing:
            self._locks.close()

    def _is_made(self, location: Path) -> bool:
        """Whether nox won't make an environment, as one made in the same way exists."""
        return not self.invocation.remakes and (
            self._is_noted(location) and is_complete(location)
        )

    def _is_noted(self, location: Path) -> bool:
        """Whether an environment has the note of this backend."""
        try:
            backend = read_text(location / _NOTE)
        except (OSError, ValueError):
            return False
        return backend == self.invocation.backend


def _hold_lock(location: Path) -> AbstractContextManager[object]:
    from nox_buildstages.store.store import Store  # noqa: PLC0415 - --list is instant

    def report() -> None:
        print_lines([show(WAITING.format(location))])

    store = Store.of_user(os.environ)
    return store.hold_lock(f"making-{path_id(location)}", on_wait=report)


def _discard(location: Path) -> None:
    """Remove a folder at once, out of reach of a process still writing files."""
    if location.is_dir():
        aside = location.with_name(f".{location.name}.half-made")
        files.remove_tree(aside)
        location.replace(aside)
        with suppress(OSError):
            files.remove_tree(aside)
