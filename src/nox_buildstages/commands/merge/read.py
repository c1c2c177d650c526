"""Find, read and verify the wheelhouses to merge."""

from __future__ import annotations

import json
import os
import re
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from nox_buildstages import reader
from nox_buildstages.commands.merge.parts import Part, unique_names
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.lock.files import pylock
from nox_buildstages.system.files import find_files, read_file, read_text, sha256_of
from nox_buildstages.wheelhouse import checksums
from nox_buildstages.wheelhouse.directory import BOUND_LOCK, Wheelhouse
from nox_buildstages.wheelhouse.manifest import MANIFEST, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

_HINT = "name folders with wheelhouses:\n  nox -s build-stages-merge -- FOLDER …"


def find_wheelhouses(
    folders: Sequence[Path], target: Path, *, by_cell: bool = False
) -> dict[Path, str]:
    """Return the wheelhouses in folders at any depth, each with a unique name.

    The target of the merge has an empty name. Results of an earlier merge in the target
    are no wheelhouses, nor are folders in which no build has succeeded yet.

    Raises:
        UsageError: A folder is missing, or contains no wheelhouse.
    """
    if not folders:
        raise UsageError(problem="no folder to merge is given", hint=_HINT)
    found: dict[Path, Path] = {}
    for folder in [folder.resolve() for folder in folders]:
        if not folder.is_dir():
            raise UsageError(problem=f"{folder} is not a folder", hint=_HINT)
        houses = sorted(path.parent for path in find_files(folder, MANIFEST))
        sources = []
        for house in houses:
            manifest = Wheelhouse(house).read_manifest()
            is_target = house.is_relative_to(target) if by_cell else house == target
            has_failed = (manifest.run or {}).get("state", "done") != "done"
            if has_failed and not manifest.wheels:
                continue
            if not is_target or manifest.merged is None or manifest.own:
                sources.append(house)
        if not sources:
            but = " except from an earlier merge" if houses else ""
            message = f"there is no wheelhouse in {folder}: no {MANIFEST}{but}"
            raise UsageError(problem=message, hint=_HINT)
        found = {**found, **{it: folder for it in sources if it not in found}}
    in_target = {
        house: "" if house == target else house.relative_to(target).as_posix()
        for house in found
        if house.is_relative_to(target)
    }
    others = [house for house in found if house not in in_target]
    names = unique_names([(found[it], it) for it in others], in_target.values())
    return {**in_target, **dict(zip(others, names, strict=True))}


def read_part(house: Path, name: str, *, into: Path) -> Part:
    """Read a wheelhouse, and verify every file in the manifest and the sums.

    If it is the folder to merge into, results of an earlier merge are ignored.

    Raises:
        BuildStagesError: The manifest, a wheel or another file is damaged or missing.
    """
    is_target = house == into
    try:
        path = house / MANIFEST
        manifest = parse_manifest(read_file(path), path=str(path))
    except ValueError as error:
        raise _damage(house, MANIFEST, f"can't be read: {error}") from error
    if manifest.invalid:
        problem = "has an entry that names no wheel and no log of that folder"
        raise _damage(house, MANIFEST, problem)
    merged = manifest.merged or {}
    wheels = manifest.own if is_target else manifest.wheels
    built = {entry["file"]: entry["sha256"] for entry in wheels}
    known = {entry["file"] for entry in manifest.wheels}
    sums = checksums.read_sums(house)
    vendored = {
        file: sums[file]
        for file in sums
        if file.endswith(".whl")
        and file not in known
        # Since an earlier merge, builds may have removed wheels from the target.
        and (not is_target or (file not in merged and (house / file).is_file()))
    }
    _verify_files(house, MANIFEST, built)
    listed = vendored if is_target else sums  # the target gets new documents
    _verify_files(house, checksums.SUMS, dict(sorted(listed.items() - built.items())))
    hashes = {**vendored, **built}
    file = ""
    try:
        for file in hashes:
            parse_wheel_filename(file)
    except InvalidWheelFilename as error:
        raise _damage(house, file, "isn't the name of a wheel") from error
    documents: dict[str, dict[str, str]] = {}
    for plain in (BOUND_LOCK, checksums.SBOM):
        texts = documents[plain] = {}
        for label, file in _label_documents(plain, merged, is_target=is_target).items():
            if label or (house / file).is_file():
                text = _read_text(house, file)
                is_lock = plain == BOUND_LOCK
                texts[label] = (
                    _rebase_lock(house / file, text, hashes, into) if is_lock else text
                )
    statements = _read_statements(house, hashes)
    shown = tuple((file, _hide_values(line)) for file, line in statements)
    return Part(
        folder=house,
        name="" if is_target else name,
        wheels=wheels,
        vendored=vendored,
        documents=documents,
        statements=shown,
        hides_values=shown != statements,
        is_released=bool(sums),
    )


