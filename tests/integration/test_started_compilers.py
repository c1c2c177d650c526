"""Which compilers a build starts, and for which compilers its wheel is found again."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.builder.compilers.started import watch_programs
from support.packages import in_tree_backend, make_tree
from support.pair import declare
from support.sessions import run_session

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux says which programs are started"
)


def make_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_programs_that_are_started_are_noticed(tmp_path: Path) -> None:
    """By whichever path; to look at them is not to start them."""
    cc, ld = (make_program(tmp_path / name, "exit 0") for name in ("cc", "ld"))
    link = tmp_path / "link"
    link.symlink_to(cc)
    with watch_programs({str(link): "cc", str(ld): "ld"}) as read_started:
        cc.stat()
        assert read_started() == ()
        subprocess.run([cc], check=True)
        assert read_started() == ("cc",)
        subprocess.run([ld], check=True)
        assert read_started() == ("cc", "ld")


def test_what_cannot_be_watched_is_not_known(tmp_path: Path) -> None:
    """Then a wheel counts as compiled."""
    with watch_programs({str(tmp_path / "gone"): "cc"}) as read_started:
        assert read_started() is None


BACKEND = """
import subprocess, tinybackend
from tinybackend import get_requires_for_build_wheel
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel

def build_wheel(*arguments):
    if COMPILES:
        subprocess.run(["cc", "--version"], check=True)
    return tinybackend.build_wheel(*arguments)
"""


@pytest.mark.slow  # and alone: compilers of other tests would count, too
def test_another_compiler_rebuilds_what_compiles(project: Project) -> None:
    """What started no compiler is found again, and nothing else is."""
    stages: list[dict[str, Any]] = []
    for name in ("compiled", "plain"):
        code = f"COMPILES = {name == 'compiled'}\n{BACKEND}"
        files = {"backend.py": code, "pyproject.toml": in_tree_backend("backend")}
        make_tree(project.folder / name, name, "1.0", files=files)
        stages.append({"name": name, "outputs": [f"{name} @ ./{name}"]})
    names = ["compiled", "plain"]
    declare(project, {"final": {"requirements": names}, "stage": stages})
    cc = project.folder / "bin/cc"
    outer = {"PATH": str(cc.parent)}
    built, planned = [], []
    for version in ("1", "2", "2"):
        make_program(cc, f"echo cc {version}")
        plan = run_session(project, "build-stages-plan", env=outer).output
        planned.append(plan.count("machine's cc 'cc 1' → 'cc 2'"))
        for name in names:
            said = run_session(project, f"build-stage-{name}", env=outer).stderr
            built += [f"{name} for cc {version}"] * (f"building {name}" in said)
    assert built == ["compiled for cc 1", "plain for cc 1", "compiled for cc 2"]
    assert planned == [0, 1, 0]
    started = {
        record["recipe"]["name"]: record["compilers"]
        for file in project.store.glob("wheels/*/record.json")
        for record in [json.loads(file.read_text())]
    }
    assert started == {"compiled": ["cc"], "plain": []}
