"""The folder in which a wheel is built, and where an interrupted build resumes.

ninja, make and setuptools skip finished files, but can't recognize truncated files. So
a supervisor notes *checkpoints* while a build runs, and before a build resumes, files
younger than the last checkpoint are removed.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nox_buildstages import reader
from nox_buildstages.store.memory import BuildMemory
from nox_buildstages.system import files
from nox_buildstages.system.documents import find_json
from nox_buildstages.system.files import open_text, read_text
from nox_buildstages.value import Value, field_names, replace, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.store.memory import Kill

_LOG = logging.getLogger(__name__)

FORMAT = 2
"""Version 1 had another path for all builds."""

KEPT_SECONDS = 14 * 86_400.0
"""Seconds for which the tree of a failed build is kept."""

HERE = Path("/nox-build-stage")
"""The path at which every build sees its build directory, if the system allows mounts.

Compilers write paths into their results. This one is the same for every store, user and
checkout, and nothing lies around it.
"""

ENVIRONMENT_HERE = Path("/nox-build-environment")
"""The path at which every build sees its environment, if the system allows mounts."""

_SECOND = 1_000_000_000
_COARSE, _FINE = 2 * _SECOND, _SECOND // 20
"""Nanoseconds by which a modification time may be too early, on a file system that
counts in seconds and on one that counts in ticks of the kernel."""

_JOURNALS = frozenset({".ninja_log", ".ninja_deps"})
"""Files that their program repairs when it reads them."""


class PartialBuild(Value):
    """The state of an unfinished build at a checkpoint.

    Paths are relative to the build directory.
    """

    environment: str  # a build resumes in no other environment
    project: str
    time: int  # nanoseconds, by the file system; older files are complete
    open: tuple[str, ...] = ()  # the files that were being written
    spent: float = 0.0  # seconds of all attempts

    def may_be_incomplete(self, name: Path, changed: int) -> bool:
        """Whether a file, changed at a time in nanoseconds, may be truncated."""
        if name.name in _JOURNALS:
            return False
        tolerance = _FINE if self.time % _SECOND else _COARSE
        return changed >= self.time - tolerance or name.as_posix() in self.open


class FailedBuild(Value):
    """A failed build, whose tree is kept for a look inside."""

    output: str
    environment: str
    project: str  # the project's folder, relative to the build directory


def _inner_path(value: object) -> str:
    """Read a path that doesn't lead out of the build directory."""
    path = PurePosixPath(reader.text(value))
    if path.is_absolute() or ".." in path.parts:
        raise reader.mismatch("a path in the build directory", value)
    return str(path)


def _read_state(table: reader.Table) -> PartialBuild:
    if table.get("format", reader.integer) != FORMAT:
        raise ValueError("another format")
    table.refuse_others(("format", *field_names(PartialBuild)))
    return PartialBuild(
        environment=table.get("environment", reader.text),
        project=table.get("project", _inner_path),
        time=table.get("time", reader.count),
        open=table.get("open", reader.list_of(reader.text)),
        spent=table.get("spent", reader.seconds),
    )


