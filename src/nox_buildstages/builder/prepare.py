"""A session's environment, made ready for a stage or for the runtime."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from nox_buildstages.environments.environment import INSTALL_HINT
from nox_buildstages.environments.installed import check_installed, find_differences
from nox_buildstages.environments.snapshot import record_files, restore_files
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.system import files
from nox_buildstages.system.files import path_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext, Tools
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.key import Ingredient


@contextmanager
def occupied(tools: Tools, environment: Environment) -> Iterator[None]:
    """Keep other runs from changing an environment while it is made or built in."""
    location = environment.location
    with tools.store.hold_lock(
        f"environment-{path_id(location)}",
        on_wait=lambda: tools.report(
            f"another run works in {location}; waiting for it"
        ),
    ):
        yield


def prepare(context: BuildContext, name: str, environment: Environment) -> None:
    """Make an environment equal to a stage's lock, with wheels out of the store.

    It has to be occupied.

    Raises:
        MissingWheelError: A stage hasn't built a wheel that it holds.
        SyncError: It could not be made.
        EnvironmentDiffersError: It isn't equal, and nox doesn't let it be changed.
    """
    if not environment.may_install():
        check_installed(environment, context.ingredients(name), hint=INSTALL_HINT)
    restore_files(environment, context.tools.report)
    folder = environment.location
    bound = pylock.bind_wheels(
        context.pylock(name), context.wheels(name), folder=folder
    )
    path = folder / file_name(name)
    files.write_text(path, pylock.dump_pylock(bound))
    sync(context, name, environment, path)
    record_files(environment)


def sync(
    context: BuildContext,
    name: str,
    environment: Environment,
    lock: Path,
    *,
    wanted: Mapping[str, Ingredient] | None = None,
) -> None:
    """Make an environment equal to a lock whose wheels are all bound.

    It has to be occupied.

    Args:
        context: Knows what the lock holds.
        name: Of the stage, or ``final``.
        environment: To be made equal.
        lock: A PEP 751 file.
        wanted: What the lock holds; None for what ``bench`` knows of it.

    Raises:
        SyncError: It could not be made.
        EnvironmentDiffersError: It isn't equal, and nox doesn't let it be changed.
    """
    wanted = context.ingredients(name) if wanted is None else wanted
    if not find_differences(environment, wanted):
        return
    from nox_buildstages.run.follow import ENV, shown  # noqa: PLC0415 - mostly it is equal

    with shown(context.tools.screen, name, ENV) as attend:
        replace(context.tools.syncer, attend=attend).sync(environment, wanted, lock)
