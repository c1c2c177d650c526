"""Patches of sources, as the table names them: what is in their files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nox_buildstages.errors import SourceError

if TYPE_CHECKING:
    from nox_buildstages.model import Patch


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchFile:
    """A patch that was read: what counts in a key is what will be applied.

    Attributes:
        patch: As declared.
        content: Of the file.
    """

    patch: Patch
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()


def read_patch(patch: Patch) -> PatchFile:
    """Read a patch.

    Raises:
        SourceError: It isn't there, can't be read, or is empty.
    """
    try:
        content = patch.path.read_bytes()
    except OSError as error:
        raise SourceError(
            subject=f"{patch.name} ({patch.location})",
            problem=f"{error.strerror}: {patch.path}",
            hint="correct the path; it is relative to the pyproject.toml",
        ) from error
    if not content.strip():
        raise SourceError(
            subject=f"{patch.name} ({patch.location})",
            problem="it is empty",
            hint="write it with git diff",
        )
    return PatchFile(patch=patch, content=content)
