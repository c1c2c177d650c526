"""Git: mirrors of repositories, checkouts of commits, and what is tracked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from filelock import FileLock

from nox_buildstages.errors import CommandError
from nox_buildstages.indexes.logins import strip_logins
from nox_buildstages.system.process import Command, run_checked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nox_buildstages.system.process import Runner

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
        variables: For git, over ours: how to be let in, in particular.
    """

    url: str
    mirror: Path
    runner: Runner
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

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
        bare = strip_logins(self.url)
        if bare != self.url:
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
        local = ("-c", "protocol.file.allow=always") if is_local_url(self.url) else ()
        command = _command(cwd, *local, *argv)
        env = {**(command.env or {}), **self.variables}
        run_checked(self.runner, replace(command, env=env))


def list_files(tree: Path, runner: Runner) -> tuple[str, ...]:
    """Return what git tracks or would track in a folder, relative to it.

    Deleted files are among it, and submodules as one entry each; nothing is where
    git can't be run or has no say.
    """
    listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    try:
        # Someone else may own the folder, as in a container: it is only looked at.
        names = run_checked(runner, _command(tree, "-c", "safe.directory=*", *listing))
    except CommandError:
        return ()
    return tuple({name.rstrip("/") for name in names.split("\0") if name})


def apply_patch(patch: Path, tree: Path, runner: Runner, *, clone: bool) -> None:
    """Change a tree as a patch says: exactly, and in all of its files or in none.

    Nothing but the two has a say: no repository around the tree, which would make
    git pass over files without a word, no variable, and no configuration.

    Args:
        patch: The file; nothing of git's lies beside it.
        tree: Its paths are relative to this.
        runner: Runs git.
        clone: Whether the tree is one that we checked out: line endings are then as
            its ``.gitattributes`` say, as in the ``git diff`` of another clone.

    Raises:
        CommandError: git can't be run, or the patch doesn't apply.
    """
    strict = ("-c", "apply.ignoreWhitespace=no", "apply", "--whitespace=nowarn")
    command = _command(tree, *strict, str(patch))
    run_checked(runner, replace(command, env=_alone(patch.parent, tree, clone=clone)))


def hide_changes(tree: Path, runner: Runner) -> None:
    """Make a changed clone one in which nothing was changed, in git's eyes.

    The commit keeps its name, its history and its tags, and what it holds is what is
    in the tree (git-replace). So a version that is made of these is that of the
    commit, where a changed tree would have the day of the build in it.

    Raises:
        CommandError: git can't be run or failed.
    """
    env = _alone(tree / ".git" / "no-configuration", tree, clone=True)

    def git(*argv: str) -> str:
        return run_checked(runner, replace(_command(tree, *argv), env=env)).strip()

    git("config", "diff.ignoreSubmodules", "dirty")
    git("add", "--all", "--force")
    commit, content = git("rev-parse", "HEAD"), git("write-tree")
    said = git("cat-file", "commit", "HEAD").partition("\n")[2]
    file = tree / ".git" / "patched-commit"
    file.write_text(f"tree {content}\n{said}\n", encoding="utf-8", newline="\n")
    changed = git("hash-object", "-t", "commit", "-w", "--no-filters", str(file))
    if changed != commit:
        git("replace", "--force", commit, changed)


def is_local_url(url: str) -> bool:
    """Say whether a repository's URL is a path on this machine."""
    if "://" in url:
        return url.startswith("file://")
    return not re.match("[^/]+:", url)  # host:path is what ssh takes


def _alone(folder: Path, tree: Path, *, clone: bool) -> dict[str, str]:
    """Return an environment in which git knows no configuration of anyone."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return {
        **env,
        **_NO_QUESTIONS,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        # One that isn't there makes that there is none, wherever the tree lies.
        "GIT_DIR": str(tree / ".git" if clone else folder / "no-repository"),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }


def _command(cwd: Path, *argv: str) -> Command:
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    env = {k: v for k, v in os.environ.items() if k not in _ANOTHER_REPOSITORY}
    return Command(
        argv=("git", *settings, *argv), cwd=cwd, env={**env, **_NO_QUESTIONS}
    )
