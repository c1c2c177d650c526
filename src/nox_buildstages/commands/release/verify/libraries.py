"""Check the libraries that a wheel needs, and the versions of the system's."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from nox_buildstages.commands.release.repair import DRIVERS
from nox_buildstages.commands.release.verify.verdict import Verdict
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from packaging.tags import Tag

    from nox_buildstages.wheels.binary import Binary

SYSTEM, DRIVER, NOWHERE = "the system", "the driver", ""
"""The places of libraries that no wheel has."""

_MANYLINUX = re.compile(r"(manylinux(?:\d+|_(\d+)_(\d+)))_(\w+)")
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_VERSION = re.compile(r"([A-Z]+)_(\d+(?:\.\d+)*)")
_ALIASES = {"GLIBC_ABI_DT_RELR": "GLIBC_2.36"}
"""Marks that stand for the version that has them first."""

_SYSTEM_FOLDERS = ("/lib", "/opt/", "/usr/")


class Ceiling(Value):
    """The libraries and versions of a machine that a wheel may need."""

    name: str  # of the tag that says so; empty for a machine like this one
    newest: Mapping[str, tuple[int, ...]]  # by the prefix of versions, such as GLIBC
    libraries: frozenset[str] | None = None  # None for all that this machine has

    def allows(self, library: str) -> bool:
        """Whether a wheel may need a library of the system."""
        is_loader = library.startswith("ld-linux")
        return self.libraries is None or is_loader or library in self.libraries


def find_ceiling(
    tags: Iterable[Tag],
    glibc: tuple[int, ...],
    policies: Sequence[Mapping[str, Any]],
    declared: tuple[int, ...] = (),
) -> Ceiling:
    """Return the needs allowed by the tags of a wheel: the oldest machine's libraries.

    ``glibc`` is the version here, for wheels that aren't tagged for other machines,
    unless an older one is declared. ``policies`` are auditwheel's.
    """
    found: list[tuple[tuple[int, ...], str, str]] = []
    for tag in tags:
        if match := _MANYLINUX.fullmatch(tag.platform):
            named = _LEGACY.get(match[1]) or (int(match[2]), int(match[3]))
            found.append((named, match[1], match[4]))
        if declared and (match or tag.platform.startswith("linux_")):
            machine = match[4] if match else tag.platform.removeprefix("linux_")
            found.append((declared, "manylinux_{}_{}".format(*declared), machine))
    if not found:
        return Ceiling(name="", newest={"GLIBC": glibc})
    version, name, machine = min(found)
    newest: dict[str, tuple[int, ...]] = {}
    libraries: frozenset[str] = frozenset()
    for policy in policies:
        match = _MANYLINUX.fullmatch(f"{policy['name']}_{machine}")
        if match and (int(match[2]), int(match[3])) <= version:
            libraries |= {*policy["lib_whitelist"]}
            for prefix, versions in policy["symbol_versions"].get(machine, {}).items():
                # Some have words, such as FLOAT128.
                numbers = (_parse(it) for it in versions if it[0].isdecimal())
                newest[prefix] = max([*numbers, newest.get(prefix, ())])
    return Ceiling(name=name, newest={**newest, "GLIBC": version}, libraries=libraries)


def check_versions(binaries: Sequence[Binary], ceiling: Ceiling) -> Verdict:
    """Return the verdict about the versions of glibc and libstdc++ in a wheel."""
    newest: dict[str, tuple[tuple[int, ...], str]] = {}
    private = []
    for binary in binaries:
        for text in binary.versions:
            if match := _VERSION.fullmatch(_ALIASES.get(text, text)):
                version = _parse(match[2]), binary.name
                newest[match[1]] = max(newest.get(match[1], version), version)
            elif text == "GLIBC_PRIVATE":
                private.append(binary.name)
    limits = ceiling.newest
    too_new = [
        f"{name} needs {prefix}_{_spell(version)}, and {ceiling.name or 'this machine'}"
        f" has up to {_spell(limits[prefix])}"
        for prefix, (version, name) in sorted(newest.items())
        if prefix in limits and version > limits[prefix]
    ]
    too_new += [f"{name} uses private symbols of glibc" for name in private]
    needed = {prefix: _spell(newest[prefix][0]) for prefix in sorted(newest)}
    listed = ", ".join(f"{it}_{needed[it]}" for it in needed if it in limits)
    text = f"needs {listed or 'none'}"
    text += f", which {ceiling.name} has" if ceiling.name else ""
    return Verdict(
        check="glibc",
        state="failed" if too_new else "ok",
        text="; ".join(too_new) or text,
        facts={"versions": needed},
    )


def check_libraries(
    binaries: Sequence[Binary], find_place: Callable[[str], str], ceiling: Ceiling
) -> Verdict:
    """Return the verdict about the libraries that a wheel needs, and about its RPATH.

    ``find_place`` returns a project that has a library, or a constant of this module.
    """
    problems: list[str] = []
    places: dict[str, set[str]] = {}
    for binary in binaries:
        for library in binary.needed:
            place = find_place(library)
            if place == NOWHERE:
                problems.append(
                    f"{binary.name} needs {library}, which neither the wheel, the"
                    " runtime nor this machine has"
                )
            elif place == SYSTEM and not ceiling.allows(library):
                problems.append(
                    f"{binary.name} needs {library}, which {ceiling.name} doesn't have"
                )
            places.setdefault(place, set()).add(library)
        problems += (
            f"{binary.name} looks for libraries in {folder}, a folder of this machine"
            for folder in binary.folders
            if folder.startswith("/")
            and (ceiling.name or not folder.startswith(_SYSTEM_FOLDERS))
        )
    needed = {place: sorted(places[place]) for place in sorted(places)}
    text = "; ".join(f"of {it}: {', '.join(needed[it])}" for it in needed)
    return Verdict(
        check="libraries",
        state="failed" if problems else "ok",
        text="; ".join(problems) or text or "needs none",
        facts={"needed": needed},
    )


def is_of_driver(library: str) -> bool:
    """Whether a library belongs to the driver of a GPU."""
    return any(fnmatchcase(library, it) for it in DRIVERS)


def _parse(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _spell(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
