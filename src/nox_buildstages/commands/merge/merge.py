"""Merge the wheelhouses of several jobs, or keep a folder for each."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from nox_buildstages.commands.merge import parts as merging, read
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.system.files import (
    find_files,
    make_ignored_folder,
    read_file,
    write_if_changed,
)
from nox_buildstages.text import align
from nox_buildstages.value import Value
from nox_buildstages.wheelhouse import checksums
from nox_buildstages.wheelhouse.directory import (
    Wheelhouse,
    copy_wheel,
    unused_wheelhouses,
)
from nox_buildstages.wheelhouse.manifest import MANIFEST, Manifest
from nox_buildstages.wheels.wheel import projects_by_platform

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from nox_buildstages.commands.merge.parts import Part
    from nox_buildstages.config.cells import Cells
    from nox_buildstages.run.run import Run
    from nox_buildstages.wheelhouse.index import IndexEntry
    from nox_buildstages.workspace.session_options import Options


def run_merge(options: Options, run: Run, cells: Cells) -> None:
    """Merge the wheelhouses in some folders into the project's, and print a summary.

    Raises:
        BuildStagesError: A wheelhouse is damaged, or wheels of two wheelhouses clash.
    """
    if unused := unused_wheelhouses(cells):
        run.report(f"belongs to no cell any more, and stays: {', '.join(unused)}")
    folders = [Path(folder) for folder in options.folders]
    target = cells.first.project.wheelhouse
    for line in merge_wheelhouses(folders, target, by_cell=options.by_cell):
        run.report(line)


def merge_wheelhouses(
    folders: Sequence[Path], target: Path, *, by_cell: bool = False
) -> tuple[str, ...]:
    """Merge all wheelhouses in some folders into the target, and describe the result.

    Files of an earlier merge are removed if this merge doesn't write them. The target
    may contain wheelhouses too. With ``by_cell``, each gets a folder below the target.

    Raises:
        UsageError: The folders hold no wheelhouse, or the target can't be used.
        WheelError: A file isn't a wheel.
        BuildStagesError: A wheelhouse is damaged, or wheels with the same file name
            differ; nothing is written.
    """
    target = target.resolve()
    found = read.find_wheelhouses(folders, target, by_cell=by_cell)
    if by_cell and target in found:
        raise UsageError(
            problem=f"{target} can't be a folder below itself, as --by-cell requires",
            hint="leave out --by-cell, or move its wheels into another folder",
        )
    targets = {target: found}
    if by_cell:
        targets = {target / name: {house: name} for house, name in found.items()}
    merges = []
    for folder, houses in targets.items():
        own = Wheelhouse(folder).read_manifest().own
        if own and folder not in found:
            raise UsageError(
                problem=f"{folder} holds wheels that were built there:"
                f" {', '.join(entry['name'] for entry in own)}",
                hint="name that folder too, to merge its wheels as well, or remove it",
            )
        merges.append(_Merge.read(folder, houses))
    clashes = [it for merge in merges for it in merging.find_clashes(merge.parts)]
    if clashes:
        wheels = [clash.wheel for clash in clashes if clash.has_two_keys]
        projects = sorted({parse_wheel_filename(it)[0] for it in wheels})
        hint = "keep them apart:\n  nox -s build-stages-merge -- --by-cell FOLDER"
        if projects:
            tables = [f"  [tool.nox-buildstages.package.{name}]" for name in projects]
            hint = "\n".join(
                ["give them different names, with local-version in:", *tables]
            )
        raise BuildStagesError(
            problem="wheels of the same name differ, so nothing was merged",
            details=[line for clash in clashes for line in clash.lines()],
            hint=hint,
        )
    for merge in merges:
        merge.write()
    _remove_former_merges(target, {*found, *(merge.folder for merge in merges)})
    files = [file for merge in merges for file in merge.owners]
    if by_cell:
        below = [it.folder.relative_to(target).as_posix() for it in merges]
        sizes = [str(len(it.owners)) for it in merges]
        rows = [("folder", "wheels"), *zip(below, sizes, strict=True)]
    else:
        rows = [("wheel", "from"), *merges[0].origins()]
    done = "kept apart" if by_cell else "merged"
    counts = ((len(found), "wheelhouse"), (len(files), "wheel"))
    total = ", ".join(f"{it} {noun}{'' if it == 1 else 's'}" for it, noun in counts)
    return (
        *align(rows),
        *(line for merge in merges for line in merge.remarks()),
        *merging.describe_platforms(projects_by_platform(files)),
        f"{done}: {target} ({total})",
    )


class _Merge(Value):
    """Wheelhouses to merge into a folder."""

    folder: Path
    parts: tuple[Part, ...]  # the folder's own wheels come first
    documents: Mapping[str, str]  # texts of bound locks and SBOMs, by file name
    owners: Mapping[str, Part]  # the first part with each wheel, by file
    index: tuple[IndexEntry, ...]  # empty if no wheelhouse was released

    @classmethod
    def read(cls, folder: Path, found: Mapping[Path, str]) -> _Merge:
        """Read and verify wheelhouses, which are given with their names."""
        houses = sorted(found, key=lambda house: house != folder)
        parts = tuple(read.read_part(it, found[it], into=folder) for it in houses)
        owners = {file: part for part in reversed(parts) for file in part.hashes}
        index = (
            checksums.read_index_entry(part.folder / file, part.hashes[file])
            for file, part in owners.items()
            if any(part.is_released for part in parts)
        )
        return cls(
            folder=folder,
            parts=parts,
            documents=merging.merge_documents(parts),
            owners=owners,
            index=tuple(index),
        )

    def write(self) -> None:
        """Write all files of the merge, and remove files of an earlier merge."""
        house = Wheelhouse(self.folder)
        make_ignored_folder(self.folder)
        with house.hold_lock():
            before = house.read_manifest()
            if before.merged is None and not any(part.name for part in self.parts):
                return  # the folder holds its own wheels, and nothing else is merged
            for file, part in self.owners.items():
                wheel, sha256 = part.folder / file, part.hashes[file]
                copy_wheel(wheel, self.folder, sha256=sha256, origin=str(part.folder))
            entries = merging.merge_entries(self.parts)
            for entry in entries:
                file = entry["file"]
                builder = next(part for part in self.parts if part.entry(file))
                log = builder.folder / builder.entry(file)["log"]
                if log.is_file():
                    write_if_changed(self.folder / entry["log"], read_file(log))
            for name, text in self.documents.items():
                write_if_changed(self.folder / name, text.encode())
            own = [part for part in self.parts if not part.name]
            known = {
                *merging.merge_documents(own),
                *(file for part in own for file in part.hashes),
                *(entry["file"] for entry in entries),
            }
            added = _hashes(self.documents)
            for part in self.parts:
                added |= part.vendored
            merged = {name: added[name] for name in added if name not in known}
            after = Manifest(wheels=entries, merged=merged, run=before.run)
            house.change_manifest(before, after)
            if self.index:
                statements = merging.merge_statements(self.parts).encode()
                files = checksums.index_files(self.index)
                files[checksums.PROVENANCE] = statements
                sums = {wheel.filename: wheel.sha256 for wheel in self.index}
                sums |= _hashes(self.documents)
                checksums.write_release(self.folder, files, sums)
            elif before.merged is not None:
                checksums.withdraw_release(self.folder)

    def origins(self) -> Iterator[tuple[str, str]]:
        """Yield each wheel with the names of all wheelhouses of origin."""
        for file in sorted(self.owners):
            names = [
                part.name or self.folder.name
                for part in self.parts
                if file in part.hashes
            ]
            yield file, ", ".join(names)

    def remarks(self) -> Iterator[str]:
        """Yield a line for everything unusual in the merged folder."""
        locks = [name for name in self.documents if name.startswith("pylock")]
        if len(locks) > 1:
            yield f"the locks differ: {', '.join(locks)}"
        described = {file for part in self.parts for file, _ in part.statements}
        built = {entry["file"] for part in self.parts for entry in part.wheels}
        if self.index and built - described:
            yield (
                f"no provenance for {', '.join(sorted(built - described))}, because"
                " the wheelhouse wasn't released"
            )
        for part in (it for it in self.parts if it.hides_values):
            yield (
                f"{part.folder / checksums.PROVENANCE}: of an earlier version; the"
                " values of variables, which may be secrets, are left out"
            )
        for path in sorted(self.folder.glob("*.whl")):
            if path.name not in self.owners:
                yield f"left alone: {path}, which is in none of the wheelhouses"


def _hashes(texts: Mapping[str, str]) -> dict[str, str]:
    return {it: hashlib.sha256(texts[it].encode()).hexdigest() for it in texts}


def _remove_former_merges(target: Path, but: Collection[Path]) -> None:
    """Remove the files of earlier merges in other folders below the target."""
    for path in find_files(target, MANIFEST):
        house = Wheelhouse(path.parent)
        if house.folder in but or house.read_manifest().merged is None:
            continue
        with house.hold_lock():
            before = house.read_manifest()
            after = Manifest(wheels=before.own)
            house.remove_merge(before, after)
            if not after.wheels:
                path.unlink()
        if not after.wheels:
            with suppress(OSError):  # the folder of logs is missing, or not empty
                house.logs.rmdir()
            house.remove_own_files()
            folder = house.folder
            with suppress(OSError):  # a folder holds other files
                while folder != target:
                    folder.rmdir()
                    folder = folder.parent
