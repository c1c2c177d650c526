"""Seeing that a build ends with us, whatever ends us."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nox_buildstages.system.process import Command

_SCRIPT = Path(__file__).with_name("scripts") / "supervise.py"
_NONE = Path("-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Supervisor:
    """Ends what it runs, and all that this started, when we end.

    Attributes:
        lock: A file that stays locked until all of it has ended, though we may be gone
            by then.
        stop: A file in which it notes, before it ends anything, when that was and what
            was being written.
    """

    lock: Path = _NONE
    stop: Path = _NONE

    def around(self, command: Command) -> Command:
        """Return a command that is kept; its program goes by absolute path."""
        ours = (sys.executable, "-I", "-S", _SCRIPT, self.lock, self.stop)
        argv = (*map(str, ours), *command.argv)
        return replace(command, argv=argv, lifeline=True)
