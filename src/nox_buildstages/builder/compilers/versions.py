"""The compilers of a build, and their versions."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from contextlib import suppress
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from nox_buildstages.errors import CommandError
from nox_buildstages.model import COMPILERS
from nox_buildstages.system.files import write_text
from nox_buildstages.system.process import run_checked, version_command
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.system.process import Command, Runner

_NAMES = {
    "cc": ("cc", "gcc", "clang"),
    "c++": ("c++", "g++", "clang++"),
    "nvcc": ("nvcc", "/usr/local/cuda/bin/nvcc"),
}
"""The names by which build tools find a compiler without a variable."""

_C = ("CC",)
_CXX = ("CXX", "CUDAHOSTCXX", "NVCC_CCBIN")
_CHOICES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("cc", "gcc", "clang"), _C),
    **dict.fromkeys(("c++", "g++", "clang++"), _CXX),
    "gfortran": ("FC", "F77", "F90"),
    "nvcc": ("CUDACXX", "PYTORCH_NVCC", "CUDA_HOME", "CUDA_PATH", "CUDAToolkit_ROOT"),
    "rustc": ("RUSTC",),
    "ld": ("LD",),
}
"""The variables by which build tools choose a program, or the folder around it."""

_LAUNCHERS = ("ccache", "sccache", "distcc")
"""Programs that run another compiler: their own version says nothing."""

_SHIMS = "/shims/"
_PATH_IN_SCRIPT = re.compile(rb"/[\w./+-]+")
_SCRIPT_SIZE = 65536


class CompilerVersions(Value):
    """The versions of a build's compilers, as long as no file of them changes."""

    versions: Mapping[str, str]
    stamps: Mapping[str, tuple[int, ...]] | None  # by path; None if any may change

    @property
    def is_current(self) -> bool:
        """Whether the compilers are certainly the same as when they were asked."""
        return self.stamps is not None and all(
            _stamp(path) == stamp for path, stamp in self.stamps.items()
        )


