"""The folder of lock files: all are read together and written together."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nox_buildstages.errors import EditedLockError, InvalidLockError, StaleLockError
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.lock.files.lockfile import digest
from nox_buildstages.lock.files.names import file_name, lock_names, possible_stems
from nox_buildstages.lock.files.selection import select_lock
from nox_buildstages.model import (
    FINAL,
    PROJECT,
    DirectorySource,
    GitSource,
)
from nox_buildstages.system.files import (
    FileStamp,
    file_stamp,
    path_from_url,
    read_file,
    read_text,
    sha256_of,
    write_text,
)
from nox_buildstages.text import show_path
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.config.cells import Cells
    from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
    from nox_buildstages.lock.files.selection import SelectedLock, Selection
    from nox_buildstages.model import Output, Project
    from nox_buildstages.run.run import Run

_LOG = logging.getLogger(__name__)


class _LockFiles(Value):
    """The lock files of a cell, as a process read them."""

    stems: Mapping[str, str]
    contents: Mapping[str, bytes]
    stamps: Mapping[str, FileStamp]
    folder_stamp: FileStamp  # changed by new, removed and replaced files

    def have_same_stamps(self, lock_dir: Path, names: Iterable[str]) -> bool:
        """Whether the folder and some of its files are as they were."""
        with suppress(OSError):
            return self.folder_stamp == file_stamp(lock_dir) and all(
                self.stamps[name] == file_stamp(lock_dir / file_name(self.stems[name]))
                for name in names
            )
        return False


def find_stems(project: Project) -> dict[str, str]:
    """Return the stems of a cell's lock files, by the names of the locks.

    The existing files decide: a file name contains the distinguishing axes only.
    """
    if not project.cell.choices:
        return {name: name for name in lock_names(project)}
    stems, existing = {}, set[str]()
    with suppress(OSError):
        existing.update(os.listdir(project.lock_dir))  # noqa: PTH208 - names suffice
    for name in lock_names(project):
        possible = possible_stems(project, name)
        fitting = (stem for stem in possible if file_name(stem) in existing)
        stems[name] = next(fitting, possible[-1])
    return stems


def read_all_locks(project: Project) -> dict[str, Lock]:
    """Return all readable locks in the folder, by stem."""
    found = {}
    for path in sorted(project.lock_dir.glob(file_name("*"))):
        with suppress(InvalidLockError):
            lock = _load(path)
            found[lock.name] = lock
    return found


def earlier_locks(project: Project, locks: Mapping[str, Lock]) -> dict[str, Lock]:
    """Return a cell's earlier locks by name, from those by stem.

    Locks of removed stages stay.
    """
    found = dict(locks)
    for name in lock_names(project):
        fitting = (stem for stem in possible_stems(project, name) if stem in locks)
        of_others = (stem for stem in locks if stem.startswith(f"{name}-"))
        stem = next(fitting, next(of_others, None) if project.cell.choices else None)
        if stem is not None:
            found[name] = replace(locks[stem], name=name)
    return found


def read_locks(
    project: Project, run: Run, *, inputs: str | None = None
) -> Mapping[str, Lock]:
    """Return the lock of every stage and of ``final``, for all targets.

    If the inputs' digest is given, the locks must be made from these inputs.

    Raises:
        StaleLockError: The files are missing or out of date, or from different runs.
        InvalidLockError: A file can't be read.
    """
    files, question = _find_files(project, run)

    def find() -> dict[str, Lock]:
        locks = _parse(files)
        _check_inputs(locks, files, inputs)
        return {name: replace(lock, name=name) for name, lock in locks.items()}

    return run.once((*question, inputs), find)


def select_locks(
    project: Project,
    run: Run,
    selection: Selection,
    *,
    inputs: str | None = None,
    needed: Iterable[str] | None = None,
) -> Mapping[str, SelectedLock]:
    """Return what the lock of every stage and of ``final`` has for an interpreter.

    The sessions of a process read the files once. A session sees if another process
    replaced a file since, and if somebody edited a file that the session needs. If the
    inputs' digest is given, the locks must be made from these inputs.

    Raises:
        StaleLockError: The files are missing or out of date, or from different runs.
        EditedLockError: A file was edited by hand.
        InvalidLockError: A file can't be read, or isn't for the interpreter.
    """
    files, question = _find_files(project, run, needed)

    def find() -> dict[str, SelectedLock]:
        found = selection.load(files.contents)
        if found is not None:
            _check_inputs(found, files, inputs)
            return found
        locks = _parse(files)
        _check_inputs(locks, files, inputs)
        if selection.cells is not None:
            check_as_written(selection.cells)
            check_sources(project, locks)
        found = {
            name: select_lock(replace(lock, name=name), selection.interpreter)
            for name, lock in locks.items()
        }
        selection.save(files.contents, found)
        return found

    return run.once((*question, inputs, selection.interpreter), find)


def _find_files(
    project: Project, run: Run, needed: Iterable[str] | None = None
) -> tuple[_LockFiles, tuple[Hashable, ...]]:
    """Return the lock files, and a question that other cells with them share."""
    stems = find_stems(project)
    question = ("locks", project.lock_dir, *stems.values())
    files = run.once(question, lambda: _read_files(project))
    if not files.have_same_stamps(project.lock_dir, needed or stems):
        run.forget("locks")
        files = run.once(question, lambda: _read_files(project))
    return files, question


def _parse(files: _LockFiles) -> dict[str, Lock]:
    from nox_buildstages.lock.files.document import load_lock  # noqa: PLC0415 - slow

    return {
        name: load_lock(content.decode(errors="replace"), name=files.stems[name])
        for name, content in files.contents.items()
    }


def _check_inputs(
    locks: Mapping[str, Lock | SelectedLock], files: _LockFiles, inputs: str | None
) -> None:
    """Raise a StaleLockError unless the locks were made together from the inputs."""
    if inputs is None:
        return
    for name, lock in locks.items():
        if lock.inputs != inputs:
            file = file_name(files.stems[name])
            _LOG.debug("%s was made from %s, not %s", file, lock.inputs, inputs)
            problem = f"{file} was made from other settings or for another Python"
            found = (lock.declared for lock in locks.values() if lock.declared)
            raise StaleLockError(problem=problem, declared=next(found, {}))
    if len({lock.series for lock in locks.values()}) > 1:
        raise StaleLockError(problem="not all come from the same run")


def _read_files(project: Project) -> _LockFiles:
    """Read the lock files of a cell; stamps are taken first, so that changes show."""
    lock_dir = project.lock_dir
    stems = find_stems(project)
    paths = {name: lock_dir / file_name(stem) for name, stem in stems.items()}
    stamps: dict[str, FileStamp] = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        folder_stamp = file_stamp(lock_dir)
        for name, path in paths.items():
            with suppress(FileNotFoundError):
                stamps[name] = file_stamp(path)
    if not stamps:
        problem = f"there are no lock files in {show_path(lock_dir, project.root)}"
        hint = "make them:\n  nox -s build-stages-lock"
        raise StaleLockError(subject="", problem=problem, hint=hint)
    missing = next((name for name in paths if name not in stamps), None)
    if missing is not None:
        label = project.stage_label(missing)
        is_stage = label == missing
        subject = file_name(missing) if is_stage else f"the lock of {label}"
        raise StaleLockError(problem=f"{subject} is missing")
    return _LockFiles(
        stems=stems,
        contents={name: read_file(path) for name, path in paths.items()},
        stamps=stamps,
        folder_stamp=folder_stamp,
    )


def _load(path: Path) -> Lock:
    """Return a lock, named after its file."""
    from nox_buildstages.lock.files.document import load_lock  # noqa: PLC0415 - slow

    stem = path.name.removeprefix("pylock.").removesuffix(".toml")
    return load_lock(read_text(path, errors="replace"), name=stem)


def digest_files(projects: Sequence[Project]) -> str:
    """Return a digest of the lock files of all cells, which must exist.

    Raises:
        OSError: A file can't be read.
    """
    stems = {stem for project in projects for stem in find_stems(project).values()}
    lock_dir = projects[0].lock_dir
    return digest({it: sha256_of(lock_dir / file_name(it)) for it in stems})


def check_as_written(cells: Cells) -> None:
    """Check that nobody has edited or merged the lock files, which must exist.

    Raises:
        EditedLockError: Their common series isn't that of their texts.
        OSError: A file can't be read.
    """
    from nox_buildstages.lock.files.document import is_series_of  # noqa: PLC0415 - slow

    stems: dict[str, dict[str, None]] = {}
    for cell in cells.cells:
        found = find_stems(cell.project)
        own = () if cell.project.final.project is None else (PROJECT,)
        for name in (*(stage.name for stage in cell.graph.order), *own):
            stems.setdefault(name, {})[found[name]] = None
        # The runtime environment is last, after the stages of all cells.
        stems[FINAL] = {**stems.pop(FINAL, {}), found[FINAL]: None}
    lock_dir = cells.first.project.lock_dir
    texts = [
        read_text(lock_dir / file_name(stem), errors="replace").replace("\r\n", "\n")
        for found in stems.values()
        for stem in found
    ]
    if not is_series_of(texts):
        raise EditedLockError


def check_sources(project: Project, locks: Mapping[str, Lock]) -> None:
    """Check that each output has a source that the table's requirement allows.

    Raises:
        EditedLockError: An output has another one.
    """
    for stage in project.stages:
        locked = {it.name: it for it in locks[stage.name].outputs}
        for output in stage.outputs:
            found = locked.get(output.name)
            if found is not None and not _fits(found, output, project):
                raise EditedLockError(
                    subject=file_name(stage.name),
                    problem=f"the source of {output.name} isn't that of"
                    f" {strip_logins(str(output.requirement))}",
                )


def _fits(locked: LockedOutput, output: Output, project: Project) -> bool:
    """Whether a locked output may be what the table's requirement means."""
    source, url = locked.source, output.requirement.url
    if url is None:
        return output.accepts(locked.metadata.version)
    if isinstance(source, DirectorySource):
        text = source.path
    else:
        text = source.url if isinstance(source, GitSource) else source.location
    wanted, found = urlsplit(url), urlsplit(text)
    if wanted.scheme == "file":
        path = path_from_url(found.path) if found.scheme == "file" else text
        there = os.path.normpath(project.root / path)
        return there == os.path.normpath(path_from_url(wanted.path))
    is_git = wanted.scheme.startswith("git+")
    is_same_host = found.hostname == wanted.hostname
    return is_git == isinstance(source, GitSource) and is_same_host


def write_locks(project: Project, locks: Iterable[Lock]) -> tuple[Path, ...]:
    """Write the locks of all cells, by stem; remove the files of removed stages.

    If a run is stopped in between, the files have two series and are out of date.
    Return the files that have changed.
    """
    from nox_buildstages.lock.files.document import dump_lock  # noqa: PLC0415 - slow

    wanted = {
        project.lock_dir / file_name(lock.name): dump_lock(lock) for lock in locks
    }
    changed = [
        path
        for path, text in wanted.items()
        if not path.is_file() or read_file(path) != text.encode()
    ]
    for path in changed:
        write_text(path, wanted[path])
    for path in sorted(project.lock_dir.glob(file_name("*"))):
        if path not in wanted:
            with suppress(InvalidLockError):  # a file of somebody else
                _load(path)
                path.unlink()
    return tuple(changed)
