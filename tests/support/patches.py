"""Patches, made as a user makes them: with git diff in a copy of the source."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_NAME": "A" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_EMAIL": "a@example.invalid" for role in ("AUTHOR", "COMMITTER")},
}


def make_patch(
    scratch: Path, tree: Path, edit: Callable[[Path], object], *, binary: bool = True
) -> bytes:
    """Return what ``git diff`` says of an edit to a copy of a tree.

    Args:
        scratch: A folder for the copy; made, and gone again at the end.
        tree: Left as it is.
        edit: Changes the copy, whose path it gets.
        binary: Whether it has the bytes of binary files.
    """
    shutil.copytree(tree, scratch, symlinks=True, ignore=lambda *_: [".git"])
    _git(scratch, "init", "--quiet")
    _git(scratch, "add", "--all", "--force")
    _git(scratch, "commit", "--quiet", "--allow-empty", "--message", "before")
    edit(scratch)
    _git(scratch, "add", "--all", "--force")
    patch = _git(scratch, "diff", "--cached", *(["--binary"] if binary else []))
    shutil.rmtree(scratch)
    return patch


def _git(folder: Path, *argv: str) -> bytes:
    env = {**_ENV, "HOME": str(folder)}
    command = ["git", *argv]
    done = subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
    return done.stdout
