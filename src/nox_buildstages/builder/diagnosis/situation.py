"""The facts for a diagnosis, beside the log.

This module is imported for every build, the rules only for failed builds.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from nox_buildstages.builder.home import HomeSettings
from nox_buildstages.config.writing import package_table
from nox_buildstages.model import PROJECT
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nox_buildstages.builder.diagnosis.modules import MissingModule


class Situation(Value):
    """The facts about a build whose log is searched."""

    output: str
    stage: str
    version: str = ""  # of the output; empty if it isn't known yet
    select: str = ""  # words that select the cell and Python, if there are several
    python: str = f"{sys.version_info[0]}.{sys.version_info[1]}"
    packages: Mapping[str, str] = field(default_factory=dict)
    """The versions in the environment, by normalized name."""
    pass_env: Collection[str] = ()  # of the stage
    seen: Mapping[str, str] = field(default_factory=dict)
    """The variables of the build backend."""
    outer: Mapping[str, str] = field(default_factory=dict)
    """The variables of our process."""
    source: Collection[str] = ()  # modules beside the pyproject.toml of the source
    is_offline: bool = False
    is_restricted: bool = False  # whether the sandbox restricts files
    home: HomeSettings = field(default_factory=HomeSettings)
    """The settings of the user's home that the build has."""

    def add(self, requirement: str) -> str:
        """Return the advice to add a requirement to the environment."""
        where = (
            "requires in [build-system]"
            if self.stage == PROJECT
            else f"the dependencies of stage {self.stage}"
        )
        return f'add "{requirement}" to {where}'

    def add_missing(self, project: str, problem: str) -> str:
        """Return the advice to add a project, unless the environment has it."""
        if canonicalize_name(project) in self.packages:
            return ""
        return f"{problem}: {self.add(project)}"

    def set_variable(self, name: str, value: str, problem: str) -> str:
        """Return the advice to set a variable for the output, unless already set."""
        if name in self.seen:
            return ""
        table = package_table(self.output, "env", {name: value})
        return "\n".join((f"{problem}, in pyproject.toml:", *table))

    def pass_variable(self, name: str, problem: str) -> str:
        """Return the advice to set a variable outside, and to let the build see it."""
        if self.stage == PROJECT or name in self.seen:
            return ""
        if name in self.pass_env:
            return f"{problem}: set {name}, which stage {self.stage} passes on"
        passing = f'pass-env = ["{name}"] for stage {self.stage}'
        if name in self.outer:
            return f"{name} is set here, but builds don't see it: {passing}"
        return f"{problem}: set {name}, and {passing}"

    def explain_missing(self, module: str) -> MissingModule:
        """Return the possible providers of a module missing in the build."""
        from nox_buildstages.builder.diagnosis.modules import explain_missing  # noqa: PLC0415 - few builds fail

        return explain_missing(
            module,
            output=self.output,
            python=self.python,
            packages=self.packages,
            source=self.source,
        )
