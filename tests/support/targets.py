"""Interpreters and projects with no more to them than what locks are made for."""

from __future__ import annotations

from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.tags import Tag

from nox_buildstages.model import Final, Interpreter, Project

LINUX = (
    'implementation_name == "cpython" and platform_machine == "x86_64"'
    ' and sys_platform == "linux"'
)
MAC = LINUX.replace("linux", "darwin").replace("x86_64", "arm64")


def interpreter(version: str = "3.11") -> Interpreter:
    """Return a CPython on a Linux with musl."""
    markers = default_environment()
    markers["implementation_name"] = "cpython"
    markers["platform_machine"] = "x86_64"
    markers["platform_python_implementation"] = "CPython"
    markers["python_full_version"] = f"{version}.7"
    markers["python_version"] = version
    markers["sys_platform"] = "linux"
    short = f"cp{version.replace('.', '')}"
    tags = (Tag(short, short, "musllinux_1_2_x86_64"), Tag("py3", "none", "any"))
    return Interpreter(markers=markers, tags=tags, abi="abi", platform="linux-x86_64")


def project(*pythons: str, environments: tuple[str, ...] = ()) -> Project:
    """Return a project that declares nothing but Pythons and platforms."""
    root = Path("/project")
    return Project(
        pyproject=root / "pyproject.toml",
        pythons=pythons,
        environments=tuple(map(Marker, environments)),
        lock_dir=root,
        wheelhouse=root,
        final=Final(requirements=()),
        stages=(),
    )
