"""Wheelhouses from several jobs become one, or lie side by side in one folder."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.commands.merge import read as gathering, union
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.system.files import write_if_changed
from nox_buildstages.text import align
from nox_buildstages.wheelhouse import publishing
from nox_buildstages.wheelhouse.directory import BOUND_LOCK, Wheelhouse, copy
from nox_buildstages.wheelhouse.left_over import unused_wheelhouses
from nox_buildstages.wheelhouse.manifest import MANIFEST, Manifest
from nox_buildstages.wheelhouse.publishing import PROVENANCE, SBOM
from nox_buildstages.wheels.wheel import projects_by_platform

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from nox_buildstages.commands.merge.union import Part
    from nox_buildstages.config.cells import Cells
    from nox_buildstages.run.run import Run
    from nox_buildstages.wheelhouse.index import IndexedWheel
    from nox_buildstages.workspace.options import Options


def run_merge(options: Options, run: Run, cells: Cells) -> None:
    """Merge the wheelhouses in some folders into the project's, and print a summary.

    Raises:
        BuildStagesError: A wheelhouse isn't whole, or two of them clash.
    """
    if unused := unused_wheelhouses(cells):
        run.report(f"of no cell any more, and left as it is: {', '.join(unused)}")
    folders = [Path(folder) for folder in options.folders]
    target = cells.first.project.wheelhouse
    for line in join(folders, target, by_cell=options.by_cell):
        run.report(line)


def join(
    folders: Sequence[Path], target: Path, *, by_cell: bool = False
) -> tuple[str, ...]:
    """Merge all wheelhouses in some folders into one, or put each below it.

    What an earlier merge brought there and this one doesn't is removed.

    Args:
        folders: Wheelhouses, or folders below which there are some.
        target: The wheelhouse that they become; some of them may lie in it.
        by_cell: Each stays a folder of its own.

    Returns:
        What there is to say of it, a line each.

    Raises:
        UsageError: There is nothing to merge, or it can't be put there.
        BuildStagesError: One isn't whole; nothing is written.
        BuildStagesError: Two have different wheels of one name; nothing is written.
        WheelError: A wheel isn't one.
    """
    target = target.resolve()
    found = gathering.found(folders, target, apart=by_cell)
    merges = [*(_apart if by_cell else _together)(found, target)]
    clashes = [clash for merge in merges for clash in union.clashes(merge.parts)]
    if clashes:
        renamed = sorted({clash.project for clash in clashes if clash.has_two_keys})
        keys = [f"  [tool.nox-buildstages.package.{name}]" for name in renamed]
        apart = "keep them apart:\n  nox -s build-stages-merge -- --by-cell FOLDER"
        names = ["give them different names, with local-version in:", *keys]
        raise BuildStagesError(
            problem="wheels of the same name differ, so nothing was merged",
            details=[line for clash in clashes for line in clash.lines()],
            hint="\n".join(names) if renamed else apart,
        )
    for merge in merges:
        merge.write()
    _clear(target, but={*found, *(merge.folder for merge in merges)})
    files = [file for merge in merges for file in merge.keepers]
    done = "kept apart" if by_cell else "merged"
    what = f"{_counted(len(found), 'wheelhouse')}, {_counted(len(files), 'wheel')}"
    return (
        *(_folders(merges, target) if by_cell else _sources(merges[0], target)),
        *(line for merge in merges for line in merge.remarks()),
        *union.platforms(projects_by_platform(files)),
        f"{done}: {target} ({what})",
    )


def _together(found: Mapping[Path, str], target: Path) -> Iterator[_Merge]:
    """Yield the one merge of all wheelhouses."""
    yield _Merge.read(target, found)


def _apart(found: Mapping[Path, str], target: Path) -> Iterator[_Merge]:
    """Yield a merge for each wheelhouse, into a folder of its own."""
    if target in found:
        raise UsageError(
            problem=f"{target} can't be a folder below itself, as --by-cell wants it",
            hint="leave --by-cell out, or move the wheels there into another folder",
        )
    for house, name in found.items():
        yield _Merge.read(target / name, {house: name})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Merge:
    """Wheelhouses that become one.

    Attributes:
        folder: Of that one.
        parts: All of them; what the folder itself holds comes first.
        index: The wheels as an index tells of them; none where none is released.
    """

    folder: Path
    parts: tuple[Part, ...]
    index: tuple[tuple[IndexedWheel, bytes], ...] = ()

    @classmethod
    def read(cls, folder: Path, found: Mapping[Path, str]) -> _Merge:
        """Read wheelhouses, and see that they are whole.

        Args:
            folder: That they are merged into.
            found: Wheelhouses with their names.
        """
        own = Wheelhouse(folder).record().own
        if own and folder not in found:
            raise UsageError(
                problem=f"{folder} holds wheels that were built there:"
                f" {', '.join(entry['name'] for entry in own)}",
                hint="name that folder too, to merge them as well, or remove it",
            )
        houses = sorted(found, key=lambda house: house != folder)
        parts = tuple(
            gathering.read(house, found[house], into=folder) for house in houses
        )
        merge = cls(folder=folder, parts=parts)
        if any(part.is_released for part in parts):
            return replace(merge, index=tuple(merge.listed()))
        return merge

    @property
    def keepers(self) -> dict[str, Part]:
        """The first part that has a wheel, by the wheel's file."""
        return {file: part for part in reversed(self.parts) for file in part.hashes}

    def listed(self) -> Iterator[tuple[IndexedWheel, bytes]]:
        """Yield the wheels as an index tells of them.

        Raises:
            WheelError: One isn't a wheel.
        """
        for file, part in self.keepers.items():
            yield publishing.listed(part.folder / file, part.hashes[file])

    def write(self) -> None:
        """Write what the folder lacks, and remove what isn't true any more."""
        house, documents = Wheelhouse(self.folder), _documents(self.parts)
        self.folder.mkdir(parents=True, exist_ok=True)
        with house.locked():
            before, after = house.record(), self._record(documents)
            if before.merged is None and not any(part.name for part in self.parts):
                return  # there is nothing but what was built there
            self._copy(after)
            for name, text in documents.items():
                write_if_changed(self.folder / name, text.encode())
            house.write_record(after)
            house.remove_gone(before, after)
            if self.index:
                self._publish(documents)
            elif before.merged is not None:
                publishing.withdraw(self.folder)

    def _record(self, documents: Mapping[str, str]) -> Manifest:
        """Return what the manifest says then."""
        own = [part for part in self.parts if not part.name]
        at_home = {*_documents(own), *(file for part in own for file in part.hashes)}
        wheels = union.entries(self.parts)
        brought = {name: _sha256(text) for name, text in documents.items()}
        for part in self.parts:
            brought |= part.vendored
        known = {*at_home, *(entry["file"] for entry in wheels)}
        return Manifest(
            wheels=wheels,
            merged={name: brought[name] for name in brought if name not in known},
        )

    def _copy(self, record: Manifest) -> None:
        """Copy the wheels, and the logs as far as they are there."""
        for file, part in self.keepers.items():
            keeper = str(part.folder)
            wheel, sha256 = part.folder / file, part.hashes[file]
            copy(wheel, self.folder, sha256=sha256, keeper=keeper)
        for entry in record.wheels:
            file = entry["file"]
            builder = next(part for part in self.parts if part.entry(file))
            log = builder.folder / builder.entry(file)["log"]
            if log.is_file():
                write_if_changed(self.folder / entry["log"], log.read_bytes())

    def _publish(self, documents: Mapping[str, str]) -> None:
        """Write the index, what is stated of the wheels, and the sums of it all."""
        statements = union.statements(self.parts).encode()
        files = {**publishing.index(self.index), PROVENANCE: statements}
        sums = {wheel.filename: wheel.sha256 for wheel, _ in self.index}
        sums |= {name: _sha256(text) for name, text in documents.items()}
        publishing.write(self.folder, files, sums)

    def remarks(self) -> Iterator[str]:
        """Yield what is to be known of the folder beside its wheels."""
        documents = _documents(self.parts)
        locks = [name for name in documents if name.startswith("pylock")]
        if len(locks) > 1:
            yield f"the locks differ: {', '.join(locks)}"
        stated = {file for part in self.parts for file, _ in part.statements}
        built = {entry["file"] for part in self.parts for entry in part.wheels}
        if self.index and built - stated:
            yield (
                f"no provenance of {', '.join(sorted(built - stated))}, for the"
                " wheelhouse wasn't released"
            )
        for path in sorted(self.folder.glob("*.whl")):
            if path.name not in self.keepers:
                yield f"left alone: {path}, which is in none of the wheelhouses"


