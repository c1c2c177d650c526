"""Install a wheel for a trial, before it is stored: an installer may refuse it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from packaging.pylock import Package, PackageWheel

from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.packages import list_files, list_packages
from nox_buildstages.errors import WheelError
from nox_buildstages.lock.files import pylock
from nox_buildstages.system.files import (
    FULL_DISK,
    remove_tree,
    sha256_of,
    walk,
    write_text,
)

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.environments.sync import Syncer
    from nox_buildstages.store.store import Store
    from nox_buildstages.wheels.wheel import WheelFile

_SYSTEM_ERROR = re.compile(r"\(os error (\d{1,9})\)")
"""The end of uv's message if the system refuses something."""

_LOCK = ".lock"
"""A file of uv below a prefix."""


def try_wheel(
    wheel: WheelFile,
    environment: Environment,
    *,
    syncer: Syncer,
    store: Store,
    scratch: Path,
) -> None:
    """Install a wheel into an empty folder, as later into environments, and look at it.

    ``scratch`` is a folder for the installation, removed at the end. uv's cache stays
    as it is.

    Raises:
        WheelError: uv refuses the wheel, or the wheel would change more in an
            environment than its packages.
        OSError: The disk is full.
    """
    prefix, lock = scratch / "prefix", scratch / "pylock.trial.toml"
    file = PackageWheel(
        name=wheel.path.name,
        path=str(wheel.path.absolute()),
        hashes={"sha256": sha256_of(wheel.path)},
    )
    package = Package(name=wheel.name, version=wheel.version, wheels=[file])
    try:
        write_text(lock, pylock.dump_pylock(pylock.make_pylock([package])))
        cache = store.folder / "interpreters" / "uv"
        with store.hold_lock("trial"):
            # The environment's own would run files .pth of its packages.
            python = environment.python.resolve()
            refusal = syncer.install_apart(lock, python, prefix, cache=cache)
            for path in cache.iterdir() if cache.is_dir() else ():
                if not path.name.startswith("interpreter"):  # takes long to ask
                    remove_tree(path)
        if refusal:
            _refuse(wheel, refusal, scratch)
        _check_installation(wheel, environment, prefix)
    finally:
        remove_tree(scratch)


def _refuse(wheel: WheelFile, refusal: str, scratch: Path) -> None:
    """Raise the error for a message of uv."""
    numbers = {*map(int, _SYSTEM_ERROR.findall(refusal))}
    for number in FULL_DISK:
        if number in numbers:
            raise OSError(number, os.strerror(number), str(scratch))
    *details, reason = refusal.strip().splitlines()
    raise WheelError(
        subject=wheel.path.name,
        problem="uv refuses to install it: " + reason.strip().removeprefix("cause: "),
        details=details if len(details) > 1 else (),
    )


def _check_installation(
    wheel: WheelFile, environment: Environment, prefix: Path
) -> None:
    """Check what a wheel has installed.

    Raises:
        WheelError: The wheel would change more than its packages.
    """
    installed = Environment(
        location=prefix, bin=prefix / "bin", python=environment.python
    )
    others = list_packages(installed).keys() - {wheel.name}
    if others:
        raise WheelError(
            subject=wheel.path.name,
            problem=f"it also installs {', '.join(sorted(others))}, as another package",
        )
    listed = list_files(installed)[wheel.name]
    location = environment.location
    replaced = [
        path
        for path in listed
        if path == "pyvenv.cfg" or os.path.lexists(location / path)
    ]
    if replaced:
        owned = set().union(*list_files(environment).values())
        for path in replaced:
            if path not in owned:
                raise WheelError(
                    subject=wheel.path.name,
                    problem=f"it would replace {path} of every environment with it",
                )
    found = {
        os.path.relpath(f"{folder}/{name}", prefix)
        for folder, _, files in walk(prefix)
        for name in files
    }
    if unlisted := sorted(found - listed.keys() - {_LOCK}):
        raise WheelError(
            subject=wheel.path.name,
            problem=f"it installs {unlisted[0]}, which RECORD doesn't list",
        )
