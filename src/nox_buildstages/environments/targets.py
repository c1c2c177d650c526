"""For what locks are made: interpreters at hand, and others that are known of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, cast

from packaging.tags import compatible_tags, cpython_tags, mac_platforms

from nox_buildstages.errors import DeclarationError, Problem
from nox_buildstages.model import Interpreter, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.markers import Environment

    from nox_buildstages.model import Project

MACOS = (14, 0)
"""The macOS that a Mac elsewhere is taken for."""

_GLIBC = 28
"""The glibc 2 that a Linux elsewhere is taken for, which uv's name of it says."""

_ALIASES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """An interpreter that locks are made for.

    Attributes:
        interpreter: What it is, as far as that is known.
        python: The program; None where it isn't at hand.
        platform: As uv's ``--python-platform`` takes it; None for this machine's.
    """

    interpreter: Interpreter
    python: Path | None
    platform: str | None = None

    @property
    def version(self) -> str:
        """Its minor version, such as ``3.11``."""
        return self.interpreter.markers["python_version"]

    @property
    def kind(self) -> str:
        """A marker that tells its platform from others."""
        return self.interpreter.kind

    @property
    def marker(self) -> str:
        """A marker that is true for it, and for no other target."""
        return f'python_version == "{self.version}" and {self.kind}'

    @property
    def variables(self) -> dict[str, str]:
        """What uv is told of its platform by variables."""
        if self.platform is None or not self.platform.endswith("-apple-darwin"):
            return {}
        return {"MACOSX_DEPLOYMENT_TARGET": ".".join(map(str, MACOS))}

    def __str__(self) -> str:
        markers = self.interpreter.markers
        name = markers["platform_python_implementation"]
        machine = markers["platform_machine"]
        return f"{name} {self.version} on {markers['sys_platform']} {machine}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Platform:
    """A kind of machine.

    Attributes:
        name: As uv's ``--python-platform`` takes it; None for this machine.
        markers: Those of PEP 508 that it decides on.
        tags: Of wheels, best first.
    """

    name: str | None
    markers: Mapping[str, str]
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.markers['sys_platform']} {self.markers['platform_machine']}"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A minor version of Python on some platform."""

    version: str
    platform: _Platform

    @property
    def markers(self) -> dict[str, str]:
        """All markers of PEP 508, for the oldest release of the version."""
        return {
            **self.platform.markers,
            "implementation_version": f"{self.version}.0",
            "platform_release": "",
            "platform_version": "",
            "python_full_version": f"{self.version}.0",
            "python_version": self.version,
        }

    @property
    def marker(self) -> str:
        """A marker that is true for it alone."""
        return f'python_version == "{self.version}" and {kind_of(self.markers)}'


def python_versions(project: Project, here: Interpreter) -> tuple[str, ...]:
    """Return the minor versions of Python that a project is locked for.

    Args:
        project: Whose locks.
        here: The interpreter that counts where the project names one or none.
    """
    if len(project.pythons) < 2:  # noqa: PLR2004
        return (here.markers["python_version"],)
    return tuple(map(minor_version, project.pythons))


def minor_version(version: str) -> str:
    """Return the minor version of a version such as ``3.11.7``."""
    return ".".join(version.split(".")[:2])


def list_targets(
    project: Project, here: Interpreter, at_hand: Mapping[str, tuple[Path, Interpreter]]
) -> tuple[Target, ...]:
    """Return everything that a project is locked for, this machine's targets first.

    Args:
        project: What is declared.
        here: An interpreter of this machine.
        at_hand: Those of this machine that can be run, by minor version.

    Raises:
        DeclarationError: An environment is of no platform that is known.
    """
    return tuple(
        Target(interpreter=_interpreter(it), python=None, platform=it.platform.name)
        if it.version not in at_hand or it.platform.name is not None
        else Target(interpreter=at_hand[it.version][1], python=at_hand[it.version][0])
        for it in _wanted(project, here)
    )


