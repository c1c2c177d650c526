"""What a build backend reaches of the network, and at which path it finds itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.errors import CommandError, NetworkError
from nox_buildstages.system.process import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.model import Stage
    from nox_buildstages.system.process import Runner

_SCRIPT = Path(__file__).with_name("scripts") / "offline.py"
_OFFLINE = (sys.executable, "-I", "-S", str(_SCRIPT))
# As that script has them, which imports what other systems lack.
_AT, _ONLINE = "--at", "--online"
_CANNOT_MOVE = 126


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """Whether a build backend reaches the network.

    Where it doesn't, it is also shown its folder at a path that is always the same.

    Attributes:
        why: Why it does; empty where it doesn't.
        may_move: Whether folders can be shown at other paths.
        moved: A folder, and the path at which a backend finds it.
    """

    why: str = ""
    may_move: bool = True
    moved: tuple[Path, Path] | None = None

    @property
    def is_off(self) -> bool:
        """Whether there is no network."""
        return not self.why

    def showing(self, folder: Path, here: Path) -> Sandbox:
        """Return one that shows a folder at another path, where that can be."""
        if not (self.is_off and self.may_move):
            return self
        here.mkdir(parents=True, exist_ok=True)
        return replace(self, moved=(folder, here))

    def around(self, command: Command) -> Command:
        """Return a command that runs with no network, or as it is."""
        if self.is_off:
            return self._separated(command)
        return command

    def beside(self, command: Command) -> Command:
        """Return a command that finds the same folders, and has the network."""
        if self.moved is None:
            return command
        return self._separated(command, _ONLINE)

    def seen(self, text: str) -> str:
        """Return a text with the folder's path as a backend finds it."""
        if self.moved is None:
            return text
        folder, here = map(str, self.moved)
        return text.replace(folder, here)

    def _separated(self, command: Command, *how: str) -> Command:
        if self.moved is None:
            return replace(command, argv=(*_OFFLINE, *how, *command.argv))
        folder, here = map(str, self.moved)
        argv = map(self.seen, command.argv)
        env = command.env and {
            name: self.seen(value) for name, value in command.env.items()
        }
        return replace(
            command, argv=(*_OFFLINE, *how, _AT, folder, here, *argv), env=env
        )

    def __str__(self) -> str:
        return "off" if self.is_off else f"on ({self.why})"


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxPolicy:
    """Says of each stage whether its backends reach the network.

    What the system allows is found out once, when the first one asks.

    Attributes:
        runner: Runs programs.
        report: Tells the user, a line at a time.
        platform: As ``sys.platform`` has it.
    """

    runner: Runner
    report: Callable[[str], None]
    platform: str = sys.platform
    _known: list[Sandbox] = field(default_factory=list)

    def sandbox(self, stage: Stage) -> Sandbox:
        """Return what holds for a stage.

        Raises:
            NetworkError: It requires the network to be off, and it can't be.
        """
        if stage.network == "on":
            return Sandbox(why="network = true")
        is_known = bool(self._known)
        if not is_known:
            self._known.append(self._tried())
        sandbox = self._known[0]
        if not sandbox.is_off and stage.network == "require-off":
            raise NetworkError(stage=stage.name, reason=sandbox.why)
        if not sandbox.is_off and not is_known:
            self.report(f"build backends reach the network: {sandbox.why}")
        return sandbox

    def _tried(self) -> Sandbox:
        """Return what the system allows."""
        if self.platform != "linux":
            why = f"it can be cut off on Linux only, not on {self.platform}"
            return Sandbox(why=why)
        folder = str(_SCRIPT.parent)
        try:
            completed = self.runner(Command(argv=(*_OFFLINE, _AT, folder, folder)))
        except CommandError as error:
            return Sandbox(why=error.reason)
        if completed.returncode in {0, _CANNOT_MOVE}:
            return Sandbox(may_move=completed.returncode == 0)
        said = completed.stderr.strip().rpartition("\n")[2]
        return Sandbox(why=f"this system allows no network namespace ({said})")
