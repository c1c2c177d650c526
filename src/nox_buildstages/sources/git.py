"""Run git: mirror repositories, check out commits, list files, apply patches."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.errors import CommandError, SourceError
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.store.store import note_use
from nox_buildstages.system.files import read_file, remove_tree, walk
from nox_buildstages.system.locks import hold_lock
from nox_buildstages.system.process import USUAL_UMASK, Command, run_checked
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nox_buildstages.system.process import Runner

_SETTINGS = (
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",  # a repository could name a program
    "protocol.ext.allow=never",  # a URL could name a program
    "safe.bareRepository=explicit",  # files of a source can look like a repository
    "submodule.recurse=false",
    f"core.attributesFile={os.devnull}",
    "core.autocrlf=false",  # the commit's bytes on every machine
    "core.eol=lf",
    "gc.auto=0",  # a process in the background would outlive our lock
    "maintenance.auto=false",
)
_NO_PROMPTS = {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "LC_ALL": "C"}
_CLOSED = {
    **_NO_PROMPTS,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "HOME": os.devnull,  # for git before 2.32
    "XDG_CONFIG_HOME": os.devnull,
}
"""Variables with which git reads no configuration but a repository's own."""

_CONFIGURATION = frozenset(
    (
        *("HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME", "USERPROFILE"),
        *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
    )
)
"""The variables by which git finds the user's configuration."""

_CONNECTION = (
    "GIT_(SSH|SSL|HTTP|PROXY|ASKPASS|CONFIG_(COUNT|KEY|VALUE)).*|SSH_.*|DISPLAY"
    "|WAYLAND_DISPLAY|XDG_RUNTIME_DIR|DBUS_SESSION_BUS_ADDRESS|GNUPGHOME|GPG_.*"
    "|(HTTP|HTTPS|ALL|FTP|NO)_PROXY|(http|https|all|ftp|no)_proxy"
    "|SSL_CERT_(FILE|DIR)|CURL_CA_BUNDLE|SYSTEMROOT|TMPDIR"
    "|(GH|GITHUB|GLAB|GITLAB)_.*TOKEN|(GH|GLAB)_(HOST|CONFIG_DIR)|AWS_.*"
)
"""The variables that git, ssh and the usual credential helpers need for a fetch."""

_LFS_POINTER = (
    rb"version https://git-lfs\.github\.com/spec/v1\n(ext-.*\n)*"
    rb"oid sha256:[0-9a-f]{64}\nsize [0-9]+\n"
)
_LFS_SIZE = 1024
"""Bytes that a pointer of git-lfs has at most."""

_LFS_SETTINGS = (
    "filter.lfs.clean=git-lfs clean -- %f",
    "filter.lfs.smudge=git-lfs smudge -- %f",
    "filter.lfs.process=git-lfs filter-process",
    "filter.lfs.required=true",
)
_BRANCHES_AND_TAGS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_SUBMODULE = "160000"
"""The mode of a submodule in the index."""

# Whoever owns the store, git may read the mirror.
_UPLOAD = "--upload-pack=git -c 'safe.directory=*' upload-pack"


