"""Locks of a span in exclude-newer note the date that it meant."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import tomli_w

from support.packages import make_wheel
from support.pair import versions
from support.sessions import run_session

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

LOCK = "build-stages-lock"


def test_a_span_means_a_date(index: Index, project: Project) -> None:
    """It stays while nothing else changes, and an upgrade means another one."""
    make_wheel(index.folder, "lib", "1.0")
    now = datetime.now(timezone.utc)
    newer = make_wheel(index.folder.parent, "lib", "2.0")
    index.add(newer, uploaded=(now - timedelta(days=3)).isoformat())
    final = {"requirements": ["lib"]}
    tools: dict[str, Any] = {"nox-buildstages": {"final": final}}
    project.write(tomli_w.dumps({"tool": {**tools, "uv": {"exclude-newer": "1 week"}}}))

    def noted() -> Any:  # noqa: ANN401 - TOML
        return project.lock("final")["tool"]["nox-buildstages"]

    said = run_session(project, LOCK).stderr
    date = noted()["exclude-newer"]
    age = now - datetime.fromisoformat(date.replace("Z", "+00:00"))
    assert abs(age - timedelta(days=7)) < timedelta(hours=1)
    assert f"ignoring files that were uploaded after {date}" in said
    assert versions(project, "final") == {"lib": "1.0"}
    run_session(project, LOCK, "--check")
    lock = project.folder / "build-stages/pylock.final.toml"
    lock.write_text(lock.read_text("utf-8").replace(date, "2026-02-01T00:00:00Z"))
    assert "uploaded after 2026-02-01T00:00:00Z" in run_session(project, LOCK).stderr
    assert noted()["exclude-newer"] == "2026-02-01T00:00:00Z"
    run_session(project, LOCK, "--upgrade")
    assert noted()["exclude-newer"] >= date
    uv = {"exclude-newer": "P7D", "exclude-newer-package": {"lib": "1 day"}}
    project.write(tomli_w.dumps({"tool": {**tools, "uv": uv}}))
    run_session(project, LOCK, "--upgrade")
    assert versions(project, "final") == {"lib": "2.0"}
    assert noted()["exclude-newer-package"]["lib"] > noted()["exclude-newer"]
