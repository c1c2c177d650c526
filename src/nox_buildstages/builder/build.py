"""The argument with which a stage's function in a noxfile builds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from nox_buildstages.builder.backend_variables import backend_variables
from nox_buildstages.builder.context import SESSION
from nox_buildstages.builder.prepare import occupy_environment, prepare_environment
from nox_buildstages.builder.stage import (
    available_results,
    find_results,
    provide_stage,
)
from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.environments.cuda import add_cuda
from nox_buildstages.errors import UsageError
from nox_buildstages.value import Record, Value, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.stage import BuildOrder, OutputResult
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.model import Stage


class BuiltWheel(Value):
    """A wheel of a stage, in the store."""

    path: Path  # absolute
    size: int  # bytes
    sha256: str
    is_cached: bool  # whether it was there before this run

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name


class ShardEnd(BaseException):
    """Ends the function of a stage in a shard, which has no wheels."""


class Build(Record):
    """Builds the outputs of a stage; the function of the stage decides when.

    Sources are read when the first build begins, so the function can change them
    before.
    """

    context: BuildContext
    stage: Stage
    environment: Environment
    order: BuildOrder
    has_begun: bool = False

    def __call__(self, output: str | None = None) -> tuple[BuiltWheel, ...]:
        """Build the missing wheels of all outputs, or of one; return the wheels.

        Raises:
            BuildStagesError: An output can't be built.
            UsageError: The stage has no such output.
        """
        names = tuple(it.name for it in self.stage.outputs)
        if output is not None:
            name = canonicalize_name(output)
            if name not in names:
                near = did_you_mean(name, names)
                problem = f"build({output!r}): the stage has no such output{near}"
                raise UsageError(subject=f"stage {self.stage.name}", problem=problem)
            names = (name,)
        if self.stage.code and not self.has_begun:
            self.context.tools.run.forget(SESSION)  # the function may change sources
        self.has_begun = True
        is_shard = self.order.shard is not None
        order = self.order if is_shard else replace(self.order, only=names)
        results = provide_stage(self.context, self.stage, self.environment, order)
        if is_shard:  # there is no wheel to return
            raise ShardEnd
        return tuple(
            BuiltWheel(
                path=it.wheel.path,
                size=it.wheel.path.stat().st_size,
                sha256=it.wheel.sha256,
                is_cached=not it.is_built,
            )
            for it in results
        )

    @property
    def is_cached(self) -> bool:
        """Whether all wheels are in the store already."""
        return len([*available_results(self.context, self.stage)]) == len(
            self.stage.outputs
        )

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that the build backends of all outputs get.

        Without the folders of a single build, such as its own ``HOME``, and without
        its number of jobs.
        """
        location, outer = self.environment.location, self.context.tools.run.outer
        outputs = [it.name for it in self.stage.outputs]
        common = [
            {*self.context.variables(self.stage, it, location).items()}
            for it in outputs
        ]
        declared = dict(sorted(set.intersection(*common)))
        if all(self.context.has_own_cuda(self.stage, it) for it in outputs):
            path = declared.get("PATH", outer.get("PATH", os.defpath))
            declared = add_cuda(declared, location, path=path)
        found = backend_variables(
            outer, self.environment, declared=declared, home=Path()
        )
        of_build = {"GIT_CEILING_DIRECTORIES", "HOME", "TMPDIR"} - declared.keys()
        return {name: found[name] for name in found if name not in of_build}


def call_function(
    function: Callable[[Build], object], build: Build
) -> tuple[OutputResult, ...]:
    """Call the function of a stage in Python, and return the results of its builds.

    Raises:
        UsageError: The function returns, and the store lacks a wheel.
    """
    context, stage = build.context, build.stage
    if stage.code and build.environment.may_run():  # it may need the environment
        with occupy_environment(context.tools, build.environment):
            prepare_environment(context, stage, build.environment)
    try:
        function(build)
    except ShardEnd:
        return tuple(available_results(context, stage))
    found = {it.output.name for it in available_results(context, stage)}
    missing = [it.name for it in stage.outputs if it.name not in found]
    if missing:
        raise UsageError(
            subject=f"stage {stage.name}",
            problem=f"its function ended without building {', '.join(missing)}",
            hint="call build() in it whatever happens, or build(OUTPUT) for each",
        )
    return find_results(context, stage)