class ProgramFinder(Value):
    """Finds programs as the build tools of an output do, and asks for their versions.

    The folder ``cache`` keeps answers until a program changes. It is asked each time if
    a file elsewhere decides what the program is.
    """

    variables: Mapping[str, str]  # that the build gets
    outer: Mapping[str, str]
    runner: Runner
    cache: Path
    preferred: Mapping[str, str] = field(default_factory=dict)
    """The command lines of the interpreter's own compilers, by our name."""

    @property
    def path(self) -> str:
        """The ``PATH`` of the build, without the programs of the environment."""
        path = self.variables.get("PATH") or self.outer.get("PATH", os.defpath)
        return path.replace("{env}", os.devnull)

    @property
    def choices(self) -> dict[str, str]:
        """The variables that choose compilers."""
        names = {it for choices in _CHOICES.values() for it in choices}
        names |= {"PATH", *_TOOLCHAIN}
        return {it: self.variables[it] for it in names if it in self.variables}

    def compilers(self, *, has_nvcc: bool) -> CompilerVersions:
        """Return the versions of all compilers and of the linker.

        With ``has_nvcc``, the build's environment has the only nvcc.
        """
        found, is_certain = {}, True
        places = {*self.path.split(os.pathsep), *self.choices.values()}
        places |= {it for names in _NAMES.values() for it in names if os.sep in it}
        # Taken before each program runs, which may change them: rustup makes a file.
        stamps = {it: _stamp(it) for it in places}
        for name in COMPILERS:
            if name == "nvcc" and has_nvcc:
                continue
            versions = []
            for program in self.find(name, _NAMES.get(name, ())):
                files = _list_files(self._command(program))
                is_certain = is_certain and files is not None
                stamps |= {it: _stamp(it) for it in files or () if it not in stamps}
                try:
                    versions.append(self.ask(program))
                except CommandError as error:
                    versions.append(error.reason)
            if versions:
                found[name] = "\n".join(dict.fromkeys(versions))
        return CompilerVersions(versions=found, stamps=stamps if is_certain else None)

    def find(self, name: str, names: Iterable[str] = ()) -> list[str]:
        """Return the programs that a build may run by a name, each once.

        Variables may choose one, others are on ``PATH``.
        """
        words = [self._choice_of(it, name) for it in _CHOICES.get(name, ())]
        words.append(_program_of(self.preferred.get(name, "")))
        found: dict[tuple[int, int], str] = {}
        for word in (*filter(None, words), *(names or (name,))):
            for program in self._look_for(word):
                status = os.stat(program)  # noqa: PTH116 - a no-op needs it
                found.setdefault((status.st_dev, status.st_ino), program)
        return [*found.values()]

    def _choice_of(self, variable: str, name: str) -> str:
        """Return the program chosen by a variable; empty for no choice."""
        value = self.variables.get(variable, "")
        if not value or "{env}" in value:
            return ""  # a program of the environment is an ingredient
        if os.path.isdir(value):  # noqa: PTH112 - a no-op needs it
            inner = ("bin", name) if name == "nvcc" else ("g++",)
            return os.path.join(value, *inner)  # noqa: PTH118
        return _program_of(value)

    def _look_for(self, word: str) -> Iterator[str]:
        """Yield the program of a name or a path, if there is one."""
        paths = filter(None, self.path.split(os.pathsep))
        tops = [""] if os.sep in word else paths
        for top in tops:
            program = f"{top}/{word}" if top else word
            if os.access(program, os.X_OK) and os.path.isfile(program):  # noqa: PTH113
                real = os.path.realpath(program)
                if os.path.basename(real) not in _LAUNCHERS:  # noqa: PTH119
                    yield program
                    return

    def _command(self, program: str) -> Command:
        """Return the command that asks a program for its version."""
        command = version_command(program, self.outer)
        own = {it: self.variables[it] for it in _TOOLCHAIN if it in self.variables}
        return replace(command, env={**command.env, **own, "PATH": self.path})

    def ask_tool(self, program: str, *words: str) -> str:
        """Return the output of a program, which gets all variables of the build.

        Raises:
            CommandError: The program can't be started, or fails.
        """
        variables = self.variables.items()
        own = {name: it.replace("{env}", os.devnull) for name, it in variables}
        command = self._command(program)
        env = {**command.env, **own, "PATH": self.path}
        return self._ask(replace(command, argv=(program, *words), env=env), own)

    def ask(self, program: str) -> str:
        """Return what a program prints for ``--version``.

        Raises:
            CommandError: The program can't be started, or fails.
        """
        return self._ask(self._command(program))

    def _ask(
        self, command: Command, own: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        program, *words = command.argv
        stamps = _list_stamps(command) if words == ["--version"] else None
        if stamps is None:
            return run_checked(self.runner, command).strip()
        question = repr((words, stamps, sorted(own.items())))
        name = hashlib.sha256(question.encode()).hexdigest()
        answer, failure = (self.cache / f"{name}.{it}" for it in ("json", "failed"))
        with suppress(OSError, ValueError):
            return answer.read_text(encoding="utf-8")
        with suppress(OSError, ValueError):
            reason = failure.read_text(encoding="utf-8")
            raise CommandError(command=program, reason=reason)
        try:
            version = run_checked(self.runner, command).strip()
        except CommandError as error:
            with suppress(OSError):  # such as rustup without a toolchain
                write_text(failure, error.reason)
            raise
        with suppress(OSError):
            write_text(answer, version)
        return version


_TOOLCHAIN = ("RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HOME")


def _program_of(command: str) -> str:
    """Return the program of a command line, without launchers."""
    try:
        words = iter(shlex.split(command))
    except ValueError:
        return command
    return next((it for it in words if os.path.basename(it) not in _LAUNCHERS), "")  # noqa: PTH119


@cache
def _paths_in_script(path: str, size: int, *_stamp: int) -> tuple[str, ...]:
    """Return the paths in a script, which may run another program; none in others."""
    if size > _SCRIPT_SIZE:
        return ()
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - a no-op needs it
        text = file.read()
        if text.startswith(b"#!"):
            return tuple(sorted(map(os.fsdecode, {*_PATH_IN_SCRIPT.findall(text)})))
    return ()


def _list_files(command: Command) -> list[str] | None:
    """Return the files that decide a program's version; None if others do, too."""
    program, env = command.argv[0], command.env
    real = os.path.realpath(program)
    if _SHIMS in program or _SHIMS in real:
        return None
    files = [real]
    if os.path.basename(real).startswith("rustup"):  # noqa: PTH119 - a no-op needs it
        home = env.get("RUSTUP_HOME") or f"{env.get('HOME', '')}/.rustup"
        files.append(f"{home}/settings.toml")
        with suppress(OSError), os.scandir(f"{home}/toolchains") as entries:
            files += sorted(f"{it.path}/bin/rustc" for it in entries)
    with suppress(OSError):
        status = os.stat(real)  # noqa: PTH116 - a no-op needs it
        files += _paths_in_script(
            real, status.st_size, status.st_mtime_ns, status.st_ino
        )
    return files


def _list_stamps(command: Command) -> list[object] | None:
    """Return stamps that change if a program's version may change; None if unknown."""
    files = _list_files(command)
    if files is None:
        return None
    stamps: list[object] = [command.argv[0], command.env.get("RUSTUP_TOOLCHAIN")]
    for path in files:
        stamp = _stamp(path)
        if stamp and (path == files[0] or not os.path.isdir(path)):  # noqa: PTH112
            stamps.append((os.path.realpath(path), *stamp))
    return stamps


def _stamp(path: str) -> tuple[int, ...]:
    """Return what changes with a file or folder; nothing if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a no-op needs it
    except OSError:
        return ()
    return (status.st_size, status.st_mtime_ns, status.st_ino)
