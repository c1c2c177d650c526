"""Patches of sources: read their files, and apply them to a fresh source tree."""

from __future__ import annotations

import codecs
import hashlib
import re
from typing import TYPE_CHECKING

from nox_buildstages.errors import CommandError, SourceError
from nox_buildstages.sources import git, trees
from nox_buildstages.system.files import TEMPORARY, read_file, temporary_folder
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nox_buildstages.model import Patch
    from nox_buildstages.system.process import Runner

_HINT = (
    "write it again with git diff, against exactly this source, or remove it from the"
    " list; its paths are a/… and b/… from the top of the source"
)
# git apply ignores changes of submodules silently.
_SUBMODULE = re.compile(
    rb"^(index [0-9a-f]+\.\.[0-9a-f]+|(new file|deleted file|old|new) mode) 160000\s*$",
    re.MULTILINE,
)


class PatchFile(Value):
    """A patch with the content of the file, which is part of a key."""

    patch: Patch
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """The sha256 of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    def error(
        self, problem: str, *, output: str = "", hint: str = _HINT
    ) -> SourceError:
        """Return an error about this patch."""
        return SourceError(
            subject=f"{self.patch.name} ({self.patch.location})",
            problem=problem,
            details=output.splitlines(),
            hint=hint,
        )


def read_patch(patch: Patch) -> PatchFile:
    """Read the file of a patch.

    Raises:
        SourceError: The file is missing, unreadable or empty.
    """
    try:
        file = PatchFile(patch=patch, content=read_file(patch.path))
    except OSError as error:
        raise PatchFile(patch=patch, content=b"").error(
            f"{error.strerror}: {patch.path}",
            hint="correct the path; it is relative to the pyproject.toml",
        ) from error
    if file.content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        hint = f"write it with git diff --output={patch.name}"
        raise file.error("it is UTF-16, as some shells write it", hint=hint)
    if not file.content.strip():
        raise file.error("it is empty", hint="write it with git diff")
    return file


def apply_patches(
    patches: Iterable[PatchFile],
    tree: Path,
    *,
    source: str,
    is_clone: bool,
    runner: Runner,
) -> None:
    """Apply patches to a source tree, in the given order.

    Raises:
        SourceError: A patch doesn't apply exactly. The tree is then unusable.
    """
    links = set(trees.find_outward_links(tree))
    with temporary_folder(TEMPORARY) as folder:
        file = folder / "patch"
        for patch in patches:
            if _SUBMODULE.search(patch.content):
                raise patch.error("it changes which commit a submodule is at")
            file.write_bytes(patch.content.removeprefix(codecs.BOM_UTF8))
            try:
                git.apply_patch(file, tree, runner, is_clone=is_clone)
            except CommandError as error:
                problem = f"it doesn't apply to {source}"
                if error.output:
                    output = error.output.replace(str(file), patch.patch.name)
                    raise patch.error(problem, output=output) from error
                problem = f"{problem}: {error.reason}"
                raise patch.error(problem, hint="install git") from error
            for link in set(trees.find_outward_links(tree)) - links:
                raise patch.error(f"{link}, outside the source tree")
    if is_clone:
        git.hide_changes(tree, runner)
