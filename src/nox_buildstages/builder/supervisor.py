"""The supervisor of a command, as a value."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.system.orphans import BUILD_VARIABLE, SUPERVISOR
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from nox_buildstages.system.process import Command

SECONDS = 10.0
"""Seconds between two checkpoints."""

SECONDS_VARIABLE = "NOX_BUILDSTAGES_CHECKPOINT_SECONDS"
"""Overrides ``SECONDS``, for tests."""

_SUPERVISE = Path(__file__).with_name("scripts") / SUPERVISOR
_NONE = Path("-")


class Supervisor(Value):
    """Ends a command and all processes below it when we end."""

    lock: Path = _NONE
    """A file that stays locked until all of them have ended, even if we are gone."""
    checkpoint: Path = _NONE
    memory: Path = _NONE  # a file for what processes use and do
    compiled: Path = _NONE  # a file for compilers that have ended
    build: str = field(default_factory=lambda: os.urandom(8).hex())
    """The value of a variable by which its processes are found."""

    def around(self, command: Command) -> Command:
        """Return a command for the supervisor, with the program as an absolute path."""
        seconds = os.environ.get(SECONDS_VARIABLE, SECONDS)
        files = (self.lock, self.checkpoint, self.memory, self.compiled)
        ours = map(str, (_SUPERVISE, *files, seconds))
        argv = (sys.executable, "-I", "-S", *ours, *command.argv)
        env = {**(os.environ if command.env is None else command.env)}
        env[BUILD_VARIABLE] = self.build
        return replace(command, argv=argv, env=env, lifeline=True)
