"""A project's wheels made fit for other machines, and tried in the runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nox_buildstages.builder.prepare import occupy_environment, sync_environment
from nox_buildstages.commands.release.repairing import (
    is_repairable,
    repair_error,
    repairer,
)
from nox_buildstages.environments.import_check import import_command
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.model import FINAL
from nox_buildstages.system.files import write_text
from nox_buildstages.system.process import Command

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.commands.release.repairing import Repaired
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.key import Ingredient
    from nox_buildstages.store.store import StoredWheel

_SHOWN = 2
"""Lines at the end of what an import says: which error, and of which module."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mending:
    """Repairs what a project built.

    Attributes:
        context: Knows the locks and the store.
        environment: Made equal to the runtime, then to that of the repaired wheels.
        scratch: A folder to work in.
    """

    context: BuildContext
    environment: Environment
    scratch: Path

    def repaired(self, wheels: Collection[StoredWheel]) -> list[Repaired]:
        """Return those wheels that are for this machine alone, repaired.

        They lie in the scratch folder. The runtime has been installed with them, and
        its modules imported.

        Raises:
            BuildStagesError: One can't be repaired, or doesn't work then.
            WheelError: What comes out of it isn't sound.
            BuildStagesError: The environment can't be made.
        """
        with occupy_environment(self.context.tools, self.environment):
            self._sync(())
            mender = repairer(self.environment, self.context.tools)
            found = [
                mender.repair(wheel, self.scratch / wheel.name)
                for wheel in wheels
                if is_repairable(wheel.path)
            ]
            if found:
                self._sync([it.wheel for it in found])
                self._import([it.wheel.path.name for it in found])
        return found

    def _sync(self, wheels: Collection[StoredWheel]) -> None:
        """Make the environment the runtime, with some other wheels in it."""
        context, path = self.context, self.scratch / file_name(FINAL)
        bound = pylock.bind_wheels(
            context.pylock(FINAL),
            {**context.wheels(FINAL), **{wheel.name: wheel for wheel in wheels}},
            folder=self.scratch,
        )
        write_text(path, pylock.dump_pylock(bound))
        held = as_published(context.ingredients(FINAL), wheels)
        sync_environment(context, FINAL, self.environment, path, wanted=held)

    def _import(self, names: Iterable[str]) -> None:
        project = self.context.project
        modules = project.final.imports
        if not modules or not self.environment.may_run():
            return
        self.context.tools.report(f"importing {', '.join(modules)}, as repaired")
        command = Command(
            argv=import_command(str(self.environment.python), modules),
            cwd=project.root,
            env=self.context.tools.outer,
        )
        done = self.context.tools.runner(command)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-_SHOWN:]
            raise repair_error(", ".join(names), said)


def as_published(
    held: dict[str, Ingredient], wheels: Iterable[StoredWheel]
) -> dict[str, Ingredient]:
    """Return what an environment holds, with wheels of other bytes in it."""
    other: dict[str, Ingredient] = {
        wheel.name: replace(held[wheel.name], sha256=wheel.sha256)
        for wheel in wheels
        if wheel.name in held
    }
    return {**held, **other}
