"""Folders without surroundings: no build finds a user's project above them.

Build tools search upwards from the source: git for a repository, cargo for a workspace
and settings, others for the configuration of a tool.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.errors import BuildStagesError
from nox_buildstages.system.files import path_id

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY = (Path("/var/tmp"), Path("/tmp"))  # noqa: S108 - private within
"""Folders for temporary files; the first one is on a disk."""

_USER = os.getuid() if hasattr(os, "getuid") else None

_MARKS = (
    *(".git", ".hg", ".svn", ".bzr", "_darcs", ".jj", ".gitignore", ".gitattributes"),
    *("pyproject.toml", "setup.cfg", "setup.py", "tox.ini", ".python-version"),
    *("Cargo.toml", ".cargo", "rust-toolchain", "rust-toolchain.toml"),
    *("package.json", "node_modules", ".npmrc", ".nvmrc", "go.mod", "go.work"),
    *("CMakeLists.txt", "CMakePresets.json", "meson.build", "vcpkg.json"),
    *("conanfile.py", "conanfile.txt", "WORKSPACE", "MODULE.bazel", ".bazelrc"),
    *(".tool-versions", "mise.toml", ".clang-format", ".editorconfig"),
)
"""Files and folders for which build tools search upwards."""


def is_neutral(folder: Path, home: Path | None) -> bool:
    """Whether a build in a folder sees neither a home nor a project above it."""
    above = folder.resolve().parents
    if home is not None and home.resolve() in above[:-1]:
        return False
    return not any((top / name).exists() for top in above for name in _MARKS)


def temporary_folders(store: Path) -> Iterator[Path]:
    """Yield the folders for a store's builds below folders for temporary files."""
    # Windows has a folder for each user.
    tops = (Path(tempfile.gettempdir()),) if _USER is None else TEMPORARY
    for top in tops:
        yield top / f"nox-buildstages-{_USER}" / path_id(store)


def neutral_folder(store: Path) -> Path:
    """Return a folder for the builds of a store, always the same.

    Raises:
        BuildStagesError: There is no such folder.
    """
    for folder in temporary_folders(store):
        if os.access(folder.parents[1], os.W_OK) and is_neutral(folder, None):
            return folder
    raise BuildStagesError(
        subject="the store",
        problem="builds in it would see your files around it, and so they would in"
        f" {' or '.join(map(str, TEMPORARY))}",
        hint="name a folder for builds, outside of your home and of any project:"
        "\n  export NOX_BUILDSTAGES_BUILD_DIR=/some/folder",
    )


def make_private(folder: Path) -> None:
    """Make a folder; the parent in a folder for temporary files is the user's own.

    Raises:
        BuildStagesError: The parent belongs to another user.
    """
    if folder.parent.parent in TEMPORARY:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        status = folder.parent.lstat()
        if folder.parent.is_symlink() or status.st_uid != _USER:
            raise BuildStagesError(
                subject=str(folder.parent),
                problem="another user made this folder, in which builds would run",
                hint="name a folder of yours, outside of your home and of any project:"
                "\n  export NOX_BUILDSTAGES_BUILD_DIR=/some/folder",
            )
    folder.mkdir(parents=True, exist_ok=True)
