"""Git repositories made for a test."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *argv: str) -> str:
    """Run git as somebody, without anybody's settings, and return what it says."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "a", f"GIT_{role}_EMAIL": "a@example.invalid"}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    local = ("-c", "protocol.file.allow=always")
    command = ["git", *local, *argv]
    done = subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
    return done.stdout.decode().strip()


def commit(folder: Path) -> str:
    """Commit all that is there, and return the commit."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")
    return git(folder, "rev-parse", "HEAD")
