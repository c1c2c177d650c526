"""A wheelhouse that is fit to publish: sums, an index, provenance, an SBOM."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nox_buildstages.builder.prepare import occupy_environment, sync_environment
from nox_buildstages.builder.stage import find_results
from nox_buildstages.commands.release import provenance
from nox_buildstages.commands.release.dependencies import required
from nox_buildstages.commands.release.mending import Mending, as_published
from nox_buildstages.commands.release.vendor import brought, from_indexes
from nox_buildstages.environments.environment import read_metadata
from nox_buildstages.errors import UsageError, WheelError
from nox_buildstages.lock.files import pylock
from nox_buildstages.model import FINAL
from nox_buildstages.system.files import remove_tree, sha256_of
from nox_buildstages.wheelhouse import publishing
from nox_buildstages.wheelhouse.directory import BOUND_LOCK
from nox_buildstages.wheelhouse.publishing import PROVENANCE, SBOM
from nox_buildstages.wheels import core_metadata
from nox_buildstages.wheels.wheel import libc_versions, projects_by_platform

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from packaging.pylock import PackageWheel
    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.stage import OutputResult
    from nox_buildstages.commands.release.repairing import Repaired
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.model import Interpreter
    from nox_buildstages.wheelhouse.directory import Wheelhouse
    from nox_buildstages.wheelhouse.index import IndexedWheel
    from nox_buildstages.wheels.core_metadata import CoreMetadata
    from nox_buildstages.workspace.workspace import Workspace


def run_release(workspace: Workspace) -> None:
    """Make the wheelhouse fit to publish, and print what is in it.

    Raises:
        BuildStagesError: A wheel is missing, not sound, or can't be repaired.
    """
    release = Release(
        context=workspace.context(workspace.ensure_locks()[0]),
        house=workspace.wheelhouse,
        environment=workspace.environment,
        vendor=workspace.options.vendor,
        repair=workspace.options.repair,
    )
    for line in release.make():
        workspace.tools.report(line)


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What a release is made of.

    Attributes:
        context: Knows the locks and the store.
        house: That is to be published; the wheels of all stages are in it.
        environment: Made equal to the runtime, where an SBOM needs to know it.
        vendor: Whether the runtime's wheels from indexes are added.
        repair: Whether wheels are made fit for other machines.
    """

    context: BuildContext
    house: Wheelhouse
    environment: Environment
    vendor: bool
    repair: bool = False

    def make(self) -> tuple[str, ...]:
        """Write all that the wheelhouse lacks, and remove what isn't true any more.

        Returns:
            What there is to say of it, a line each.

        Raises:
            WheelError: A wheel isn't what was built, or not sound.
            BuildStagesError: One can't be made fit for other machines.
            SourceError: A wheel from an index can't be had.
            HashMismatchError: It isn't the one that was locked.
            UsageError: SOURCE_DATE_EPOCH is no time.
            BuildStagesError: The environment can't be made.
        """
        context = self.context
        built = [
            it for stage in context.graph.order for it in find_results(context, stage)
        ]
        with self.house.locked():
            repaired = self._repaired(built) if self.repair else {}
            built = [_shipped(outcome, repaired) for outcome in built]
            wheels = [outcome.wheel for outcome in built]
            released = [self._released(it.path.name, it.sha256) for it in wheels]
            vendored = self._vendored()
            released += [
                self._released(it.filename, it.hashes["sha256"])
                for it in vendored.values()
            ]
            bound = self.house.bind(
                pylock.replace_with_wheels(context.pylock(FINAL), vendored),
                {wheel.name: wheel for wheel in wheels},
            )
            files = {
                **publishing.index(released),
                PROVENANCE: self._provenance(built, repaired),
            }
            if _can_write_sbom():
                files[SBOM] = self._sbom(built, bound)
            sums = {wheel.filename: wheel.sha256 for wheel, _ in released}
            if repaired:
                self.house.exchange({it: repaired[it].told() for it in repaired})
            others = {**sums, BOUND_LOCK: sha256_of(bound)}
            publishing.write(self.house.folder, files, others)
        said = [str(repaired[name]) for name in sorted(repaired)]
        return (*said, *self._said([wheel for wheel, _ in released]))

    def _repaired(
        self, built: Iterable[OutputResult]
    ) -> dict[NormalizedName, Repaired]:
        """Return wheels for other machines, which are in the folder then.

        Where one can't be repaired, none is put there.
        """
        context, folder = self.context, self.house.folder
        wheels = [
            replace(wheel, path=folder / wheel.path.name)
            for wheel in (outcome.wheel for outcome in built)
        ]
        for wheel in wheels:
            self._released(wheel.path.name, wheel.sha256)
        scratch = folder / ".repairing"
        remove_tree(scratch)  # of one that was killed
        try:
            mending = Mending(
                context=context, environment=self.environment, scratch=scratch
            )
            found = mending.repaired(wheels)
            # First: so that whoever is stopped leaves word of them.
            sums = {it.wheel.path.name: it.wheel.sha256 for it in found}
            publishing.put_sums(folder, {**publishing.read_sums(folder), **sums})
            return {it.wheel.name: it.moved(folder) for it in found}
        finally:
            remove_tree(scratch)

    def _released(self, name: str, sha256: str) -> tuple[IndexedWheel, bytes]:
        """Return a wheel as an index tells of it, and its METADATA.

        Raises:
            WheelError: It isn't the one of that hash.
        """
        path = self.house.folder / name
        if not path.is_file() or sha256_of(path) != sha256:
            raise WheelError(
                subject=name,
                problem="in the wheelhouse isn't what was built, so nothing is"
                " released; `nox -s build-stages` puts it back",
            )
        return publishing.listed(path, sha256)

    def _vendored(self) -> dict[NormalizedName, PackageWheel]:
        """Bring the runtime's wheels from indexes, and return them as a lock's."""
        if not self.vendor:
            return {}
        folder, wanted = self.house.folder, [*from_indexes(self.context)]
        # First: so that whoever is stopped leaves word of them.
        sums = publishing.read_sums(folder)
        publishing.put_sums(
            folder, sums | {it.filename: it.source.sha256 for it in wanted}
        )
        return {it.name: brought(it, self.context.tools, folder) for it in wanted}

    def _provenance(
        self,
        built: Iterable[OutputResult],
        repaired: Mapping[NormalizedName, Repaired],
    ) -> bytes:
        return provenance.lines(
            provenance.Built(
                wheel=it.wheel,
                source=it.output.source,
                stage=it.stage,
                locations=self._locations(it.stage),
                log_sha256=sha256_of(it.wheel.log),
                repair=_repair(repaired.get(it.output.name)),
            )
            for it in built
        ).encode()

    def _locations(self, name: str) -> Mapping[str, str]:
        """Return the URLs that the lock of an environment names, by sha256."""
        found = pylock.select_index_packages(
            self.context.pylock(name), self.context.interpreter
        )
        return {file.hashes["sha256"]: file.url for _, file in found if file.url}

    def _sbom(self, built: Collection[OutputResult], bound: Path) -> bytes:
        logging.getLogger("py_serializable").setLevel(logging.WARNING)  # nox shows all
        from nox_buildstages.commands.release import sbom  # noqa: PLC0415 - needs an extra

        context = self.context
        wheels = [outcome.wheel for outcome in built]
        held = as_published(context.ingredients(FINAL), wheels)
        with occupy_environment(context.tools, self.environment):
            sync_environment(context, FINAL, self.environment, bound, wanted=held)
            installed = [*_installed(self.environment)]
        asked = context.project.final.requirements
        contents = sbom.Contents(
            held=held,
            required=required(held, installed, asked, context.interpreter),
            locations=self._locations(FINAL),
            built={it.output.name: it for it in built},
        )
        return sbom.rendered(contents, epoch=_epoch(context.tools.outer)).encode()

    def _said(self, released: Collection[IndexedWheel]) -> Iterator[str]:
        names = {wheel.filename for wheel in released}
        count = f"{len(names)} wheel{'' if len(names) == 1 else 's'}"
        yield f"fit to publish: {self.house.folder} ({count})"
        yield from _platforms(released, self.context.interpreter)
        for path in sorted(self.house.folder.glob("*.whl")):
            if path.name not in names:
                yield f"left out: {path.name}, which no stage built"
        if not _can_write_sbom():
            yield (
                "left out: the SBOM, for which cyclonedx-python-lib isn't installed"
                " where nox runs; `pip install 'nox-buildstages[sbom]'`"
            )


