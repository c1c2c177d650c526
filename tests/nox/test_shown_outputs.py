"""The outputs in README and documentation are those of real runs.

``--rewrite-docs`` writes what the commands print now into the pages.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.real import make_real_project
from support.transcripts import Shell, matches, steps_of
from support.worlds import REAL, TOY

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

    from support.project import Project

ROOT = Path(__file__).parents[2]


def _runs() -> list[ParameterSet]:
    runs = []
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        names = {step.world for step in steps_of(page.read_text("utf-8"))}
        for name in sorted(names):
            marks = pytest.mark.network if name in REAL else pytest.mark.slow
            case = f"{page.relative_to(ROOT)}-{name}"
            runs.append(pytest.param(page, name, marks=marks, id=case))
    return runs


@pytest.mark.parametrize(("page", "name"), _runs())
def test_outputs_are_real(
    page: Path, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The commands of a page, in their order, print what the page shows."""
    project = _project(name, tmp_path, request)
    programs = Path(sys.executable).parent
    env = {
        **project.env,
        "PATH": f"{programs}{os.pathsep}{project.env['PATH']}",
        "NOX_BUILDSTAGES_HEARTBEAT": "3600",
    }
    folders = {project.store: "…/nox-buildstages", project.folder: "…", tmp_path: "…"}
    text = page.read_text("utf-8")
    steps = [step for step in steps_of(text) if step.world == name]
    with Shell(project.folder, env, folders) as shell:
        runs = [(step, step.run(shell)) for step in steps]
    if request.config.getoption("--rewrite-docs"):
        lines = text.splitlines()
        for step, outputs in reversed(runs):
            end = step.first + len(step.lines)
            lines[step.first : end] = step.rewritten(outputs)
        page.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        different = [
            f"{page}:{step.first}: {command}\n{output}"
            for step, outputs in runs
            for (command, shown), output in zip(step.commands(), outputs, strict=True)
            if not matches(shown, output)
        ]
        assert not different, "\n".join(["shown otherwise:", *different])


def _project(name: str, scratch: Path, request: pytest.FixtureRequest) -> Project:
    """Make a world."""
    if name in REAL:
        cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache/uv"))
        variables = {"HOME": str(scratch), "UV_CACHE_DIR": cache}
        project = make_real_project(scratch / "real", **variables)
        REAL[name](project)
    else:
        project = request.getfixturevalue("project")
        TOY[name](project, request.getfixturevalue("index"))
    return project
