"""The Pythons of this machine that a project is locked for, and their environments."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from nox_buildstages.environments.environment import is_complete
from nox_buildstages.environments.interpreter import find_interpreter
from nox_buildstages.errors import CommandError
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.builder.context import Tools
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.model import Interpreter


class Pythons(Value, kw_only=False):
    """The Python of a session, and more Pythons of this machine if they are needed."""

    environment: Environment
    interpreter: Interpreter
    tools: Tools
    _environments: dict[str, Environment] = field(default_factory=dict)

    def find_local(
        self, versions: tuple[str, ...]
    ) -> dict[str, tuple[Path, Interpreter]]:
        """Return the Pythons of some minor versions that this machine has."""
        found, tools = {}, self.tools
        for version in versions:
            if version == self.interpreter.version:
                found[version] = self.environment.python, self.interpreter
                continue
            python = find_interpreter(version, uv=tools.syncer.uv, runner=tools.runner)
            if python is not None:
                found[version] = python, tools.probe(python)
        return found

    def environment_for(self, target: Target) -> Environment:
        """Return an environment for a target: the session's, or another one beside it.

        Raises:
            BuildStagesError: An environment can't be made.
        """
        version, own = target.version, self.environment
        is_own = version == self.interpreter.version
        if is_own and own.is_made:
            return own
        if version not in self._environments:
            assert target.python is not None  # noqa: S101 - find_local returned it
            location = own.location
            if not is_own:
                location = location.with_name(f"build-stages-lock-{version}")
            python = location / "bin" / "python"
            is_usable = False
            with suppress(CommandError):
                is_usable = (
                    is_complete(location)
                    and self.tools.probe(python) == target.interpreter
                )
            if not is_usable:
                self.tools.syncer.create(location, target.python)
            self._environments[version] = replace(
                own, location=location, bin=python.parent, python=python, is_made=True
            )
        return self._environments[version]
