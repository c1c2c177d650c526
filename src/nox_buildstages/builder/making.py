"""One output: source → backend → wheel → store."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from nox_buildstages.builder import resuming
from nox_buildstages.builder.attending import all_of
from nox_buildstages.builder.build_folder import staying
from nox_buildstages.builder.check_wheel import ExpectedWheel, accepted
from nox_buildstages.builder.jobs.slots import JobRequest, count_jobs
from nox_buildstages.builder.supervisor import Supervisor
from nox_buildstages.errors import WheelError, WrongWheelError
from nox_buildstages.run.follow import COMPILE, followed
from nox_buildstages.store.build_dir import Checkpoints

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.builder.job import Job
    from nox_buildstages.builder.jobs.slots import JobSlot
    from nox_buildstages.store.build_dir import BuildDirectory
    from nox_buildstages.wheels.wheel import WheelFile

_HEAD = 100
"""Lines of a log, among which is the key of what was built."""


def build(job: Job, slot: JobSlot, *, again: bool) -> None:
    """Make the store hold an output's wheel.

    Args:
        job: Not in the store a moment ago; another process may put it there meanwhile.
        slot: For its jobs.
        again: Whether it is built though a store has it, unless this run put it there.

    Raises:
        BuildError: It can't be built.
    """
    tools, recipe = job.context.tools, job.recipe
    with tools.store.hold_lock(recipe.key):
        there = tools.store.find(recipe.key)
        if there is not None and (there.run == tools.run.id or not again):
            return
        with (
            slot.take_jobs(
                JobRequest.of(job.stage), wait=partial(say_waiting, job)
            ) as jobs,
            job.context.journal.building(
                **job.context.noted(job.stage.name, job.output)
            ),
        ):
            resuming.make(replace(job, jobs=jobs), _make, afresh=again)
        job.context.forget(recipe)
        job.context.share(recipe)


def say_waiting(job: Job) -> None:
    """Tell that a build begins when others have ended."""
    job.context.tools.report(f"{job.output.name} waits for other builds to end")


def _make(job: Job) -> None:
    """Build an output and put it into the store."""
    tools, recipe = job.context.tools, job.recipe
    what = f"{recipe.name} {recipe.version} with {count_jobs(job.jobs)}"
    goes_on = ", going on where it was stopped" if job.goes_on else ""
    network = "" if job.sandbox.is_off else ", network on"
    tools.report(f"building {what} (log: {job.log}){network}{goes_on}")
    started, spent = time.monotonic(), job.place.spent(job.environment.location)
    with tools.store.open_build_dir(recipe.key) as place, job.cached() as cached:
        wheel = build_wheel(cached, place)
        seconds = time.monotonic() - started
        found = _tell_found(cached)
        tools.store.put(
            recipe, wheel.path, log=job.log, seconds=spent + seconds, run=tools.run.id
        )
    tools.report(f"built {wheel.path.name} in {seconds:.1f} s{found}")


def _tell_found(job: Job) -> str:
    """Write to the log what the compiler cache has found, and return it in brackets."""
    said = job.cache.said() if job.cache else ""
    if said:
        with job.log.open("a", encoding="utf-8") as log:
            log.write(f"{said}\n")
    return said and f" ({said})"


def build_wheel(job: Job, place: BuildDirectory) -> WheelFile:
    """Build an output, and see that it is what was asked for.

    Raises:
        BuildError: There is no such wheel.
    """
    _begin_log(job)
    name, location = job.output.name, job.environment.location
    sources, patches = job.context.tools.sources, job.context.patches(name)
    tree = place.begin(
        location, partial(sources.unpack, job.output.source, patches=patches)
    )
    checkpoints = Checkpoints(
        place=place, environment=location, spent=place.spent(location)
    )
    kept = replace(job, attend=all_of(checkpoints, job.attend))
    lock = job.context.tools.store.processes_lock(job.recipe.key)
    supervisor = Supervisor(lock=lock, stop=place.stop)
    folder = place.wheel
    with job.watched(), followed(kept, COMPILE) as shown_job:
        backend = staying(shown_job.backend(tree, home=place.home), place.build)
        said = replace(backend, supervisor=supervisor).wheel(folder)
    promise = ExpectedWheel(
        output=job.output,
        interpreter=job.context.interpreter,
        is_labelled=job.context.project.rules(name).local_version is not None,
    )
    try:
        return accepted(folder, said, promise)
    except WheelError as error:
        raise WrongWheelError(
            output=job.output.name,
            stage=job.stage.name,
            wheel=error.subject,
            problem=error.problem,
            log=job.log,
        ) from error


def _begin_log(job: Job) -> None:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    recipe = job.recipe
    lines = [
        f"{recipe.name} {recipe.version}, stage {job.stage.name}",
        f"source: {job.output.source}",
        *(f"patch: {patch}" for patch in recipe.patches),
        f"key: {recipe.key}",
        f"jobs: {job.jobs}",
        f"network: {job.sandbox}",
        *([f"compiler cache: {job.cache.name}"] if job.cache else ()),
        f"environment: {job.environment.location}",
        *(f"  {name} {held.version}" for name, held in recipe.environment.items()),
        "",
    ]
    if job.is_retry:
        lines = [
            "",
            f"out of memory; once more with {count_jobs(job.jobs)}",
            "",
            *lines,
        ]
    elif job.goes_on:
        lines = ["", "going on where it was stopped", "", *lines]
    goes_on = job.is_retry or (job.goes_on and _is_log_of(job.log, recipe.key))
    with job.log.open("a" if goes_on else "w", encoding="utf-8") as log:
        log.write("\n".join(lines) + "\n")


def _is_log_of(log: Path, key: str) -> bool:
    """Whether a log is one of builds of a key."""
    try:
        with log.open(encoding="utf-8", errors="replace") as stream:
            return f"key: {key}\n" in islice(stream, _HEAD)
    except OSError:
        return False
