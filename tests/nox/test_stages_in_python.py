"""Stages in Python, beside those of the table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.packages import make_sdist, make_tree, read_from_wheel
from support.pair import refused

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

NOXFILE = """\
import nox_buildstages


@nox_buildstages.stage(outputs=["early @ ./early"])
def generate(session, build, flavour):
    with open("early/flavour.txt", "w") as file:
        file.write(flavour)
    print("was cached:", build.is_cached)
    (wheel,) = build("early")
    print(wheel.name, wheel.size > 0, wheel.is_cached)
    print(build.env["TZ"], build.env["VIRTUAL_ENV"], "HOME" in build.env)


nox_buildstages.register()
"""
TABLE = """
[tool.nox-buildstages.final]
requirements = ["late"]

[tool.nox-buildstages.matrix]
flavour = ["sweet"]

[[tool.nox-buildstages.stage]]
name = "use"
dependencies = ["early"]
outputs = ["late"]
"""


def prepare(project: Project, index: Index, noxfile: str = NOXFILE) -> None:
    make_tree(project.folder / "early", "early", "1.0")
    make_sdist(index.folder, "late", "1.0")
    project.noxfile.write_text(noxfile, "utf-8")
    project.write(TABLE)


@pytest.mark.slow
def test_a_function_prepares_the_source_that_the_table_uses(
    project: Project, index: Index
) -> None:
    """Sources are read after the function has changed them."""
    prepare(project, index)
    first = project.nox("-s", "build-stages", "-j", "2").output
    assert "early-1.0-py3-none-any.whl True False\n" in first
    (environment,) = project.folder.glob(".nox/build-stage-generate*")
    assert f"UTC {environment} False\n" in first
    second = project.nox("-s", "build-stages").output
    assert "was cached: True" in second
    assert "early-1.0-py3-none-any.whl True True\n" in second
    planned = project.nox("-s", "build-stages-plan", "--", "--json", apart=True)
    stages = json.loads(planned.output)["stages"]
    outputs = {it["name"]: it for stage in stages for it in stage["outputs"]}
    assert outputs["early"]["reasons"] == ["known when stage generate has run"]


@pytest.mark.slow
def test_each_cell_has_the_wheel_of_its_own_function(
    project: Project, index: Index
) -> None:
    """A stage of the table is built with it, side by side with other cells."""
    make_tree(project.folder / "early", "early", "1.0", settings={"env": ["FLAVOUR"]})
    make_sdist(index.folder, "late", "1.0", settings={"stamp": ["early"]})
    keywords = '"early @ ./early"], env={"FLAVOUR": "{flavour}"}'
    noxfile = NOXFILE.replace('"early @ ./early"]', keywords)
    noxfile = noxfile.replace('"early/flavour.txt"', "flavour")  # not in one folder
    project.noxfile.write_text(noxfile, "utf-8")
    versions = '[tool.nox-buildstages.package.early]\nlocal-version = "{flavour}"\n'
    project.write(TABLE.replace('["sweet"]', '["sour", "sweet"]') + versions)
    project.nox("-s", "build-stages", "-j", "2")
    for flavour in ("sour", "sweet"):
        assert (project.folder / flavour).read_text() == flavour
        early, late = sorted((project.wheelhouse / flavour).glob("*.whl"))
        assert early.name.startswith(f"early-1.0+{flavour}-")
        assert json.loads(read_from_wheel(early, "early/env.json")) == {
            "FLAVOUR": flavour
        }
        built = json.loads(read_from_wheel(late, "late/built_against.json"))
        assert built["early"]["version"] == f"1.0+{flavour}"


def test_a_function_that_fails_shows_its_own_lines(
    project: Project, index: Index
) -> None:
    """The traceback is of the noxfile, and a missing build is named."""
    faulty = NOXFILE.replace("    print(", "    {}['x']\n    print(", 1)
    prepare(project, index, faulty)
    session = "build-stage-generate(flavour=sweet)"
    failed = project.nox("-s", session, check=False).output
    assert "its function failed: KeyError" in failed
    assert "noxfile.py" in failed
    assert "nox_buildstages/" not in failed
    skips = NOXFILE.replace('(wheel,) = build("early")', "if 0: build()\n    return")
    project.noxfile.write_text(skips, "utf-8")
    skipped = project.nox("-s", session, check=False).output
    assert "its function ended without building early" in skipped


def test_a_stage_below_register_is_an_error(project: Project, index: Index) -> None:
    """It would have no effect."""
    prepare(project, index, "import nox_buildstages\nnox_buildstages.register()\n")
    late = NOXFILE.replace("nox_buildstages.register()", "")
    with project.noxfile.open("a", encoding="utf-8") as noxfile:
        noxfile.write(late)
    listed = project.nox("--list", check=False).output
    assert "error: stage generate: its function stands below register()" in listed


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("@stage\ndef a(session, build): build()", "the keys of the stage are missing"),
        ("@stage(['a'])\ndef a(session, build): build()", "or have no names"),
        ("register()\nregister()", "register(): was called before, for "),
        ("register(1)", "register(): expected the path of a pyproject.toml, found 1"),
    ],
)
def test_a_wrong_call_is_an_error(
    project: Project, index: Index, code: str, error: str
) -> None:
    """A noxfile that calls us in another way than it must ends with a message."""
    prepare(project, index, f"from nox_buildstages import register, stage\n{code}\n")
    assert error in refused(project, "--list")
