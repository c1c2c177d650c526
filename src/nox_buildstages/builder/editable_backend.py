"""Run the build backend of the project itself, to install the project editable."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nox_buildstages.builder.check_wheel import accept_editable_wheel, name_build
from nox_buildstages.builder.job import Job
from nox_buildstages.builder.jobs.memory import DEFAULT
from nox_buildstages.builder.jobs.slots import JobRequest
from nox_buildstages.builder.prepare import prepare_environment
from nox_buildstages.builder.sandbox.files import BuildFiles
from nox_buildstages.builder.try_wheel import try_wheel
from nox_buildstages.environments.listing import PROJECT_FOLDER
from nox_buildstages.errors import StaleLockError, WheelError, not_run
from nox_buildstages.lock.files.lockfile import LockedOutput
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.lock.resolve.known_metadata import find_unmet
from nox_buildstages.lock.resolve.own_project import OWN_METADATA, OWN_SOURCE, own_stage
from nox_buildstages.model import PROJECT
from nox_buildstages.system.files import (
    path_id,
    remove_tree,
    sha256_of,
    temporary_folder,
)
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.backend import Backend
    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.run.events import Step
    from nox_buildstages.wheels.wheel import WheelFile


def get_build_requires(
    context: BuildContext, name: NormalizedName, environment: Environment
) -> tuple[str, ...]:
    """Return the build requirements of a project's editable wheel.

    The caller occupies the environment. The hook runs in the project's own folder, so
    new files may appear, as with ``pip install --editable``.

    Raises:
        BuildError: The hook failed.
        BuildStagesError: The network can't be switched off.
        BuildStagesError: Nox must not run anything.
    """
    context.tools.run.report(f"asking the build backend of {name}")
    with _open_backend(context, name, environment, "ask") as backend:
        return backend.get_requires("editable")


def build_editable(
    context: BuildContext, name: NormalizedName, environment: Environment
) -> tuple[WheelFile, str]:
    """Build a project's editable wheel; return the wheel and the sha256.

    The caller occupies the environment, which is no runtime environment afterwards.

    Raises:
        BuildError: The build failed.
        StaleLockError: The lock lacks a build requirement.
        BuildStagesError: The network can't be switched off.
        BuildStagesError: Nox must not run anything.
    """
    folder = environment.location / PROJECT_FOLDER / "wheel"
    with _open_backend(context, name, environment, "compile") as backend:
        context.tools.run.report(f"making {name} installable")
        rules = context.project.rules(name)
        wanted = rules.apply_removals(backend.get_requires("editable"))
        unmet = find_unmet(wanted, context.pins(PROJECT), context.interpreter)
        if unmet:
            raise StaleLockError(
                problem=f"{file_name(PROJECT)} lacks {unmet[0]}, which the build of"
                f" {name} requires"
            )
        remove_tree(folder)
        new = folder / "new"
        new.mkdir(parents=True)
        returned = backend.build_editable(new)
    try:
        wheel = accept_editable_wheel(
            new, returned, name=name, interpreter=context.interpreter
        )
        try_wheel(
            wheel,
            environment,
            syncer=context.tools.syncer,
            store=context.tools.store,
            scratch=folder / "trial",
        )
    except WheelError as error:
        raise name_build(error, name, PROJECT, backend.log) from error
    sha256 = sha256_of(wheel.path)
    # A path of its own for each wheel: uv caches wheels by path.
    folder = new.rename(folder / sha256[:16])
    return replace(wheel, path=folder / wheel.path.name), sha256


@contextmanager
def _open_backend(
    context: BuildContext, name: NormalizedName, environment: Environment, step: Step
) -> Iterator[Backend]:
    """Yield the project's build backend for a step; processes take turns."""
    stage, tools, root = own_stage(name), context.tools, context.project.root
    prepare_environment(context, stage, environment)
    if not environment.may_run():
        raise not_run(PROJECT, name)
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
    head = f"network: {job.sandbox}\nfiles: {job.sandbox.files}\n"
    job.log.write_text(head, encoding="utf-8")
    place = {**context.place(PROJECT), "output": name}
    with (
        tools.store.hold_lock(f"project-{path_id(root)}"),
        tools.job_pool.take_slot() as slot,
        job.take_jobs(slot, JobRequest(memory_per_job=DEFAULT)) as jobs,
        temporary_folder("home-", folder) as home,
        tools.run.step(step, place),
        job.open_backend(
            *(step, root),
            BuildFiles(
                home=home,
                writable=(root, folder / "wheel"),
                readable=_find_repository(root),
            ),
            jobs=jobs,
        ) as backend,
    ):
        yield backend


def _find_repository(root: Path) -> tuple[Path, ...]:
    """Return the folders of the git repository that a project is in.

    It may give the project a version, and other files.
    """
    for top in (root, *root.parents):
        git = top / ".git"
        if git.is_dir():
            return (top,)
        if git.is_file():  # a worktree, or a submodule
            _, _, path = git.read_text(encoding="utf-8").strip().partition(": ")
            folder = top / path
            is_worktree = "worktrees" in folder.parts
            return (top, folder.parents[1] if is_worktree else folder)
    return ()
