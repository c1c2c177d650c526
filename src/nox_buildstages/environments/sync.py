"""Make environments equal to locks, with uv."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tomli_w

from nox_buildstages import reader
from nox_buildstages.declarations.settings import NETWORK_OFF, OFFLINE_HINT, Indexes
from nox_buildstages.environments.environment import (
    INSTALL_HINT,
    make_relocatable,
)
from nox_buildstages.environments.packages import (
    IMPORTS_NOTE,
    check_packages,
    find_differences,
    list_files,
    list_packages,
    record_packages,
)
from nox_buildstages.errors import BuildStagesError, HashMismatchError
from nox_buildstages.indexes.url_secrets import (
    LOGIN_HINT,
    is_auth_failure,
    parse_login,
    redact,
)
from nox_buildstages.system.documents import find_json, read_toml
from nox_buildstages.system.files import (
    TEMPORARY,
    sha256_of,
    temporary_folder,
    write_text,
)
from nox_buildstages.system.process import Command, helper_variables
from nox_buildstages.value import Value, field, to_dict
from nox_buildstages.wheels.overlaps import Overlap, find_overlaps

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.key import Ingredient
    from nox_buildstages.system.process import Completed, Runner

_MISMATCH = (
    r"(?:Hash|Size) mismatch for `(?P<wheel>(?P<name>[\w.-]+)[^`]*)`"
    r"(?:\s+Expected:\s+sha256:(?P<expected>\w+)\s+Computed:\s+sha256:(?P<found>\w+))?"
)
"""uv's message about a wheel that differs from the locked wheel."""

_CLASH = r"(Is a directory|Not a directory|File exists) \(os error"
"""uv's messages about a path at which a file and a folder should be."""

_OVERLAPS_NOTE = "nox-buildstages-overlaps.json"

_LOG = logging.getLogger(__name__)


class DefaultIndex(Value):
    """uv's default index."""

    url: str
    others: frozenset[str]  # the hosts of all other indexes


