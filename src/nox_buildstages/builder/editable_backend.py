"""Asking the project's own build backend, in an environment equal to its lock."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.builder.check_wheel import accepted_editable
from nox_buildstages.builder.job import Job
from nox_buildstages.builder.jobs.slots import JobRequest
from nox_buildstages.builder.making import say_waiting
from nox_buildstages.builder.prepare import prepare
from nox_buildstages.environments.snapshot import PROJECT_FOLDER
from nox_buildstages.errors import (
    NotRunError,
    StaleLockError,
    WheelError,
    WrongWheelError,
)
from nox_buildstages.lock.files.lockfile import LockedOutput
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.lock.resolve.own_project import OWN_METADATA, OWN_SOURCE, own_stage
from nox_buildstages.model import PROJECT
from nox_buildstages.run.follow import EDITABLE, followed
from nox_buildstages.system import files
from nox_buildstages.system.files import path_id, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.backend import Backend
    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.wheels.wheel import WheelFile


def asked(
    context: BuildContext, name: NormalizedName, environment: Environment
) -> tuple[str, ...]:
    """Return what a project's backend wants for making it installable.

    The environment has to be occupied. It runs in the project's own folder, where it
    may leave files, as it does for ``pip install --editable``.

    Raises:
        BuildError: The hook failed.
        NetworkError: It is to be off and can't be.
        NotRunError: Nox was told not to run.
    """
    context.tools.report(f"asking the build backend of {name}")
    with _backend(context, name, environment) as backend:
        return backend.requires("editable")


def make(
    context: BuildContext, name: NormalizedName, environment: Environment
) -> tuple[WheelFile, str]:
    """Make a wheel that leads to the project's folder; return it and its sha256.

    The environment has to be occupied, and isn't the runtime any more afterwards.

    Raises:
        BuildError: There is none.
        StaleLockError: Its backend asks for something that isn't locked.
        NetworkError: It is to be off and can't be.
        NotRunError: Nox was told not to run.
    """
    folder = environment.location / PROJECT_FOLDER
    with _backend(context, name, environment) as backend:
        context.tools.report(f"making {name} installable (log: {backend.log})")
        _check_locked(context, name, backend.requires("editable"))
        files.remove_tree(folder / "wheel")
        made = folder / "wheel" / "made"
        made.mkdir(parents=True)
        said = backend.editable(made)
    try:
        wheel = accepted_editable(
            made, said, name=name, interpreter=context.interpreter
        )
    except WheelError as error:
        raise WrongWheelError(
            output=name,
            stage=PROJECT,
            wheel=error.subject,
            problem=error.problem,
            log=backend.log,
        ) from error
    sha256 = sha256_of(wheel.path)
    # Uv would take another wheel that once lay at the same path for this one.
    place = made.rename(made.with_name(sha256[:16]))
    return replace(wheel, path=place / wheel.path.name), sha256


def _check_locked(
    context: BuildContext, name: NormalizedName, requires: tuple[str, ...]
) -> None:
    held = {pin.name for pin in context.pins(PROJECT)}
    for requirement in map(Requirement, requires):
        marker = requirement.marker
        applies = marker is None or context.interpreter.satisfies(marker)
        if applies and canonicalize_name(requirement.name) not in held:
            raise StaleLockError(
                subject=name,
                problem=f"its build requires {requirement}, which {file_name(PROJECT)}"
                " doesn't contain",
            )


@contextmanager
def _backend(
    context: BuildContext, name: NormalizedName, environment: Environment
) -> Iterator[Backend]:
    """Yield the backend, ready to be called; one process at a time calls it."""
    stage, tools, root = own_stage(name), context.tools, context.project.root
    prepare(context, PROJECT, environment)
    if not environment.may_run():
        raise NotRunError(stage=PROJECT, outputs=(name,))
    folder = environment.location / PROJECT_FOLDER
    folder.mkdir(exist_ok=True)
    job = Job(
        context=replace(context, logs=folder),
        stage=stage,
        output=LockedOutput(
            name=name, source=OWN_SOURCE, build_requires=(), metadata=OWN_METADATA
        ),
        environment=environment,
    )
    job.log.write_text(f"network: {job.sandbox}\n", encoding="utf-8")
    with (
        tools.store.hold_lock(f"project-{path_id(root)}"),
        tools.job_pool.take_slot() as slot,
        slot.take_jobs(JobRequest.of(stage), wait=lambda: say_waiting(job)) as jobs,
        tempfile.TemporaryDirectory(prefix="home-", dir=folder) as home,
        job.watched(),
        followed(replace(job, jobs=jobs), EDITABLE) as shown,
    ):
        yield shown.backend(root, home=Path(home))
