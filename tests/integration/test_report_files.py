"""The files of a report, written from the journal of a run."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.commands.stage import run_stage
from nox_buildstages.report.write import report_end, report_session
from nox_buildstages.run.events import Event
from nox_buildstages.run.journal import Journal
from support.pair import Pair, publish
from support.sessions import Sessions

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

PLACE: Any = {"python": "3.11", "stage": "first", "output": "kernels", "version": "1.0"}


@pytest.fixture
def locked(project: Project, index: Index) -> Project:
    """A project with locks and no wheels."""
    publish(index)
    Pair().write(project)
    project.prepare("build-stages-lock")
    return project


def build_first(project: Project, run: str) -> Sessions:
    """Build the first stage in a run that keeps its events."""
    sessions = Sessions(project=project, id=run)
    sessions.run.keeps_events = True
    workspace = sessions.open("build-stage-first")
    run_stage(workspace, workspace.cell.graph.stages["first"])
    return sessions


def end(sessions: Sessions) -> None:
    """End a run, as its first process does."""
    report_end(sessions.cells, sessions.run, sessions.run.journal.events())
    sessions.run.journal.remove()


def begin_run(project: Project, process: int, *, age: float = 0.0) -> Path:
    """Leave the journal of a run that is compiling."""
    journal = Journal.of(project.wheelhouse, f"{process}-other")
    now = time.time() - age
    host = {"host": platform.node()}
    journal.add(
        Event(step="run", state="begun", time=now, process=process, facts=host),
        Event(step="output", state="begun", time=now, process=process, **PLACE),
        Event(step="compile", state="begun", time=now, process=process, **PLACE),
    )
    return journal.path


def title(project: Project) -> str:
    page = project.wheelhouse.joinpath("report.html").read_text("utf-8")
    return page.partition("<title>")[2].partition("</title>")[0]


def test_a_run_that_does_nothing_keeps_the_page(locked: Project) -> None:
    """A session writes the page before the run ends; the manifest has its data."""
    name = locked.folder.name
    sessions = build_first(locked, "1-first")
    report_session(sessions.cells, sessions.run)
    assert title(locked) == f"{name}: … running"
    end(sessions)
    assert title(locked) == f"{name}: ✓ built"
    trace = json.loads(locked.wheelhouse.joinpath("timeline.json").read_bytes())
    assert "kernels 1.0" in {it["name"] for it in trace["traceEvents"]}
    run = locked.manifest()["run"]
    kernels = run["outputs"][0]
    assert (run["id"], run["state"], kernels["state"]) == ("1-first", "done", "built")
    assert kernels["reasons"] == ["not built yet"]

    end(build_first(locked, "2-second"))
    assert title(locked) == f"{name}: ✓ built"
    assert locked.manifest()["run"] == run

    locked.wheelhouse.joinpath("report.html").unlink()
    end(build_first(locked, "3-third"))
    assert title(locked) == f"{name}: ✓ done"


def test_a_killed_run_is_drawn_by_the_next_session(project: Project) -> None:
    """Its process is gone, or another one has the number by now."""
    Pair().write(project)
    sessions = Sessions(project=project, id="1-plan")
    gone = begin_run(project, 2**22 + 1)
    running = begin_run(project, os.getpid())
    report_end(sessions.cells, sessions.run, ())
    assert title(project) == f"{project.folder.name}: ■ killed"
    assert (gone.exists(), running.exists()) == (False, True)
    run = project.manifest()["run"]
    assert (run["state"], run["outputs"][0]["state"]) == ("killed", "killed")

    running.unlink()
    reused = begin_run(project, os.getpid(), age=10**8)
    report_end(sessions.cells, sessions.run, ())
    assert not reused.exists()


def test_a_report_that_cannot_be_written_ends_no_session(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """A line says so: wheels matter more."""
    caplog.set_level("INFO", logger="nox")
    Pair().write(project)
    begin_run(project, 2**22 + 1)
    project.wheelhouse.joinpath("report.html").mkdir()
    sessions = Sessions(project=project)
    report_end(sessions.cells, sessions.run, ())
    (line,) = caplog.messages
    assert line.startswith("the report can't be written: ")
