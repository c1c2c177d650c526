"""Applying patches to a fresh tree: wholly, or the tree is of no use."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.errors import CommandError, SourceError
from nox_buildstages.sources import git, trees

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.sources.patches import PatchFile
    from nox_buildstages.system.process import Runner

_ANEW = (
    "write it again with git diff, against this source; its paths start with a/ and b/"
    " and are relative to the top of the source"
)
# git apply passes over them without a word.
_SUBMODULE = re.compile(
    rb"^(index [0-9a-f]+\.\.[0-9a-f]+|(new file|deleted file|old|new) mode) 160000\s*$",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patching:
    """A source tree that is being patched.

    Attributes:
        tree: Its top, to which the paths in patches are relative.
        source: What it is a tree of, in words.
        clone: Whether it is a clone of a git repository.
        runner: Runs git.
    """

    tree: Path
    source: str
    clone: bool
    runner: Runner

    def apply(self, patches: Iterable[PatchFile]) -> None:
        """Apply patches in their order.

        Raises:
            SourceError: One doesn't apply exactly. The tree is then half patched.
        """
        before = set(trees.find_outward_links(self.tree))
        with tempfile.TemporaryDirectory() as folder:
            for patch in patches:
                self._apply(patch, Path(folder))
                for link in set(trees.find_outward_links(self.tree)) - before:
                    raise self._refusal(patch, f"{link}, outside the source tree")
        if self.clone:
            git.hide_changes(self.tree, self.runner)

    def _apply(self, patch: PatchFile, folder: Path) -> None:
        if _SUBMODULE.search(patch.content):
            raise self._refusal(patch, "it changes which commit a submodule is at")
        file = folder / "patch"
        file.write_bytes(patch.content)
        try:
            git.apply_patch(file, self.tree, self.runner, clone=self.clone)
        except CommandError as error:
            problem = f"it doesn't apply to {self.source}"
            if error.output:
                said = error.output.replace(str(file), patch.patch.name)
                raise self._refusal(patch, problem, said) from error
            raise self._refusal(
                patch,
                f"{problem}: {error.reason}",
                hint="install git",
            ) from error

    def _refusal(
        self, patch: PatchFile, problem: str, output: str = "", hint: str = _ANEW
    ) -> SourceError:
        declared = patch.patch
        return SourceError(
            subject=f"{declared.name} ({declared.location})",
            problem=problem,
            details=output.splitlines(),
            hint=hint,
        )
