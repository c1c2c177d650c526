"""Read the static metadata of a source tree: PEP 518, 621 and 643."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages import reader
from nox_buildstages.errors import SourceError
from nox_buildstages.model import Metadata
from nox_buildstages.sources.trees import METADATA_FILES
from nox_buildstages.system.documents import read_toml
from nox_buildstages.system.files import read_file
from nox_buildstages.value import Value
from nox_buildstages.wheels import core_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.model import Learned
    from nox_buildstages.wheels.core_metadata import CoreMetadata

_LEGACY = "setuptools.build_meta:__legacy__"

_VERSION_PLUGINS = (
    (
        rb"use_scm_version|setuptools[-_]scm",
        ("setuptools-scm", "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{}"),
    ),
    (rb"\bpbr\b", ("pbr", "PBR_VERSION")),
    (rb"setuptools[-_]git[-_]versioning", ("setuptools-git-versioning", "")),
    (rb"\bversioneer\b", ("versioneer", "")),
)
"""Projects that find the version for setuptools, which says 0.0.0 without them."""

_TABLE_FIELDS = frozenset(("dependencies", "optional-dependencies", "requires-python"))
_DEPENDENCY_FIELDS = frozenset(("requires-dist", "requires-python", "provides-extra"))


class BuildSystem(Value):
    """The build system of a source tree (PEP 517, PEP 518)."""

    requires: tuple[str, ...] = ("setuptools",)
    backend: str = _LEGACY
    backend_path: tuple[str, ...] = ()  # folders of the tree


class Identity(Value):
    """The name and version in a source tree, as far as they are stated."""

    name: NormalizedName | None = None
    version: Version | None = None
    requires_python: str | None = None  # of PKG-INFO
    version_plugin: tuple[str, str] | None = None
    """A mentioned project that finds the version, and its variable for one, if any."""


def check_project(tree: Path) -> None:
    """Check that a source tree is a project that can be built.

    Raises:
        SourceError: It has neither of the files that say how.
    """
    if not any((tree / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise SourceError(
            subject=tree.name,
            problem="its source has neither a pyproject.toml nor a setup.py",
            hint="name the folder of the project; in a larger source it is"
            " #subdirectory=…",
        )


def read_build_system(tree: Path) -> BuildSystem:
    """Return the build system of a source tree; setuptools if none is declared.

    Raises:
        SourceError: The pyproject.toml is invalid.
    """
    try:
        table = _get_table(_read_pyproject(tree), "build-system")
        if table is None:
            return BuildSystem()
        return BuildSystem(
            requires=_get_build_requires(table),
            backend=_get_string(table, "build-backend") or _LEGACY,
            backend_path=_get_strings(table, "backend-path"),
        )
    except ValueError as error:
        raise _invalid(tree, error) from error


def read_identity(tree: Path) -> Identity:
    """Return what PKG-INFO says a source tree is, or else the ``[project]`` table."""
    name, version, python = None, None, None
    with suppress(ValueError):
        core = _read_pkg_info(tree)
        if core is None:
            project = _get_table(_read_pyproject(tree), "project") or {}
            declared = _get_string(project, "name")
            name = None if declared is None else canonicalize_name(declared)
            declared = _get_string(project, "version")
            version = None if declared is None else Version(declared)
        else:
            name, version, python = core.name, core.version, core.requires_python
    files = [tree / file for file in METADATA_FILES if file != "PKG-INFO"]
    text = b"\n".join(read_file(file) for file in files if file.is_file())
    mentioned = (it for pattern, it in _VERSION_PLUGINS if re.search(pattern, text))
    return Identity(
        name=name,
        version=version,
        requires_python=python,
        version_plugin=next(mentioned, None),
    )


def computes_version(tree: Path) -> bool:
    """Whether code decides the version of a source tree whenever it is built.

    Raises:
        SourceError: The pyproject.toml is invalid.
    """
    if (tree / "setup.py").is_file() or read_build_system(tree).backend_path:
        return True
    try:
        project = _get_table(_read_pyproject(tree), "project") or {}
        return "version" in _get_strings(project, "dynamic")
    except ValueError as error:
        raise _invalid(tree, error) from error


def read_sdist_metadata(tree: Path) -> Metadata | None:
    """Return the final metadata in the PKG-INFO of an sdist, or None.

    Metadata is final if PKG-INFO doesn't list a dependency field as dynamic
    (PEP 643).

    Raises:
        SourceError: PKG-INFO is invalid.
    """
    try:
        core = _read_pkg_info(tree)
    except ValueError as error:  # packaging's errors are ValueErrors
        raise _invalid(tree, error) from error
    if core is None or Version(core.metadata_version) < Version("2.2"):
        return None
    if not _DEPENDENCY_FIELDS.isdisjoint(core.dynamic):
        return None
    return metadata_from_core(core, learned="static")


def read_static_metadata(tree: Path) -> Metadata | None:
    """Return the metadata of a source tree without asking the build backend.

    The final metadata of an sdist comes first, then the ``[project]`` table
    (PEP 621), which a build backend may write differently; None without both.

    Raises:
        SourceError: The metadata is invalid.
    """
    metadata = read_sdist_metadata(tree)
    if metadata is not None:
        return metadata
    try:
        core = _read_pkg_info(tree)
        version = None if core is None else core.version
        return _metadata_from_project(_read_pyproject(tree), version)
    except ValueError as error:  # packaging's errors are ValueErrors
        raise _invalid(tree, error) from error


def metadata_from_core(core: CoreMetadata, *, learned: Learned) -> Metadata:
    """Return the relevant fields of METADATA or PKG-INFO."""
    return Metadata(
        version=core.version,
        requires_dist=core.requires_dist,
        requires_python=core.requires_python,
        provides_extra=core.provides_extra,
        learned=learned,
    )


def _get_build_requires(table: Mapping[str, Any]) -> tuple[str, ...]:
    if "requires" not in table:  # PEP 518
        raise ValueError("build-system.requires is missing")
    requires = _get_strings(table, "requires")
    try:
        list(map(Requirement, requires))
    except InvalidRequirement as error:
        raise ValueError(f"build-system.requires: {error}") from error
    return requires


def _read_pkg_info(tree: Path) -> CoreMetadata | None:
    path = tree / "PKG-INFO"
    return core_metadata.parse_metadata(read_file(path)) if path.is_file() else None


def _metadata_from_project(
    pyproject: Mapping[str, Any], version: Version | None
) -> Metadata | None:
    project = _get_table(pyproject, "project")
    if project is None:
        return None
    if not _TABLE_FIELDS.isdisjoint(_get_strings(project, "dynamic")):
        return None
    declared = _get_string(project, "version")
    if version is None:
        if declared is None:
            return None
        version = Version(declared)
    extras = _get_table(project, "optional-dependencies") or {}
    requires = [Requirement(text) for text in _get_strings(project, "dependencies")]
    for extra in extras:
        condition = f'extra == "{canonicalize_name(extra)}"'
        for text in _get_strings(extras, extra):
            requirement = Requirement(text)
            marker = requirement.marker
            requirement.marker = Marker(
                condition if marker is None else f"({marker}) and {condition}"
            )
            requires.append(requirement)
    python = _get_string(project, "requires-python")
    return Metadata(
        version=version,
        requires_dist=tuple(sorted(map(str, requires))),
        requires_python=None if python is None else str(SpecifierSet(python)),
        provides_extra=tuple(sorted(map(canonicalize_name, extras))),
        learned="static",
    )


def _read_pyproject(tree: Path) -> dict[str, Any]:
    path = tree / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return read_toml(path)
    except reader.UnreadableError as error:
        error.file = path.name
        raise


def _get_table(table: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = table.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise ValueError(f"{key} is {value!r}, not a table")


def _get_string(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{key} is {value!r}, not a string")


def _get_strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError(f"{key} is {value!r}, not a list of strings")


def _invalid(tree: Path, error: ValueError) -> SourceError:
    return SourceError(
        subject=tree.name,
        problem=f"its metadata can't be read: {error}",
        hint="fix the source, or choose another version of it",
    )
