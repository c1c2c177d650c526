"""Seeing that a build ends with us, whatever ends us."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nox_buildstages.commands import Command

_KEEPER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")))


def kept(command: Command, *, lock: Path | None = None) -> Command:
    """Return a command that ends, with all that it starts, when we do.

    Args:
        command: Its program by absolute path.
        lock: A file that stays locked until all of it has ended, though we may be gone
            by then; None where nobody needs to know.
    """
    argv = (*_KEEPER, "-" if lock is None else str(lock), *command.argv)
    return replace(command, argv=argv, lifeline=True)
