"""Run build backends in isolation: without network, and ended together with us."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.errors import BuildStagesError, CommandError
from nox_buildstages.system.process import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.model import Stage
    from nox_buildstages.system.process import Runner

_ISOLATE = Path(__file__).with_name("scripts") / "isolate.py"
_OFFLINE = (sys.executable, "-I", "-S", str(_ISOLATE))
_AT, _ONLINE = "--at", "--online"  # options of the script
_CANNOT_MOVE = 126  # an exit status of the script

SECONDS = 10.0
"""Seconds between two checkpoints."""

SECONDS_VARIABLE = "NOX_BUILDSTAGES_CHECKPOINT_SECONDS"
"""Overrides ``SECONDS``, for tests."""

_SUPERVISE = Path(__file__).with_name("scripts") / "supervise.py"
_NONE = Path("-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """The isolation of a build backend.

    Without network, the backend also sees the build directory at the path shared by
    all builds.
    """

    why: str = ""  # why the backend has network; empty if the network is off
    may_move: bool = True  # whether the system can show a folder at another path
    moved: tuple[Path, Path] | None = None  # a folder, and its path inside

    @property
    def is_off(self) -> bool:
        """Whether the network is off."""
        return not self.why

    def show_at(self, folder: Path, path: Path) -> Sandbox:
        """Return a sandbox with a folder at another path, if possible."""
        if not (self.is_off and self.may_move):
            return self
        path.mkdir(parents=True, exist_ok=True)
        return replace(self, moved=(folder, path))

    def wrap(self, command: Command) -> Command:
        """Wrap a command for the sandbox."""
        return self._separate(command) if self.is_off else command

    def wrap_with_network(self, command: Command) -> Command:
        """Wrap a command: same folders, but with network."""
        return command if self.moved is None else self._separate(command, _ONLINE)

    def translate(self, text: str) -> str:
        """Return a text, with paths as the backend sees them."""
        if self.moved is None:
            return text
        folder, path = map(str, self.moved)
        return text.replace(folder, path)

    def _separate(self, command: Command, *options: str) -> Command:
        """Wrap a command with the script for namespaces."""
        if self.moved is None:
            return replace(command, argv=(*_OFFLINE, *options, *command.argv))
        folder, path = map(str, self.moved)
        argv = map(self.translate, command.argv)
        env = command.env and {
            name: self.translate(value) for name, value in command.env.items()
        }
        return replace(
            command, argv=(*_OFFLINE, *options, _AT, folder, path, *argv), env=env
        )

    def __str__(self) -> str:
        return "off" if self.is_off else f"on ({self.why})"


@dataclass(kw_only=True, slots=True)
class SandboxPolicy:
    """Chooses the sandbox of each stage."""

    runner: Runner
    report: Callable[[str], None]
    _possible: Sandbox | None = None

    def sandbox(self, stage: Stage) -> Sandbox:
        """Return the sandbox of a stage.

        Raises:
            BuildStagesError: The network can't be switched off.
        """
        if stage.network == "on":
            return Sandbox(why="network = true")
        is_first = self._possible is None
        if self._possible is None:
            folder = str(_ISOLATE.parent)
            command = Command(argv=(*_OFFLINE, _AT, folder, folder))
            try:
                completed = self.runner(command)
            except CommandError as error:
                self._possible = Sandbox(why=error.reason)
            else:
                last = completed.stderr.strip().rpartition("\n")[2]
                self._possible = (
                    Sandbox(may_move=completed.returncode == 0)
                    if completed.returncode in {0, _CANNOT_MOVE}
                    else Sandbox(
                        why=f"this system allows no network namespace ({last})"
                    )
                )
        sandbox = self._possible
        if not sandbox.is_off and stage.network == "require-off":
            raise BuildStagesError(
                subject=f"stage {stage.name}",
                problem='network = "require-off", and the network can\'t be turned off',
                details=[sandbox.why],
                hint="to turn it off only if possible:\n  network = false",
            )
        if not sandbox.is_off and is_first:
            self.report(f"build backends have network access: {sandbox.why}")
        return sandbox


@dataclass(frozen=True, kw_only=True, slots=True)
class Supervisor:
    """Ends a command and all processes below it when we end."""

    lock: Path = _NONE
    """A file that stays locked until all of them have ended, even if we are gone."""
    checkpoint: Path = _NONE

    def around(self, command: Command) -> Command:
        """Return a command that runs supervised; its program is an absolute path."""
        seconds = os.environ.get(SECONDS_VARIABLE, SECONDS)
        ours = (_SUPERVISE, self.lock, self.checkpoint, seconds)
        argv = (sys.executable, "-I", "-S", *map(str, ours), *command.argv)
        return replace(command, argv=argv, lifeline=True)
