"""Make a wheelhouse ready to publish: checksums, an index, provenance and an SBOM."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from nox_buildstages.builder.prepare import occupy_environment, sync_environment
from nox_buildstages.builder.stage import find_results
from nox_buildstages.commands.release import embed, provenance, repair
from nox_buildstages.commands.release.dependencies import find_dependencies
from nox_buildstages.commands.release.vendor import vendor_wheels
from nox_buildstages.environments.packages import read_metadata
from nox_buildstages.errors import BuildStagesError, UsageError, WheelError
from nox_buildstages.lock.files import pylock
from nox_buildstages.model import FINAL
from nox_buildstages.system.files import sha256_of
from nox_buildstages.value import replace
from nox_buildstages.wheelhouse import checksums
from nox_buildstages.wheelhouse.directory import BOUND_LOCK, has_sha256
from nox_buildstages.wheels.core_metadata import parse_metadata
from nox_buildstages.wheels.overlaps import find_overlaps
from nox_buildstages.wheels.wheel import (
    compiled_members,
    installed_files,
    libc_versions,
    projects_by_platform,
    read_wheel,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.stage import OutputResult
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.key import Ingredient
    from nox_buildstages.wheelhouse.index import IndexEntry
    from nox_buildstages.wheels.overlaps import Overlap
    from nox_buildstages.wheels.wheel import WheelFile
    from nox_buildstages.workspace.session_options import Options
    from nox_buildstages.workspace.workspace import Workspace


def check_tools(options: Options, outer: Mapping[str, str]) -> None:
    """Check that the programs and packages that some options need are installed.

    Raises:
        UsageError: One is missing, or this system isn't Linux.
    """
    if options.repair:
        repair.check_repair_tools(outer)
    if options.embed_sbom:
        embed.check_sbom_tools()
    if options.verify:
        repair.check_readers()


def run_release(workspace: Workspace) -> None:
    """Write the files of a release, remove files of the former release, and report.

    Raises:
        BuildStagesError: A wheel is unavailable, was changed after the build, isn't
            sound or can't be repaired; two wheels disagree about a file; or the
            environment can't be made.
        UsageError: SOURCE_DATE_EPOCH isn't a time.
    """
    if workspace.options.statement:
        from nox_buildstages.commands.release.statements import read_statements  # noqa: PLC0415 - for it alone

        path = Path(workspace.options.statement)
        count = len(read_statements(path))
        equal = "1 wheel is" if count == 1 else f"{count} wheels are"
        workspace.tools.run.report(f"{equal} equal to what {path.name} says")
        return
    # Nox shows every message of the library that writes SBOMs.
    logging.getLogger("py_serializable").setLevel(logging.WARNING)
    context = workspace.context(workspace.ensure_locks()[0])
    house, environment = workspace.wheelhouse, workspace.environment
    folder = house.folder
    results: Sequence[OutputResult] = [
        it for stage in context.graph.order for it in find_results(context, stage)
    ]
    _refuse_overlaps(results)
    for result in results:
        _require_tag(read_wheel(result.wheel.path))
    with occupy_environment(workspace.tools, environment), house.hold_lock():
        if not house.lists(results):  # another run has delivered other wheels
            house.put(results)
        originals = {it.wheel.name: it.wheel for it in results}
        results, repairs = _change_wheels(workspace, context, results)
        wheels = {it.wheel.name: it.wheel for it in results}
        index = [
            read_released_entry(folder / it.path.name, it.sha256)
            for it in wheels.values()
        ]
        vendored = vendor_wheels(context, folder) if workspace.options.vendor else {}
        wheels_to_install = [
            *(folder / it.path.name for it in wheels.values()),
            *(folder / vendored[name].filename for name in sorted(vendored)),
        ]
        overlaps = _find_overlaps(wheels_to_install) if vendored else ()
        index += [
            read_released_entry(folder / it.filename, it.hashes["sha256"])
            for it in vendored.values()
        ]
        lock = pylock.replace_with_wheels(context.pylock(FINAL), vendored)
        bound = house.write_bound_lock(lock, wheels)
        _verify_wheels(workspace, context, results, bound)
        statements = (
            provenance.build_statement(
                it,
                log_sha256=sha256_of(it.wheel.log),
                locations=_locations(context, it.stage),
                original=originals[it.wheel.name],
                changes={
                    **({"sbom": embed.MEMBER} if workspace.options.embed_sbom else {}),
                    **(
                        repairs[it.output.name].parameters()
                        if it.output.name in repairs
                        else {}
                    ),
                },
            )
            for it in results
        )
        files = checksums.index_files(index)
        files[checksums.PROVENANCE] = provenance.format_statements(statements).encode()
        has_sbom = find_spec("cyclonedx") is not None
        if has_sbom:
            text = _write_sbom(context, environment, results, bound)
            files[checksums.SBOM] = text.encode()
        if changes := {
            name: {
                **(repairs[name].manifest_fields() if name in repairs else {}),
                **({"sbom": embed.MEMBER} if workspace.options.embed_sbom else {}),
                "sha256": wheel.sha256,
                "size": wheel.size,
            }
            for name, wheel in wheels.items()
            if wheel.sha256 != originals[name].sha256
        }:
            before = house.read_manifest()
            entries = ({**it, **changes.get(it["name"], {})} for it in before.wheels)
            house.change_manifest(before, replace(before, wheels=tuple(entries)))
        sums = {wheel.filename: wheel.sha256 for wheel in index}
        checksums.write_release(folder, files, {**sums, BOUND_LOCK: sha256_of(bound)})
    for line in (
        *(str(repairs[name]) for name in sorted(repairs)),
        *_describe_release(context, folder, index),
        *(f"{it}; the installer decides which of the two wins" for it in overlaps),
    ):
        workspace.tools.run.report(line)
    if not has_sbom:
        workspace.tools.run.report(
            "left out: the SBOM, because cyclonedx-python-lib isn't installed in nox's"
            " environment; `pip install 'nox-buildstages[sbom]'`"
        )


def _change_wheels(
    workspace: Workspace, context: BuildContext, results: Sequence[OutputResult]
) -> tuple[Sequence[OutputResult], dict[NormalizedName, repair.Repair]]:
    """Repair the wheels in the folder, and put SBOMs into them, if options say so.

    The caller occupies the environment.

    Raises:
        WheelError: A wheel was changed after the build, or isn't sound.
        BuildStagesError: A wheel can't be repaired.
    """
    folder, options = workspace.wheelhouse.folder, workspace.options
    built = [replace(it.wheel, path=folder / it.wheel.path.name) for it in results]
    repairs: dict[NormalizedName, repair.Repair] = {}
    if options.repair or options.embed_sbom:
        for wheel in built:
            read_released_entry(wheel.path, wheel.sha256)
    if options.repair:
        environment = workspace.environment
        repairs = repair.repair_wheels(context, environment, built, folder)
        results = [
            replace(it, wheel=repairs[it.output.name].wheel)
            if it.output.name in repairs
            else it
            for it in results
        ]
    if options.embed_sbom:
        results = embed.embed_sboms(results, folder, partial(_locations, context))
    return results, repairs


def _refuse_overlaps(results: Iterable[OutputResult]) -> None:
    """Raise an error if two outputs install a file with different contents."""
    by_name = sorted(results, key=lambda it: it.output.name)
    overlaps = _find_overlaps(it.wheel.path for it in by_name)
    if overlaps:
        name = overlaps[0].loser.partition(" ")[0]
        raise BuildStagesError(
            subject="the release",
            problem=str(overlaps[0]),
            details=list(map(str, overlaps[1:])),
            hint="leave the file out of one of the two wheels, for example with a"
            f" patch:\n  [tool.nox-buildstages.package.{name}]\n"
            f'  patches = ["patches/{name}.patch"]',
        )


def _find_overlaps(wheels: Iterable[Path]) -> tuple[Overlap, ...]:
    """Return where wheels, in the order of precedence, disagree about a path."""
    contents = {}
    for wheel in wheels:
        name, version, *_ = parse_wheel_filename(wheel.name)
        contents[f"{name} {version}"] = installed_files(wheel)
    return find_overlaps(contents)


def _require_tag(wheel: WheelFile) -> None:
    """Raise a WheelError for a wheel with compiled code whose tag says any platform."""
    compiled = compiled_members(wheel.path) if wheel.is_pure else ()
    if compiled:
        raise WheelError(
            subject=wheel.path.name,
            problem="its tag says any platform, but it contains compiled code, so"
            " nothing is released",
            details=compiled,
            hint="let its source tag the wheel with the platform, in setup.py:\n"
            "  from setuptools import Distribution\n"
            "  Distribution.has_ext_modules = lambda self: True",
        )


def read_released_entry(path: Path, sha256: str) -> IndexEntry:
    """Return the index entry of a wheel, after comparing its hash."""
    if not has_sha256(path, sha256):
        raise WheelError(
            subject=path.name,
            problem="was changed after the build, so nothing is released",
            hint="restore the wheel:\n  nox -s build-stages",
        )
    return checksums.read_index_entry(path, sha256)


def _locations(context: BuildContext, name: str) -> Mapping[str, str]:
    """Return the URLs of the wheels in the lock of an environment, by sha256."""
    return {
        file.hashes["sha256"]: file.url
        for one in (*context.find_lower(), context)  # which may have built a wheel
        for _, file in pylock.select_index_packages(one.pylock(name), one.interpreter)
        if file.url
    }


def _install_runtime(
    context: BuildContext,
    environment: Environment,
    results: Collection[OutputResult],
    bound: Path,
) -> dict[str, Ingredient]:
    """Install the runtime from its bound lock, and return the wheels in it.

    The caller occupies the environment.
    """
    built = [it.wheel for it in results]
    wheels = repair.replace_ingredients(context.ingredients(FINAL), built)
    sync_environment(context, FINAL, environment, bound, wanted=wheels)
    return wheels


def _verify_wheels(
    workspace: Workspace,
    context: BuildContext,
    results: Sequence[OutputResult],
    bound: Path,
) -> None:
    """With ``--verify``, refuse wheels that aren't what they say.

    The caller occupies the environment.
    """
    if workspace.options.verify:
        from nox_buildstages.commands.release.verify.verify import verify_wheels  # noqa: PLC0415 - few verify

        _install_runtime(context, workspace.environment, results, bound)
        verify_wheels(workspace, context, results)


def _write_sbom(
    context: BuildContext,
    environment: Environment,
    results: Collection[OutputResult],
    bound: Path,
) -> str:
    """Install the runtime from its bound lock, and return the SBOM of the runtime.

    The caller occupies the environment.
    """
    from nox_buildstages.commands.release.sbom import (  # noqa: PLC0415 - needs an extra
        format_sbom,
    )

    epoch = context.tools.run.outer.get("SOURCE_DATE_EPOCH")
    if epoch and not re.fullmatch(r"\d{1,11}", epoch):
        raise UsageError(
            problem=f"SOURCE_DATE_EPOCH is {epoch!r}, which isn't a time",
            hint="set it to the seconds since 1970, or unset it",
        )
    installed = []
    wheels = _install_runtime(context, environment, results, bound)
    for text in read_metadata(environment):
        with suppress(ValueError):  # old projects may have metadata of an old form
            installed.append(parse_metadata(text))
    requirements = context.project.final.requirements
    return format_sbom(
        wheels,
        dependencies=find_dependencies(
            wheels, installed, requirements, context.interpreter
        ),
        locations=_locations(context, FINAL),
        results={it.output.name: it for it in results},
        epoch=int(epoch) if epoch else None,
    )


def _describe_release(
    context: BuildContext, folder: Path, index: Collection[IndexEntry]
) -> Iterator[str]:
    """Yield the lines to show: the result, and the limits of the release."""
    names = {wheel.filename for wheel in index}
    yield f"ready to publish: {folder} ({len(names)} wheel{'s' * (len(names) != 1)})"
    libc = next(libc_versions(context.interpreter.tags), "its C library")
    file_names = (wheel.filename for wheel in index)
    for platform, projects in projects_by_platform(file_names).items():
        if platform.startswith("linux_"):
            yield (
                f"{platform}: {', '.join(projects)}; for machines like this one, with"
                f" {libc} or newer, and public indexes such as PyPI reject this tag"
            )
    for path in sorted(folder.glob("*.whl")):
        if path.name not in names:
            yield f"left out: {path.name}, which no stage built"
