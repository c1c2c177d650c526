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
from support.transcripts import Shell, matches, steps_of, with_tables
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
    if name in REAL:
        cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache/uv"))
        env = {"HOME": str(tmp_path), "UV_CACHE_DIR": cache}
        project = make_real_project(tmp_path / "real", **env)
        REAL[name](project)
    else:
        project = request.getfixturevalue("project")
        TOY[name](project, request.getfixturevalue("index"))
    rewrites = request.config.getoption("--rewrite-docs")
    differences, lines = [], page.read_text("utf-8").splitlines()
    steps = [it for it in steps_of("\n".join(lines)) if it.world == name]
    written = []
    programs = f"{Path(sys.executable).parent}:{project.env['PATH']}"
    with Shell(project.folder, {**project.env, "PATH": programs}) as shell:
        for step in steps:
            if step.kind == "toml":
                folder = Path(shell.run("pwd")[1].strip())
                pyproject = folder / "pyproject.toml"
                tables = "\n".join(step.lines)
                document = with_tables(pyproject.read_text("utf-8"), tables)
                pyproject.write_text(document, "utf-8")
                continue
            outputs = []
            for command, shown in step.commands():
                status, output = shell.run(command)
                output = _without_folders(output, project, tmp_path)
                outputs.append(output)
                if shown is None:
                    assert status == 0, f"{command}\n{output}"
                elif not matches(shown, output):
                    differences.append(f"{page}:{step.first}: $ {command}\n{output}")
            written.append((step, outputs))
    if rewrites:
        for step, outputs in reversed(written):
            end = step.first + len(step.lines)
            lines[step.first : end] = step.rewritten(outputs)
        page.write_text("\n".join(lines) + "\n", "utf-8")
    elif differences:
        pytest.fail("\n".join(["shown otherwise:", *differences]))


def _without_folders(output: str, project: Project, scratch: Path) -> str:
    for folder, shown in {
        project.store: "…/nox-buildstages",
        project.folder: "…",
        scratch: "…",
    }.items():
        output = output.replace(str(folder), shown)
    return output
