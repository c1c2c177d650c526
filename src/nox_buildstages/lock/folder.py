"""The folder of lock files: read together, written together, current or stale."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages.errors import InvalidLockError, MissingLockError, StaleLockError
from nox_buildstages.files import Stamp, replacing, stamps
from nox_buildstages.lock.lockfile import dumps, file_name, loads
from nox_buildstages.lock.merging import selected
from nox_buildstages.model import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from nox_buildstages.lock.lockfile import Lock
    from nox_buildstages.model import Interpreter, Project

_Stamps: TypeAlias = "tuple[tuple[str, Stamp | None], ...]"


def names(project: Project) -> tuple[str, ...]:
    """Return the names of the locks that a project has."""
    return (*(stage.name for stage in project.stages), FINAL)


def existing(project: Project) -> dict[str, Lock]:
    """Return what sound lock files there are, those of gone stages too, by name."""
    found = {}
    for path in sorted(project.lock_dir.glob(file_name("*"))):
        name = path.name.removeprefix("pylock.").removesuffix(".toml")
        text = path.read_text(encoding="utf-8", errors="replace")
        with suppress(InvalidLockError):
            found[name] = loads(text, name=name)
    return found


def read(project: Project, *, inputs: str | None = None) -> Mapping[str, Lock]:
    """Return the lock of every stage and that of ``final``, if they are current.

    Args:
        project: Whose locks.
        inputs: What they must have been made from; None to take them as they are.

    Raises:
        MissingLockError: There is none.
        StaleLockError: They were made from other inputs, or not all by one run.
        InvalidLockError: One can't be read.
    """
    locks = _loaded(project.lock_dir, _stamps(project))
    if inputs is not None:
        _check_current(locks.values(), inputs)
    return locks


def read_for(
    interpreter: Interpreter, project: Project, *, inputs: str
) -> Mapping[str, Lock]:
    """Return what current locks hold for one interpreter.

    Raises:
        LockError: As ``read`` does; or they are not for this interpreter.
    """
    stamps = _stamps(project)
    _check_current(_loaded(project.lock_dir, stamps).values(), inputs)
    return _selected(project.lock_dir, stamps, interpreter)


def _stamps(project: Project) -> _Stamps:
    """Return which lock files there are, and what changes when one is written.

    Raises:
        MissingLockError: There is none.
        StaleLockError: One is missing.
    """
    there = stamps(project.lock_dir)
    found = {name: there.get(file_name(name)) for name in names(project)}
    missing = [name for name in found if found[name] is None]
    if len(missing) == len(found):
        raise MissingLockError(folder=project.lock_dir)
    if missing:
        raise StaleLockError(problem=f"{file_name(missing[0])} is missing")
    return tuple(found.items())


@lru_cache(maxsize=4)
def _loaded(lock_dir: Path, stamps: _Stamps) -> Mapping[str, Lock]:
    """Return lock files as they are; for the sessions of a process they mostly stay."""
    paths = {name: lock_dir / file_name(name) for name, _ in stamps}
    return {
        name: loads(path.read_text(encoding="utf-8", errors="replace"), name=name)
        for name, path in paths.items()
    }


@lru_cache(maxsize=8)
def _selected(
    lock_dir: Path, stamps: _Stamps, interpreter: Interpreter
) -> Mapping[str, Lock]:
    locks = _loaded(lock_dir, stamps)
    return {name: selected(locks[name], interpreter) for name in locks}


def _check_current(locks: Iterable[Lock], inputs: str) -> None:
    series = set()
    for lock in locks:
        if lock.inputs != inputs:
            problem = f"{file_name(lock.name)} was made from another declaration"
            raise StaleLockError(problem=f"{problem}, or for another interpreter")
        series.add(lock.series)
    if len(series) > 1:
        raise StaleLockError(problem="they were not all written by one run")


def write(project: Project, locks: Iterable[Lock]) -> tuple[Path, ...]:
    """Write all lock files, and remove those of stages that are gone.

    A run that is stopped in between leaves files of two series, which are stale.

    Returns:
        The files that were not already as they should be.
    """
    wanted = {project.lock_dir / file_name(lock.name): dumps(lock) for lock in locks}
    changed = [path for path, text in wanted.items() if not _holds(path, text)]
    for path in changed:
        with replacing(path) as new:
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
        loads(text, name=name)
    except InvalidLockError:
        return False
    return True
