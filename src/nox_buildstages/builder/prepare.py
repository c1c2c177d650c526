"""Make a session's environment equal to the lock of a stage or of the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.environments.environment import INSTALL_HINT
from nox_buildstages.environments.listing import PRIVATE_FOLDER, is_as_noted
from nox_buildstages.environments.packages import (
    FILES_NOTE,
    check_packages,
    find_differences,
)
from nox_buildstages.environments.sync import read_overlaps
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.model import FINAL, NVCC, PROJECT
from nox_buildstages.system.files import path_id, remove_tree, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext, Tools
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.model import Stage
    from nox_buildstages.store.key import Ingredient


def occupy_environment(
    tools: Tools, environment: Environment
) -> AbstractContextManager[object]:
    """Keep other runs from using an environment at the same time."""
    location = environment.location
    name = f"environment-{path_id(location)}"
    return tools.run.wait(
        lambda begin: tools.store.hold_lock(name, on_wait=begin),
        f"another run that uses {location}",
    )


def prepare_environment(
    context: BuildContext, stage: Stage, environment: Environment
) -> None:
    """Make an environment equal to a stage's lock, with wheels from the store.

    Builds can't change uv's cache through it: if they can write to its packages, these
    are no links. The caller occupies the environment.

    Raises:
        BuildStagesError: The store lacks a wheel of an earlier stage.
        BuildStagesError: The environment can't be made.
        BuildStagesError: The environment differs, and nox must not sync.
    """
    from nox_buildstages.environments.cuda import link_cuda  # noqa: PLC0415 - to build
    from nox_buildstages.environments.own_files import separate_files  # noqa: PLC0415

    name, tools = stage.name, context.tools
    if not environment.may_install():
        check_packages(environment, context.ingredients(name), hint=INSTALL_HINT)
    remove_tree(environment.location / PRIVATE_FOLDER)  # left by a killed run
    restore_environment(tools, environment)
    from nox_buildstages.lock.files import pylock  # noqa: PLC0415 - slow

    folder = environment.location
    bound = pylock.bind_wheels(
        context.pylock(name), context.wheels(name), folder=folder
    )
    path = folder / file_name(name)
    write_text(path, pylock.dump_pylock(bound))
    sync_environment(context, name, environment, path)
    link_cuda(
        environment,
        has_nvcc=NVCC in context.ingredients(name),
        runner=tools.runner,
        path=tools.run.outer.get("PATH"),
    )
    is_safe = tools.sandbox_policy.sandbox(stage).protects_files
    if not is_safe and separate_files(environment):
        tools.run.report_once(
            "packages are copied instead of linked, because builds could write to"
            f" uv's cache through links ({folder.parent})"
        )
    record_environment(environment)


def restore_environment(tools: Tools, environment: Environment) -> None:
    """Undo changes of an environment that somebody has made by hand.

    The caller occupies the environment.

    Raises:
        BuildStagesError: The environment can't be made again.
    """
    if not is_as_noted(environment):
        from nox_buildstages.environments.snapshot import restore_files  # noqa: PLC0415 - few are changed

        restore_files(environment, tools.syncer, tools.run.report)


def record_environment(environment: Environment) -> None:
    """Record the files of an environment after its packages were installed.

    Raises:
        BuildStagesError: Files have changed, and nox doesn't allow installation.
    """
    is_noted = environment.location.joinpath(FILES_NOTE).exists()
    if not (is_noted and environment.may_install()):
        from nox_buildstages.environments.snapshot import record_files  # noqa: PLC0415 - a no-op installs nothing

        record_files(environment)


def sync_environment(
    context: BuildContext,
    name: str,
    environment: Environment,
    lock: Path,
    *,
    wanted: Mapping[str, Ingredient] | None = None,
) -> None:
    """Install the packages of a lock file into an environment.

    The file has a path or URL for each wheel. Its packages are the packages of the
    named lock if ``wanted`` is None. The caller occupies the environment.

    Raises:
        BuildStagesError: The environment can't be made.
        BuildStagesError: The environment differs, and nox must not sync.
    """
    wanted = context.ingredients(name) if wanted is None else wanted
    overlaps = read_overlaps(environment)
    if find_differences(environment, wanted):
        run, folder = context.tools.run, environment.location.parent
        syncer = context.tools.syncer
        with run.step("environment", context.place(name), packages=len(wanted)):
            overlaps = syncer.sync(environment, wanted, lock, for_builds=name != FINAL)
        is_chosen = bool(run.outer.get("UV_LINK_MODE"))
        if not is_chosen and not run.once(
            ("can link", folder), lambda: syncer.can_link(environment.location)
        ):
            run.report_once(
                "uv copies packages instead of linking them, because its cache isn't on"
                f" the file system of {folder}; set UV_CACHE_DIR to a folder there"
            )
    titles = {FINAL: "runtime environment", PROJECT: "this project's build environment"}
    title = titles.get(name, f"stage {name}")
    for overlap in overlaps:
        context.tools.run.report_once(f"{title}: {overlap}; {overlap.winner} wins")
