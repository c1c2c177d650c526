"""Environments: made equal to their locks, and what a backend sees of the outer one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w
from packaging.utils import canonicalize_name, canonicalize_version

from nox_buildstages import toml
from nox_buildstages.commands import Command
from nox_buildstages.errors import (
    EnvironmentDiffersError,
    HashMismatchError,
    SyncError,
)
from nox_buildstages.files import write_text
from nox_buildstages.indexes import Indexes
from nox_buildstages.logins import NO_LOGIN, is_refusal, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from nox_buildstages.build.key import Ingredient
    from nox_buildstages.commands import Runner

OUTER_VARIABLES = (
    "CURL_CA_BUNDLE",
    "LANG",
    "LANGUAGE",
    "PATH",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEMROOT",
    "TZ",
)
"""What of the outer environment a backend sees, besides ``LC_*`` and ``pass-env``."""

EPOCH = "315532800"
"""1980-01-01, the first moment that a zip file can hold (``SOURCE_DATE_EPOCH``)."""

_STAMP = "nox-buildstages.json"

_ANOTHER_FILE = re.compile(
    r"(?:Hash|Size) mismatch for `(?P<wheel>(?P<name>[\w.-]+)[^`]*)`"
    r"(?:\s+Expected:\s+sha256:(?P<expected>\w+)\s+Computed:\s+sha256:(?P<found>\w+))?"
)
"""What uv says of a wheel that isn't the one that was locked."""


def _yes() -> bool:
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A virtual environment.

    Attributes:
        location: Its folder.
        bin: The folder of its programs.
        python: Its interpreter.
        may_install: Whether nox lets it be changed; not so with ``-R``.
        may_run: Whether nox lets programs run in it; not so with ``--install-only``.
    """

    location: Path
    bin: Path
    python: Path
    may_install: Callable[[], bool] = _yes
    may_run: Callable[[], bool] = _yes


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is around a session.

    Attributes:
        outer: The environment variables that nox was started with.
        report: Tells the user how far it is, a line at a time.
        run: Identifies this run of nox, all of its processes.
    """

    outer: Mapping[str, str]
    report: Callable[[str], None]
    run: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Syncer:
    """Makes environments equal to locks.

    Attributes:
        uv: The program.
        runner: Runs it.
        indexes: Where the wheels come from, for what it takes to reach them.
    """

    uv: Path
    runner: Runner
    indexes: Indexes = field(default_factory=Indexes)

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
        stale = set(changed(environment, wanted))
        if not stale:
            return
        if not environment.may_install():
            mend = "run nox without -R (--no-install), so that it can be made equal"
            check(environment, wanted, mend=mend)
        self._uninstall(environment, stale - wanted.keys())
        self._install(environment, stale & wanted.keys(), lock)
        _write_stamp(environment, wanted)
        check(environment, wanted, mend=f"remove the folder {environment.location}")

    def _uninstall(self, environment: Environment, names: Collection[str]) -> None:
        """Remove what isn't wanted; syncing would leave pip where it is."""
        if names:
            argv = [str(self.uv), "pip", "uninstall", "--quiet"]
            argv += ["--python", str(environment.python), *sorted(names)]
            said = self._run(argv)
            if said:
                raise _failed(environment.location, said)

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
        argv = [
            str(self.uv),
            "pip",
            "sync",
            str(lock.absolute()),
            "--allow-empty-requirements",
        ]
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
        # To uv a pylock.toml with constraints is an error.
        variables = self.indexes.variables(without=("UV_CONSTRAINT",))
        with tempfile.TemporaryDirectory(prefix="nox-buildstages-") as scratch:
            folder = self.indexes.write_reaching(Path(scratch))
            command = Command(argv=tuple(argv), cwd=folder, env=variables)
            completed = self.runner(command)
        if completed.returncode == 0:
            return ""
        return redacted(completed.stderr) or f"exit status {completed.returncode}"


def _failed(location: Path, said: str) -> SyncError:
    mend = NO_LOGIN if is_refusal(said) else ""
    return SyncError(environment=location, output=said, mend=mend)


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
        source=match["wheel"],
        problem="its wheel isn't the file that was locked",
        mend=f"if it was replaced for a good reason, lock again: {command}",
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


