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
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.jobs.slots import JobSlot
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.model import Stage


def check_reproducible(
    context: BuildContext, stage: Stage, environment: Environment
) -> None:
    """Build the outputs of a stage again, and compare the wheels with the store's.

    Each build runs at the path of the first build, without a compiler cache. The store
    doesn't change. Different wheels are kept in a folder of the environment.

    Raises:
        BuildStagesError: A wheel differs.
        BuildStagesError: Nox must not run anything.
        BuildError: A build failed.
    """
    outputs, tools = context.locks[stage.name].outputs, context.tools
    with occupy_environment(tools, environment):
        prepare_environment(context, stage, environment)
        if not environment.may_run():
            raise not_run(stage.name, *(output.name for output in outputs))
        remove_tree(environment.location / SECOND_BUILD_FOLDER)
        context = replace(context, logs=tools.store.folder / "logs")
        with tools.job_pool.take_slot() as slot:
            jobs = (
                Job(
                    context=context, stage=stage, output=output, environment=environment
                )
                for output in outputs
            )
            found = tuple(filter(None, (_compare(job, slot) for job in jobs)))
    if found:
        details = []
        for first, second in found:
            details.append(f"{first.name} differs when it is built again:")
            details += [f"  {line}" for line in compare_wheels(first, second)]
            details += [f"  first:  {first}", f"  second: {second}"]
        paths = " ".join(quote(str(path)) for path in found[0])
        raise BuildStagesError(
            subject=f"stage {stage.name}",
            problem="not reproducible: " + ", ".join(first.name for first, _ in found),
            details=details,
            hint=f"compare the files; the store keeps the first:\n  diffoscope {paths}",
        )


def _compare(job: Job, slot: JobSlot) -> tuple[Path, Path] | None:
    """Build an output again; return both wheels if they differ."""
    tools, recipe = job.context.tools, job.recipe
    with tools.store.hold_lock(recipe.key):
        first = job.context.get_wheel(job.stage.name, job.output.name)
        tools.run.report(f"building {recipe.name} {recipe.version} again{job.log_note}")
        job.build_dir.clear()
        with tools.store.open_build_dir(job.build_dir) as build_dir:
            tree = begin_tree(job, build_dir)
            request = request_jobs(job, build_dir, tree, None)
            with job.take_jobs(slot, request) as jobs:
                begin_log(job, jobs, Attempt(is_resumed=False), resumes=False)
                built = build_wheel(job, jobs, build_dir, tree, is_fresh=True)
            second = built[0].path
            name = second.name
            is_same = sha256_of(second) == first.sha256 and name == first.path.name
            if not is_same:
                folder = job.environment.location / SECOND_BUILD_FOLDER
                folder.mkdir(exist_ok=True)
                second = shutil.copyfile(second, folder / name)
    if is_same:
        tools.run.report(f"reproducible: {name} (sha256:{first.sha256})")
        return None
    return first.path, second
