"""The sandbox of a build backend, as a value."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.store.build_dir import HERE
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.system.process import Command

ISOLATE = Path(__file__).parents[1] / "scripts" / "isolate.py"
OFFLINE = (sys.executable, "-I", "-S", str(ISOLATE))
AT, ONLINE, FROZEN = "--at", "--online", "--frozen"  # options of the script


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
        return command if self.moved is None else self._separate(command, ONLINE)

    def translate(self, text: str) -> str:
        """Return a text, with paths as the backend sees them."""
        if self.moved is None:
            return text
        return text.replace(str(self.moved), str(HERE))

    def _separate(self, command: Command, *options: str) -> Command:
        """Wrap a command with the script for namespaces."""
        if self.moved is None:
            return replace(command, argv=(*OFFLINE, *options, *command.argv))
        frozen = (word for path in self.frozen for word in (FROZEN, str(path)))
        moved = (AT, str(self.moved), str(HERE), *frozen)
        argv = map(self.translate, command.argv)
        env = {name: self.translate(value) for name, value in command.env.items()}
        return replace(command, argv=(*OFFLINE, *options, *moved, *argv), env=env)

    def __str__(self) -> str:
        return "off" if self.is_off else f"on ({self.why})"