def check(
    environment: Environment, wanted: Mapping[str, Ingredient], *, mend: str
) -> None:
    """See that an environment holds exactly what is wanted.

    Args:
        environment: To look at.
        wanted: What it should hold.
        mend: What the user can do where it doesn't.

    Raises:
        EnvironmentDiffersError: It doesn't.
    """
    differences = tuple(changed(environment, wanted).values())
    if differences:
        raise EnvironmentDiffersError(
            environment=environment.location, differences=differences, mend=mend
        )


def changed(
    environment: Environment, wanted: Mapping[str, Ingredient]
) -> dict[str, str]:
    """Return what in an environment isn't as wanted, by project, in words."""
    present = _inventory(environment)
    stamp = _read_stamp(environment)
    differences = {
        name: f"{name} {version} is there and not in the lock"
        for name, (version, _) in present.items()
        if name not in wanted
    }
    for name, ingredient in wanted.items():
        if name not in present:
            differences[name] = f"{name} {ingredient.version} is missing"
            continue
        version, record = present[name]
        if version != ingredient.version:
            differences[name] = f"{name} is {version}, not {ingredient.version}"
        elif stamp.get(name) != [ingredient.sha256, record]:
            differences[name] = f"{name} {version} is not from the locked wheel"
    return dict(sorted(differences.items()))


def scrubbed(
    outer: Mapping[str, str],
    environment: Environment,
    *,
    declared: Mapping[str, str],
    home: Path,
) -> dict[str, str]:
    """Return the environment variables of a build backend.

    Args:
        outer: The variables that nox was started with.
        environment: In which the backend runs; its programs come first on ``PATH``,
            whatever is declared.
        declared: The variables that the table declares or lets through.
        home: A folder of its own, for ``HOME`` and for temporary files.
    """
    let_through = {
        name: value
        for name, value in outer.items()
        if name in OUTER_VARIABLES or name.startswith("LC_")
    }
    variables = {
        **let_through,
        "HOME": str(home),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",  # a log has its last words when it is killed
        "SOURCE_DATE_EPOCH": EPOCH,
        "TMPDIR": str(home),
        "VIRTUAL_ENV": str(environment.location),
        **declared,
    }
    path = os.pathsep.join(filter(None, (str(environment.bin), variables.get("PATH"))))
    return {**variables, "PATH": path}


def _inventory(environment: Environment) -> dict[str, tuple[str, str]]:
    """Return each project's version, and a digest of the list of its files."""
    found: dict[str, tuple[str, str]] = {}
    for folder in _site_packages(environment.location):
        for info in sorted(folder.glob("*.dist-info")):
            name, _, spelled = info.name[: -len(".dist-info")].rpartition("-")
            version = canonicalize_version(spelled, strip_trailing_zero=False)
            record = info / "RECORD"
            listed = record.read_bytes() if record.is_file() else b""
            digest = hashlib.sha256(listed).hexdigest()
            found[canonicalize_name(name)] = (version, digest)
        for info in sorted(folder.glob("*.egg-info")):
            name, _, version = info.name[: -len(".egg-info")].partition("-")
            found[canonicalize_name(name)] = (version.partition("-py")[0], "")
    return found


def _site_packages(location: Path) -> Iterator[Path]:
    for library in ("lib", "lib64"):
        if not (location / library).is_symlink():
            yield from sorted((location / library).glob("python*/site-packages"))
    if os.name == "nt":  # pragma: no cover
        yield location / "Lib" / "site-packages"


def _read_stamp(environment: Environment) -> dict[str, list[str]]:
    try:
        text = (environment.location / _STAMP).read_text(encoding="utf-8")
        stamp = json.loads(text)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(environment: Environment, wanted: Mapping[str, Ingredient]) -> None:
    present = _inventory(environment)
    stamp = {
        name: [wanted[name].sha256, record]
        for name, (_, record) in present.items()
        if name in wanted
    }
    write_text(environment.location / _STAMP, json.dumps(stamp, indent=1))
