"""Run build backends in isolation: without network, without surroundings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.errors import BuildStagesError, CommandError
from nox_buildstages.store.build_dir import HERE
from nox_buildstages.system.process import Command
from nox_buildstages.value import Record, Value, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nox_buildstages.model import Stage
    from nox_buildstages.system.process import Runner

_ISOLATE = Path(__file__).with_name("scripts") / "isolate.py"
_OFFLINE = (sys.executable, "-I", "-S", str(_ISOLATE))
_AT, _ONLINE, _FROZEN = "--at", "--online", "--frozen"  # options of the script
_CANNOT_MOVE = 126  # an exit status of the script

SECONDS = 10.0
"""Seconds between two checkpoints."""

SECONDS_VARIABLE = "NOX_BUILDSTAGES_CHECKPOINT_SECONDS"
"""Overrides ``SECONDS``, for tests."""

_SUPERVISE = Path(__file__).with_name("scripts") / "supervise.py"
_NONE = Path("-")


class Sandbox(Value):
    """The isolation of a build backend.

    If the system allows mounts, the backend also sees the build directory at the path
    shared by all builds, with nothing around it.
    """

    why: str = ""  # why the backend has network; empty if the network is off
    may_move: bool = True  # whether the system can show a folder at another path
    moved: Path | None = None  # the folder that is shown at ``HERE``
    frozen: tuple[Path, ...] = ()  # read-only folders

    @property
    def is_off(self) -> bool:
        """Whether the network is off."""
        return not self.why

    def show(self, folder: Path, *, frozen: Iterable[Path] = ()) -> Sandbox:
        """Return a sandbox with a folder at the path shared by all builds, if possible.

        The build can't write to ``frozen`` folders.
        """
        if not self.may_move:
            return self
        return replace(self, moved=folder, frozen=tuple(frozen))

    def wrap(self, command: Command) -> Command:
        """Wrap a command for the sandbox."""
        if self.is_off:
            return self._separate(command)
        return self.wrap_with_network(command)

    def wrap_with_network(self, command: Command) -> Command:
        """Wrap a command: same folders, but with network."""
        return command if self.moved is None else self._separate(command, _ONLINE)

    def translate(self, text: str) -> str:
        """Return a text, with paths as the backend sees them."""
        if self.moved is None:
            return text
        return text.replace(str(self.moved), str(HERE))

    def _separate(self, command: Command, *options: str) -> Command:
        """Wrap a command with the script for namespaces."""
        if self.moved is None:
            return replace(command, argv=(*_OFFLINE, *options, *command.argv))
        frozen = (word for path in self.frozen for word in (_FROZEN, str(path)))
        moved = (_AT, str(self.moved), str(HERE), *frozen)
        argv = map(self.translate, command.argv)
        env = command.env and {
            name: self.translate(value) for name, value in command.env.items()
        }
        return replace(command, argv=(*_OFFLINE, *options, *moved, *argv), env=env)

    def __str__(self) -> str:
        return "off" if self.is_off else f"on ({self.why})"


class SandboxPolicy(Record):
    """Chooses the sandbox of each stage."""

    runner: Runner
    report: Callable[[str], None]
    _possible: Sandbox | None = None
    _has_reported: bool = False

    def sandbox(self, stage: Stage) -> Sandbox:
        """Return the sandbox of a stage.

        Raises:
            BuildStagesError: The network can't be switched off.
        """
        sandbox = self.possible
        if stage.network == "on":
            return replace(sandbox, why="network = true")
        if not sandbox.is_off and stage.network == "require-off":
            raise BuildStagesError(
                subject=f"stage {stage.name}",
                problem='network = "require-off", and the network can\'t be turned off',
                details=[sandbox.why],
                hint="to turn it off only if possible:\n  network = false",
            )
        if not (sandbox.is_off or self._has_reported):
            self._has_reported = True
            self.report(f"build backends have network access: {sandbox.why}")
        return sandbox

    @property
    def possible(self) -> Sandbox:
        """The strictest sandbox that the system allows."""
        if self._possible is None:
            self._possible = self._try_sandbox()
        return self._possible

    def _try_sandbox(self) -> Sandbox:
        """Try what the system allows."""
        at = (_AT, str(_ISOLATE.parent), str(HERE))
        try:
            completed = self.runner(Command(argv=(*_OFFLINE, *at)))
            if completed.returncode in {0, _CANNOT_MOVE}:
                return Sandbox(may_move=completed.returncode == 0)
            last = completed.stderr.strip().rpartition("\n")[2]
            online = self.runner(Command(argv=(*_OFFLINE, _ONLINE, *at)))
        except CommandError as error:
            return Sandbox(why=error.reason, may_move=False)
        return Sandbox(
            why=f"this system allows no network namespace ({last})",
            may_move=online.returncode == 0,
        )


class Supervisor(Value):
    """Ends a command and all processes below it when we end."""

    lock: Path = _NONE
    """A file that stays locked until all of them have ended, even if we are gone."""
    checkpoint: Path = _NONE
    memory: Path = _NONE  # a file for what processes use and do
    compiled: Path = _NONE  # a file for compilers that have ended

    def around(self, command: Command) -> Command:
        """Return a command for the supervisor, with the program as an absolute path."""
        seconds = os.environ.get(SECONDS_VARIABLE, SECONDS)
        files = (self.lock, self.checkpoint, self.memory, self.compiled)
        ours = map(str, (_SUPERVISE, *files, seconds))
        argv = (sys.executable, "-I", "-S", *ours, *command.argv)
        return replace(command, argv=argv, lifeline=True)
