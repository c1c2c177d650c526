"""Cells of a matrix that differ in Pythons, machines and requirements."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.config.project import read
from nox_buildstages.environments.interpreter import probe_interpreter
from nox_buildstages.environments.targets import list_targets
from nox_buildstages.reader import parse_toml
from nox_buildstages.system import process
from nox_buildstages.value import replace
from support.packages import make_sdist, make_wheel
from support.pair import KERNELS, declare, publish, refused
from support.pythons import HERE, free_threaded as find_free_threaded, stand_in
from support.sessions import run_session

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="builds are there")
REAL = find_free_threaded()
HERE_MACHINE = platform.machine()
ELSEWHERE = "aarch64" if HERE_MACHINE == "x86_64" else "x86_64"


def declare_cells(project: Project, matrix: dict[str, Any], **top: Any) -> None:  # noqa: ANN401 - TOML
    """Declare a stage that builds kernels against tensorlib, and a matrix."""
    only = {"name": "only", "dependencies": ["tensorlib"], "outputs": ["kernels"]}
    final = {"requirements": ["kernels", "tensorlib"]}
    declare(project, {"matrix": matrix, "final": final, "stage": [only], **top})


def versions(project: Project, lock: str) -> dict[str, str]:
    """Return the versions in a lock."""
    return {it["name"]: it["version"] for it in project.lock(lock)["packages"]}


def wheel_names(project: Project, lock: str, name: str) -> list[str]:
    """Return the file names of a package's wheels in a lock."""
    packages = project.lock(lock)["packages"]
    return [
        (it.get("url") or it["path"]).rpartition("/")[2]
        for package in packages
        if package["name"] == name
        for it in package["wheels"]
    ]


def test_all_cells_that_cannot_be_locked_are_named_at_once(
    project: Project, index: Index
) -> None:
    """Each with its reason; and with the line that leaves them out, the rest locks."""
    publish(index)
    tensor = {
        "7": {},
        "1": {"constraints": ["tensorlib==1.0"]},
        "8": {"constraints": ["tensorlib==8.0"]},
        "9": {"requirements": ["nothing-of-this-name"]},
    }
    matrix = {"tensor": tensor, "exclude": [{"tensor": "7"}]}
    declare_cells(project, matrix)
    said = run_session(project, "build-stages-lock", check=False).stderr
    assert "error: 2 of 3 cells can't be locked\n" in said
    assert "\n  (tensor=8):\n    stage only: can't be locked: constraints say" in said
    assert "\n  (tensor=9):\n    runtime environment: no index has nothing" in said
    assert "nothing-of-this-name was not found" in said
    assert not (project.folder / "build-stages").exists()
    entries = "".join(f'    {{ tensor = "{it}" }},\n' for it in "789")
    assert f"in [tool.nox-buildstages.matrix]:\n  exclude = [\n{entries}  ]" in said
    matrix["exclude"] = [{"tensor": it} for it in "789"]
    declare_cells(project, matrix)
    run_session(project, "build-stages-lock")
    assert versions(project, "final")["tensorlib"] == "1.0"


def test_cells_for_another_machine_are_locked_here_and_left_out(
    project: Project, index: Index
) -> None:
    """For that machine alone, with its wheels; the plan is for it, too."""
    publish(index)
    for machine in (HERE_MACHINE, ELSEWHERE):
        tag = f"py3-none-manylinux_2_17_{machine}"
        make_wheel(index.folder, "tensorlib", "3.0", tag=tag)
    values = {"here": {"machine": HERE_MACHINE}, "there": {"machine": ELSEWHERE}}
    del (values["here"] if ELSEWHERE == "aarch64" else values["there"])["machine"]
    declare_cells(project, {"on": values})
    run_session(project, "build-stages-lock")
    here, there = (wheel_names(project, f"only-{it}", "tensorlib") for it in values)
    assert [it.rpartition("_")[2] for it in here] == [f"{HERE_MACHINE[-2:]}.whl"]
    assert any(it.endswith(f"{ELSEWHERE}.whl") for it in there)
    plan = json.loads(run_session(project, "build-stages-plan", "--json").output)
    assert [it["machine"] for it in plan["stages"]] == [HERE_MACHINE, ELSEWHERE]
    first, second = ([o["key"] for o in it["outputs"]] for it in plan["stages"])
    assert first != second
    only = run_session(project, "build-stages-plan", "--json", "--select=on=there")
    assert [it["matrix"] for it in json.loads(only.output)["final"]] == [
        {"on": "there"}
    ]


@pytest.mark.slow
def test_a_run_of_all_cells_leaves_those_for_another_machine_out(
    project: Project, index: Index
) -> None:
    """It names them, and fails if none is left; their own sessions fail."""
    publish(index)
    values = {"here": {"machine": HERE_MACHINE}, "there": {"machine": ELSEWHERE}}
    declare_cells(project, {"on": values})
    said = project.nox("-s", "build-stages").output
    assert "on=here: wheelhouse/here\n" in said
    assert f"on=there: left out, as it is for {ELSEWHERE}\n" in said
    assert sorted(path.name for path in project.wheelhouse.iterdir()) == [
        *(".gitignore", "here", "report.html", "timeline.json")
    ]
    said = refused(project, "-s", "build-stages(on=there)")
    assert f"(on=there) is for {ELSEWHERE}, and this is {HERE_MACHINE}" in said
    declare_cells(project, {"on": {"there": values["there"]}})
    said = refused(project, "-s", "build-stages")
    assert f"no cell is for this machine, {HERE_MACHINE}" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("no=here", "--select: there is no axis 'no'\nhelp: choose one of these: on,"),
        ("on=her", "--select: on has no value 'her'; did you mean 'here'?"),
        ("here", "expected --select cuda=12.8, or the like, found 'here'"),
        ("python=3.9", "--select: python has no value '3.9'"),
    ],
)
def test_a_selection_of_nothing_is_refused(
    project: Project, words: str, expected: str
) -> None:
    """It names the near miss."""
    declare_cells(project, {"on": ["here", "there"]})
    done = run_session(project, "build-stages-plan", "--select", words, check=False)
    assert expected in done.stderr