def _documents(parts: Iterable[Part]) -> dict[str, str]:
    """Return the locks and SBOMs of parts, by file name."""
    locks: dict[str, str] = {}
    bills: dict[str, str] = {}
    for part in parts:
        locks |= union.labelled(part, part.locks)
        bills |= union.labelled(part, part.bills)
    return {**union.documents(BOUND_LOCK, locks), **union.documents(SBOM, bills)}


def _clear(target: Path, but: Collection[Path]) -> None:
    """Remove what earlier merges brought to other folders of the target."""
    for path in sorted(target.rglob(MANIFEST)):
        house = Wheelhouse(path.parent)
        if house.folder in but or house.record().merged is None:
            continue
        with house.locked():
            before = house.record()
            after = Manifest(wheels=before.own)
            house.forget_merge(before, after)
            if not after.wheels:
                path.unlink()
        if not after.wheels:
            _remove_empty(house, target)


def _remove_empty(house: Wheelhouse, target: Path) -> None:
    """Remove the folders of a wheelhouse that hold nothing any more."""
    with suppress(OSError):  # there are no logs, or others
        house.logs.rmdir()
    house.forget_lock()
    folder = house.folder
    with suppress(OSError):  # one holds something else
        while folder != target:
            folder.rmdir()
            folder = folder.parent


def _sources(merge: _Merge, target: Path) -> Iterator[str]:
    """Yield a line for each wheel: which wheelhouses have it."""
    rows = [
        (
            file,
            ", ".join(
                part.name or target.name for part in merge.parts if file in part.hashes
            ),
        )
        for file in sorted(merge.keepers)
    ]
    return align([("wheel", "from"), *rows])


def _folders(merges: Iterable[_Merge], target: Path) -> Iterator[str]:
    """Yield a line for each folder: how many wheels there are in it."""
    rows = [
        (merge.folder.relative_to(target).as_posix(), str(len(merge.keepers)))
        for merge in merges
    ]
    return align([("folder", "wheels"), *rows])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
