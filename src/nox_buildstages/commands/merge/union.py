"""Several wheelhouses as one: what it holds, and what they can't agree on."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packaging.utils import parse_wheel_filename

from nox_buildstages.text import free_name
from nox_buildstages.wheelhouse.manifest import SOURCES, log_of_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path, PurePath

    from nox_buildstages.wheelhouse.manifest import Entry

_DIFFERENCES_AT_MOST = 8
_VERSIONED = re.compile(r"(?<=linux|acosx)(_\d+_\d+|1|2010|2014)(?=_)")
"""What a platform tag says of how new a system has to be."""

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A wheelhouse that becomes part of another.

    Attributes:
        folder: That it is.
        name: That no other part has; empty for what the other holds by itself.
        wheels: What is known of those that stages built.
        vendored: The sha256 of its other wheels, by file.
        locks: The texts of its bound locks, as they are to be; mostly one, under an
            empty label.
        bills: The texts of its SBOMs, likewise.
        statements: Of its wheels, each with the wheel's file.
        is_released: Whether there are sums of it, and an index.
    """

    folder: Path
    name: str
    wheels: tuple[Entry, ...] = ()
    vendored: Mapping[str, str] = field(default_factory=dict)
    locks: Mapping[str, str] = field(default_factory=dict)
    bills: Mapping[str, str] = field(default_factory=dict)
    statements: tuple[tuple[str, str], ...] = ()
    is_released: bool = False

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each wheel, by file."""
        built = {entry["file"]: entry["sha256"] for entry in self.wheels}
        return {**self.vendored, **built}

    def entry(self, file: str) -> Entry:
        """Return what is known of a wheel; nothing of one that no stage built."""
        return next((entry for entry in self.wheels if entry["file"] == file), {})


def names(
    found: Sequence[tuple[PurePath, PurePath]], taken: Iterable[str]
) -> list[str]:
    """Return a name for each wheelhouse that no other has, as a POSIX path.

    It is the path below the folder in which it was found, or the folder's name where
    it is that folder; where another one has that name, more of the path.

    Args:
        found: Folders, each with a wheelhouse in it; all absolute and distinct.
        taken: Names that are no longer free.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Clash:
    """Two different wheels with the same file name.

    Attributes:
        wheel: The file name.
        project: The project of both wheels.
        folders: The wheelhouses.
        keys: The keys of the wheels; empty for a wheel that no stage built.
        differences: What differs between their entries in the manifests.
    """

    wheel: str
    project: str
    folders: tuple[Path, Path]
    keys: tuple[str, str]
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


def clashes(parts: Sequence[Part]) -> Iterator[Clash]:
    """Yield the names under which parts have wheels that differ."""
    seen: dict[str, Part] = {}
    told: set[str] = set()
    for part in parts:
        for file, sha256 in part.hashes.items():
            first = seen.setdefault(file, part)
            if first.hashes[file] != sha256 and file not in told:
                told.add(file)
                yield _clash(file, first, part)


def _clash(file: str, first: Part, second: Part) -> Clash:
    entries = (first.entry(file), second.entry(file))
    return Clash(
        wheel=file,
        project=parse_wheel_filename(file)[0],
        folders=(first.folder, second.folder),
        keys=(entries[0].get("key", ""), entries[1].get("key", "")),
        differences=tuple(_differences(*entries)) if all(entries) else (),
    )


def _differences(first: Entry, second: Entry) -> Iterator[str]:
    """Yield what differs in what is known of two wheels, in words."""
    if first["key"] == second["key"]:
        yield "the keys are equal: it comes out differently each time that it is built"
        return
    found = [*_compared("the source", first["source"], second["source"])]
    old, new = first["environment"], second["environment"]
    for name in sorted({*old, *new}):
        found += _compared(name, old.get(name, "none"), new.get(name, "none"))
    yield from found[:_DIFFERENCES_AT_MOST]
    if len(found) > _DIFFERENCES_AT_MOST:
        yield f"and {len(found) - _DIFFERENCES_AT_MOST} more"
    if not found:
        yield (
            "source and versions are equal: what differs is something else of the"
            " key, such as a variable or a tool"
        )


def _compared(what: str, first: str, second: str) -> Iterator[str]:
    if first != second:
        yield f"{what} is {first} in the first, {second} in the second"


def entries(parts: Iterable[Part]) -> tuple[Entry, ...]:
    """Return what the manifest says of the wheels of parts, each wheel once."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        for entry in part.wheels:
            file = entry["file"]
            brought = {**entry, "log": log_of_wheel(file), SOURCES: []}
            known = found.setdefault(file, brought if part.name else {**entry})
            if SOURCES in known:
                known[SOURCES] = [*known[SOURCES], part.name]
    return tuple(found.values())


def documents(plain: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return documents by file name: one where all are equal, else one for each.

    Args:
        plain: The name of one, such as ``pylock.toml``; others are then named like
            ``pylock.LABEL.toml``, with no dots in the label (PEP 751).
        texts: By label; an empty one has the plain name anyway.
    """
    if len({*texts.values()}) <= 1:
        return dict.fromkeys([plain][: len(texts)], next(iter(texts.values()), ""))
    stem, _, ending = plain.partition(".")
    return {
        f"{stem}.{slug}.{ending}" if slug else plain: texts[label]
        for label, slug in _slugs(texts).items()
    }


def _slugs(labels: Iterable[str]) -> dict[str, str]:
    """Return what stands for each label in a file name, which no other has."""
    found: dict[str, str] = {}
    for label in labels:
        slug = _NO_NAME.sub("_", label.replace("/", "-"))
        found[label] = free_name(slug, found.values())
    return found


def labelled(part: Part, texts: Mapping[str, str]) -> dict[str, str]:
    """Return documents of a part by labels that no other part has."""
    return {
        "-".join(filter(None, (part.name, label))): text
        for label, text in texts.items()
    }


def statements(parts: Iterable[Part]) -> str:
    """Return what is stated of the wheels, each statement once, as JSON Lines."""
    found = {statement for part in parts for statement in part.statements}
    return "".join(f"{line}\n" for _, line in sorted(found))


def platforms(found: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield what the platforms in the wheels' tags mean for who installs them.

    Args:
        found: The projects that have wheels for each platform.
    """
    named = [platform for platform in found if platform != "any"]
    if len({_VERSIONED.sub("", name).removeprefix("many") for name in named}) > 1:
        yield f"for different platforms: {', '.join(named)}"
    for platform in named:
        if platform.startswith("linux_"):
            yield (
                f"{platform}: {', '.join(sorted({*found[platform]}))}; that tag names"
                " no C library: for machines like those that built them, and public"
                " indexes such as PyPI don't take it"
            )
