"""Choose the sandbox of a stage by what the system allows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nox_buildstages.builder.sandbox.sandbox import (
    AT,
    ISOLATE,
    OFFLINE,
    ONLINE,
    Sandbox,
)
from nox_buildstages.errors import BuildStagesError, CommandError
from nox_buildstages.store.build_dir import HERE
from nox_buildstages.system.process import Command, helper_variables
from nox_buildstages.value import Record, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.model import Stage
    from nox_buildstages.system.process import Runner

_CANNOT_MOVE = 126  # an exit status of the script


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
        at = (AT, str(ISOLATE.parent), str(HERE))
        try:
            env = helper_variables(os.environ)
            completed = self.runner(Command(argv=(*OFFLINE, *at), env=env))
            if completed.returncode in {0, _CANNOT_MOVE}:
                return Sandbox(may_move=completed.returncode == 0)
            last = completed.stderr.strip().rpartition("\n")[2]
            online = self.runner(Command(argv=(*OFFLINE, ONLINE, *at), env=env))
        except CommandError as error:
            return Sandbox(why=error.reason, may_move=False)
        return Sandbox(
            why=f"this system allows no network namespace ({last})",
            may_move=online.returncode == 0,
        )
