"""Install the project itself into the runtime environment, editable (PEP 660)."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from packaging.pylock import Package, PackageWheel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages import reader
from nox_buildstages.builder.prepare import sync_environment
from nox_buildstages.environments.listing import PROJECT_FOLDER
from nox_buildstages.environments.packages import (
    difference_error,
    find_differences,
    record_packages,
    write_direct_url,
)
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.lockfile import digest
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.lock.resolve.known_metadata import find_unmet
from nox_buildstages.model import FINAL, PROJECT
from nox_buildstages.sources.trees import METADATA_FILES
from nox_buildstages.store.key import Ingredient
from nox_buildstages.system import files
from nox_buildstages.system.documents import find_json, read_toml
from nox_buildstages.system.files import read_file
from nox_buildstages.value import Value, to_dict

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment

_NOTE = "made.json"


class Editable(Value):
    """An editable wheel, with a path to the project's folder."""

    key: str  # digest of the wheel's ingredients in the table and the locks
    path: str  # relative to the environment's folder for the wheel
    version: str
    sha256: str
    requires_dist: tuple[str, ...]


def install_editable(
    context: BuildContext,
    name: NormalizedName,
    environment: Environment,
    bound: Path,
    *,
    rebuild: bool,
) -> None:
    """Make an environment the runtime environment, including the project.

    The caller occupies the environment. The build backend runs if the project's
    metadata or build environment has changed; meanwhile the environment is the
    build environment.

    Raises:
        BuildError: The wheel can't be built.
        StaleLockError: The lock lacks a build requirement.
        BuildStagesError: The runtime lacks a requirement of the project.
        BuildStagesError: The backend has to run, and nox must not run anything.
        BuildStagesError: The environment can't be made.
        BuildStagesError: The environment differs, and nox must not sync.
    """
    folder = environment.location / PROJECT_FOLDER
    key = _make_key(context, name)
    wheel = None if rebuild else _read_last_wheel(folder, key)
    if wheel is None:
        if not environment.may_install():
            raise difference_error(environment, [f"{name} isn't installed any more"])
        from nox_buildstages.builder.editable_backend import build_editable  # noqa: PLC0415 - to build

        file, sha256 = build_editable(context, name, environment)
        wheel = Editable(
            key=key,
            path=file.path.relative_to(folder).as_posix(),
            version=str(file.version),
            sha256=sha256,
            requires_dist=file.requires_dist,
        )
        files.write_text(folder / _NOTE, json.dumps(to_dict(wheel), indent=1))
    ingredient = Ingredient(version=wheel.version, sha256=wheel.sha256, stage=PROJECT)
    wanted = {**context.ingredients(FINAL), name: ingredient}
    if not find_differences(environment, wanted):
        return
    requires = map(str, map(Requirement, wheel.requires_dist))
    unmet = find_unmet(requires, context.pins(FINAL), context.interpreter)
    if unmet:
        locked = {pin.name: str(pin.version) for pin in context.pins(FINAL)}
        raise BuildStagesError(
            subject=name,
            problem="the runtime environment lacks requirements of this project",
            details=[
                f"{it}: the runtime has"
                f" {locked.get(canonicalize_name(Requirement(it).name), 'none')}"
                for it in unmet
            ],
            hint="add them to requirements in [tool.nox-buildstages.final]",
        )
    lock = environment.location / file_name(FINAL)
    if environment.may_install():
        files.write_text(lock, _add_to_lock(bound, name, wheel, folder))
    sync_environment(context, FINAL, environment, lock, wanted=wanted)
    write_direct_url(environment, name, context.project.root)
    record_packages(environment, wanted)


def _make_key(context: BuildContext, name: NormalizedName) -> str:
    """Return a digest of the wheel's ingredients in the table and the locks."""
    root, rules = context.project.root, context.project.rules(name)
    declared = {
        file: hashlib.sha256(read_file(root.joinpath(file))).hexdigest()
        for file in METADATA_FILES
        if root.joinpath(file).is_file()
    }
    held = context.ingredients(PROJECT)
    return digest(
        {
            "root": root.as_posix(),
            "declared": declared,
            "environment": {it: held[it].to_dict() for it in held},
            "python": context.interpreter.markers["python_full_version"],
            "abi": context.interpreter.abi,
            "config-settings": dict(rules.config_settings),
            "env": dict(rules.env),
        }
    )


def _read_last_wheel(folder: Path, key: str) -> Editable | None:
    """Return the last wheel; None if the key differs."""

    def read(table: reader.Table) -> Editable:
        return Editable(
            key=table.get("key", reader.text),
            path=table.get("path", reader.text),
            version=table.get("version", reader.text),
            sha256=table.get("sha256", reader.text),
            requires_dist=table.get("requires_dist", reader.list_of(reader.text)),
        )

    wheel = find_json(folder / _NOTE, reader.table(read))
    if wheel is None or wheel.key != key or not (folder / wheel.path).is_file():
        return None
    return wheel


def _add_to_lock(
    bound: Path, name: NormalizedName, wheel: Editable, folder: Path
) -> str:
    """Return the text of the runtime's lock with the wheel and absolute paths."""
    lock = pylock.read_pylock(read_toml(bound))
    lock = pylock.move_paths(
        lock, lambda it: os.path.normpath(bound.parent / it), is_bound=True
    )
    path = folder / wheel.path
    file = PackageWheel(
        name=path.name, path=path.as_posix(), hashes={"sha256": wheel.sha256}
    )
    package = Package(name=name, version=Version(wheel.version), wheels=[file])
    return pylock.dump_pylock(
        pylock.make_pylock(
            [*lock.packages, package],
            environments=lock.environments,
            requires_python=lock.requires_python,
        )
    )
