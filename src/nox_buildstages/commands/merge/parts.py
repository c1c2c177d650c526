"""Merge the wheels, lock files, SBOMs and statements of several wheelhouses."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from nox_buildstages.text import diff, free_name
from nox_buildstages.value import Value, field
from nox_buildstages.wheelhouse.manifest import SOURCES, log_of_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path, PurePath

    from nox_buildstages.wheelhouse.manifest import Entry

_MAX_DIFFERENCES = 8
_SYSTEM_VERSION = re.compile(r"(?<=linux|acosx)(_\d+_\d+|1|2010|2014)(?=_)")
"""The part of a platform tag that names the oldest supported system."""

_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9_-]+")


class Part(Value):
    """A wheelhouse to merge.

    Documents are the texts of bound locks and SBOMs, by file name and label. Most
    wheelhouses have a single lock and SBOM, with an empty label.
    """

    folder: Path
    name: str  # unique; empty for the target of the merge
    wheels: tuple[Entry, ...] = ()  # from stages
    vendored: Mapping[str, str] = field(default_factory=dict)  # other wheels: sha256
    documents: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    statements: tuple[tuple[str, str], ...] = ()  # each after the file of its wheel
    is_released: bool = False  # has checksums and an index
    hides_values: bool = False  # whether statements lost values of variables

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each wheel, by file."""
        built = {entry["file"]: entry["sha256"] for entry in self.wheels}
        return {**self.vendored, **built}

    def entry(self, file: str) -> Entry:
        """Return the manifest entry of a wheel; empty for vendored wheels."""
        return next((entry for entry in self.wheels if entry["file"] == file), {})


class Clash(Value):
    """Two different wheels with the same file name."""

    wheel: str
    folders: tuple[Path, Path]
    keys: tuple[str, str]  # empty for vendored wheels
    differences: tuple[str, ...] = ()

    @property
    def has_two_keys(self) -> bool:
        """Whether two builds made the wheels, so that their names could differ."""
        return all(self.keys) and self.keys[0] != self.keys[1]

    def lines(self) -> Iterator[str]:
        """Yield the lines for a message."""
        yield self.wheel
        for folder, key in zip(self.folders, self.keys, strict=True):
            yield f"  {folder}: {f'key {key}' if key else 'no stage built it'}"
        yield from (f"  {difference}" for difference in self.differences)


def unique_names(
    found: Sequence[tuple[PurePath, PurePath]], taken: Iterable[str]
) -> list[str]:
    """Return a unique name for each wheelhouse, as a POSIX path.

    The name is the path below the searched folder, or the name of a searched folder
    which is a wheelhouse. Equal and taken names are extended with more of the path.
    Each wheelhouse comes after its searched folder; all paths are absolute.
    """
    paths = [house.parts[1:] for _, house in found]
    lengths = [len(house.relative_to(folder).parts) or 1 for folder, house in found]
    while True:
        names = [
            "/".join(path[-length:])
            for path, length in zip(paths, lengths, strict=True)
        ]
        uses = Counter([*names, *taken])
        longer = [
            length + (uses[name] > 1 and length < len(path))
            for path, length, name in zip(paths, lengths, names, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer


def find_clashes(parts: Iterable[Part]) -> Iterator[Clash]:
    """Yield the file names under which the parts have different wheels."""
    owners: dict[str, Part] = {}
    clashing: set[str] = set()
    for part in parts:
        for file, sha256 in part.hashes.items():
            owner = owners.setdefault(file, part)
            if owner.hashes[file] != sha256 and file not in clashing:
                clashing.add(file)
                entries = (owner.entry(file), part.entry(file))
                yield Clash(
                    wheel=file,
                    folders=(owner.folder, part.folder),
                    keys=(entries[0].get("key", ""), entries[1].get("key", "")),
                    differences=_describe_clash(*entries) if all(entries) else (),
                )


def _describe_clash(first: Entry, second: Entry) -> tuple[str, ...]:
    """Describe how the builds of two wheels differ, by their manifest entries."""
    if first["key"] == second["key"]:
        return ("the keys are equal, so its build isn't reproducible",)
    sources = ({"the source": entry["source"]} for entry in (first, second))
    changes = [*diff(*sources), *diff(first["environment"], second["environment"])]
    found = [
        f"{name} is {old or 'missing'} in the first, {new or 'missing'} in the second"
        for name, old, new in changes
    ]
    if len(found) > _MAX_DIFFERENCES:
        more = f"and {len(found) - _MAX_DIFFERENCES} more"
        return (*found[:_MAX_DIFFERENCES], more)
    if not found:
        found.append(
            "source and versions are equal: another part of the key differs, such as a"
            " variable or a tool"
        )
    return tuple(found)


def merge_entries(parts: Iterable[Part]) -> tuple[Entry, ...]:
    """Return the manifest entries of all wheels; equal wheels share an entry."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        for entry in part.wheels:
            file = entry["file"]
            merged = {**entry, "log": log_of_wheel(file), SOURCES: []}
            known = found.setdefault(file, merged if part.name else {**entry})
            if SOURCES in known:
                known[SOURCES] = [*known[SOURCES], part.name]
    return tuple(found.values())


def merge_documents(parts: Iterable[Part]) -> dict[str, str]:
    """Return the bound locks and SBOMs of all parts, by file name."""
    by_name: dict[str, dict[str, str]] = {}
    for part in parts:
        for plain, texts in part.documents.items():
            for label, text in texts.items():
                full_label = "-".join(filter(None, (part.name, label)))
                by_name.setdefault(plain, {})[full_label] = text
    found: dict[str, str] = {}
    for plain, texts in by_name.items():
        found |= name_documents(plain, texts)
    return found


def name_documents(plain: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return documents, which are given by label, by file name.

    If all are equal, one has the plain name, such as ``pylock.toml``. Several are named
    like ``pylock.LABEL.toml``, without dots in the label (PEP 751).
    """
    if len({*texts.values()}) <= 1:
        return dict.fromkeys([plain][: len(texts)], next(iter(texts.values()), ""))
    stem, _, ending = plain.partition(".")
    found: dict[str, str] = {}
    slugs: set[str] = set()
    for label, text in texts.items():
        slug = free_name(_NOT_IN_LABELS.sub("_", label.replace("/", "-")), slugs)
        slugs.add(slug)
        found[f"{stem}.{slug}.{ending}" if slug else plain] = text
    return found


def merge_statements(parts: Iterable[Part]) -> str:
    """Return the provenance statements of all parts as JSON Lines, without copies."""
    found = {statement for part in parts for statement in part.statements}
    return "".join(f"{line}\n" for _, line in sorted(found))


def describe_platforms(projects: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Describe which wheels can be installed on which platforms only."""
    named = [platform for platform in projects if platform != "any"]
    if len({_SYSTEM_VERSION.sub("", it).removeprefix("many") for it in named}) > 1:
        yield f"for different platforms: {', '.join(named)}"
    for platform in named:
        if platform.startswith("linux_"):
            yield (
                f"{platform}: {', '.join(sorted({*projects[platform]}))}; this tag"
                " names no C library: the wheels run on machines like those that built"
                " them, and public indexes such as PyPI reject them"
            )