class Syncer(Value):
    """Makes environments equal to locks."""

    uv: Path
    runner: Runner
    indexes: Indexes = field(default_factory=Indexes)
    default_index: Callable[[], DefaultIndex | None] = lambda: None
    """Returns the answer of ``find_default_index``, perhaps a remembered one."""

    def sync(
        self,
        environment: Environment,
        wanted: Mapping[str, Ingredient],
        lock: Path,
        *,
        for_builds: bool = False,
    ) -> tuple[Overlap, ...]:
        """Install exactly the locked packages into an environment, and verify them.

        ``lock`` is a PEP 751 file of wheels, with the packages ``wanted`` for this
        interpreter. Builds get a folder for bytecode apart from the packages. Return
        where the packages disagree about a path.

        Raises:
            HashMismatchError: A wheel differs from the locked wheel.
            BuildStagesError: uv can't get or install a wheel, nox doesn't allow
                changes, or the environment still differs afterwards.
        """
        differences = find_differences(environment, wanted)
        if not differences:
            return read_overlaps(environment)
        stale, words = differences.keys(), ", ".join(differences.values())
        _LOG.debug("syncing %s: %s", environment.location, words)
        if not environment.may_install():
            check_packages(environment, wanted, hint=INSTALL_HINT)
        environment.location.joinpath(IMPORTS_NOTE).unlink(missing_ok=True)
        surplus = sorted(stale - wanted.keys())
        present = stale & list_packages(environment).keys()
        self._introduce(environment)
        removed = {
            path
            for name, paths in list_files(environment).items()
            if name in present
            for path in paths
        }
        location = environment.location
        hint = f"remove it, then run nox again:\n  rm -r {location}"
        if surplus:  # ``uv pip sync`` would leave pip in the environment
            argv = ("uninstall", "--quiet", "--python", str(environment.python))
            failure = self._run_uv("pip", *argv, *surplus)
            if failure:
                raise _sync_error(location, failure, hint)
        lock = self._name_index(environment, lock)
        if for_builds:
            make_relocatable(location)
        self._install(environment, stale & wanted.keys(), lock, again=present)
        overlaps = self._settle_overlaps(environment, wanted, lock, removed)
        text = json.dumps([to_dict(it) for it in overlaps])
        write_text(environment.location / _OVERLAPS_NOTE, text)
        record_packages(environment, wanted)
        check_packages(environment, wanted, hint=hint)
        from nox_buildstages.environments.bytecode import (  # noqa: PLC0415 - a no-op installs nothing
            separate_bytecode,
            share_bytecode,
        )

        if for_builds:
            separate_bytecode(environment)
        share_bytecode(environment, stale & wanted.keys(), wanted)
        return overlaps

    def create(self, location: Path, python: Path) -> None:
        """Create an empty environment; replace an existing environment.

        Raises:
            BuildStagesError: uv can't create the environment.
        """
        argv = ("venv", "--quiet", "--clear", "--no-project", "--python", str(python))
        failure = self._run_uv(*argv, str(location))
        if failure:
            raise _sync_error(location, failure)

    def find_default_index(self) -> DefaultIndex | None:
        """Return uv's default index; None if it needs a login, or uv doesn't say."""
        argv = ("pip", "compile", "--quiet", "--no-header", "--emit-index-url")
        said = self._call_uv(*argv, "--python", sys.executable, "-").stdout.split()
        urls = [url for option, url in pairwise(said) if option.endswith("index-url")]
        if not urls or parse_login(urls[0]) is not None:
            return None
        others = {*urls[1:], *self.indexes.urls} - {urls[0]}
        hosts = (urlsplit(url).hostname for url in others)
        return DefaultIndex(url=urls[0], others=frozenset(filter(None, hosts)))

    def can_link(self, location: Path) -> bool:
        """Whether uv's cache is on the file system of an environment."""
        # If all packages are links, uv needn't be asked where its cache is.
        files = [*location.glob("lib/python*/site-packages/*.dist-info/METADATA")]
        if files and all(it.stat().st_nlink > 1 for it in files):
            return True
        cache = self._call_uv("cache", "dir").stdout.strip()
        try:
            return Path(cache).stat().st_dev == location.stat().st_dev
        except OSError:
            return True

    def _name_index(self, environment: Environment, lock: Path) -> Path:
        """Return a lock, or a copy in which packages of uv's default index name it.

        uv's cache has a part for each index. Our locks name none, as after ``uv pip
        compile``. Then uv takes the folder of a file for an index, and downloads the
        packages cached by ``uv sync`` again.
        """
        document = _read_lock(lock)
        unnamed = [
            it for it in document["packages"] if _hosts(it) and "index" not in it
        ]
        index = self.default_index() if unnamed else None
        if index is None:
            return lock
        for package in unnamed:
            if _hosts(package).isdisjoint(index.others):
                package["index"] = index.url
        path = environment.location / "pylock.sync.toml"
        write_text(path, tomli_w.dumps(document))
        return path

    def clean_cache(self, names: Iterable[str]) -> None:
        """Remove packages from uv's cache.

        Raises:
            BuildStagesError: uv can't clean its cache.
        """
        failure = self._run_uv("cache", "clean", "--quiet", *names)
        if failure:
            raise BuildStagesError(
                subject="uv's cache",
                problem="contains files that a build has changed, and can't be cleaned",
                details=failure.rstrip().splitlines(),
                hint=f"clean it:\n  uv cache clean {' '.join(names)}",
            )

    def _install(
        self,
        environment: Environment,
        names: Collection[str],
        lock: Path,
        *,
        again: Collection[str],
    ) -> None:
        """Install locked packages; bypass uv's cache if its file isn't the locked one.

        uv installs missing packages anyway. The packages in ``again`` are in the
        environment, perhaps from another wheel of the same version. For these uv also
        asks the servers if the wheels in its cache are current, which takes time.

        uv's cache may be older than the index: if an index promises unchanging
        URLs, uv installs the cached file, even against the lock. Then the package is
        installed without the cache.
        """
        python = ("--python", str(environment.python))
        options = ("--quiet", "--no-build", "--preview-features", "pylock", *python)
        sync = ("pip", "sync", "--allow-empty-requirements", str(lock.absolute()))
        left = set(names)
        while True:
            present = sorted(left.intersection(again))
            words = chain.from_iterable(("--reinstall-package", it) for it in present)
            failure = self._run_uv(*sync, *words, *options)
            if not failure:
                return
            mismatch = re.search(_MISMATCH, failure)
            if mismatch is not None and mismatch["name"] in left:
                name = mismatch["name"]
                part = environment.location / "pylock.alone.toml"
                write_text(part, _lock_of_one(lock, name))
                with temporary_folder(TEMPORARY) as cache:
                    self._introduce(environment, "--cache-dir", str(cache))
                    fresh_failure = self._run_uv(
                        *("pip", "install", "--requirements", str(part.absolute())),
                        *("--cache-dir", str(cache), "--no-deps"),
                        *("--reinstall-package", name, *options),
                    )
                part.unlink()
                if not fresh_failure:
                    left.remove(name)
                    continue
                fresh_mismatch = re.search(_MISMATCH, fresh_failure)
                if fresh_mismatch is not None and fresh_mismatch["found"] is not None:
                    mismatch = fresh_mismatch
            if mismatch is None or mismatch["found"] is None:
                raise _sync_error(environment.location, failure)
            upgrade = f"build-stages-lock -- --upgrade-package {mismatch['name']}"
            raise HashMismatchError(
                subject=mismatch["wheel"],
                problem="its wheel isn't the file that was locked",
                hint=f"if you trust the new file, lock again:\n  nox -s {upgrade}",
                expected=mismatch["expected"],
                found=mismatch["found"],
            )

    def _settle_overlaps(
        self,
        environment: Environment,
        wanted: Mapping[str, Ingredient],
        lock: Path,
        removed: Collection[str],
    ) -> tuple[Overlap, ...]:
        """Have the same files after every installation of the same packages.

        uv installs packages side by side: if two have a path, chance decides. And uv
        removes the path with either package: ``removed`` has the paths of packages
        formerly in the environment. Both packages are installed again, one after the
        other, so the last wins: outputs win over wheels of an index, then the first
        name wins. Return where the contents differ.
        """
        location, listed = environment.location, list_files(environment)
        order = sorted(wanted, key=lambda it: (not wanted[it].stage, it))
        files = {name: listed[name] for name in order if name in listed}
        again: dict[str, set[str]] = {
            name: set()
            for name, paths in files.items()
            if not all(
                os.path.lexists(f"{location}/{path}")
                for path in paths
                if path in removed
            )
        }
        for overlap in find_overlaps(files):
            for name in (overlap.winner, overlap.loser):
                again.setdefault(name, set()).update(overlap.paths)
        contents: dict[str, dict[str, str]] = {}
        for name in reversed(order):
            if name in again:
                self._install(environment, {name}, lock, again={name})
                # RECORD may have no hash, or another kind.
                contents[f"{name} {wanted[name].version}"] = {
                    path: sha256_of(location / path)
                    for path in again[name]
                    if location.joinpath(path).is_file()
                }
        return find_overlaps(dict(reversed(contents.items())))

    def install_apart(
        self, lock: Path, python: Path, prefix: Path, *, cache: Path
    ) -> str:
        """Install a lock of files below a prefix, with a cache for it alone.

        Return uv's error output; empty if uv has installed the lock.
        """
        return self._run_uv(
            *("pip", "sync", "--quiet", "--offline", "--no-build"),
            *("--preview-features", "pylock", "--link-mode", "clone"),
            *("--no-compile-bytecode", "--cache-dir", str(cache)),
            *("--python", str(python), "--prefix", str(prefix), str(lock)),
        )

    def _introduce(self, environment: Environment, *options: str) -> None:
        """Let uv ask the interpreter of an environment, and keep the answer.

        Files ``.pth`` of packages run then, which are other people's code, so they see
        no login. Without packages there is no need.
        """
        if not list_packages(environment):
            return
        with temporary_folder(TEMPORARY) as folder:
            settings = self.indexes.download_settings()
            settings = {it: settings[it] for it in settings if it == "cache-dir"}
            outer = self.indexes.write_project(folder, settings)
            env = helper_variables(outer, "UV_CACHE_DIR|UV_CONFIG_FILE|XDG_CACHE_HOME")
            argv = (str(self.uv), "python", "find", "--no-project", *options)
            argv = (*argv, str(environment.python))
            self.runner(Command(argv=argv, cwd=folder, env=env))

    def _run_uv(self, *argv: str) -> str:
        """Run uv; return an empty string, or the error output if uv fails."""
        completed = self._call_uv(*argv)
        if completed.returncode == 0:
            return ""
        return redact(completed.stderr) or f"exit status {completed.returncode}"

    def _call_uv(self, *argv: str) -> Completed:
        """Run uv with the project's settings for downloads."""
        with temporary_folder(TEMPORARY) as folder:
            settings = self.indexes.download_settings()
            env = self.indexes.write_project(folder, settings)
            command = Command(argv=(str(self.uv), *argv), cwd=folder, env=env)
            return self.runner(command)


