"""The supervisor of a build: ends it together with us, and notes checkpoints."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nox_buildstages.system.process import Command

SECONDS = 10.0
"""Seconds between two checkpoints."""

SECONDS_VARIABLE = "NOX_BUILDSTAGES_CHECKPOINT_SECONDS"
"""Overrides ``SECONDS``, for tests."""

_SCRIPT = Path(__file__).with_name("scripts") / "supervise.py"
_NONE = Path("-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Supervisor:
    """Ends a command and all processes below it when we end."""

    lock: Path = _NONE
    """A file that stays locked until all of them have ended, even if we are gone."""
    checkpoint: Path = _NONE

    def around(self, command: Command) -> Command:
        """Return a command that runs supervised; its program is an absolute path."""
        seconds = os.environ.get(SECONDS_VARIABLE, SECONDS)
        ours = (_SCRIPT, self.lock, self.checkpoint, seconds)
        argv = (sys.executable, "-I", "-S", *map(str, ours), *command.argv)
        return replace(command, argv=argv, lifeline=True)
