"""The folder that one wheel is built in, and what of it survives a stop.

Its path depends on the wheel's key alone. A build that is stopped leaves its tree
there, and the next one goes on in it: ninja, make and setuptools pass over what is
done. They can't tell a file that was being written when they were killed from one that
is done. So while a build runs, *checkpoints* say what is whole; what is younger is
taken away before anything goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.system import files
from nox_buildstages.system.open_files import written_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORMAT = 1
ROOM = 16_000_000
"""Bytes; where the disk has fewer left, what was written may not be whole. The script
``keeper`` has them once more."""

PAUSE = 1.0
"""Seconds between two checkpoints, at least."""

SHARE = 50
"""So many times as long as a checkpoint took the next one is waited for."""

_SECOND = 1_000_000_000
_COARSE, _FINE = 2 * _SECOND, _SECOND // 20
"""Nanoseconds by which the time of a change may be too early, where a file system
counts in seconds and where it counts in ticks of the kernel."""

_JOURNALS = frozenset({".ninja_log", ".ninja_deps"})
"""Files that their program knows to mend when it reads them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialBuild:
    """What is known of a tree whose build hasn't ended.

    Attributes:
        environment: That it is built in; it runs in no other.
        project: The project's folder, relative to the workplace.
        time: By the clock of the file system, in nanoseconds. What was changed before
            is whole.
        open: Files that were being written at that time, relative to the workplace.
        spent: Seconds that its builds took up to then.
    """

    environment: str
    project: str
    time: int
    open: tuple[str, ...] = ()
    spent: float = 0.0

    def doubts(self, name: Path, changed: int) -> bool:
        """Whether a file, changed at that time, may not be whole."""
        if name.name in _JOURNALS:
            return False
        coarse = _FINE if self.time % _SECOND else _COARSE
        return changed >= self.time - coarse or name.as_posix() in self.open


