"""A folder that somebody edits after it was built, in the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.packages import make_tree
from support.pair import declare_solo
from support.sessions import Sessions

if TYPE_CHECKING:
    import pytest

    from support.project import Project


def test_a_run_keeps_the_source_that_it_has_built(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """Later sessions take that wheel, and the next run builds the edited source."""
    caplog.set_level("INFO", logger="nox")
    folder = make_tree(project.folder / "kernels", "kernels", "1.0")
    declare_solo(project, outputs=["kernels @ ./kernels"])
    sessions = Sessions(project=project, id="first-run")
    sessions.run_body("build-stage-only")
    (folder / "new").touch()
    sessions.run_body("build-stages")
    line = "kernels: its folder has changed since this run used it; the next run builds"
    assert caplog.messages.count(f"{line} it again") == 1
    caplog.clear()
    Sessions(project=project, id="second-run").run_body("build-stage-only")
    assert any("building kernels" in it for it in caplog.messages)
