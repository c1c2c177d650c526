"""Whether a build backend reaches the network, and what keeps it from it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.commands import Command
from nox_buildstages.errors import CommandError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.commands import Runner
    from nox_buildstages.model import Stage

_SCRIPT = Path(__file__).with_name("offline.py")
_OFFLINE = (sys.executable, "-I", "-S", str(_SCRIPT))


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolation:
    """Whether a build backend reaches the network.

    Attributes:
        why: Why it does; empty where it doesn't.
    """

    why: str = ""

    @property
    def is_off(self) -> bool:
        """Whether there is no network."""
        return not self.why

    def around(self, command: Command) -> Command:
        """Return a command that runs with no network, or as it is."""
        if self.is_off:
            return replace(command, argv=(*_OFFLINE, *command.argv))
        return command

    def __str__(self) -> str:
        return "off" if self.is_off else f"on ({self.why})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolator:
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
    _obstacles: list[str] = field(default_factory=list)

    def isolation(self, stage: Stage) -> Isolation:
        """Return what holds for a stage.

        Raises:
            NetworkError: It requires the network to be off, and it can't be.
        """
        if stage.network == "on":
            return Isolation(why="network = true")
        is_known = bool(self._obstacles)
        if not is_known:
            self._obstacles.append(self._obstacle())
        obstacle = self._obstacles[0]
        if obstacle and stage.network == "require-off":
            raise NetworkError(stage=stage.name, reason=obstacle)
        if obstacle and not is_known:
            self.report(f"build backends reach the network: {obstacle}")
        return Isolation(why=obstacle)

    def _obstacle(self) -> str:
        """Return why the network can't be cut off; nothing where it can."""
        if self.platform != "linux":
            return f"it can be cut off on Linux only, not on {self.platform}"
        try:
            completed = self.runner(Command(argv=_OFFLINE))
        except CommandError as error:
            return error.reason
        if completed.returncode == 0:
            return ""
        said = completed.stderr.strip().rpartition("\n")[2]
        return f"this system allows no network namespace ({said})"
