"""A project without stages has locks, checks and a matrix."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tomli_w

from support.packages import make_tree, make_wheel
from support.sessions import run_session

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project


def test_the_project_itself_without_a_stage(index: Index, project: Project) -> None:
    """It is installed, editable, and the wheelhouse has its lock and no wheel."""
    make_wheel(index.folder, "tensorlib", "1.0")
    final = {"project": True, "imports": ["mine"], "checks": [["pytest"]]}
    matrix = {"lib": {"1": {"constraints": ["tensorlib==1.0"]}}}
    own = {"name": "mine", "version": "1.0", "dependencies": ["tensorlib"]}
    document = {
        "build-system": {"requires": ["tinybackend"], "build-backend": "tinybackend"},
        "project": own,
        "tool": {"nox-buildstages": {"final": final, "matrix": matrix}},
    }
    project.write(tomli_w.dumps(document))
    (project.folder / "mine.py").write_text("", "utf-8")
    settings = {"name": "mine", "version": "1.0", "requires": ["tensorlib"]}
    (project.folder / "tinybackend.json").write_text(json.dumps(settings), "utf-8")
    done = run_session(project, "build-stages")
    assert "output " not in done.stderr  # no table without rows
    assert {it["name"] for it in project.lock("final")["packages"]} == {"tensorlib"}
    house = project.wheelhouse / "1"
    names = {"build-stages.json", "pylock.toml"}
    assert names <= {path.name for path in house.iterdir()}
    assert (project.wheelhouse / ".gitignore").read_text("utf-8") == "*\n"
    assert not (project.folder / "build-stages" / ".gitignore").exists()
    said = run_session(project, "build-stages-plan").stderr
    assert "nothing is built: there are no stages" in said
    said = run_session(project, "build-stages-plan", "--github").output
    assert '"session":"build-stages(lib=1)"' in said


def test_another_python_than_the_project_requires(project: Project) -> None:
    """A session whose environment has one ends before it does anything."""
    own = {"name": "mine", "version": "1.0", "requires-python": ">=3.39"}
    table: dict[str, Any] = {"nox-buildstages": {"final": {}}}
    project.write(tomli_w.dumps({"project": own, "tool": table}))
    said = run_session(project, "build-stages-lock", check=False).stderr
    assert "error: requires-python of [project] is >=3.39, and this session has" in said
    assert not (project.folder / "build-stages").exists()


def test_a_folder_in_the_runtime_has_to_be_an_output(project: Project) -> None:
    """The message writes the stage, although there is none yet; it then locks."""
    make_tree(project.folder / "libs/x", "x", "1.0")
    tools = {
        "uv": {"sources": {"x": {"path": "libs/x", "editable": True}}},
        "nox-buildstages": {"final": {"requirements": ["x"]}},
    }
    project.write(tomli_w.dumps({"tool": tools}))
    said = run_session(project, "build-stages-lock", check=False).stderr
    assert "x would have to be built: it comes from a source" in said
    hint = said.partition("in pyproject.toml:\n")[2]
    assert "[[tool.nox-buildstages.stage]]" in hint
    with project.pyproject.open("a", encoding="utf-8") as file:
        file.write(f"\n{hint}\n")
    said = run_session(project, "build-stages-lock").stderr
    assert "editable in [tool.uv.sources] has no effect on x" in said
