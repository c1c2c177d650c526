"""Wheelhouses that are to become one: found, read, and seen to be whole."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING

from packaging.pylock import Pylock, PylockValidationError
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from nox_buildstages import toml
from nox_buildstages.commands.merge import union
from nox_buildstages.commands.merge.union import Part
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.lock.files import pylock
from nox_buildstages.system.files import sha256_of
from nox_buildstages.wheelhouse import manifest, publishing
from nox_buildstages.wheelhouse.directory import BOUND_LOCK, Wheelhouse
from nox_buildstages.wheelhouse.manifest import MANIFEST
from nox_buildstages.wheelhouse.publishing import PROVENANCE, SBOM, SUMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.wheelhouse.manifest import Manifest

_MEND = "`nox -s build-stages-merge -- FOLDER …` merges the wheelhouses in folders"


def found(
    folders: Sequence[Path], target: Path, *, apart: bool = False
) -> dict[Path, str]:
    """Return the wheelhouses in folders, each with a name that no other has.

    What an earlier merge brought to the place of this one is none.

    Args:
        folders: Wheelhouses, or folders below which there are some.
        target: That they will be merged into; its own name is empty.
        apart: They will be put below it instead.

    Raises:
        UsageError: A folder isn't there, or has none in it.
    """
    if not folders:
        raise UsageError(problem="no folder is named to merge", hint=_MEND)
    places: dict[Path, Path] = {}
    for folder in folders:
        for house in _in(folder.resolve(), target, apart=apart):
            places.setdefault(house, folder.resolve())
    at_home = {
        house: "" if house == target else house.relative_to(target).as_posix()
        for house in places
        if house.is_relative_to(target)
    }
    others = [house for house in places if house not in at_home]
    named = union.names([(places[it], it) for it in others], at_home.values())
    return {**at_home, **dict(zip(others, named, strict=True))}


def _in(folder: Path, target: Path, *, apart: bool) -> list[Path]:
    """Return the wheelhouses in a folder, sorted."""
    if not folder.is_dir():
        raise UsageError(problem=f"{folder} is no folder", hint=_MEND)
    houses = sorted(path.parent for path in folder.rglob(MANIFEST))
    counting = [it for it in houses if not _is_brought(it, target, apart=apart)]
    if not counting:
        but = ", but of an earlier merge" if houses else ""
        message = f"there is no wheelhouse in {folder}: no {MANIFEST}{but}"
        raise UsageError(problem=message, hint=_MEND)
    return counting


def _is_brought(house: Path, target: Path, *, apart: bool) -> bool:
    """Whether a wheelhouse is where this merge goes, and all of it came by a merge."""
    is_place = house.is_relative_to(target) if apart else house == target
    record = Wheelhouse(house).record()
    return is_place and record.merged is not None and not record.own


def read(house: Path, name: str, *, into: Path) -> Part:
    """Read a wheelhouse, and see that all it names is there.

    Args:
        house: Its folder.
        name: That no other one has.
        into: The folder that it becomes part of. Where it is that folder, what was
            built there counts, and not what an earlier merge brought.

    Raises:
        BuildStagesError: Its manifest, a wheel, or another file isn't what it was.
    """
    reading = _Reading(house=house, into=into, record=_record(house))
    return reading.part("" if house == into else name)


def _damage(house: Path, file: str, problem: str) -> BuildStagesError:
    return BuildStagesError(
        subject=str(house / file),
        problem=problem,
        hint="download or build that wheelhouse again; nothing was merged",
    )


def _record(house: Path) -> Manifest:
    try:
        record = manifest.loads((house / MANIFEST).read_bytes())
    except ValueError as error:
        problem = f"can't be read: {error}"
        raise _damage(house, MANIFEST, problem) from error
    if record.strange:
        problem = "has an entry that names no wheel and no log of that folder"
        raise _damage(house, MANIFEST, problem)
    return record


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reading:
    """A wheelhouse that is read.

    Attributes:
        house: Its folder.
        into: The folder that it becomes part of.
        record: Its manifest.
    """

    house: Path
    into: Path
    record: Manifest

    @property
    def is_target(self) -> bool:
        """Whether it is merged into itself; then only what was built there counts."""
        return self.house == self.into

    def part(self, name: str) -> Part:
        """Return what becomes part of the other one, all of it checked."""
        wheels = self.record.own if self.is_target else self.record.wheels
        built = {entry["file"]: entry["sha256"] for entry in wheels}
        sums = publishing.read_sums(self.house)
        vendored = self._vendored(sums)
        self._check(MANIFEST, built)
        summed = vendored if self.is_target else sums  # the rest is made anew
        self._check(SUMS, dict(sorted(summed.items() - built.items())))
        hashes = {**vendored, **built}
        for file in hashes:
            self._check_name(file)
        return Part(
            folder=self.house,
            name=name,
            wheels=wheels,
            vendored=vendored,
            locks={
                label: self._rebased(file, hashes)
                for label, file in self._documents(BOUND_LOCK)
            },
            bills={label: self._text(file) for label, file in self._documents(SBOM)},
            statements=tuple(self._statements(hashes)),
            is_released=bool(sums),
        )

    @property
    def _brought(self) -> Mapping[str, str]:
        """The sha256 of what an earlier merge brought beside wheels and logs."""
        return self.record.merged or {}

    def _vendored(self, sums: Mapping[str, str]) -> dict[str, str]:
        """Return the sha256 of the wheels that no stage built, by file."""
        known = {entry["file"] for entry in self.record.wheels}
        if self.is_target:  # where builds may have removed some, since
            known |= self._brought.keys()
            sums = {it: sums[it] for it in sums if (self.house / it).is_file()}
        return {
            file: sums[file]
            for file in sums
            if file.endswith(".whl") and file not in known
        }

    def _check(self, where: str, hashes: Mapping[str, str]) -> None:
        """See that files are there, and of these hashes.

        Args:
            where: The file that names the hashes.
            hashes: By file.
        """
        for file, sha256 in hashes.items():
            path = self.house / file
            if not path.is_file():
                raise self._error(file, f"is missing; {where} names it")
            if sha256_of(path) != sha256:
                raise self._error(
                    file, f"isn't the file that {where} names, by its sha256"
                )

    def _check_name(self, file: str) -> None:
        with suppress(InvalidWheelFilename):
            parse_wheel_filename(file)
            return
        raise self._error(file, "isn't the name of a wheel")

    def _documents(self, plain: str) -> Iterator[tuple[str, str]]:
        """Yield the documents of a kind, each with its label.

        Args:
            plain: The name of one with none.
        """
        is_brought = self.is_target and plain in self._brought
        if (self.house / plain).is_file() and not is_brought:
            yield "", plain
        if not self.is_target:
            stem, _, ending = plain.partition(".")
            pattern = re.compile(rf"{stem}\.([^.]+)\.{re.escape(ending)}")
            matches = filter(None, map(pattern.fullmatch, self._brought))
            yield from ((match[1], match[0]) for match in matches)

    def _text(self, file: str) -> str:
        try:
            return (self.house / file).read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise self._error(file, f"can't be read: {error}") from error

    def _rebased(self, file: str, wheels: Iterable[str]) -> str:
        """Return the text of a bound lock, its paths relative to where it will be."""
        text = self._text(file)
        try:
            lock = Pylock.from_dict(toml.loads(text))
        except (ValueError, PylockValidationError) as error:
            raise self._error(file, f"can't be read: {error}") from error

        def move(path: str) -> str:
            if path in wheels or PurePosixPath(path).is_absolute():
                return path
            there = os.path.relpath(self.house / path, self.into)
            return PurePath(there).as_posix()

        moved = pylock.move_paths(lock, move, is_bound=True)
        return text if moved == lock else pylock.dump_pylock(moved)

    def _statements(self, hashes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield what is stated of the wheels, each with the wheel's file."""
        if not (self.house / PROVENANCE).is_file():
            return
        for line in self._text(PROVENANCE).splitlines():
            try:
                (subject,) = json.loads(line)["subject"]
                file, sha256 = subject["name"], subject["digest"]["sha256"]
            except (ValueError, LookupError, TypeError) as error:
                problem = "has a line that is no statement of one wheel"
                raise self._error(PROVENANCE, problem) from error
            if hashes.get(file) == sha256:
                yield file, line

    def _error(self, file: str, problem: str) -> BuildStagesError:
        return _damage(self.house, file, problem)
