"""The folder of lock files: read together, written together, current or stale."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from nox_buildstages.errors import InvalidLockError, StaleLockError
from nox_buildstages.lock.files.lockfile import dump_lock, load_lock
from nox_buildstages.lock.files.merge_targets import select_target
from nox_buildstages.lock.files.names import file_name, lock_names, possible_stems
from nox_buildstages.system.files import atomic_write, file_stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.model import Interpreter, Project
    from nox_buildstages.system.files import FileStamp


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sight:
    """The lock files of a project, all as they were at one moment.

    Attributes:
        lock_dir: Their folder.
        folder: Its stamp, which is another once a file has come, gone or been replaced.
        paths: By the locks' names.
        stamps: Likewise.
    """

    lock_dir: Path
    folder: FileStamp = field(compare=False)
    paths: Mapping[str, Path] = field(hash=False)
    stamps: Mapping[str, FileStamp] = field(hash=False)

    def is_still(self, names: Iterable[str]) -> bool:
        """Whether some of them, and the folder, are as they were."""
        with suppress(OSError):
            return self.folder == file_stamp(self.lock_dir) and all(
                self.stamps[name] == file_stamp(self.paths[name]) for name in names
            )
        return False


_SEEN: dict[tuple[Path, tuple[str, ...]], _Sight] = {}
"""What this process saw last, by folder and stems: what was read then is kept."""


def stems(project: Project) -> dict[str, str]:
    """Return what the locks of a cell are called in their files, by name.

    An axis is in the name of a file where what it changes is in it. Which ones are,
    the files that there are tell.
    """
    if not project.cell.choices:
        return {name: name for name in lock_names(project)}
    there = {path.name for path in project.lock_dir.glob(file_name("*"))}
    found = {}
    for name in lock_names(project):
        possible = possible_stems(project, name)
        fitting = (stem for stem in possible if file_name(stem) in there)
        found[name] = next(fitting, possible[-1])
    return found


def existing(project: Project) -> dict[str, Lock]:
    """Return what sound lock files there are, those of gone stages too, by stem."""
    found = {}
    for path in sorted(project.lock_dir.glob(file_name("*"))):
        with suppress(InvalidLockError):
            lock = _load(path)
            found[lock.name] = lock
    return found


def earlier(project: Project, locks: Mapping[str, Lock]) -> dict[str, Lock]:
    """Return what there was of the locks of a cell, by name, and of those gone.

    Args:
        project: Of the cell.
        locks: All there were, by stem.
    """
    found = dict(locks)
    for name in lock_names(project):
        fitting = (stem for stem in possible_stems(project, name) if stem in locks)
        of_others = (stem for stem in locks if stem.startswith(f"{name}-"))
        stem = next(fitting, next(of_others, None) if project.cell.choices else None)
        if stem is not None:
            found[name] = replace(locks[stem], name=name)
    return found


def read(project: Project, *, inputs: str | None = None) -> Mapping[str, Lock]:
    """Return the lock of every stage and that of ``final``, if they are current.

    Args:
        project: Whose locks.
        inputs: What they must have been made from; None to take them as they are.

    Raises:
        StaleLockError: There is none.
        StaleLockError: They were made from other inputs, or not all by one run.
        InvalidLockError: One can't be read.
    """
    sight = _looked(project, lock_names(project))
    if inputs is not None:
        _check_current(sight, inputs)
    return _loaded(sight)


def read_for(
    interpreter: Interpreter,
    project: Project,
    *,
    inputs: str,
    needed: Iterable[str] | None = None,
) -> Mapping[str, Lock]:
    """Return what current locks hold for one interpreter.

    Args:
        interpreter: Of the session.
        project: Whose locks.
        inputs: What they must have been made from.
        needed: Those that will be looked at; None for all. Where this process has
            read the others before, it sees when they were replaced, but not when one
            was written in place.

    Raises:
        LockError: As ``read`` does; or they are not for this interpreter.
    """
    sight = _looked(project, lock_names(project) if needed is None else needed)
    _check_current(sight, inputs)
    return _selected(sight, interpreter)


def _looked(project: Project, needed: Iterable[str]) -> _Sight:
    """Return the lock files as they are now.

    Raises:
        StaleLockError: There is none.
        StaleLockError: One is missing.
    """
    lock_dir, called = project.lock_dir, stems(project)
    place = (lock_dir, tuple(called.values()))
    last = _SEEN.get(place)
    if last is None or not last.is_still(needed):
        paths = {name: lock_dir / file_name(called[name]) for name in called}
        last = _SEEN[place] = _sight(project, paths)
    return last


def _sight(project: Project, paths: Mapping[str, Path]) -> _Sight:
    lock_dir = project.lock_dir
    found: dict[str, FileStamp] = {}
    try:
        folder = file_stamp(
            lock_dir
        )  # before the files: what changes meanwhile is seen
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(lock_dir) from None
    for name, path in paths.items():
        with suppress(FileNotFoundError, NotADirectoryError):
            found[name] = file_stamp(path)
    if not found:
        raise _missing(lock_dir)
    missing = [name for name in paths if name not in found]
    if missing:
        raise StaleLockError(subject=_called(project, missing[0]), problem="is missing")
    return _Sight(lock_dir=lock_dir, folder=folder, paths=paths, stamps=found)


def _missing(folder: Path) -> StaleLockError:
    return StaleLockError(subject=str(folder), problem="there are no lock files")


def _called(project: Project, name: str) -> str:
    """Return the name of a lock's file, or whose it is where it may have several."""
    title = project.stage_label(name)
    return file_name(name) if title == name else f"the lock of {title}"