def _damage(house: Path, file: str, problem: str) -> BuildStagesError:
    return BuildStagesError(
        subject=str(house / file),
        problem=problem,
        hint="download or build that wheelhouse again; nothing was merged",
    )


def _verify_files(house: Path, listing: str, hashes: Mapping[str, str]) -> None:
    """Compare files with the hashes in the manifest or the sums."""
    for file, sha256 in hashes.items():
        path = house / file
        if not path.is_file():
            raise _damage(house, file, f"is missing; {listing} names it")
        if sha256_of(path) != sha256:
            raise _damage(house, file, f"doesn't match its sha256 in {listing}")


def _read_text(house: Path, file: str) -> str:
    try:
        return read_text(house / file)
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise _damage(house, file, f"can't be read: {error}") from error


def _label_documents(
    plain: str, merged: Collection[str], *, is_target: bool
) -> dict[str, str]:
    """Return the possible files of a document, by label.

    The target's documents of an earlier merge are left out.
    """
    if is_target:
        return {} if plain in merged else {"": plain}
    stem, _, ending = plain.partition(".")
    pattern = re.compile(rf"{stem}\.([^.]+)\.{re.escape(ending)}")
    matches = filter(None, map(pattern.fullmatch, merged))
    return {"": plain, **{match[1]: match[0] for match in matches}}


def _rebase_lock(path: Path, text: str, wheels: Iterable[str], into: Path) -> str:
    """Return a bound lock with paths relative to another folder."""
    house = path.parent
    try:
        lock = pylock.read_pylock(reader.parse_toml(text))
    except reader.UnreadableError as error:
        raise _damage(house, path.name, f"can't be read: {error}") from error

    def move(old: str) -> str:
        if old in wheels or PurePosixPath(old).is_absolute():
            return old
        return PurePath(os.path.relpath(house / old, into)).as_posix()

    moved = pylock.move_paths(lock, move, is_bound=True)
    return text if moved == lock else pylock.dump_pylock(moved)


def _read_subject(statement: reader.Table) -> tuple[str, str]:
    (subject,) = statement.get("subject", reader.list_of(reader.Table))
    digest = subject.get("digest", reader.mapping_of(reader.text))
    return subject.get("name", reader.text), digest.get("sha256", "")


def _read_statements(
    house: Path, hashes: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """Return the provenance statements about wheels, each after the wheel's file."""
    found = []
    if (house / checksums.PROVENANCE).is_file():
        for line in _read_text(house, checksums.PROVENANCE).splitlines():
            try:
                file, sha256 = reader.parse_json(line, reader.table(_read_subject))
            except reader.UnreadableError as error:
                problem = "has a line that isn't a statement about one wheel"
                raise _damage(house, checksums.PROVENANCE, problem) from error
            if hashes.get(file) == sha256:
                found.append((file, line))
    return tuple(found)


def _hide_values(line: str) -> str:
    """Return a statement, without values of variables if an earlier version wrote it.

    Those versions don't say which values are those of the table, and which were passed
    and may be secret.
    """
    statement = parameters = reader.parse_json(line, reader.plain)
    for name in ("predicate", "buildDefinition", "externalParameters"):
        parameters = parameters.get(name) if isinstance(parameters, dict) else None
    if not isinstance(parameters, dict) or "pass-env" in parameters:
        return line
    variables = parameters.get("env")
    if not variables:
        return line
    parameters |= {"env": {}, "pass-env": dict.fromkeys(variables, "")}
    return json.dumps(statement, sort_keys=True)
