"""The Pythons of this machine that a project is locked for, and their environments."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nox_buildstages.environments.environment import is_complete
from nox_buildstages.environments.interpreter import find_interpreter
from nox_buildstages.errors import CommandError

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.builder.context import Tools
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.model import Interpreter


@dataclass(frozen=True, kw_only=True, slots=True)
class Pythons:
    """A session has one environment; this finds, and makes, what it has not.

    Attributes:
        environment: The session's own.
        interpreter: What runs in it.
        tools: Find interpreters and make environments.
    """

    environment: Environment
    interpreter: Interpreter
    tools: Tools
    _made: dict[str, Environment] = field(default_factory=dict)

    def at_hand(self, versions: tuple[str, ...]) -> dict[str, tuple[Path, Interpreter]]:
        """Return those Pythons of some minor versions that this machine has."""
        found = ((version, self._find(version)) for version in versions)
        return {version: python for version, python in found if python is not None}

    def environment_for(self, target: Target) -> Environment:
        """Return an environment of a target, made where the session's is of another.

        Raises:
            SyncError: It could not be made.
        """
        if target.version == self.interpreter.markers["python_version"]:
            return self.environment
        if target.version not in self._made:
            self._made[target.version] = self._make(target)
        return self._made[target.version]

    def _find(self, version: str) -> tuple[Path, Interpreter] | None:
        if version == self.interpreter.markers["python_version"]:
            return self.environment.python, self.interpreter
        tools = self.tools
        python = find_interpreter(version, uv=tools.syncer.uv, runner=tools.runner)
        return None if python is None else (python, tools.probe(python))

    def _make(self, target: Target) -> Environment:
        assert target.python is not None  # noqa: S101 - it is at hand
        own = self.environment
        location = own.location.with_name(f"build-stages-lock-{target.version}")
        folder = location / ("Scripts" if os.name == "nt" else "bin")
        made = replace(
            own, location=location, bin=folder, python=folder / own.python.name
        )
        if not (is_complete(location) and self._is_of(made.python, target)):
            self.tools.syncer.create(location, target.python)
        return made

    def _is_of(self, python: Path, target: Target) -> bool:
        try:
            return self.tools.probe(python) == target.interpreter
        except CommandError:
            return False