def test_a_value_has_its_own_version_of_an_output(
    project: Project, index: Index
) -> None:
    """A nightly, say: one cell builds that, and the other one what is released."""
    publish(index)
    make_sdist(index.folder, "kernels", "2.0.dev1", requires=["tensorlib"])
    nightly = {"requirements": ["kernels==2.0.dev1", "tensorlib==1.0"]}
    declare_cells(project, {"ops": {"released": {}, "nightly": nightly}})
    run_session(project, "build-stages-lock")
    locks = [versions(project, f"final-{it}") for it in ("released", "nightly")]
    assert [(it["kernels"], it["tensorlib"]) for it in locks] == [
        ("1.0", "2.0"),
        ("2.0.dev1", "1.0"),
    ]


@pytest.fixture
def free_threaded(project: Project, index: Index) -> Project:
    """A project for this Python and 3.14t; the index has what fits only one of them."""
    publish(index)
    index.remove("tensorlib")
    own = f"cp{HERE.replace('.', '')}"
    for version, tags in {
        "1.0": [f"{own}-{own}", "cp314-cp314t"],
        "2.0": [f"{own}-{own}", "cp314-cp314"],
        "3.0": [f"{own}-{own}"],
    }.items():
        for tag in tags:
            full = f"{tag}-manylinux_2_17_{HERE_MACHINE}"
            make_wheel(index.folder, "tensorlib", version, tag=full)
    declare_cells(project, {"a": ["b"]}, python=[HERE, "3.14t"])
    return project


def test_a_free_threaded_python_is_locked_from_its_tags(free_threaded: Project) -> None:
    """Though it isn't here: uv takes no wheel that needs a lock for all threads."""
    done = run_session(free_threaded, "build-stages-lock")
    assert "answers of build backends here for CPython 3.14t on linux" in done.stderr
    assert (
        f"tensorlib-1.0-cp314-cp314t-manylinux_2_17_{HERE_MACHINE}.whl"
        in wheel_names(free_threaded, "only", "tensorlib")
    )


@pytest.mark.slow
def test_a_stand_in_is_taken_for_a_free_threaded_python(
    free_threaded: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers as what was assumed while it wasn't here, so the plan is for it."""
    run_session(free_threaded, "build-stages-lock")
    python = stand_in(tmp_path)
    runner, cache = process.run, tmp_path / "answers"
    found = probe_interpreter(python.program, runner=runner, cache=cache)
    assert (found.version, found.short[:13]) == ("3.14t", "CPython 3.14t")
    assert found.abi.startswith("cpython-314t-")
    here = probe_interpreter(Path(sys.executable), runner=runner, cache=cache)
    declared = read(
        parse_toml(free_threaded.pyproject.read_text("utf-8")),
        pyproject=free_threaded.pyproject,
    )
    targets = list_targets(declared, here, {HERE: (Path(sys.executable), here)})
    assert targets[1].python is None
    assert str(targets[1]).startswith("CPython 3.14t on linux")
    assert {*targets[1].interpreter.tags} == {*found.tags}
    assert targets[1].interpreter.kind == found.kind
    monkeypatch.setenv("PATH", python.on_path(os.environ["PATH"]))
    plan = json.loads(run_session(free_threaded, "build-stages-plan", "--json").output)
    assert [it["session"] for it in plan["final"]] == [
        f"build-stages(a=b)-{HERE}",
        "build-stages(a=b)-3.14t",
    ]
    keys = [it["outputs"][0]["key"] for it in plan["stages"]]
    assert len({*keys}) == 2
    assert None not in keys
    jobs = run_session(free_threaded, "build-stages-plan", "--github").output
    assert "CELL_PYTHON=3.14t" in jobs


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="there is no CPython 3.14t here")
def test_a_real_free_threaded_python_builds(free_threaded: Project) -> None:
    """With the wheels of its kind, and a backend that is asked on it."""
    assert REAL is not None
    path = REAL.on_path(free_threaded.env["PATH"])
    project = replace(free_threaded, env={**free_threaded.env, "PATH": path})
    done = project.nox("-s", "build-stages(a=b)-3.14t")
    assert "asking the build backend of kernels on Python 3.14t" in done.output
    assert (project.wheelhouse / "b/3.14t" / KERNELS).is_file()


def test_if_no_cell_can_be_locked_it_is_not_for_the_matrix(
    project: Project, index: Index
) -> None:
    """Nothing would be left, so the reason stands alone."""
    publish(index)
    declare_cells(project, {"arch": ["a", "b"]}, constraints=["tensorlib==8.0"])
    said = run_session(project, "build-stages-lock", check=False).stderr
    assert "cells" not in said
    assert "exclude" not in said
    assert "error: stage only: can't be locked" in said
