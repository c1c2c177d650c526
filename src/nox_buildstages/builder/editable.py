"""The project itself in its runtime, by a wheel that leads to its folder (PEP 660)."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from packaging.pylock import Package, PackageWheel, Pylock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages import toml
from nox_buildstages.builder.prepare import sync
from nox_buildstages.environments.direct_url import write_direct_url
from nox_buildstages.environments.environment import INSTALL_HINT
from nox_buildstages.environments.installed import find_differences, record_installed
from nox_buildstages.environments.snapshot import PROJECT_FOLDER
from nox_buildstages.errors import EnvironmentDiffersError, UnmetError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.lockfile import digest
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.model import FINAL, PROJECT
from nox_buildstages.sources.metadata import METADATA_FILES
from nox_buildstages.store.key import Ingredient
from nox_buildstages.system import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment

_NOTE = "made.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Editable:
    """A wheel that leads to the project's folder.

    Attributes:
        key: Of all that it was made from, as far as the table and locks say.
        path: Of the file, relative to the environment's folder for it.
        version: Of the wheel.
        sha256: Of the file, in hex.
        requires_dist: PEP 508 strings.
    """

    key: str
    path: str
    version: str
    sha256: str
    requires_dist: tuple[str, ...]


def install(
    context: BuildContext,
    name: NormalizedName,
    environment: Environment,
    bound: Path,
    *,
    afresh: bool,
) -> None:
    """Make an environment the runtime, with the project in it.

    It has to be occupied. Its backend runs where what declares the project has
    changed, or what building it takes; for that the environment is another one for a
    while.

    Args:
        context: With the locks.
        name: Of the project.
        environment: To be made equal.
        bound: The runtime's lock, a PEP 751 file whose wheels are all bound.
        afresh: Whether the backend runs anyway.

    Raises:
        BuildError: There is no such wheel.
        StaleLockError: Its build asks for something that isn't locked.
        UnmetError: The runtime lacks what the project requires.
        NotRunError: The backend would have to run, and nox was told not to run.
        SyncError: The environment could not be made.
        EnvironmentDiffersError: It isn't equal, and nox doesn't let it be changed.
    """
    made = _made(context, name, environment, afresh=afresh)
    wheel = Ingredient(version=made.version, sha256=made.sha256)
    wanted = {**context.ingredients(FINAL), name: wheel}
    if not find_differences(environment, wanted):
        return
    _check_met(context, name, made)
    lock = environment.location / file_name(FINAL)
    if environment.may_install():
        folder = environment.location / PROJECT_FOLDER
        files.write_text(lock, _beside(bound, name, made, folder))
    sync(context, FINAL, environment, lock, wanted=wanted)
    write_direct_url(environment, name, context.project.root)
    record_installed(environment, wanted)


def _made(
    context: BuildContext,
    name: NormalizedName,
    environment: Environment,
    *,
    afresh: bool,
) -> Editable:
    """Return the wheel: that which was made last, or else one made now."""
    key = _key_of(context, name)
    found = None if afresh else _found(environment.location / PROJECT_FOLDER, key)
    if found is not None:
        return found
    if not environment.may_install():
        raise EnvironmentDiffersError(
            environment=environment.location,
            differences=(f"{name} has to be made installable once more",),
            hint=INSTALL_HINT,
        )
    return _make(context, name, environment, key)


def _key_of(context: BuildContext, name: NormalizedName) -> str:
    """Return a digest that differs when the wheel has to be made once more."""
    root, rules = context.project.root, context.project.rules(name)
    declared = {
        file: hashlib.sha256(root.joinpath(file).read_bytes()).hexdigest()
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


def _found(folder: Path, key: str) -> Editable | None:
    """Return the wheel that was made last; None where it isn't of that key."""
    try:
        note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        made = Editable(**{**note, "requires_dist": tuple(note["requires_dist"])})
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return made if made.key == key and (folder / made.path).is_file() else None


def _make(
    context: BuildContext, name: NormalizedName, environment: Environment, key: str
) -> Editable:
    from nox_buildstages.builder import editable_backend as editable_making  # noqa: PLC0415 - mostly it is there

    folder = environment.location / PROJECT_FOLDER
    wheel, sha256 = editable_making.make(context, name, environment)
    made = Editable(
        key=key,
        path=wheel.path.relative_to(folder).as_posix(),
        version=str(wheel.version),
        sha256=sha256,
        requires_dist=wheel.requires_dist,
    )
    files.write_text(folder / _NOTE, json.dumps(asdict(made), indent=1))
    return made


def _check_met(context: BuildContext, name: NormalizedName, made: Editable) -> None:
    """See that the runtime has what the project requires, as its wheel says."""
    unmet = tuple(_unmet(context, made))
    if unmet:
        raise UnmetError(project=name, unmet=unmet)


def _unmet(context: BuildContext, made: Editable) -> Iterator[tuple[str, str]]:
    """Yield what isn't met, and what there is of it."""
    held = {pin.name: pin.version for pin in context.pins(FINAL)}
    for requirement in map(Requirement, made.requires_dist):
        marker = requirement.marker
        if marker is not None and not context.interpreter.satisfies(marker):
            continue
        version = held.get(canonicalize_name(requirement.name))
        if version is None:
            yield str(requirement), ""
        elif not requirement.specifier.contains(version, prereleases=True):
            yield str(requirement), str(version)


def _beside(bound: Path, name: NormalizedName, made: Editable, folder: Path) -> str:
    """Return the text of a bound lock, as it is in any folder, with the project."""
    found = Pylock.from_dict(toml.loads(bound.read_text(encoding="utf-8")))
    here = pylock.move_paths(
        found, lambda it: os.path.normpath(bound.parent / it), is_bound=True
    )
    path = folder / made.path
    file = PackageWheel(
        name=path.name, path=path.as_posix(), hashes={"sha256": made.sha256}
    )
    own = Package(name=name, version=Version(made.version), wheels=[file])
    return pylock.dump_pylock(
        pylock.make_pylock(
            [*here.packages, own],
            environments=here.environments,
            requires_python=here.requires_python,
        )
    )