@lru_cache(maxsize=32)
def _loaded(sight: _Sight) -> Mapping[str, Lock]:
    """Return lock files as they are; for the sessions of a process they mostly stay."""
    return {name: replace(_load(path), name=name) for name, path in sight.paths.items()}


def _load(path: Path) -> Lock:
    """Return a lock, named as its file is."""
    stem = path.name.removeprefix("pylock.").removesuffix(".toml")
    return load_lock(path.read_text(encoding="utf-8", errors="replace"), name=stem)


@lru_cache(maxsize=32)
def _selected(sight: _Sight, interpreter: Interpreter) -> Mapping[str, Lock]:
    locks = _loaded(sight)
    return {name: select_target(locks[name], interpreter) for name in locks}


@lru_cache(maxsize=32)
def _check_current(sight: _Sight, inputs: str) -> None:
    series = set()
    for name, lock in _loaded(sight).items():
        if lock.inputs != inputs:
            raise StaleLockError(
                subject=sight.paths[name].name,
                problem="out of date: made from other settings, or for another Python",
            )
        series.add(lock.series)
    if len(series) > 1:
        raise StaleLockError(
            subject="the lock files", problem="not all written by the same run"
        )


def write(project: Project, locks: Iterable[Lock]) -> tuple[Path, ...]:
    """Write all lock files, and remove those of stages that are gone.

    A run that is stopped in between leaves files of two series, which are stale.

    Args:
        project: Any cell of it.
        locks: Of all cells, each named as its file is.

    Returns:
        The files that were not already as they should be.
    """
    wanted = {
        project.lock_dir / file_name(lock.name): dump_lock(lock) for lock in locks
    }
    changed = [path for path, text in wanted.items() if not _holds(path, text)]
    for path in changed:
        with atomic_write(path) as new:
            new.write_text(wanted[path], encoding="utf-8", newline="\n")
    for path in sorted(project.lock_dir.glob(file_name("*"))):
        text = path.read_text(encoding="utf-8", errors="replace")
        if path not in wanted and _is_lock(text, path.name):
            path.unlink()
    return tuple(changed)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _is_lock(text: str, name: str) -> bool:
    try:
        load_lock(text, name=name)
    except InvalidLockError:
        return False
    return True
