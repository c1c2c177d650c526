"""Making environments equal to locks, with uv."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from nox_buildstages import toml
from nox_buildstages.environments.environment import INSTALL_HINT
from nox_buildstages.environments.installed import (
    check_installed,
    find_differences,
    record_installed,
)
from nox_buildstages.errors import HashMismatchError, SyncError
from nox_buildstages.indexes.logins import LOGIN_HINT, is_auth_failure, redact
from nox_buildstages.indexes.settings import Indexes
from nox_buildstages.system.files import write_text
from nox_buildstages.system.process import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.key import Ingredient
    from nox_buildstages.system.process import Runner

_NOT_FOR_LOCKS = ("UV_CONSTRAINT", "UV_NO_BINARY", "UV_NO_BINARY_PACKAGE")
"""Variables that uv would refuse a lock for, or our own wheels in it."""

_ANOTHER_FILE = re.compile(
    r"(?:Hash|Size) mismatch for `(?P<wheel>(?P<name>[\w.-]+)[^`]*)`"
    r"(?:\s+Expected:\s+sha256:(?P<expected>\w+)\s+Computed:\s+sha256:(?P<found>\w+))?"
)
"""What uv says of a wheel that isn't the one that was locked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Syncer:
    """Makes environments equal to locks.

    Attributes:
        uv: The program.
        runner: Runs it.
        indexes: Where the wheels come from, for what it takes to reach them.
        attend: Called again and again while uv runs.
    """

    uv: Path
    runner: Runner
    indexes: Indexes = field(default_factory=Indexes)
    attend: Callable[[], None] | None = None

    def sync(
        self, environment: Environment, wanted: Mapping[str, Ingredient], lock: Path
    ) -> None:
        """Make an environment hold exactly what is wanted, and see that it does.

        Args:
            environment: To be changed, unless it is as wanted.
            wanted: What ``lock`` holds for its interpreter.
            lock: A PEP 751 file of wheels.

        Raises:
            HashMismatchError: A wheel isn't the one that was locked.
            SyncError: A wheel can't be had.
            EnvironmentDiffersError: Nox doesn't let it be changed, or it is still
                another one afterwards.
        """
        stale = set(find_differences(environment, wanted))
        if not stale:
            return
        if not environment.may_install():
            check_installed(environment, wanted, hint=INSTALL_HINT)
        self._uninstall(environment, stale - wanted.keys())
        self._install(environment, stale & wanted.keys(), lock)
        record_installed(environment, wanted)
        check_installed(
            environment, wanted, hint=f"remove the folder {environment.location}"
        )

    def _uninstall(self, environment: Environment, names: Collection[str]) -> None:
        """Remove what isn't wanted; syncing would leave pip where it is."""
        if names:
            argv = [str(self.uv), "pip", "uninstall", "--quiet"]
            argv += ["--python", str(environment.python), *sorted(names)]
            said = self._run(argv)
            if said:
                location = environment.location
                hint = f"remove it, then run nox again:\n  rm -r {location}"
                raise SyncError(environment=location, output=said, hint=hint)

    def _install(
        self, environment: Environment, names: Collection[str], lock: Path
    ) -> None:
        left = set(names)
        while said := self._sync(environment, left, lock):
            suspect = _suspect(said)
            if suspect in left:
                fresh = self._install_fresh(environment, suspect, lock)
                if not fresh:
                    left.remove(suspect)
                    continue
                said = fresh if _replaced(fresh) else said
            raise _replaced(said) or _failed(environment.location, said)

    def _sync(
        self, environment: Environment, names: Collection[str], lock: Path
    ) -> str:
        argv = [str(self.uv), "pip", "sync", "--allow-empty-requirements"]
        argv += [str(lock.absolute())]
        for name in sorted(names):
            argv += ["--reinstall-package", name]
        return self._run([*argv, *_from_lock(environment)])

    def _install_fresh(self, environment: Environment, name: str, lock: Path) -> str:
        """Install one wheel without uv's cache.

        The cache may be behind the index: for a URL whose content is said never to
        change uv gives the file that it has, whatever is locked.
        """
        alone = environment.location / "pylock.alone.toml"
        write_text(alone, _alone(lock, name))
        argv = [str(self.uv), "pip", "install", "--requirements", str(alone.absolute())]
        argv += ["--no-cache", "--no-deps", "--reinstall-package", name]
        said = self._run([*argv, *_from_lock(environment)])
        alone.unlink()
        return said

    def create(self, location: Path, python: Path) -> None:
        """Make an empty environment for an interpreter; whatever is there goes.

        Raises:
            SyncError: It could not be made.
        """
        argv = [str(self.uv), "venv", "--quiet", "--clear", "--no-project"]
        said = self._run([*argv, "--python", str(python), str(location)])
        if said:
            raise _failed(location, said)

    def _run(self, argv: Sequence[str]) -> str:
        """Run uv, and return what it has to say where it fails."""
        variables = self.indexes.variables(without=_NOT_FOR_LOCKS)
        with tempfile.TemporaryDirectory(prefix="nox-buildstages-") as scratch:
            folder = self.indexes.write_reaching(Path(scratch))
            command = Command(
                argv=tuple(argv), cwd=folder, env=variables, attend=self.attend
            )
            completed = self.runner(command)
        if completed.returncode == 0:
            return ""
        return redact(completed.stderr) or f"exit status {completed.returncode}"


def _failed(location: Path, said: str) -> SyncError:
    hint = LOGIN_HINT if is_auth_failure(said) else ""
    return SyncError(environment=location, output=said, hint=hint)


def _from_lock(environment: Environment) -> tuple[str, ...]:
    python = ("--python", str(environment.python))
    return ("--quiet", "--no-build", "--preview-features", "pylock", *python)


def _suspect(said: str) -> str | None:
    """Return the project whose wheel isn't the one that was locked, as uv said."""
    match = _ANOTHER_FILE.search(said)
    return None if match is None else match["name"]


def _replaced(said: str) -> HashMismatchError | None:
    """Return which wheel isn't the one that was locked, as uv said."""
    match = _ANOTHER_FILE.search(said)
    if match is None or match["found"] is None:
        return None
    command = f"nox -s build-stages-lock -- --upgrade-package {match['name']}"
    return HashMismatchError(
        subject=match["wheel"],
        problem="its wheel isn't the file that was locked",
        hint=f"if you trust the new file, lock again:\n  {command}",
        expected=match["expected"],
        found=match["found"],
    )


def _alone(lock: Path, name: str) -> str:
    """Return what a lock has of one project, as it is in any folder.

    It is without sizes: where these differ too, uv says nothing of the hashes.
    """
    document = toml.loads(lock.read_text(encoding="utf-8"))
    packages = [it for it in document["packages"] if it["name"] == name]
    for package in packages:
        for file in (*package.get("wheels", ()), package.get("archive", {})):
            file.pop("size", None)
            if "path" in file:
                file["path"] = str(lock.absolute().parent / file["path"])
    return tomli_w.dumps({**document, "packages": packages})
