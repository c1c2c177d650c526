"""One run of nox at a time makes the environments of a project's sessions.

Nox makes a session's environment before anything of ours runs, and takes no lock: two
runs that make one at the same moment trip over each other. So a lock is held wherever
nox may be about to make one that isn't there yet: from the registering of the
sessions to the first one's work, and from the end of one's work to the next one's.
While a session works, for hours maybe, it is free. What was made is noted, so that
nobody takes the lock where everything is there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.environments.environment import is_complete
from nox_buildstages.system import files
from nox_buildstages.system.files import path_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nox_buildstages.run.command_line import NoxInvocation, RegisteredSession
    from nox_buildstages.store.store import Store

WAITING = (
    "another run of nox makes this project's environments for the first time;"
    " waiting for it"
)
_HOLDER = "NOX_BUILDSTAGES_MAKING"
"""Tells the processes that a holder of the lock starts whose lock it is."""


@dataclass(kw_only=True, slots=True)
class EnvironmentLock:
    """The environments that this process of nox comes to make.

    Attributes:
        pyproject: Of the project that the lock is for.
        call: How nox was called.
    """

    pyproject: Path
    call: NoxInvocation
    _left: frozenset[str] = frozenset()
    _notes: dict[str, dict[str, str]] = field(default_factory=dict)
    _held: ExitStack = field(default_factory=ExitStack)
    _has_told: bool = False

    def begin(self, registered: Sequence[RegisteredSession]) -> None:
        """Wait until this process may make those that aren't there yet, if it will.

        Args:
            registered: The sessions of ours.
        """
        by_others = self.call.parallel and not self.call.afresh
        if self.call.makes and not by_others:
            self._left = self._missing(self.call.selected(registered))
            self._hold()

    @contextmanager
    def at_work(self, session: str, location: Path) -> Iterator[None]:
        """Let others make environments while a session works in its own.

        Where all are made anew in each run, nobody else may before this one is over.

        Args:
            session: By its name.
            location: Its environment, which nox has made or found.
        """
        if self.call.makes:
            self._note(session, {**self._manner, "location": str(location)})
        self._left -= {session}
        if not self.call.afresh:
            self._held.close()
        try:
            yield
        except Exception:  # nox goes on to the next one
            self._hold()
            raise
        self._hold()

    def _hold(self) -> None:
        """Take the lock, unless another run has made meanwhile all that is left."""
        place = path_id(self.pyproject)
        if not self._left or os.environ.get(_HOLDER) == place:
            return
        with suppress(OSError):  # that the store can't be used a session will tell
            self._held.enter_context(
                _store().hold_lock(f"making-{place}", on_wait=self._tell)
            )
            self._held.callback(os.environ.pop, _HOLDER, None)
            os.environ[_HOLDER] = place
            self._left = self._missing(self._left)
            self._make_way()
        if not self._left:
            self._held.close()

    def _tell(self) -> None:
        if not self._has_told:
            print(WAITING, file=sys.stderr, flush=True)  # noqa: T201 - no session yet
        self._has_told = True

    def _make_way(self) -> None:
        """Remove what a run that was killed left half made; nox would reuse it.

        Python alone may be there when an environment isn't finished, so each is noted
        as begun before nox makes it.
        """
        begun = {}
        for name in self._left:
            location = self._location(name).absolute()
            note = {"begun": str(location)}
            if not is_complete(location) or self._notes.get(name) == note:
                _discard(location)
                begun[name] = note
        if begun:
            self._write(begun)

    def _missing(self, names: frozenset[str]) -> frozenset[str]:
        """Return those sessions whose environments aren't there."""
        if names:
            self._notes = self._read()
        return frozenset(name for name in names if not self._is_there(name))

    def _is_there(self, name: str) -> bool:
        is_kept = self._is_noted(name) and not self.call.afresh
        return is_kept and is_complete(self._location(name))

    def _is_noted(self, name: str) -> bool:
        return self._manner.items() <= self._notes.get(name, {}).items()

    def _location(self, name: str) -> Path:
        """Return where a session's environment is, or else where nox will make it."""
        if self._is_noted(name):
            return Path(self._notes[name]["location"])
        return Path(self.call.envdir, re.sub(r"[^\w-]+", "-", name))

    @property
    def _manner(self) -> dict[str, str]:
        """What nox was told of environments: told otherwise it makes others."""
        return {"backend": self.call.backend, "envdir": self.call.envdir}

    def _note(self, session: str, note: dict[str, str]) -> None:
        """Let later runs know of an environment."""
        if self._notes.get(session) != note:
            with suppress(OSError):
                self._write({session: note})

    def _write(self, notes: Mapping[str, dict[str, str]]) -> None:
        self._notes = {**self._read(), **notes}
        files.write_text(self._file, json.dumps(self._notes, indent=1))

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            notes = json.loads(self._file.read_text(encoding="utf-8"))
            return {name: dict(notes[name]) for name in notes}
        except (OSError, ValueError, TypeError):
            return {}

    @property
    def _file(self) -> Path:
        place = path_id(self.pyproject)
        return _store().folder / "locks" / f"{place}.environments.json"


def _discard(location: Path) -> None:
    """Remove a folder at once: what may still write into it finds it no more."""
    if location.is_dir():
        aside = location.with_name(f".{location.name}.half-made")
        files.remove_tree(aside)
        location.replace(aside)
        with suppress(OSError):
            files.remove_tree(aside)


def _store() -> Store:
    from nox_buildstages.store.store import Store, cache_folder  # noqa: PLC0415 - --list is instant

    return Store(cache_folder(os.environ))
