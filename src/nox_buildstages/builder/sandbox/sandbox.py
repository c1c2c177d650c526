"""The sandbox of a build backend, as a value."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from nox_buildstages.store.build_dir import ENVIRONMENT_HERE, HERE
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.system.process import Command

ISOLATE = Path(__file__).parents[1] / "scripts" / "isolate.py"

PathText: TypeAlias = "str | os.PathLike[str]"

CutBy: TypeAlias = Literal["namespace", "seccomp", "on"]
"""How the network is cut off, or that it is on; words of the script."""

SWITCHED_OFF = "sandbox = false"
"""Why files aren't restricted if the table says so."""

_TRUNCATION_VERSION = 3
"""The version of Landlock that keeps builds from emptying files."""

_SCOPES_VERSION = 6
"""The version of Landlock that keeps builds from abstract sockets, and from signals."""


def hide_files(command: Command, files: Iterable[PathText]) -> Command:
    """Wrap a command so that it finds empty files in the place of some files.

    The system must allow mounts; the program of the command is an absolute path.
    """
    words = tuple(map(str, files))
    if not words:
        return command
    ours = (sys.executable, "-I", "-S", str(ISOLATE), "on", "--hide", *words, "--")
    return replace(command, argv=(*ours, *command.argv))


class Sandbox(Value):
    """The isolation of a build backend.

    If the system allows mounts, the backend also sees the build directory and the
    environment at paths shared by all builds, with nothing around the build directory.
    """

    network: CutBy = "namespace"
    why: str = ""  # why the backend has network; empty if the network is off
    may_move: bool = True  # whether the system can show a folder at another path
    landlock: int = 0  # the version that the kernel has
    open_files: str = ""  # why files aren't restricted; empty if they can be
    moved: tuple[tuple[Path, Path], ...] = ()
    """Folders that are shown at other paths, the build directory first."""
    rules: tuple[str, ...] | None = None
    """The files that the backend may read and write; None for all."""

    @property
    def is_off(self) -> bool:
        """Whether the network is off."""
        return not self.why

    def show(self, folder: Path, environment: Path | None = None) -> Sandbox:
        """Return a sandbox with folders at the paths of all builds, if possible."""
        if not self.may_move:
            return self
        moved = [(folder, HERE)]
        if environment is not None:
            moved.append((environment, ENVIRONMENT_HERE))
        return replace(self, moved=tuple(moved))

    @property
    def protects_files(self) -> bool:
        """Whether the backend can't write to other files than its own, by any path."""
        can_stop = self.may_move or self.landlock >= _TRUNCATION_VERSION
        return can_stop and self.open_files != SWITCHED_OFF

    def restrict(self, rules: tuple[str, ...]) -> Sandbox:
        """Return a sandbox with rules for files, if the stage has any."""
        is_possible = not self.open_files or self.may_move
        is_off = self.open_files == SWITCHED_OFF
        return replace(self, rules=rules) if is_possible and not is_off else self

    def allow(self, *, read: Iterable[PathText], write: Iterable[PathText]) -> Sandbox:
        """Return a sandbox with more rules, if files are restricted."""
        if self.rules is None:
            return self
        read, write = map(os.path.realpath, read), map(os.path.realpath, write)
        more = (*(f"r{it}" for it in read), *(f"w{it}" for it in write))
        return replace(self, rules=(*self.rules, *more))

    def wrap(self, command: Command, *, is_together: bool = False) -> Command:
        """Wrap a command for the sandbox.

        With ``is_together``, its daemons end with it, if the system allows that.
        """
        options = ["--together"] if is_together else []
        for folder, seen in self.moved:
            options += ["--at", str(folder), str(seen)]
        if self.moved:
            argv = tuple(map(self.translate, command.argv))
            env = {name: self.translate(value) for name, value in command.env.items()}
            command = replace(command, argv=argv, env=env)
        if self.rules is not None:
            options += ["--files", *self.rules]
        ours = (sys.executable, "-I", "-S", str(ISOLATE), self.network, *options)
        return replace(command, argv=(*ours, "--", *command.argv))

    def with_network(self) -> Sandbox:
        """Return a sandbox with the same folders, but with network."""
        return replace(self, network="on", why="for a server")

    def translate(self, text: str) -> str:
        """Return a text, with paths as the backend sees them."""
        for folder, seen in self.moved:
            # Not within a longer name: build-stage-a is no part of build-stage-ab.
            text = re.sub(rf"{re.escape(str(folder))}(?![\w.-])", str(seen), text)
        return text

    def __str__(self) -> str:
        if self.why:
            return f"on ({self.why})"
        return "off" if self.network == "namespace" else "off, even to localhost"

    @property
    def access(self) -> str:
        """The access to the user's files if they aren't restricted."""
        is_only_read = self.may_move and self.open_files != SWITCHED_OFF
        return "read" if is_only_read else "read and write"

    @property
    def files(self) -> str:
        """The files that the backend reaches, in words."""
        if self.open_files:
            return f"it can {self.access} yours ({self.open_files})"
        if self.landlock < _SCOPES_VERSION:
            return (
                "its own, and the system's to read; it reaches abstract sockets and"
                f" signals processes (Landlock {self.landlock})"
            )
        return "its own, and the system's to read"
