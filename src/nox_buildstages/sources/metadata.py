"""What a source tree says of itself, with nothing run: PEP 518, 621 and 643."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages import toml
from nox_buildstages.errors import SourceError
from nox_buildstages.model import Metadata
from nox_buildstages.wheels import core_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nox_buildstages.model import Learned
    from nox_buildstages.wheels.core_metadata import CoreMetadata

METADATA_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "PKG-INFO")
"""The files of a tree that decide what it requires; not its code."""

_LEGACY = "setuptools.build_meta:__legacy__"

_TABLE_FIELDS = frozenset(("dependencies", "optional-dependencies", "requires-python"))
_DEPENDENCY_FIELDS = frozenset(("requires-dist", "requires-python", "provides-extra"))


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSystem:
    """How a source tree is built (PEP 517, PEP 518).

    Attributes:
        requires: PEP 508 strings.
        backend: An entry point, such as ``setuptools.build_meta``.
        backend_path: Folders of the tree in which the backend lies.
    """

    requires: tuple[str, ...] = ("setuptools",)
    backend: str = _LEGACY
    backend_path: tuple[str, ...] = ()


def read_build_system(tree: Path) -> BuildSystem:
    """Return how a tree is built: as it declares, else with setuptools.

    Raises:
        SourceError: Its pyproject.toml can't be read.
    """
    try:
        table = _table(_pyproject(tree), "build-system")
        if table is None:
            return BuildSystem()
        return BuildSystem(
            requires=_build_requires(table),
            backend=_string(table, "build-backend") or _LEGACY,
            backend_path=_strings(table, "backend-path"),
        )
    except ValueError as error:
        raise _invalid(tree, str(error)) from error


def read_sdist_metadata(tree: Path) -> Metadata | None:
    """Return what an sdist's wheel will say, where it promises that; else None.

    It promises what its PKG-INFO doesn't list as dynamic (PEP 643).

    Raises:
        SourceError: A promise can't be read.
    """
    try:
        said = _pkg_info(tree)
    except ValueError as error:  # packaging's errors all are
        raise _invalid(tree, str(error)) from error
    if said is None or not _promises(said):
        return None
    return metadata_from_core(said, learned="static")


def read_static_metadata(tree: Path) -> Metadata | None:
    """Return what a tree's wheel should say, where no backend can be asked; else None.

    That is what an sdist promises, or else what the ``[project]`` table declares
    (PEP 621), which backends may spell otherwise.

    Raises:
        SourceError: It can't be read.
    """
    promised = read_sdist_metadata(tree)
    if promised is not None:
        return promised
    try:
        said = _pkg_info(tree)
        version = None if said is None else said.version
        return _from_project(_pyproject(tree), version)
    except ValueError as error:  # packaging's errors all are
        raise _invalid(tree, str(error)) from error


def metadata_from_core(said: CoreMetadata, *, learned: Learned) -> Metadata:
    """Return what matters of a METADATA or PKG-INFO."""
    return Metadata(
        version=said.version,
        requires_dist=said.requires_dist,
        requires_python=said.requires_python,
        provides_extra=said.provides_extra,
        learned=learned,
    )


def _build_requires(table: Mapping[str, Any]) -> tuple[str, ...]:
    if "requires" not in table:  # PEP 518
        raise ValueError("build-system.requires is missing")
    requires = _strings(table, "requires")
    try:
        list(map(Requirement, requires))
    except InvalidRequirement as error:
        raise ValueError(f"build-system.requires: {error}") from error
    return requires


def _pkg_info(tree: Path) -> CoreMetadata | None:
    path = tree / "PKG-INFO"
    return core_metadata.parse_metadata(path.read_bytes()) if path.is_file() else None


def _promises(said: CoreMetadata) -> bool:
    is_static = Version(said.metadata_version) >= Version("2.2")
    return is_static and _DEPENDENCY_FIELDS.isdisjoint(said.dynamic)


def _from_project(
    pyproject: Mapping[str, Any], version: Version | None
) -> Metadata | None:
    project = _table(pyproject, "project")
    if project is None or not _TABLE_FIELDS.isdisjoint(_strings(project, "dynamic")):
        return None
    stated = _string(project, "version")
    if version is None:
        if stated is None:
            return None
        version = Version(stated)
    extras = _table(project, "optional-dependencies") or {}
    requires = [Requirement(text) for text in _strings(project, "dependencies")]
    for extra in extras:
        requires += [_with_extra(text, extra) for text in _strings(extras, extra)]
    python = _string(project, "requires-python")
    return Metadata(
        version=version,
        requires_dist=tuple(sorted(map(str, requires))),
        requires_python=None if python is None else str(SpecifierSet(python)),
        provides_extra=tuple(sorted(map(canonicalize_name, extras))),
        learned="static",
    )


def _with_extra(text: str, extra: str) -> Requirement:
    requirement = Requirement(text)
    condition = f'extra == "{canonicalize_name(extra)}"'
    marker = requirement.marker
    requirement.marker = Marker(
        condition if marker is None else f"({marker}) and {condition}"
    )
    return requirement


def _pyproject(tree: Path) -> dict[str, Any]:
    path = tree / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return toml.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # neither TOML nor UTF-8
        raise ValueError(f"pyproject.toml: {error}") from error


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = table.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise ValueError(f"{key} is {value!r}, not a table")


def _string(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{key} is {value!r}, not a string")


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError(f"{key} is {value!r}, not a list of strings")


def _invalid(tree: Path, problem: str) -> SourceError:
    return SourceError(
        subject=tree.name,
        problem=f"its metadata can't be read: {problem}",
        hint="fix the source, or choose another version of it",
    )