def target_markers(project: Project, here: Interpreter) -> list[str]:
    """Return the markers of all that a project is locked for, sorted.

    Args:
        project: Whose locks.
        here: An interpreter of this machine.

    Raises:
        DeclarationError: An environment is of no platform that is known.
    """
    return sorted(it.marker for it in _wanted(project, here))


def _wanted(project: Project, here: Interpreter) -> tuple[_Wanted, ...]:
    this = _this_machine(here)
    own = [_Wanted(version, this) for version in python_versions(project, here)]
    chosen = {it.marker: it for it in own}
    if not project.environments:
        return tuple(own)
    others = [_Wanted(it.version, where) for where in _elsewhere() for it in own]
    for index, marker in enumerate(project.environments):
        fitting = [it for it in (*own, *others) if marker.evaluate({**it.markers})]
        if not fitting:
            raise _unknown(project, index)
        for it in fitting:
            chosen.setdefault(it.marker, it)
    return tuple(chosen.values())


@lru_cache(maxsize=8)
def _this_machine(here: Interpreter) -> _Platform:
    tags = dict.fromkeys(tag.platform for tag in here.tags if tag.platform != "any")
    return _Platform(
        name=None,
        markers={name: str(here.markers[name]) for name in _PLATFORM_MARKERS},  # type: ignore[literal-required]
        tags=tuple(tags),
    )


def _interpreter(wanted: _Wanted) -> Interpreter:
    """Return the oldest CPython of a minor version on some platform."""
    release = tuple(map(int, wanted.version.split(".")))
    short = f"cp{wanted.version.replace('.', '')}"
    tags = wanted.platform.tags
    return Interpreter(
        markers=cast("Environment", wanted.markers),
        tags=(
            *cpython_tags(release, [short], tags),
            *compatible_tags(release, short, tags),
        ),
        abi="",
        platform=tags[0],
    )


def _unknown(project: Project, index: int) -> DeclarationError:
    problem = Problem(
        location=f"tool.nox-buildstages.environments[{index}]",
        message=f"{str(project.environments[index])!r} is true for none of"
        f" {', '.join(map(str, _elsewhere()))}"
        " with the Pythons of this project",
    )
    return DeclarationError(path=project.pyproject, problems=(problem,))


@cache
def _elsewhere() -> tuple[_Platform, ...]:
    """Return the platforms that uv can be asked about from any machine."""
    return (
        _linux("x86_64", oldest=5),
        _linux("aarch64", oldest=17),
        _mac("aarch64", "arm64"),
        _mac("x86_64", "x86_64"),
        _windows("x86_64", "AMD64"),
        _windows("aarch64", "ARM64"),
    )


def _linux(machine: str, oldest: int) -> _Platform:
    tags = []
    for version in range(_GLIBC, oldest - 1, -1):
        tags.append(f"manylinux_2_{version}_{machine}")
        if version in _ALIASES:
            tags.append(f"{_ALIASES[version]}_{machine}")
    return _Platform(
        name=f"{machine}-manylinux_2_{_GLIBC}",
        markers=_cpython("posix", "linux", "Linux", machine),
        tags=(*tags, f"linux_{machine}"),
    )


def _mac(name: str, machine: str) -> _Platform:
    return _Platform(
        name=f"{name}-apple-darwin",
        markers=_cpython("posix", "darwin", "Darwin", machine),
        tags=tuple(mac_platforms(MACOS, machine)),
    )


def _windows(name: str, machine: str) -> _Platform:
    return _Platform(
        name=f"{name}-pc-windows-msvc",
        markers=_cpython("nt", "win32", "Windows", machine),
        tags=(f"win_{machine.lower()}",),
    )


def _cpython(os_name: str, platform: str, system: str, machine: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "os_name": os_name,
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": system,
        "sys_platform": platform,
    }


_PLATFORM_MARKERS = (
    "implementation_name",
    "os_name",
    "platform_machine",
    "platform_python_implementation",
    "platform_system",
    "sys_platform",
)