class Repository(Value):
    """A git repository and our mirror.

    Only a fetch knows the user's configuration, which has logins. What is checked out
    depends on the commit alone: no configuration, no attributes of the machine, and
    no filter but git-lfs.
    """

    url: str  # or an absolute path
    mirrors: Path  # the folder of all mirrors
    runner: Runner
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_offline: bool = False  # whether git may not use the network
    is_named_by_server: bool = False  # as a submodule; then it may not be on disk
    held: tuple[int, ...] = ()  # see ``Command``

    @property
    def mirror(self) -> Path:
        """The mirror, a bare repository that is created when first needed."""
        return self.mirrors / hashlib.sha256(self.url.encode()).hexdigest()

    def check_out(self, commit: str, target: Path) -> None:
        """Clone the repository into an empty folder, and check out a commit.

        The clone has the submodules and tags of the repository, and the URL without
        a login.

        Raises:
            CommandError: git can't be started, or fails.
            SourceError: The commit has files in git-lfs, which can't be fetched.
            ValueError: The commit isn't a full hash.
        """
        if not re.fullmatch("[0-9a-f]{40,64}", commit):
            raise ValueError(f"{commit!r} isn't the full hash of a commit")
        note_use(self.mirror)
        with hold_lock(self.mirror.with_name(f"{self.mirror.name}.lock")) as held:
            repository = replace(self, held=held)
            repository.remove_leftovers()
            try:
                repository.clone(commit, target)
            except CommandError:
                if repository.is_sound():
                    raise
                repository.clone_again(commit, target)
        self._fetch_large_files(target)
        is_local = is_local_url(self.url) and not self.is_named_by_server
        for path, url, inner in self._list_submodules(target):
            submodule = replace(self, url=url, is_named_by_server=not is_local)
            submodule.check_out(inner, path)
        bare = strip_logins(self.url)
        if bare != self.url:
            self._run_alone(target, "remote", "set-url", "--", "origin", bare)
            self._run_alone(target, "submodule", "--quiet", "sync", "--recursive")

    def clone(self, commit: str, target: Path) -> None:
        """Clone a commit into an empty folder, without submodules and LFS."""
        self._fetch(commit)
        clone = ("clone", "--quiet", "--no-checkout", "--template=", _UPLOAD)
        self._run_alone(target, *clone, "--", str(self.mirror), ".")
        # Submodules with relative URLs, and LFS, need the URL of the repository.
        self._run_alone(target, "remote", "set-url", "--", "origin", self.url)
        self._run_alone(target, "checkout", "--quiet", "--detach", commit)

    def remove_leftovers(self) -> None:
        """Remove what a killed git left in the mirror, such as the files of locks.

        The caller holds the lock of the mirror, as long as git runs.
        """
        remove_tree(self._aside)
        objects = str(self.mirror / "objects")
        for folder, _, names in walk(self.mirror):
            for name in names:
                is_object = folder.startswith(objects) and name.startswith("tmp_")
                if is_object or name.endswith(".lock"):
                    Path(folder, name).unlink(missing_ok=True)

    def is_sound(self) -> bool:
        """Whether the mirror has all objects that its branches and tags need."""
        check = ("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        command = _command(self.mirrors, f"--git-dir={self.mirror}", *check)
        return not self.runner(command).returncode

    def clone_again(self, commit: str, target: Path) -> None:
        """Clone a commit after fetching a damaged mirror again, as a whole.

        If that fails, as without network, the damaged mirror stays.
        """
        self.mirror.rename(self._aside)
        try:
            remove_tree(target)
            target.mkdir()
            self.clone(commit, target)
        except BaseException:
            remove_tree(self.mirror)
            self._aside.rename(self.mirror)
            raise
        remove_tree(self._aside)

    @property
    def _aside(self) -> Path:
        return self.mirror.with_name(f".gone-{self.mirror.name}")

    def _fetch(self, commit: str) -> None:
        """Fetch a commit into the mirror, unless the mirror has the commit."""
        repository = f"--git-dir={self.mirror}"
        kind = "sha1" if len(commit) == 40 else "sha256"  # noqa: PLR2004
        form = ("--bare", "--template=", f"--object-format={kind}")
        if not (self.mirror / "HEAD").is_file():
            init = ("init", "--quiet", *form)
            self._run_alone(self.mirrors, *init, "--", str(self.mirror))
        exists = ("cat-file", "-e", f"{commit}^{{commit}}")
        fetch = ("fetch", "--quiet", "--no-tags", "--prune", "--no-recurse-submodules")
        for references in (_BRANCHES_AND_TAGS, (commit,)):
            if self.runner(_command(self.mirrors, repository, *exists)).returncode:
                self._open(
                    self.mirrors, repository, *fetch, "--", self.url, *references
                )
        # The commit's branch may be gone at the next fetch.
        self._run_alone(
            self.mirrors, repository, "update-ref", f"refs/keep/{commit}", commit
        )

    def _list_submodules(self, tree: Path) -> Iterator[tuple[Path, str, str]]:
        """Yield the folder, the URL and the commit of each submodule of a clone."""
        if not (tree / ".gitmodules").is_file():
            return
        self._run_alone(tree, "submodule", "--quiet", "init")
        listed = self._run_alone(tree, "ls-files", "-z", "--stage").split("\0")
        commits = {
            path: information.split()[1]
            for information, _, path in (line.partition("\t") for line in listed)
            if information.startswith(_SUBMODULE)
        }
        get = ("config", "--null", "--list")
        settings = {
            name: value
            for file in (".gitmodules", ".git/config")
            for name, _, value in (
                entry.partition("\n")
                for entry in self._run_alone(tree, *get, "--file", file).split("\0")
            )
        }
        for name, path in settings.items():
            module, _, key = name.rpartition(".")
            url = settings.get(f"{module}.url")
            if (
                (module.startswith("submodule.") and key == "path")
                and (url and path in commits)
                and settings.get(f"{module}.update") != "none"
            ):
                folder = tree / path
                if folder.resolve() != tree.resolve() / path:
                    raise ValueError(f"its submodule {path} is behind a link")
                yield folder, url, commits[path]

    def _fetch_large_files(self, tree: Path) -> None:
        """Put files of git-lfs in place of the pointers in a clone."""
        pointers = self._list_pointers(tree)
        if not pointers:
            return
        subject, names = strip_logins(self.url), ", ".join(pointers[:3])
        if shutil.which("git-lfs") is None:
            raise SourceError(
                subject=subject,
                problem=f"git-lfs isn't installed, and has the content of {names}",
                hint="install git-lfs",
            )
        # As an option it would also count for a repository on disk that is the server.
        self._run_alone(tree, "config", "lfs.storage", str(self.mirror / "lfs"))
        own = {}
        for name in ("lfs.fetchinclude", "lfs.fetchexclude"):
            get = ("config", "--file", ".lfsconfig", "--default", "", "--get", name)
            own[name] = self._run_alone(tree, *get).strip()
        settings = (*_LFS_SETTINGS, *(f"{name}={own[name]}" for name in own))
        options = [word for it in settings for word in ("-c", it)]
        if not self.is_offline:
            self._open(tree, *options, "lfs", "fetch", "origin", "HEAD")
        self._open(tree, *options, "lfs", "checkout")
        self._run_alone(tree, "config", "--remove-section", "lfs")
        left = self._list_pointers(tree)
        if left and not (own["lfs.fetchinclude"] or own["lfs.fetchexclude"]):
            command = f"git lfs checkout {left[0]}"
            if self.is_offline:
                output = "transport 'lfs' not allowed"
                raise CommandError(command=command, reason="offline", output=output)
            raise SourceError(
                subject=subject,
                problem=f"the server of git-lfs doesn't have {', '.join(left[:3])}",
                hint="push the files: git lfs push --all origin",
            )

    def _list_pointers(self, tree: Path) -> list[str]:
        """Return the files in a clone in place of which there are pointers of LFS."""
        listed = self._run_alone(tree, "ls-files", "-z", "--", ":(top,attr:filter=lfs)")
        found = []
        for name in filter(None, listed.split("\0")):
            path = tree / name
            is_small = path.is_file() and path.stat().st_size < _LFS_SIZE
            if is_small and re.fullmatch(_LFS_POINTER, read_file(path)):
                found.append(name)
        return found

    def _run_alone(self, cwd: Path, *argv: str) -> str:
        """Run git without the user's configuration and without the network."""
        command = replace(_command(cwd, *argv), held=self.held)
        return run_checked(self.runner, command)

    def _open(self, cwd: Path, *argv: str) -> None:
        """Run git with the user's configuration, and with the network unless offline.

        A repository on disk may name submodules on disk; others may not.
        """
        is_local = is_local_url(self.url) and not self.is_named_by_server
        env = {**user_variables(os.environ, connects=True), **self.variables}
        if self.is_named_by_server:
            env["GIT_PROTOCOL_FROM_USER"] = "0"
        if self.is_offline:
            env["GIT_ALLOW_PROTOCOL"] = "file" if is_local else "none"
        local = ("-c", "protocol.file.allow=always") if is_local else ()
        command = replace(_command(cwd, *local, *argv, env=env), held=self.held)
        run_checked(self.runner, command)


def user_variables(
    outer: Mapping[str, str], *, connects: bool = False
) -> dict[str, str]:
    """Return the variables with which git finds the user's configuration.

    With ``connects``, there are also those for logins, proxies and certificates.
    """
    found = {
        name: value
        for name, value in outer.items()
        if name in _CONFIGURATION or (connects and re.fullmatch(_CONNECTION, name))
    }
    return {"PATH": outer.get("PATH", os.defpath), **found, **_NO_PROMPTS}


def list_files(tree: Path, runner: Runner) -> tuple[str, ...] | None:
    """Return the paths in a folder tracked by git, or not ignored.

    Deleted files are included, and each submodule is a single path. None if the folder
    isn't in a repository; files that look like one without ``.git`` are none. Nothing
    that the repository's configuration names is run.

    Raises:
        CommandError: git can't be started, or can't read the repository.
    """
    folder = Path(os.path.realpath(tree))
    tops = (it for it in (folder, *folder.parents) if os.path.lexists(it / ".git"))
    top = next(tops, None)
    if top is None:
        return None
    listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    env = {
        **user_variables(os.environ),  # whose ignored files aren't sources either
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_DIR": str(top / ".git"),
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_WORK_TREE": str(top),
    }
    command = _command(folder, *listing, "--exclude=__pycache__/", env=env)
    names = run_checked(runner, command)
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
    env = _variables_for_git(repository)
    run_checked(runner, _command(tree, *strict, str(patch), env=env))


def hide_changes(tree: Path, runner: Runner) -> None:
    """Make git consider a changed clone as unchanged (git-replace).

    The commit keeps the hash, history and tags, but gets the content of the tree.
    Otherwise a version computed from tags would contain the current date.

    Raises:
        CommandError: git can't be started, or fails.
    """
    env = _variables_for_git(tree / ".git")

    def git(*argv: str) -> str:
        return run_checked(runner, _command(tree, *argv, env=env)).strip()

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
    return re.search("transport '.*' not allowed", output) is not None


def is_local_url(url: str) -> bool:
    """Whether the URL of a repository is a path on this machine."""
    if "://" in url:
        return url.startswith("file://")
    return not re.match("[^/]+:", url)  # host:path is a URL of ssh


def _variables_for_git(repository: Path) -> dict[str, str]:
    """Return variables with which git reads no configuration but a repository's.

    A missing ``repository`` hides a repository around the tree.
    """
    return {**_hermetic_variables(), "GIT_DIR": str(repository)}


def _hermetic_variables() -> dict[str, str]:
    return {**_CLOSED, "PATH": os.environ.get("PATH", os.defpath)}


def _command(cwd: Path, *argv: str, env: Mapping[str, str] | None = None) -> Command:
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    return Command(
        argv=("git", "--no-pager", *settings, *argv),
        cwd=cwd,
        env=env or _hermetic_variables(),
        umask=USUAL_UMASK,
    )