@dataclass(frozen=True, slots=True)
class BuildDirectory:
    """A folder to build one wheel in.

    Attributes:
        folder: That is named by the wheel's key.
        here: Where a backend may find it.
    """

    folder: Path
    here: Path | None = None

    @property
    def source(self) -> Path:
        """Where the source is unpacked."""
        return self.folder / "source"

    @property
    def build(self) -> Path:
        """Where backends build that are told where to."""
        return self.folder / "build"

    @property
    def home(self) -> Path:
        """What a backend has for its home and for temporary files."""
        return self.folder / "home"

    @property
    def wheel(self) -> Path:
        """Where the wheel goes."""
        return self.folder / "wheel"

    @property
    def stop(self) -> Path:
        """Where a keeper notes what is whole when it ends a build."""
        return self.folder / "stop"

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def half_built(self, environment: Path) -> PartialBuild | None:
        """Return what is known of a tree to go on in; None where there is none.

        Args:
            environment: To go on in. Build tools note its path in the tree.
        """
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            if state.pop("format") != FORMAT:
                return None
            found = PartialBuild(**{**state, "open": tuple(state["open"])})
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        if found.environment != str(environment):
            return None
        return max(found, self._stopped(found), key=lambda left: left.time)

    def _stopped(self, before: PartialBuild) -> PartialBuild:
        """Return what a keeper noted when it ended a build, if it did."""
        try:
            moment, *written = self.stop.read_text(encoding="utf-8").split("\0")
            names = filter(None, map(self._relative, map(Path, written)))
            return replace(before, time=int(moment), open=tuple(names))
        except (OSError, ValueError):
            return before

    def _relative(self, path: Path) -> str | None:
        """Return a path in the workplace relative to it, wherever it is shown."""
        for top in filter(None, (self.folder.resolve(), self.here)):
            if path.is_relative_to(top):
                return path.relative_to(top).as_posix()
        return None

    def clear(self) -> None:
        """Leave nothing."""
        files.remove_tree(self.folder)

    def _empty(self) -> None:
        """Leave the folder alone: it may be shown elsewhere by now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir():
                files.remove_tree(path)
            else:
                path.unlink()

    def begin(self, environment: Path, unpack: Callable[[Path], Path]) -> Path:
        """Make ready what a build needs, and return the project's folder.

        A tree to go on in is freed of what may not be whole.

        Args:
            environment: To build in.
            unpack: Unpacks the source into a folder that isn't there, and returns the
                project's folder in it.
        """
        left = self.half_built(environment)
        if left is None:
            self._empty()
            project = unpack(self.source)
        else:
            self._mend(left, unpack)
            project = self.folder / left.project
        for folder in (self.home, self.wheel):
            files.remove_tree(folder)
            folder.mkdir()
        self._note(
            PartialBuild(
                environment=str(environment),
                project=project.relative_to(self.folder).as_posix(),
                time=self._now(),
                spent=0.0 if left is None else left.spent,
            )
        )
        return project

    def spent(self, environment: Path) -> float:
        """Return the seconds that builds took for the tree to go on in."""
        left = self.half_built(environment)
        return 0.0 if left is None else left.spent

    def checkpoint(self, environment: Path, *, spent: float = 0.0) -> None:
        """Note what is whole by now.

        Where the disk is full the last time counts on: a compiler that couldn't write
        all of a file may have closed it.

        Args:
            environment: That is built in.
            spent: Seconds that all builds in this tree have taken.
        """
        left = self.half_built(environment)
        if left is None or shutil.disk_usage(self.folder).free < ROOM:
            return
        now = self._now()
        written = written_below(self.folder, here=self.here)
        names = [path.relative_to(self.folder) for path in written]
        still = tuple(sorted(name.as_posix() for name in names))
        self._note(replace(left, time=now, open=still, spent=spent))

    def _note(self, left: PartialBuild) -> None:
        files.write_text(self._state, json.dumps({"format": FORMAT, **asdict(left)}))

    def _now(self) -> int:
        """Return the time by which the file system dates what is written now."""
        clock = self.folder / "clock"
        clock.write_text("now", encoding="utf-8")
        return clock.stat().st_mtime_ns

    def _mend(self, left: PartialBuild, unpack: Callable[[Path], Path]) -> None:
        """Remove what may not be whole; what of it is source is put back."""
        doubtful = [*self._doubtful(left)]
        for name in doubtful:
            path = self.folder / name
            path.parent.chmod(path.parent.stat().st_mode | 0o700)
            path.unlink()
        paths = [self.folder / name for name in doubtful]
        self._put_back([it for it in paths if it.is_relative_to(self.source)], unpack)

    def _put_back(self, paths: list[Path], unpack: Callable[[Path], Path]) -> None:
        """Take files from a fresh tree, as far as they are source."""
        if not paths:
            return
        fresh = self.folder / "fresh"
        files.remove_tree(fresh)
        unpack(fresh)
        for path in paths:
            source = fresh / path.relative_to(self.source)
            if source.is_file():
                source.replace(path)
        files.remove_tree(fresh)

    def _doubtful(self, left: PartialBuild) -> Iterator[Path]:
        """Yield the files that may not be whole, relative to the workplace."""
        for top in (self.source, self.build):
            for folder, _, names in os.walk(top):
                for name in names:
                    path = Path(folder, name)
                    relative = path.relative_to(self.folder)
                    if left.doubts(relative, path.lstat().st_mtime_ns):
                        yield relative


@dataclass(kw_only=True, slots=True)
class Checkpoints:
    """Makes checkpoints of a workplace, not too often, for as long as it is called.

    Attributes:
        place: Where a build runs.
        environment: In which.
        spent: Seconds that earlier builds in its tree took.
    """

    place: BuildDirectory
    environment: Path
    spent: float = 0.0
    _begun: float = field(default_factory=time.monotonic)
    _next: float = 0.0

    def __call__(self) -> None:
        """Make one where it is time for it; a full disk prevents it."""
        begun = time.monotonic()
        if begun < self._next:
            return
        with suppress(OSError):
            spent = self.spent + begun - self._begun
            self.place.checkpoint(self.environment, spent=round(spent, 3))
        cost = time.monotonic() - begun
        self._next = begun + max(PAUSE, SHARE * cost)
