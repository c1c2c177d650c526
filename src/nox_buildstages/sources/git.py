"""Run git: mirror repositories, check out commits, list files, apply patches."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from nox_buildstages.errors import CommandError
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.system.locks import hold_lock
from nox_buildstages.system.process import USUAL_UMASK, Command, run_checked
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nox_buildstages.system.process import Runner

# git sets these for its hooks; our commands would use the repository of the hook.
_REPOSITORY_VARIABLES = {
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR"),
    *("GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY"),
    *("GIT_PREFIX", "GIT_WORK_TREE"),
}
_SETTINGS = (
    f"core.hooksPath={os.devnull}",
    "core.autocrlf=false",  # the commit's bytes on every machine
    "gc.auto=0",  # a process in the background would outlive our lock
    "maintenance.auto=false",
)
_NO_PROMPTS = {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "LC_ALL": "C"}
_LFS_OFF = (
    *("-c", "filter.lfs.process=", "-c", "filter.lfs.smudge=false"),
    *("-c", "filter.lfs.required=true"),
)
"""Options with which a checkout fails, instead of running git-lfs."""

_BRANCHES_AND_TAGS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


class Repository(Value):
    """A git repository and our mirror."""

    url: str  # or an absolute path
    mirror: Path  # a bare repository, created when first needed
    runner: Runner
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_offline: bool = False  # whether git may not use the network

    def check_out(self, commit: str, target: Path) -> None:
        """Clone the repository into an empty folder, and check out a commit.

        The clone has the submodules and tags of the repository, and the URL without
        a login.

        Raises:
            CommandError: git can't be started, or fails.
            ValueError: The commit isn't a full hash.
        """
        if not re.fullmatch("[0-9a-f]{40,64}", commit):
            raise ValueError(f"{commit!r} isn't the full hash of a commit")
        with hold_lock(self.mirror.with_name(f"{self.mirror.name}.lock")):
            self._fetch(commit)
            clone = ("clone", "--quiet", "--no-checkout", "--template=", "--")
            self._git(target, *clone, str(self.mirror), ".")
        # Submodules with relative URLs, and LFS, need the URL of the repository.
        self._git(target, "remote", "set-url", "--", "origin", self.url)
        self._git(target, "checkout", "--quiet", "--detach", commit)
        if (target / ".gitmodules").exists():
            self._git(target, "submodule", "--quiet", "update", "--init", "--recursive")
        bare = strip_logins(self.url)
        if bare != self.url:
            self._git(target, "remote", "set-url", "--", "origin", bare)
            self._git(target, "submodule", "--quiet", "sync", "--recursive")

    def _fetch(self, commit: str) -> None:
        """Fetch a commit into the mirror, unless the mirror has the commit."""
        self._git(self.mirror.parent, "init", "--quiet", "--bare", str(self.mirror))
        fetch = ("fetch", "--quiet", "--no-tags", "--prune", "--", self.url)
        exists = _command(self.mirror, "cat-file", "-e", f"{commit}^{{commit}}")
        for references in (_BRANCHES_AND_TAGS, (commit,)):
            if self.runner(exists).returncode:
                self._git(self.mirror, *fetch, *references)
        # The commit's branch may be gone at the next fetch.
        self._git(self.mirror, "update-ref", f"refs/keep/{commit}", commit)

    def _git(self, cwd: Path, *argv: str) -> None:
        # A repository on disk may name submodules on disk; others may not.
        local = ("-c", "protocol.file.allow=always") if is_local_url(self.url) else ()
        offline = {}
        if self.is_offline:
            local = (*local, *_LFS_OFF)
            is_file = is_local_url(self.url) or argv[0] == "clone"
            offline = {"GIT_ALLOW_PROTOCOL": "file" if is_file else "none"}
        command = _command(cwd, *local, *argv)
        env = {**(command.env or {}), **self.variables, **offline}
        run_checked(self.runner, replace(command, env=env))


def list_files(tree: Path, runner: Runner) -> tuple[str, ...]:
    """Return the paths in a folder tracked by git, or not ignored.

    Deleted files are included, and each submodule is a single path. The list is empty
    if git isn't installed, or if the folder isn't in a repository.
    """
    listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    try:
        # Reading is safe even if the folder belongs to somebody else.
        command = _command(tree, "-c", "safe.directory=*", *listing)
        names = run_checked(runner, command)
    except CommandError:
        return ()
    return tuple({name.rstrip("/") for name in names.split("\0") if name})


def apply_patch(patch: Path, tree: Path, runner: Runner, *, is_clone: bool) -> None:
    """Apply a patch exactly, to all files or to none.

    Neither environment variables, nor any configuration of git, nor a repository
    around the tree (for whose ignored files git does nothing, silently) have an
    effect. But in our clone of a repository, ``.gitattributes`` determine line endings,
    as for the ``git diff`` that wrote the patch.

    Raises:
        CommandError: git can't be started, or the patch doesn't apply.
    """
    strict = ("-c", "apply.ignoreWhitespace=no", "apply", "--whitespace=nowarn")
    repository = tree / ".git" if is_clone else patch.parent / "no-repository"
    env = _variables_for_git(patch.parent, repository)
    run_checked(runner, replace(_command(tree, *strict, str(patch)), env=env))


def hide_changes(tree: Path, runner: Runner) -> None:
    """Make git consider a changed clone as unchanged (git-replace).

    The commit keeps the hash, history and tags, but gets the content of the tree.
    Otherwise a version computed from tags would contain the current date.

    Raises:
        CommandError: git can't be started, or fails.
    """
    env = _variables_for_git(tree / ".git" / "no-configuration", tree / ".git")

    def git(*argv: str) -> str:
        return run_checked(runner, replace(_command(tree, *argv), env=env)).strip()

    git("config", "diff.ignoreSubmodules", "dirty")
    git("add", "--all", "--force")
    commit, content = git("rev-parse", "HEAD"), git("write-tree")
    rest = git("cat-file", "commit", "HEAD").partition("\n")[2]
    file = tree / ".git" / "patched-commit"
    file.write_text(f"tree {content}\n{rest}\n", encoding="utf-8", newline="\n")
    changed = git("hash-object", "-t", "commit", "-w", "--no-filters", str(file))
    if changed != commit:
        git("replace", "--force", commit, changed)


def needs_network(output: str) -> bool:
    """Whether git, offline, failed for lack of the network, by its output."""
    pattern = "transport '.*' not allowed|smudge filter lfs failed"
    return re.search(pattern, output) is not None


def is_local_url(url: str) -> bool:
    """Whether the URL of a repository is a path on this machine."""
    if "://" in url:
        return url.startswith("file://")
    return not re.match("[^/]+:", url)  # host:path is a URL of ssh


def _variables_for_git(home: Path, repository: Path) -> dict[str, str]:
    """Return environment variables with which git reads no configuration.

    ``home`` is a folder without configuration, and a missing ``repository`` hides a
    repository around the tree.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return {
        **env,
        **_NO_PROMPTS,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_DIR": str(repository),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
    }


def _command(cwd: Path, *argv: str) -> Command:
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    env = {k: v for k, v in os.environ.items() if k not in _REPOSITORY_VARIABLES}
    env |= _NO_PROMPTS
    argv = ("git", *settings, *argv)
    return Command(argv=argv, cwd=cwd, env=env, umask=USUAL_UMASK)