def _shipped(
    outcome: OutputResult, repaired: Mapping[NormalizedName, Repaired]
) -> OutputResult:
    """Return an outcome with the wheel that is published."""
    found = repaired.get(outcome.output.name)
    if found is None:
        return outcome
    return replace(outcome, wheel=found.wheel)


def _repair(found: Repaired | None) -> provenance.Repair | None:
    """Return what is stated of a repair."""
    if found is None:
        return None
    return provenance.Repair(
        original=found.original.path.name,
        sha256=found.original.sha256,
        parameters={
            **found.tools,
            "taken-in": [*found.taken_in],
            "left-out": [*found.left_out],
        },
    )


def _can_write_sbom() -> bool:
    return find_spec("cyclonedx") is not None


def _epoch(outer: Mapping[str, str]) -> int | None:
    """Return the time that files say that they were made at; None for no time."""
    said = outer.get("SOURCE_DATE_EPOCH")
    if not said:
        return None
    if not re.fullmatch(r"\d{1,11}", said):
        raise UsageError(
            problem=f"SOURCE_DATE_EPOCH is {said!r}, and that is no time",
            hint="give it in seconds since 1970, or leave it out",
        )
    return int(said)


def _installed(environment: Environment) -> Iterator[CoreMetadata]:
    """Yield what projects say of themselves; old ones may do so in an old way."""
    for text in read_metadata(environment):
        with suppress(ValueError):
            yield core_metadata.parse_metadata(text)


def _platforms(
    released: Iterable[IndexedWheel], interpreter: Interpreter
) -> Iterator[str]:
    """Yield which wheels name no C library, and where they aren't taken."""
    libc = next(libc_versions(interpreter.tags), "its C library")
    for platform, names in projects_by_platform(
        wheel.filename for wheel in released
    ).items():
        if platform.startswith("linux_"):
            yield (
                f"{platform}: {', '.join(names)}; for machines like this one, with"
                f" {libc} or newer, and public indexes such as PyPI don't take that"
                " tag"
            )
