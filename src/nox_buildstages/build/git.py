"""Git: mirrors of repositories, checkouts of commits, and what is tracked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock

from nox_buildstages.commands import Command, checked
from nox_buildstages.errors import CommandError

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.commands import Runner

# What git sets for its hooks: it would turn our commands to another repository.
_ANOTHER_REPOSITORY = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_WORK_TREE",
    }
)
_SETTINGS = (
    f"core.hooksPath={os.devnull}",
    "core.autocrlf=false",  # the commit's bytes on every machine
    "gc.auto=0",  # in the background it would outlive our lock
    "maintenance.auto=false",
)
_NO_QUESTIONS = {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "LC_ALL": "C"}
_BRANCHES_AND_TAGS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A repository somewhere, and our mirror of it.

    Attributes:
        url: As git takes it; a path is absolute.
        mirror: A bare repository, made when it is first needed.
        runner: Runs git.
    """

    url: str
    mirror: Path
    runner: Runner

    def check_out(self, commit: str, target: Path) -> None:
        """Make an empty folder a clone with a commit and its submodules checked out.

        The clone has the repository's tags, and its URL without credentials.

        Raises:
            CommandError: git can't be run or failed.
            ValueError: The commit isn't a full hash.
        """
        if not re.fullmatch("[0-9a-f]{40,64}", commit):
            raise ValueError(f"{commit!r} isn't the full hash of a commit")
        self.mirror.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.mirror}.lock"):
            self._fetch(commit)
            clone = ("clone", "--quiet", "--no-checkout", "--template=", "--")
            self._git(target, *clone, str(self.mirror), ".")
        # Submodules with relative URLs, and LFS, look at where we really are from.
        self._git(target, "remote", "set-url", "--", "origin", self.url)
        self._git(target, "checkout", "--quiet", "--detach", commit)
        if (target / ".gitmodules").exists():
            self._git(target, "submodule", "--quiet", "update", "--init", "--recursive")
        if without_credentials(self.url) != self.url:
            bare = without_credentials(self.url)
            self._git(target, "remote", "set-url", "--", "origin", bare)
            self._git(target, "submodule", "--quiet", "sync", "--recursive")

    def _fetch(self, commit: str) -> None:
        self._git(self.mirror.parent, "init", "--quiet", "--bare", str(self.mirror))
        fetch = ("fetch", "--quiet", "--no-tags", "--prune", "--", self.url)
        if not self._has(commit):
            self._git(self.mirror, *fetch, *_BRANCHES_AND_TAGS)
        if not self._has(commit):
            self._git(self.mirror, *fetch, commit)
        # Its branch may be gone at the next fetch.
        self._git(self.mirror, "update-ref", f"refs/keep/{commit}", commit)

    def _has(self, commit: str) -> bool:
        asked = _command(self.mirror, "cat-file", "-e", f"{commit}^{{commit}}")
        return self.runner(asked).returncode == 0

    def _git(self, cwd: Path, *argv: str) -> None:
        # A repository on disk may name submodules on disk; any other may not.
        local = ("-c", "protocol.file.allow=always") if is_local(self.url) else ()
        checked(self.runner, _command(cwd, *local, *argv))


def tracked(tree: Path, runner: Runner) -> tuple[str, ...]:
    """Return what git tracks or would track in a folder, relative to it.

    Deleted files are among it, and submodules as one entry each; nothing is where
    git can't be run or has no say.
    """
    listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    try:
        # Someone else may own the folder, as in a container: it is only looked at.
        names = checked(runner, _command(tree, "-c", "safe.directory=*", *listing))
    except CommandError:
        return ()
    return tuple({name.rstrip("/") for name in names.split("\0") if name})


def is_local(url: str) -> bool:
    """Say whether a repository's URL is a path on this machine."""
    if "://" in url:
        return url.startswith("file://")
    return not re.match("[^/]+:", url)  # host:path is what ssh takes


def without_credentials(url: str) -> str:
    """Take user name and password out of an http(s) URL."""
    return re.sub(r"^(https?://)[^/\s]+@", r"\1", url)


def _command(cwd: Path, *argv: str) -> Command:
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    env = {k: v for k, v in os.environ.items() if k not in _ANOTHER_REPOSITORY}
    return Command(
        argv=("git", *settings, *argv), cwd=cwd, env={**env, **_NO_QUESTIONS}
    )
