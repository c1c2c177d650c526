"""Write the report of a run: the page, the trace, and the data in manifests."""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from nox_buildstages.errors import BuildStagesError
from nox_buildstages.indexes.mask import Mask
from nox_buildstages.model import FINAL, REPORT, minor_version
from nox_buildstages.report.data import Place, make_report, run_field
from nox_buildstages.report.page import render_page
from nox_buildstages.report.private import Privacy
from nox_buildstages.report.trace import render_trace
from nox_buildstages.store.store import Store
from nox_buildstages.system.files import (
    TEMPORARY,
    make_ignored_folder,
    path_id,
    remove_orphans,
    write_text,
)
from nox_buildstages.system.machine import Machine, libc
from nox_buildstages.value import Value, replace
from nox_buildstages.wheelhouse.directory import Wheelhouse
from nox_buildstages.wheelhouse.manifest import (
    MANIFEST,
    format_manifest,
    log_of_project,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nox_buildstages.config.cells import CellProject, Cells
    from nox_buildstages.run.events import Event
    from nox_buildstages.run.journal import Journal
    from nox_buildstages.run.run import Run

TRACE = "timeline.json"

_PAUSE_PER_CELL = 0.1
"""Seconds between two reports of sessions: ten times as long as a report takes."""

_TOLERANCE = 10.0
"""Seconds by which a process may seem to have begun after its first event."""


def report_session(cells: Cells, run: Run) -> None:
    """Write the report at the end of a session that did something.

    A report of many cells takes time. So the next session, or the end of the run,
    writes the report if another session has just done so.
    """
    page = cells.first.project.wheelhouse / REPORT
    pause = _PAUSE_PER_CELL * len(cells.cells)
    with suppress(OSError):
        if 0 <= time.time() - page.stat().st_mtime < pause:
            return
    _Writer(cells=cells, run=run).write(run.journal, is_over=False)


def report_end(cells: Cells, run: Run, events: Sequence[Event]) -> None:
    """Write the report at the end of a run that did something.

    Otherwise the existing page stays, unless a run was killed since: then the page
    shows the killed run. ``events`` are the run's.
    """
    folder = cells.first.project.wheelhouse
    writer = _Writer(cells=cells, run=run)
    killed = [it for it in run.journal.others() if _was_killed(it)]
    if any(it.is_work for it in events) or (events and not (folder / REPORT).exists()):
        writer.write(run.journal)
    elif killed:
        newest = max(killed, key=lambda it: it.path.stat().st_mtime)
        writer.write(newest, was_killed=True)
    for journal in killed:
        journal.remove()
    if killed:
        for prefix in (TEMPORARY, f"{TEMPORARY}ccache-"):
            remove_orphans(Path(gettempdir()), prefix)


def _was_killed(journal: Journal) -> bool:
    """Whether the first process of a run on this machine is gone.

    Another process may have its number by now.
    """
    first = next(iter(journal.events()), None)
    if first is None or first.facts.get("host") != platform.node():
        return False
    try:
        text = Path(f"/proc/{first.process}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    began = int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return age <= time.time() - first.time - _TOLERANCE


class _Writer(Value):
    """Writes reports of a project."""

    cells: Cells
    run: Run

    def write(
        self, journal: Journal, *, is_over: bool = True, was_killed: bool = False
    ) -> None:
        """Write page, trace and manifests from a journal.

        The journal is read under a lock, so the last process to write knows all.
        """
        project = self.cells.first.project
        folder = project.wheelhouse
        store = Store.of_user(self.run.outer)
        try:
            with store.hold_lock(f"report-{path_id(folder)}"):
                events = [*self._privacy().clean(journal.events())]
                if not events:
                    return
                places = [*self._places(events)]
                report = make_report(
                    events,
                    places,
                    title=project.root.name,
                    run=journal.path.stem.removeprefix(".run-"),
                    requires=self._requires(),
                    about=_describe(events),
                    is_over=is_over,
                    was_killed=was_killed,
                    now=_last_sign(events) if was_killed else time.time(),
                )
                make_ignored_folder(folder)
                for place, column in zip(places, report.columns, strict=True):
                    if any(place.contains(it) for it in events):
                        _note(folder / place.folder, run_field(report, column, place))
                write_text(folder / TRACE, render_trace(report))
                write_text(folder / REPORT, render_page(report))
        except Exception as error:  # noqa: BLE001 - wheels matter more than a report
            kind = "" if isinstance(error, (BuildStagesError, OSError)) else repr(error)
            reason = kind or getattr(error, "summary", str(error))
            self.run.report(f"the report can't be written: {reason}")

    def _places(self, events: Sequence[Event]) -> Iterator[Place]:
        """Yield each cell for each of the cell's Pythons, in order."""
        ours = next((it.python for it in events if it.python), "")
        for cell in self.cells.cells:
            pythons = cell.project.cell_pythons or cell.project.pythons
            for python in map(minor_version, pythons or (ours,)):
                place = self._place(cell, python)
                is_used = place.entries or any(place.contains(it) for it in events)
                if is_used or not cell.project.cell.choices:
                    yield place

    def _place(self, cell: CellProject, python: str) -> Place:
        project, suffix = cell.project, ""
        if project.pythons:
            named = {minor_version(it): it for it in project.pythons}
            suffix = f"-{named.get(python, python)}"
        root, folder = project.wheelhouse, project.wheelhouse_of(project.cell, python)
        logs: dict[str, str] = {}
        for stage in cell.graph.order:
            made = project.wheelhouse_of(project.stage_cell(stage.name), python)
            for output in stage.outputs:
                for house in (made, folder):
                    path = house / log_of_project(output.name)
                    if output.name not in logs and path.is_file():
                        logs[output.name] = path.relative_to(root).as_posix()
        labels = {it.name: project.stage_label(it.name) for it in cell.graph.order}
        relative = folder.relative_to(root).as_posix()
        return Place(
            cell=str(project.cell),
            python=python,
            folder="" if relative == "." else relative,
            stages=tuple(
                (labels[it.name], tuple(output.name for output in it.outputs))
                for it in cell.graph.order
            ),
            final=project.stage_label(FINAL),
            sessions={
                **{f"build-stage-{it}{suffix}": it for it in labels.values()},
                f"build-stages{project.cell.suffix}{suffix}": project.stage_label(
                    FINAL
                ),
            },
            logs=logs,
            entries=Wheelhouse(folder).read_manifest().wheels,
        )

    def _requires(self) -> dict[str, tuple[str, ...]]:
        requires: dict[str, tuple[str, ...]] = {}
        for cell in self.cells.cells:
            label = cell.project.stage_label
            names = [it.name for it in cell.graph.order]
            for name in names:
                requires[label(name)] = tuple(map(label, cell.graph.requires[name]))
            requires[label(FINAL)] = tuple(map(label, names))
        return requires

    def _privacy(self) -> Privacy:
        projects = self.cells.projects
        stages = [stage for it in projects for stage in it.stages]
        tables = [stage.env for stage in stages]
        tables += [rules.env for it in projects for rules in it.packages.values()]
        tables += [value.env for it in projects for value in it.values.values()]
        passed = {name for stage in stages for name in stage.pass_env}
        outer = self.run.outer
        return Privacy(
            declared=frozenset(name for table in tables for name in table) - passed,
            mask=Mask.of({name: outer[name] for name in passed if name in outer}),
        )


def _last_sign(events: Sequence[Event]) -> float:
    """Return when a run was alive for the last time, by events and logs."""
    signs = [it.time for it in events]
    for log in {it.facts["log"] for it in events if it.facts.get("log")}:
        with suppress(OSError):
            signs.append(Path(log).stat().st_mtime)
    return max(signs)


def _describe(events: Sequence[Event]) -> dict[str, Any]:
    """Return everything known of a run beside the steps."""
    machine = Machine()
    pythons = sorted({it.python for it in events if it.python})
    versions = {}
    for name in ("nox-buildstages", "nox", "uv"):
        versions[name] = metadata.version(name)
    about = {
        "command": next(
            (it.facts.get("command") for it in events if it.step == "run"), ""
        ),
        "pythons": pythons,
        "platform": f"{sys.platform} {platform.machine()}, {libc().replace('-', ' ')}",
        "cores": machine.cores(),
        "memory": machine.memory_limit(),
        "versions": versions,
    }
    return {name: it for name, it in about.items() if it}


def _note(folder: Path, field: Mapping[str, Any]) -> None:
    """Put the description of a run into the manifest of a wheelhouse."""
    make_ignored_folder(folder)
    house = Wheelhouse(folder)
    with house.hold_lock():
        before = house.read_manifest()
        after = replace(before, run=field)
        write_text(folder / MANIFEST, format_manifest(after))
