"""Compare the wheel from a build backend with the lock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

from nox_buildstages.errors import WheelError
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.wheels import wheel as wheels
from nox_buildstages.wheels.relabel import relabel_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Interpreter
    from nox_buildstages.wheels.wheel import WheelFile


def name_build(error: WheelError, output: str, stage: str, log: Path) -> WheelError:
    """Return the error about a wheel with the build that made it, and the log."""
    return replace(
        error,
        subject=f"{output} (stage {stage}): {error.subject}",
        log=log,
        hint="fix its source, then run the same command again",
    )


def accept_wheel(
    folder: Path,
    file_name: str,
    output: LockedOutput,
    interpreter: Interpreter,
    *,
    is_labelled: bool,
) -> WheelFile:
    """Return the wheel from a backend, with the local version.

    If the table sets the wheel's local version, the backend's local version is ignored.

    Raises:
        WheelError: The wheel differs from the expected wheel.
    """
    wheel = _read_only_wheel(folder, file_name)
    locked = output.metadata
    _check_name(wheel, output.name)
    actual, expected = wheel.version, locked.version
    if is_labelled:
        actual, expected = Version(actual.public), Version(expected.public)
    if actual != expected:
        problem = f"is version {wheel.version}; the lock says {expected}"
        raise WheelError(subject=wheel.path.name, problem=problem)
    actual_requires = set(map(_normalize_requirement, wheel.requires_dist))
    locked_requires = set(map(_normalize_requirement, locked.requires_dist))
    differences = [
        *(
            f"only the wheel has {it}"
            for it in _list(actual_requires - locked_requires)
        ),
        *(f"only the lock has {it}" for it in _list(locked_requires - actual_requires)),
    ]
    is_known = locked.learned != "config"
    if is_known and wheel.requires_python != locked.requires_python:
        differences.append(
            f"Requires-Python is {wheel.requires_python}, not {locked.requires_python}"
        )
    if differences:
        listed = "; ".join(differences)
        problem = f"its METADATA and the lock ({locked.learned}) disagree: {listed}"
        raise WheelError(subject=wheel.path.name, problem=problem)
    _check_tags(wheel, interpreter)
    if wheel.version == locked.version:
        return wheel
    return wheels.read_wheel(relabel_wheel(wheel, locked.version))


def accept_editable_wheel(
    folder: Path, file_name: str, *, name: NormalizedName, interpreter: Interpreter
) -> WheelFile:
    """Return the editable wheel from a backend.

    Raises:
        WheelError: The wheel is of another project, or for another interpreter.
    """
    wheel = _read_only_wheel(folder, file_name)
    _check_name(wheel, name)
    _check_tags(wheel, interpreter)
    return wheel


def _read_only_wheel(folder: Path, file_name: str) -> WheelFile:
    """Return the only wheel in a folder."""
    found = sorted(path.name for path in folder.glob("*.whl"))
    if not found:
        raise WheelError(subject=file_name, problem="the backend made no wheel")
    if len(found) > 1:
        problem = f"the backend made several: {', '.join(found)}"
        raise WheelError(subject=file_name, problem=problem)
    if found != [file_name]:
        problem = f"the backend made {found[0]} instead"
        raise WheelError(subject=file_name, problem=problem)
    wheels.verify_record(folder / file_name)
    return wheels.read_wheel(folder / file_name)


def _check_name(wheel: WheelFile, name: NormalizedName) -> None:
    if wheel.name != name:
        problem = f"is of {wheel.name}; {name} was asked for"
        raise WheelError(subject=wheel.path.name, problem=problem)


def _check_tags(wheel: WheelFile, interpreter: Interpreter) -> None:
    if wheel.tags.isdisjoint(interpreter.tags):
        problem = f"its tags are not for {interpreter}"
        raise WheelError(subject=wheel.path.name, problem=problem)


def _normalize_requirement(text: str) -> Requirement:
    """Return a requirement without redundant parentheses.

    ``(a and b) and c`` means ``a and b and c``; beside ``or`` parentheses matter.
    """
    requirement = Requirement(strip_logins(text))
    marker = str(requirement.marker or "")
    if marker and " or " not in marker:
        requirement.marker = Marker(marker.replace("(", "").replace(")", ""))
    return requirement


def _list(requirements: set[Requirement]) -> list[str]:
    return sorted(map(str, requirements))
