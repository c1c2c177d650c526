"""Build the outputs of a stage again and compare the wheels byte for byte."""

from __future__ import annotations

import shutil
from shlex import quote
from typing import TYPE_CHECKING

from nox_buildstages.builder.attempts import Attempt
from nox_buildstages.builder.job import Job
from nox_buildstages.builder.output import (
    begin_log,
    begin_tree,
    build_wheel,
    request_jobs,
)
from nox_buildstages.builder.prepare import occupy_environment, prepare_environment
from nox_buildstages.environments.listing import SECOND_BUILD_FOLDER
from nox_buildstages.errors import BuildStagesError, not_run
from nox_buildstages.system.files import remove_tree, sha256_of
from nox_buildstages.value import replace
from nox_buildstages.wheels.compare import compare_wheels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.jobs.slots import JobSlot
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.model import Stage


def check_reproducible(
    context: BuildContext, stage: Stage, environment: Environment
) -> None:
    """Build the outputs of a stage again, and compare the wheels with the store's.

    Raises:
        BuildStagesError: A wheel differs.
        BuildStagesError: Nox must not run anything.
        BuildError: A build failed.
    """
    wheels = {
        output.name: context.get_wheel(stage.name, output.name)
        for output in context.locks[stage.name].outputs
        if not context.is_shared(context.recipe(stage.name, output.name))
    }
    expected = {name: (it.path.name, it.sha256) for name, it in wheels.items()}
    found = []
    for name, second in build_again(context, stage, environment, expected):
        wheel = wheels[name]
        if second is None:
            context.tools.run.report(
                f"reproducible: {wheel.path.name} (sha256:{wheel.sha256})"
            )
        else:
            found.append((wheel.path, second))
    if found:
        details = []
        for first, second in found:
            details.append(f"{first.name} differs when it is built again:")
            details += list_differences(first, second)
        paths = " ".join(quote(str(path)) for path in found[0])
        raise BuildStagesError(
            subject=f"stage {stage.name}",
            problem="not reproducible: " + ", ".join(first.name for first, _ in found),
            details=details,
            hint=f"compare the files; the store keeps the first:\n  diffoscope {paths}",
        )


def list_differences(first: Path, second: Path) -> list[str]:
    """Return lines about the differences of two wheels, with their paths."""
    lines = [*compare_wheels(first, second), f"first:  {first}", f"second: {second}"]
    return [f"  {line}" for line in lines]


def build_again(
    context: BuildContext,
    stage: Stage,
    environment: Environment,
    expected: Mapping[NormalizedName, tuple[str, str]],
) -> Iterator[tuple[NormalizedName, Path | None]]:
    """Build outputs of a stage again, and compare the wheels with expected ones.

    Each build runs at the path of the first build, without a compiler cache. The store
    doesn't change. ``expected`` has the file name and the sha256 of each wheel. Yield
    the name of each output, with the wheel if the wheel differs: that stays in a folder
    of the environment.

    Raises:
        BuildStagesError: Nox must not run anything.
        BuildError: A build failed.
    """
    tools = context.tools
    with occupy_environment(tools, environment):
        prepare_environment(context, stage, environment)
        if not environment.may_run():
            raise not_run(stage.name, *expected)
        remove_tree(environment.location / SECOND_BUILD_FOLDER)
        context = replace(context, logs=tools.store.folder / "logs")
        with tools.job_pool.take_slot() as slot:
            for output in context.locks[stage.name].outputs:
                if output.name in expected:
                    job = Job(
                        context=context,
                        stage=stage,
                        output=output,
                        environment=environment,
                    )
                    yield output.name, _compare(job, slot, *expected[output.name])


def _compare(job: Job, slot: JobSlot, name: str, sha256: str) -> Path | None:
    """Build an output again; return the wheel if it has another name or hash."""
    tools, recipe = job.context.tools, job.recipe
    with tools.store.hold_lock(recipe.key):
        tools.run.report(f"building {recipe.name} {recipe.version} again{job.log_note}")
        job.build_dir.clear()
        with tools.store.open_build_dir(job.build_dir) as build_dir:
            tree = begin_tree(job, build_dir)
            request = request_jobs(job, build_dir, tree, None)
            with job.take_jobs(slot, request) as jobs:
                begin_log(job, jobs, Attempt(), resumes=False)
                built = build_wheel(job, jobs, build_dir, tree, is_fresh=True)
            wheel = built[0].path
            if (wheel.name, sha256_of(wheel)) == (name, sha256):
                return None
            folder = job.environment.location / SECOND_BUILD_FOLDER
            folder.mkdir(exist_ok=True)
            return shutil.copyfile(wheel, folder / wheel.name)