def _read_overlap(table: reader.Table) -> Overlap:
    return Overlap(
        winner=table.get("winner", reader.text),
        loser=table.get("loser", reader.text),
        paths=table.get("paths", reader.list_of(reader.text)),
    )


def read_overlaps(environment: Environment) -> tuple[Overlap, ...]:
    """Return where the packages disagree about a path, as found when installed."""
    note = environment.location / _OVERLAPS_NOTE
    return find_json(note, reader.list_of(reader.table(_read_overlap))) or ()


def _sync_error(
    location: Path,
    output: str,
    hint: str = "check that the servers of its wheels are reachable",
) -> BuildStagesError:
    if is_auth_failure(output):
        hint = LOGIN_HINT
    elif re.search(NETWORK_OFF, output):
        hint = OFFLINE_HINT
    elif re.search(_CLASH, output):
        hint = (
            "one wheel has a file where another has a folder: leave out one of the two,"
            f" or patch it; then remove the environment:\n  rm -r {location}"
        )
    return BuildStagesError(
        subject=f"environment {location}",
        problem="can't be installed from its lock",
        details=output.rstrip().splitlines(),
        hint=hint,
    )


def _read_lock(lock: Path) -> dict[str, Any]:
    """Return the document of a lock, valid in any folder."""
    document = read_toml(lock)
    for package in document["packages"]:
        for file in _files(package):
            if "path" in file:
                file["path"] = str(lock.absolute().parent / file["path"])
    return document


def _lock_of_one(lock: Path, name: str) -> str:
    """Return the part of a lock about a single package, valid in any folder.

    The part has no sizes: if the size differs too, uv's message has no hashes.
    """
    document = _read_lock(lock)
    packages = [it for it in document["packages"] if it["name"] == name]
    for package in packages:
        for file in _files(package):
            file.pop("size", None)
    return tomli_w.dumps({**document, "packages": packages})


def _files(package: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the entries of the files that uv installs a package from."""
    return (*package.get("wheels", ()), package.get("archive", {}))


def _hosts(package: Mapping[str, Any]) -> set[str]:
    """Return the hosts of the servers that have a package's files."""
    urls = (urlsplit(file.get("url", "")) for file in _files(package))
    return {it.hostname or "" for it in urls if it.scheme in ("http", "https")}
