"""The interpreters of locks, on this machine and on other platforms."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms

from nox_buildstages.errors import DeclarationError, Problem
from nox_buildstages.model import Interpreter, kind_of, minor_version
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.markers import Environment

    from nox_buildstages.model import Project

MACOS = (14, 0)
"""The assumed macOS of other machines."""

_GLIBC = 28
"""The assumed glibc 2 of other machines; uv's name of their platform says the same."""

_ALIASES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}

_PLATFORM_MARKERS = (
    "implementation_name",
    "os_name",
    "platform_machine",
    "platform_python_implementation",
    "platform_system",
    "sys_platform",
)


class Target(Value):
    """An interpreter to lock for; on another platform, the properties are assumed."""

    interpreter: Interpreter
    python: Path | None  # the program; None if this machine hasn't the interpreter
    platform: str | None = None  # for uv's ``--python-platform``; None for this machine

    @property
    def version(self) -> str:
        """The minor version, such as ``3.11`` or ``3.14t``."""
        return self.interpreter.version

    @property
    def marker(self) -> str:
        """A marker, true for this target only."""
        markers = self.interpreter.markers
        return _marker_of(markers["python_version"], self.interpreter.kind)

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables with the platform for uv."""
        if self.platform is None or not self.platform.endswith("-apple-darwin"):
            return {}
        return {"MACOSX_DEPLOYMENT_TARGET": ".".join(map(str, MACOS))}

    def __str__(self) -> str:
        markers = self.interpreter.markers
        name = markers["platform_python_implementation"]
        machine = markers["platform_machine"]
        return f"{name} {self.version} on {markers['sys_platform']} {machine}"


class _Platform(Value):
    """An operating system and a processor."""

    name: str | None  # for uv's ``--python-platform``; None for this machine
    markers: Mapping[str, str]  # the PEP 508 markers in ``_PLATFORM_MARKERS``
    tags: tuple[str, ...]  # platform tags of wheels, best first

    def __str__(self) -> str:
        return f"{self.markers['sys_platform']} {self.markers['platform_machine']}"


class _Candidate(Value, kw_only=False):
    """A minor version of Python on a platform.

    Building an ``Interpreter`` with all tags takes long, so only candidates for a
    target get an interpreter.
    """

    version: str  # such as 3.11 or 3.14t
    platform: _Platform

    @property
    def markers(self) -> dict[str, str]:
        """All PEP 508 markers, for the oldest release of the version."""
        version = self.version.removesuffix("t")
        return {
            **self.platform.markers,
            "implementation_version": f"{version}.0",
            "platform_release": "",
            "platform_version": "",
            "python_full_version": f"{version}.0",
            "python_version": version,
        }

    @property
    def marker(self) -> str:
        """A marker, true for this candidate only."""
        return _marker_of(self.version.removesuffix("t"), kind_of(self.markers))

    def target(self) -> Target:
        """Return the target for the oldest release of CPython of the version."""
        release = tuple(map(int, self.version.removesuffix("t").split(".")))
        abi = f"cp{self.version.replace('.', '')}"
        short = abi.removesuffix("t")
        tags = self.platform.tags
        interpreter = Interpreter(
            markers=cast("Environment", self.markers),
            tags=(
                *cpython_tags(release, [abi], tags),
                *compatible_tags(release, short, tags),
            ),
            abi="",
            platform=tags[0],
        )
        return Target(interpreter=interpreter, python=None, platform=self.platform.name)


def on_machine(interpreter: Interpreter, machine: str | None) -> Interpreter:
    """Return an interpreter like one of this machine on another machine's Linux."""
    here = interpreter.markers["platform_machine"]
    if machine in (None, here):
        return interpreter
    return Interpreter(
        markers={**interpreter.markers, "platform_machine": machine},
        tags=tuple(
            Tag(it.interpreter, it.abi, it.platform.replace(here, machine))
            for it in interpreter.tags
        ),
        abi=interpreter.abi.replace(here, machine),
        platform=interpreter.platform.replace(here, machine),
    )


def python_versions(project: Project, here: Interpreter) -> tuple[str, ...]:
    """Return the minor versions of Python to lock a project's cell for.

    Unless the project names several, only the version of the session's interpreter.
    """
    if len(project.pythons) < 2:  # noqa: PLR2004
        return (here.version,)
    return tuple(map(minor_version, project.cell_pythons or project.pythons))


