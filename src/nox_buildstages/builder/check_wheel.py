"""Whether what a backend made is what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

from nox_buildstages.errors import WheelError
from nox_buildstages.indexes.logins import strip_logins
from nox_buildstages.wheels import wheel as wheels
from nox_buildstages.wheels.relabel import relabel_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Interpreter, Metadata
    from nox_buildstages.wheels.wheel import WheelFile


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedWheel:
    """What a wheel is to be.

    Attributes:
        output: As it is locked.
        interpreter: That it is for.
        is_labelled: Whether it gets its local version from us.
    """

    output: LockedOutput
    interpreter: Interpreter
    is_labelled: bool = False

    @property
    def version(self) -> Version:
        """What its backend is to give it, but for a local version of its own."""
        return self.public(self.output.metadata.version)

    def public(self, version: Version) -> Version:
        """Return what of a version its backend decides on."""
        return Version(version.public) if self.is_labelled else version


def accepted(folder: Path, said: str, promise: ExpectedWheel) -> WheelFile:
    """Return the wheel that a backend made, if it is the one that its lock promises.

    It has its local version then.

    Args:
        folder: That the backend was to put it into.
        said: What the backend says that it is called.
        promise: What the wheel is to be.

    Raises:
        WheelError: It isn't.
    """
    wheel = _only_wheel(folder, said)
    _check_identity(wheel, promise)
    _check_tags(wheel, promise.interpreter)
    version = promise.output.metadata.version
    if wheel.version == version:
        return wheel
    return wheels.read_wheel(relabel_wheel(wheel, version))


def accepted_editable(
    folder: Path, said: str, *, name: NormalizedName, interpreter: Interpreter
) -> WheelFile:
    """Return the wheel that leads to a project's source, if it is of that project.

    Args:
        folder: That the backend was to put it into.
        said: What the backend says that it is called.
        name: Of the project.
        interpreter: That the wheel is for.

    Raises:
        WheelError: It isn't.
    """
    wheel = _only_wheel(folder, said)
    _check_name(wheel, name)
    _check_tags(wheel, interpreter)
    return wheel


def _only_wheel(folder: Path, said: str) -> WheelFile:
    found = sorted(path.name for path in folder.glob("*.whl"))
    if not found:
        raise WheelError(subject=said, problem="the backend made no wheel")
    if len(found) > 1:
        listed = ", ".join(found)
        raise WheelError(subject=said, problem=f"the backend made several: {listed}")
    if found != [said]:
        raise WheelError(subject=said, problem=f"the backend made {found[0]} instead")
    wheels.verify_record(folder / said)
    return wheels.read_wheel(folder / said)


def _check_identity(wheel: WheelFile, promise: ExpectedWheel) -> None:
    output = promise.output
    file_name, locked = wheel.path.name, output.metadata
    _check_name(wheel, output.name)
    if promise.public(wheel.version) != promise.version:
        problem = f"is version {wheel.version}; the lock says {promise.version}"
        raise WheelError(subject=file_name, problem=problem)
    differences = _requirement_differences(wheel, locked)
    if differences:
        listed = "; ".join(differences)
        problem = f"its METADATA and the lock ({locked.learned}) disagree: {listed}"
        raise WheelError(subject=file_name, problem=problem)


def _check_name(wheel: WheelFile, name: NormalizedName) -> None:
    if wheel.name != name:
        problem = f"is of {wheel.name}; {name} was asked for"
        raise WheelError(subject=wheel.path.name, problem=problem)


def _check_tags(wheel: WheelFile, interpreter: Interpreter) -> None:
    if wheel.tags.isdisjoint(interpreter.tags):
        problem = f"its tags are not for {interpreter}"
        raise WheelError(subject=wheel.path.name, problem=problem)


def _requirement_differences(wheel: WheelFile, locked: Metadata) -> list[str]:
    said = set(map(_comparable, wheel.requires_dist))
    expected = set(map(_comparable, locked.requires_dist))
    differences = [f"only the wheel has {text}" for text in _sorted(said - expected)]
    differences += [f"only the lock has {text}" for text in _sorted(expected - said)]
    is_known = locked.learned != "config"
    if is_known and wheel.requires_python != locked.requires_python:
        differences.append(
            f"Requires-Python is {wheel.requires_python}, not {locked.requires_python}"
        )
    return differences


def _comparable(text: str) -> Requirement:
    """Return a requirement without the brackets that one backend sets and another not.

    ``(a and b) and c`` is ``a and b and c``; beside an ``or`` they have a meaning.
    """
    requirement = Requirement(strip_logins(text))
    marker = str(requirement.marker or "")
    if marker and " or " not in marker:
        requirement.marker = Marker(marker.replace("(", "").replace(")", ""))
    return requirement


def _sorted(requirements: set[Requirement]) -> list[str]:
    return sorted(map(str, requirements))
