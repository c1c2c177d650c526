"""The debug log of sessions that run at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support.packages import make_tree
from support.pair import declare

if TYPE_CHECKING:
    from support.project import Project

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?P<process>\d+)"
    r" (?P<session>build-stage-(left|right)): (?P<text>.+)"
)


@pytest.mark.slow
def test_sessions_at_once_share_the_log(project: Project) -> None:
    """Its lines are whole, and none of them is in nox's output."""
    stages = []
    for name in ("left", "right"):
        make_tree(project.folder / name, name, "1.0")
        stages.append({"name": name, "outputs": [f"{name} @ ./{name}"]})
    declare(project, {"final": {}, "stage": stages})
    sessions = ("build-stage-left", "build-stage-right")
    done = project.nox(
        "-v", "-j", "2", "-s", *sessions, env={"NOX_BUILDSTAGES_LOG": "debug"}
    )
    lines = (project.wheelhouse / "logs/debug.log").read_text("utf-8").splitlines()
    found = [*filter(None, map(LINE.fullmatch, lines))]
    assert len(found) == len(lines) > 0
    for name in ("left", "right"):
        (process,) = {it["process"] for it in found if name in it["session"]}
        texts = [it["text"] for it in found if it["process"] == process]
        assert texts[0].startswith("nox-buildstages ")
        assert texts[-1] == "the session is done"
        assert any(it.startswith(f"printed: built {name}-1.0") for it in texts)
    assert done.output.count("debug log: wheelhouse/logs/debug.log\n") == 1
    assert "holding lock" not in done.output
