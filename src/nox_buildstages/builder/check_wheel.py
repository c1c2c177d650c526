"""Compare the wheel from a build backend with the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.config.writing import indent, package_table
from nox_buildstages.errors import WheelError
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.value import replace
from nox_buildstages.wheels import wheel as wheels
from nox_buildstages.wheels.relabel import relabel_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Corrections, Interpreter
    from nox_buildstages.wheels.core_metadata import CoreMetadata
    from nox_buildstages.wheels.wheel import WheelFile


def name_build(error: WheelError, output: str, stage: str, log: Path) -> WheelError:
    """Return the error about a wheel with the build that made it, and the log."""
    return replace(
        error,
        subject=": ".join(filter(None, (f"{output} (stage {stage})", error.subject))),
        log=log,
        hint=error.hint or "fix its source, then run the same command again",
    )


def check_metadata(
    found: CoreMetadata | WheelFile,
    output: LockedOutput,
    *,
    subject: str = "",
    corrections: Corrections,
) -> None:
    """Compare the metadata of a wheel, or of a wheel to be built, with the lock.

    If the table sets the wheel's local version, the backend's local version is ignored;
    corrected requirements are compared.

    Raises:
        WheelError: The metadata and the lock disagree.
    """
    locked = output.metadata
    _check_name(found.name, output.name, subject)
    actual, expected = found.version, locked.version
    public = Version(actual.public)
    if corrections.is_labelled:
        actual, expected = public, Version(expected.public)
    if actual != expected:
        hint = ""
        if actual.local is not None and public == expected:
            table = package_table(output.name, "local-version", actual.local)
            hint = "\n".join(
                ("if that is its version, declare the part after +:", *table)
            )
        raise WheelError(
            subject=subject,
            problem=f"is version {found.version}; the lock says {expected}",
            hint=hint,
        )
    actual_requires = set(
        map(_normalize_requirement, corrections.apply(found.requires_dist))
    )
    locked_requires = set(map(_normalize_requirement, locked.requires_dist))
    added = actual_requires - locked_requires
    differences = [
        *(f"only the wheel has {it}" for it in _list(added)),
        *(f"only the lock has {it}" for it in _list(locked_requires - actual_requires)),
    ]
    is_known = locked.learned != "config"
    if is_known and found.requires_python != locked.requires_python:
        differences.append(
            f"Requires-Python is {found.requires_python}, not {locked.requires_python}"
        )
    if differences:
        listed = "; ".join(differences)
        other, hint = f"the lock ({locked.learned})", ""
        if locked.learned == "wheel":
            other = "the lock, which trusts the wheel on the index,"
        gone = locked_requires - actual_requires
        if added or gone:
            lines = _declare_requirements(output, found, corrections, added, gone)
            hint = "\n".join(lines)
        problem = f"its METADATA and {other} disagree: {listed}"
        raise WheelError(subject=subject, problem=problem, hint=hint)


def _declare_requirements(
    output: LockedOutput,
    found: CoreMetadata | WheelFile,
    corrections: Corrections,
    added: set[Requirement],
    gone: set[Requirement],
) -> Iterator[str]:
    """Yield the lines for the table with which lock and wheel agree, if there are any.

    The answer of a build backend needs none: locking again asks the build backend.
    """
    learned = output.metadata.learned
    if learned == "hook":
        return
    yield "declare its requirements in pyproject.toml, and lock again:"
    if learned == "static":  # by the sdist, which breaks its promise
        names = (canonicalize_name(it.name) for it in gone)
        changes = {
            "add": sorted({*corrections.add, *_list(added)}),
            "remove": sorted({*corrections.remove, *names}),
        }
        value = {it: changes[it] for it in changes if changes[it]}
        yield from indent(package_table(output.name, "requires-dist", value))
    else:
        stated = set(map(_normalize_requirement, found.requires_dist))
        value = {"requires-dist": _list(stated)}
        yield from indent(package_table(output.name, "metadata", value))


def accept_wheel(
    folder: Path,
    file_name: str,
    output: LockedOutput,
    interpreter: Interpreter,
    *,
    corrections: Corrections,
) -> WheelFile:
    """Return the wheel from a backend, with the table's version and requirements.

    Raises:
        WheelError: The wheel differs from the expected wheel.
    """
    wheel = _read_only_wheel(folder, file_name)
    name = wheel.path.name
    check_metadata(wheel, output, subject=name, corrections=corrections)
    _check_tags(wheel, interpreter)
    version, requires = output.metadata.version, corrections.apply(wheel.requires_dist)
    if wheel.version == version and {*requires} == {*wheel.requires_dist}:
        return wheel
    path = relabel_wheel(wheel, version, add=corrections.add, remove=corrections.remove)
    return wheels.read_wheel(path)


def accept_editable_wheel(
    folder: Path, file_name: str, *, name: NormalizedName, interpreter: Interpreter
) -> WheelFile:
    """Return the editable wheel from a backend.

    Raises:
        WheelError: The wheel is of another project, or for another interpreter.
    """
    wheel = _read_only_wheel(folder, file_name)
    _check_name(wheel.name, name, wheel.path.name)
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


def _check_name(found: NormalizedName, name: NormalizedName, subject: str) -> None:
    if found != name:
        problem = f"is of {found}; {name} was asked for"
        raise WheelError(subject=subject, problem=problem)


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