def list_targets(
    project: Project,
    here: Interpreter,
    available: Mapping[str, tuple[Path, Interpreter]],
) -> tuple[Target, ...]:
    """Return the targets of a project, the targets of this machine first.

    ``available`` has interpreters of this machine, by minor version, with that of the
    session. It is a target if no other one is here, as somebody must ask backends.

    Raises:
        DeclarationError: A marker in ``environments`` is true on no known platform.
    """
    targets = []
    for candidate in _list_candidates(project, here):
        if candidate.version in available and candidate.platform.name is None:
            python, interpreter = available[candidate.version]
            targets.append(Target(interpreter=interpreter, python=python))
        else:
            targets.append(candidate.target())
    if here.version in available and not any(target.python for target in targets):
        python, interpreter = available[here.version]
        targets.insert(0, Target(interpreter=interpreter, python=python))
    return tuple(targets)


def target_markers(project: Project, here: Interpreter) -> list[str]:
    """Return the markers of all declared targets of a project, sorted.

    No marker says that a Python is free-threaded, so an additional word does.

    Raises:
        DeclarationError: A marker in ``environments`` is true on no known platform.
    """
    return sorted(
        f"{candidate.marker}{' t' if candidate.version.endswith('t') else ''}"
        for candidate in _list_candidates(project, here)
    )


def _list_candidates(project: Project, here: Interpreter) -> tuple[_Candidate, ...]:
    markers = cast("Mapping[str, str]", here.markers)
    this_machine = _Platform(
        name=None,
        markers={name: markers[name] for name in _PLATFORM_MARKERS},
        tags=here.platforms,
    )
    platforms, own_platform = _other_platforms(), this_machine
    if project.machine and str(this_machine) != f"linux {project.machine}":
        named = (it for it in platforms if str(it) == f"linux {project.machine}")
        own_platform = next(named)
    own = [_Candidate(it, own_platform) for it in python_versions(project, here)]
    others = [_Candidate(it.version, other) for other in platforms for it in own]
    chosen = {candidate.marker: candidate for candidate in own}
    for index, marker in enumerate(project.environments):
        matches = [it for it in (*own, *others) if marker.evaluate({**it.markers})]
        if not matches:
            problem = Problem(
                location=f"tool.nox-buildstages.environments[{index}]",
                message=f"{str(marker)!r} is true for none of"
                f" {', '.join(map(str, platforms))}"
                " with the Pythons of this project",
            )
            raise DeclarationError(path=project.pyproject, problems=(problem,))
        for candidate in matches:
            words = str(candidate.platform).split()
            if project.machine is None or words[0] != "linux" or candidate in own:
                chosen.setdefault(candidate.marker, candidate)
    return tuple(chosen.values())


def _marker_of(version: str, kind: str) -> str:
    return f'python_version == "{version}" and {kind}'


def _other_platforms() -> tuple[_Platform, ...]:
    """Return the platforms for which uv can resolve on any machine."""
    return (
        _linux("x86_64", oldest_glibc=5),
        _linux("aarch64", oldest_glibc=17),
        _mac("aarch64", "arm64"),
        _mac("x86_64", "x86_64"),
        _windows("x86_64", "AMD64"),
        _windows("aarch64", "ARM64"),
    )


def _linux(machine: str, oldest_glibc: int) -> _Platform:
    tags = []
    for version in range(_GLIBC, oldest_glibc - 1, -1):
        tags.append(f"manylinux_2_{version}_{machine}")
        if version in _ALIASES:
            tags.append(f"{_ALIASES[version]}_{machine}")
    return _Platform(
        name=f"{machine}-manylinux_2_{_GLIBC}",
        markers=_cpython_markers("posix", "linux", "Linux", machine),
        tags=(*tags, f"linux_{machine}"),
    )


def _mac(name: str, machine: str) -> _Platform:
    return _Platform(
        name=f"{name}-apple-darwin",
        markers=_cpython_markers("posix", "darwin", "Darwin", machine),
        tags=tuple(mac_platforms(MACOS, machine)),
    )


def _windows(name: str, machine: str) -> _Platform:
    return _Platform(
        name=f"{name}-pc-windows-msvc",
        markers=_cpython_markers("nt", "win32", "Windows", machine),
        tags=(f"win_{machine.lower()}",),
    )


def _cpython_markers(
    os_name: str, platform: str, system: str, machine: str
) -> dict[str, str]:
    values = ("cpython", os_name, machine, "CPython", system, platform)
    return dict(zip(_PLATFORM_MARKERS, values, strict=True))
