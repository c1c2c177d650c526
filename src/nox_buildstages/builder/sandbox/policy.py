"""Choose the sandbox of a stage by what the system allows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nox_buildstages.builder.sandbox.sandbox import ISOLATE, SWITCHED_OFF, Sandbox
from nox_buildstages.errors import BuildStagesError, CommandError
from nox_buildstages.system.process import Command, helper_variables
from nox_buildstages.value import Record, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.model import Stage
    from nox_buildstages.system.process import Completed, Runner


class SandboxPolicy(Record):
    """Chooses the sandbox of each stage."""

    runner: Runner
    report: Callable[[str], None]
    _possible: Sandbox | None = None
    _reported: set[str] = field(default_factory=set)

    def sandbox(self, stage: Stage) -> Sandbox:
        """Return the sandbox of a stage.

        Raises:
            BuildStagesError: The stage requires more than the system can do.
        """
        sandbox = self.possible
        if stage.network == "on":
            sandbox = replace(sandbox, network="on", why="network = true")
        elif sandbox.why:
            if stage.network == "require-off":
                raise BuildStagesError(
                    subject=f"stage {stage.name}",
                    problem='network = "require-off", and the network can\'t be turned'
                    " off",
                    details=[sandbox.why],
                    hint="to turn it off only if possible:\n  network = false",
                )
            self._report_once(f"build backends have network access: {sandbox.why}")
        if stage.sandbox == "off":
            sandbox = replace(sandbox, open_files=SWITCHED_OFF)
        elif sandbox.open_files:
            if stage.sandbox == "require":
                raise BuildStagesError(
                    subject=f"stage {stage.name}",
                    problem='sandbox = "require", and files can\'t be restricted',
                    details=[sandbox.open_files],
                    hint="to restrict them only if possible:\n  sandbox = true",
                )
            self._report_once(
                f"build backends can {sandbox.access} your files: {sandbox.open_files}"
            )
        return sandbox

    def _report_once(self, line: str) -> None:
        if line not in self._reported:
            self._reported.add(line)
            self.report(line)

    @property
    def possible(self) -> Sandbox:
        """The strictest sandbox that the system allows."""
        if self._possible is None:
            self._possible = self._try_sandbox()
        return self._possible

    def _try_sandbox(self) -> Sandbox:
        """Try what the system allows, the strictest first."""
        here = Sandbox().show(ISOLATE.parent).restrict(("r/",))
        program = Command(argv=(), env=helper_variables(os.environ))
        reason = ""
        try:
            for network in ("namespace", "seccomp", "on"):
                for sandbox in (here, replace(here, may_move=False, moved=())):
                    attempt = replace(sandbox, network=network)
                    completed = self.runner(attempt.wrap(program))
                    if not completed.returncode:
                        why = reason if network == "on" else ""
                        return _with_files(
                            replace(attempt, why=why, moved=(), rules=None), completed
                        )
                    if network != "on":
                        reason = completed.stderr.strip().rpartition("\n")[2]
        except CommandError as error:
            reason = error.reason
        return Sandbox(network="on", why=reason, may_move=False, open_files=reason)


def _with_files(sandbox: Sandbox, completed: Completed) -> Sandbox:
    """Return a sandbox with what the script said about Landlock."""
    from nox_buildstages.builder.scripts.landlock import FIRST_USABLE  # noqa: PLC0415 - a no-op needs no ctypes

    version = int(completed.stdout)
    if version < FIRST_USABLE:
        reason = "this kernel has no Landlock 2, which came with Linux 5.19"
        return replace(sandbox, open_files=reason)
    return replace(sandbox, landlock=version)