class BuildDirectory(Value, kw_only=False):
    """The folder in which a wheel is built, named by the wheel's key."""

    folder: Path

    @property
    def source(self) -> Path:
        """The unpacked source."""
        return self.folder / "source"

    @property
    def build(self) -> Path:
        """The folder for backends that build outside the source tree."""
        return self.folder / "build"

    @property
    def home(self) -> Path:
        """The backend's home, also for temporary files."""
        return self.folder / "home"

    @property
    def wheel(self) -> Path:
        """The folder for the built wheel."""
        return self.folder / "wheel"

    @property
    def writable(self) -> tuple[Path, ...]:
        """The paths that a build may write to; the others are ours."""
        return (
            *(self.source, self.build, self.home, self.wheel),
            *(self.pipe, self.started),
        )

    @property
    def pipe(self) -> Path:
        """The named pipe of a jobserver."""
        return self.folder / "jobs"

    @property
    def wrappers(self) -> Path:
        """The folder with wrappers of compilers."""
        return self.folder / "compilers"

    @property
    def started(self) -> Path:
        """The file in which wrappers note which compilers the build starts."""
        return self.folder / "started"

    @property
    def checkpoint(self) -> Path:
        """The file to which the supervisor writes checkpoints."""
        return self.folder / "stop"

    @property
    def memory(self) -> Path:
        """The file to which the supervisor writes what processes use and do."""
        return self.folder / "memory"

    @property
    def compiled(self) -> Path:
        """The file for the compilers that have ended, from the supervisor."""
        return self.folder / "compiled"

    @property
    def begun(self) -> int:
        """When the first attempt began, in nanoseconds; 0 if unknown."""
        try:
            return (self.folder / "begun").stat().st_mtime_ns
        except OSError:
            return 0

    def read_memory(
        self, jobs: int, *, is_complete: bool = False, kill: Kill | None = None
    ) -> BuildMemory | None:
        """Return the most memory that a build with some jobs used; None if unknown."""
        try:
            with open_text(self.memory) as file:
                process, build = map(int, file.readline().split()[:2])
        except (OSError, ValueError):
            return None
        return BuildMemory(
            process=process,
            build=build,
            jobs=jobs,
            is_complete=is_complete,
            kill=kill,
        )

    def shorten(self) -> Callable[[str], str]:
        """Return a function for paths, seen in a sandbox or outside.

        It makes paths relative to the project, to the source, or to the build
        directory. Others stay absolute.
        """
        state = find_json(self._state, reader.table(_read_state))
        project = self.source.name if state is None else state.project
        tops = f"{project}/", f"{self.source.name}/"

        def shorten(path: str) -> str:
            inside = self.relative(Path(path)) or path
            top = next(filter(inside.startswith, tops), "")
            return inside.removeprefix(top)

        return shorten

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def partial_build(self, environment: Path) -> PartialBuild | None:
        """Return the state of an interrupted build; None if no build can resume.

        Build tools write the environment's path into the tree, so a build in another
        environment doesn't resume.
        """
        begun = find_json(self._state, reader.table(_read_state))
        if begun is None or begun.environment != str(environment):
            return None
        try:
            text = read_text(self.checkpoint)
            moment, *names = text.split("\0")
            time = int(moment)
        except (OSError, ValueError):
            return begun
        if time <= begun.time:  # the checkpoint is of an earlier attempt
            return begun
        return replace(
            begun,
            time=time,
            open=tuple(filter(None, map(self.relative, map(Path, names)))),
            spent=begun.spent + (time - begun.time) / _SECOND,
        )

    def spent(self, environment: Path) -> float:
        """Return the seconds of earlier attempts in the tree."""
        partial = self.partial_build(environment)
        return 0.0 if partial is None else partial.spent

    def begin(self, environment: Path, unpack: Callable[[Path], Path]) -> Path:
        """Prepare a build, and return the project's folder.

        A build resumes in an existing tree, without possibly truncated files. For a
        new build, ``unpack`` puts the source into a folder.
        """
        partial = self.partial_build(environment)
        if partial is None:
            is_used = self._state.exists()
            why = "it is of another environment" if is_used else "it is new"
            _LOG.debug("build directory %s doesn't resume: %s", self.folder, why)
            # The folder itself stays, because a sandbox may show it elsewhere by now.
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.iterdir():
                if path.is_dir():
                    files.remove_tree(path)
                else:
                    path.unlink()
            project = unpack(self.source)
        else:
            _LOG.debug("build directory %s resumes", self.folder)
            self._remove_incomplete(partial, unpack)
            project = self.folder / partial.project
        for folder in (self.home, self.wheel):
            files.remove_tree(folder)
            folder.mkdir()
        self.build.mkdir(exist_ok=True)
        if partial is None:
            (self.folder / "begun").touch()
        clock = self.folder / "clock"
        clock.write_text("now", encoding="utf-8")
        state = PartialBuild(
            environment=str(environment),
            project=project.relative_to(self.folder).as_posix(),
            time=clock.stat().st_mtime_ns,
            spent=0.0 if partial is None else round(partial.spent, 3),
        )
        text = json.dumps({"format": FORMAT, **to_dict(state)})
        files.write_text(self._state, text)
        return project

    def forget_state(self) -> None:
        """Let no build resume in the folder."""
        self._state.unlink()

    @property
    def failure(self) -> Path:
        """The mark of a failed build's tree."""
        return self.folder / "failed.json"

    @property
    def made(self) -> Path:
        """The file that notes which files of the source builds have written."""
        return self.folder / "made.json"

    def keep_tree(self, output: str) -> None:
        """Keep the tree of a failed build for a shell; no build resumes in it."""
        state = find_json(self._state, reader.table(_read_state))
        if state is None:  # nothing was unpacked
            self.clear()
            return
        failed = FailedBuild(
            output=output, environment=state.environment, project=state.project
        )
        self._state.unlink()
        files.write_text(self.failure, json.dumps(to_dict(failed)))

    def failed_build(self) -> FailedBuild | None:
        """Return the failed build whose tree this is; None if there is none."""

        def read(table: reader.Table) -> FailedBuild:
            return FailedBuild(
                output=table.get("output", reader.text),
                environment=table.get("environment", reader.text),
                project=table.get("project", _inner_path),
            )

        return find_json(self.failure, reader.table(read))

    def clear(self) -> None:
        """Remove the folder."""
        files.remove_tree(self.folder)

    def relative(self, path: Path) -> str | None:
        """Return a path, seen in a sandbox or outside, relative to the folder."""
        for top in (self.folder.resolve(), HERE):
            if path.is_relative_to(top):
                return path.relative_to(top).as_posix()
        return None

    def _remove_incomplete(
        self, partial: PartialBuild, unpack: Callable[[Path], Path]
    ) -> None:
        """Remove possibly truncated files, and unpack files of the source again."""
        removed: list[Path] = []
        for top in (self.source, self.build):
            for parent, _, names in files.walk(top):
                for name in names:
                    path = Path(parent, name)
                    changed = path.lstat().st_mtime_ns
                    relative = path.relative_to(self.folder)
                    if partial.may_be_incomplete(relative, changed):
                        path.parent.chmod(path.parent.stat().st_mode | 0o700)
                        path.unlink()
                        removed.append(path)
        sources = [path for path in removed if path.is_relative_to(self.source)]
        if sources:
            fresh = self.folder / "fresh"
            files.remove_tree(fresh)
            unpack(fresh)
            for path in sources:
                original = fresh / path.relative_to(self.source)
                if original.is_file():
                    original.replace(path)
            files.remove_tree(fresh)
