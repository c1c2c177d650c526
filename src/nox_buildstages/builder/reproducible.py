"""Whether what was built once comes out the same when it is built once more."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from nox_buildstages.builder.job import Job
from nox_buildstages.builder.jobs.slots import JobRequest
from nox_buildstages.builder.making import build_wheel, say_waiting
from nox_buildstages.builder.prepare import occupied, prepare
from nox_buildstages.environments.snapshot import SECOND_BUILD_FOLDER
from nox_buildstages.errors import Discrepancy, NotReproducibleError, NotRunError
from nox_buildstages.system import files
from nox_buildstages.system.files import sha256_of
from nox_buildstages.wheels.compare import compare_wheels

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.jobs.slots import JobSlot
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.model import Stage


def check(context: BuildContext, stage: Stage, environment: Environment) -> None:
    """Build the outputs of a stage once more, and compare them with the store's.

    They are built at the paths that they were built at before. The store keeps what
    it has. What differs is kept too, in a folder of the environment.

    Args:
        context: With the locks of the stage and of those before it.
        stage: Whose wheels the store has.
        environment: To build in.

    Raises:
        NotReproducibleError: One came out differently.
        NotRunError: Nox was told not to run.
        BuildError: One could not be built again.
    """
    with occupied(context.tools, environment):
        _check(context, stage, environment)


def _check(context: BuildContext, stage: Stage, environment: Environment) -> None:
    outputs = context.locks[stage.name].outputs
    prepare(context, stage.name, environment)
    if not environment.may_run():
        raise NotRunError(stage=stage.name, outputs=tuple(it.name for it in outputs))
    files.remove_tree(environment.location / SECOND_BUILD_FOLDER)
    context = replace(context, logs=context.tools.store.folder / "logs")
    jobs = [
        Job(context=context, stage=stage, output=output, environment=environment)
        for output in outputs
    ]
    with context.tools.job_pool.take_slot() as slot:
        found = tuple(filter(None, (_compare(job, slot) for job in jobs)))
    if found:
        raise NotReproducibleError(stage=stage.name, discrepancies=found)


def _compare(job: Job, slot: JobSlot) -> Discrepancy | None:
    tools, recipe = job.context.tools, job.recipe
    waiting = partial(say_waiting, job)
    with (
        tools.store.hold_lock(recipe.key),
        slot.take_jobs(JobRequest.of(job.stage), wait=waiting) as jobs,
    ):
        first = job.context.stored_wheel(job.stage.name, job.output.name)
        tools.report(
            f"building {recipe.name} {recipe.version} once more (log: {job.log})"
        )
        job.place.clear()
        with tools.store.open_build_dir(recipe.key) as place:
            second = build_wheel(replace(job, jobs=jobs), place).path
            name = second.name
            is_same = sha256_of(second) == first.sha256 and name == first.path.name
            if not is_same:
                second = _kept(second, job.environment)
    if is_same:
        tools.report(f"reproducible: {name} (sha256:{first.sha256})")
        return None
    return Discrepancy(
        wheel=first.path.name,
        first=first.path,
        second=second,
        differences=compare_wheels(first.path, second),
    )


def _kept(wheel: Path, environment: Environment) -> Path:
    folder = environment.location / SECOND_BUILD_FOLDER
    folder.mkdir(exist_ok=True)
    return shutil.copyfile(wheel, folder / wheel.name)
