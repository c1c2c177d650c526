"""Verify what the wheels of a release are, without a GPU."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from nox_buildstages import reader
from nox_buildstages.builder.check_wheel import check_metadata
from nox_buildstages.commands.release.verify.gpu_code import check_gpu_code, find_claim
from nox_buildstages.commands.release.verify.imports import check_imports
from nox_buildstages.commands.release.verify.libraries import (
    check_libraries,
    check_versions,
    find_ceiling,
)
from nox_buildstages.commands.release.verify.runtime import Runtime
from nox_buildstages.commands.release.verify.symbols import check_symbols, check_torch
from nox_buildstages.commands.release.verify.torches import fetch_torch, specifier_of
from nox_buildstages.commands.release.verify.verdict import (
    Verdict,
    WheelVerdicts,
    format_json,
    render_verdicts,
    require_ok,
    verdicts_markdown,
)
from nox_buildstages.errors import (
    BuildStagesError,
    ResolutionError,
    UsageError,
    WheelError,
)
from nox_buildstages.model import FINAL, Corrections
from nox_buildstages.preflight.source_facts import torch_of
from nox_buildstages.run.ci import add_to_summary
from nox_buildstages.safe_text import show_json
from nox_buildstages.system.terminal import print_lines
from nox_buildstages.value import Record
from nox_buildstages.wheels.binary import read_binaries
from nox_buildstages.wheels.wheel import (
    libc_versions,
    read_wheel,
    verify_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.stage import OutputResult
    from nox_buildstages.commands.release.verify.symbols import OtherTorch
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.wheels.binary import Binary
    from nox_buildstages.wheels.wheel import WheelFile
    from nox_buildstages.workspace.workspace import Workspace


def verify_wheels(
    workspace: Workspace, context: BuildContext, results: Sequence[OutputResult]
) -> None:
    """Check the wheels of a wheelhouse, show the verdicts, and refuse a wrong wheel.

    The environment is the runtime with these wheels, and the caller occupies it.

    Raises:
        BuildStagesError: A wheel isn't what it says.
        UncheckedError: A check couldn't be made.
    """
    tools, options = context.tools, workspace.options
    folder, torches = workspace.wheelhouse.folder, options.torches
    if torches and torch_of(context.pins(FINAL)) is None:
        raise UsageError(
            problem="--torch is given, but the runtime environment has no torch",
            hint="leave out --torch",
        )
    verifier = Verifier.of(context, workspace.environment, torches, options.glibc)
    wheels = []
    for result in results:
        path = folder / result.wheel.path.name
        tools.run.report(f"verifying {path.name}")
        verdicts = tuple(verifier.verify(result, path))
        wheels.append(
            WheelVerdicts(file=path.name, sha256=result.wheel.sha256, verdicts=verdicts)
        )
    tools.run.print_lines(render_verdicts(wheels, colour=tools.run.colour))
    with suppress(OSError):  # a full disk
        title = tools.run.place.get("session", "")
        add_to_summary(verdicts_markdown(wheels), tools.run.outer, title=title)
    if options.json:
        cell = str(context.project.cell)
        text = format_json(wheels, cell=cell, python=context.interpreter.version)
        print_lines(show_json(text), stream=sys.stdout)
    require_ok(wheels)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, filter(None, version.split("."))))


class Verifier(Record):
    """Checks wheels against a runtime, and other torches."""

    context: BuildContext
    environment: Environment
    runtime: Runtime
    torches: Mapping[str, OtherTorch | str]  # by what was asked for, or a problem
    policies: tuple[Mapping[str, Any], ...]  # of auditwheel
    glibc: tuple[int, ...] = ()  # the declared one

    @classmethod
    def of(
        cls,
        context: BuildContext,
        environment: Environment,
        torches: Sequence[str],
        glibc: str = "",
    ) -> Verifier:
        """Return what checks the wheels of a context in a runtime environment.

        ``glibc`` is the newest that wheels may need, if their tags say nothing older.

        Raises:
            BuildStagesError: The libraries of this machine can't be listed.
        """
        runtime = Runtime.of(environment, context.tools)
        versions = {str(it.name): str(it.version) for it in context.pins(FINAL)}

        def find(version: str) -> OtherTorch | str:
            if specifier_of(version).contains(versions["torch"], prereleases=True):
                return runtime.own_torch(versions["torch"])
            try:
                return fetch_torch(context, environment, version)
            except ResolutionError as error:
                plain = " ".join(error.details).encode("ascii", "ignore")
                return " ".join(plain.decode().split())  # uv draws lines around it
            except BuildStagesError as error:
                return error.problem

        policies = resources.files("auditwheel") / "policy" / "manylinux-policy.json"
        shape = reader.list_of(reader.mapping_of(reader.plain))
        return cls(
            context=context,
            environment=environment,
            runtime=runtime,
            torches={it: find(it) for it in torches},
            policies=reader.parse_json(policies.read_bytes(), shape),
            glibc=_numbers(glibc),
        )

    def verify(self, result: OutputResult, path: Path) -> Iterator[Verdict]:
        """Yield the verdict of each check of a wheel."""
        try:
            verify_record(path)
            wheel = read_wheel(path)
            check_metadata(wheel, result.output, corrections=Corrections())
        except WheelError as error:
            yield Verdict(check="contents", state="failed", text=error.problem)
            return
        yield Verdict(check="contents", text="METADATA and RECORD are right")
        try:
            binaries = [*read_binaries(path)]
        except WheelError as error:
            yield Verdict(check="binaries", state="unknown", text=error.problem)
            return
        if binaries:
            yield from self._verify_binaries(result, wheel, binaries)
        if result.output.name in self.context.ingredients(FINAL):
            yield from check_imports(self.context, self.environment, path)
        else:
            text = "it isn't in the runtime environment, so nothing imports it"
            yield Verdict(check="import", state="unknown", text=text)

    def _verify_binaries(
        self, result: OutputResult, wheel: WheelFile, binaries: Sequence[Binary]
    ) -> Iterator[Verdict]:
        """Yield the verdicts about the compiled files of a wheel."""
        context, runtime, output = self.context, self.runtime, result.output
        stage = context.graph.stages[result.stage]
        claim = find_claim(
            output.name,
            output.metadata.version,
            torch=torch_of(context.pins(stage.name)),
            variables=context.variables(stage, output.name),
        )
        yield from check_gpu_code(binaries, claim)
        here = next(libc_versions(context.interpreter.tags), "").rpartition(" ")[2]
        ceiling = find_ceiling(wheel.tags, _numbers(here), self.policies, self.glibc)
        own = {PurePosixPath(it.name).name for it in binaries}
        yield check_libraries(
            binaries,
            lambda it: "this wheel" if it in own else runtime.find_place(it),
            ceiling,
        )
        yield check_versions(binaries, ceiling)
        try:
            provided = runtime.interpreter_symbols()
            yield check_symbols(binaries, runtime.find, provided)
        except BuildStagesError as error:
            yield Verdict(check="symbols", state="unknown", text=error.summary)
            return
        needed = {library for it in binaries for library in it.needed}
        if all(runtime.owners.get(it) != "torch" for it in needed):
            return
        for version, torch in self.torches.items():
            if isinstance(torch, str):
                yield Verdict(check=f"torch {version}", state="unknown", text=torch)
            else:
                yield check_torch(
                    *(wheel, binaries, torch),
                    partial(runtime.find_beside, torch.libraries),
                    provided,
                )
