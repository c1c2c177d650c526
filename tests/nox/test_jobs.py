"""Compilers of several stages at once, counted; and a stage that lacks memory."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.system.machine import Machine
from support.packages import in_tree_backend, make_tree, name_file
from support.pair import (
    KERNELS,
    built,
    declare,
    declare_solo,
    kernels_tree,
    planned,
)
from support.project import cores, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.project import Project

COMPILERS = 4
"""Of each stage: so many that all that may run at once do."""


def declare_two(project: Project, count: Path) -> None:
    """Write two stages that don't need each other; their compilers are counted."""
    stages: list[dict[str, Any]] = []
    for name in ("left", "right"):
        settings = {"compilers": COMPILERS}
        make_tree(project.folder / name, name, "1.0", settings=settings)
        env = name_file("TINYBACKEND_COUNT", count)
        output = f"{name} @ ./{name}"
        # So little memory that cores alone matter on every machine.
        stages.append(
            {
                "name": name,
                "outputs": [output],
                "env": env,
                "memory-per-job": "1MB",
            }
        )
    requirements = ["left", "right"]
    declare(project, {"final": {"requirements": requirements}, "stage": stages})


def most(count: Path) -> int:
    """Return how many compilers ran at once, after seeing that all ended."""
    lines = count.read_text("utf-8").split()
    running = [lines[: i + 1].count("+") * 2 - i - 1 for i in range(len(lines))]
    assert running[-1] == 0
    return max(running)


@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_stages_at_once_stay_within_the_budget(
    project: Project, tmp_path: Path, number: int
) -> None:
    """However many stages build: a compiler for each core, and one for each build."""
    count = tmp_path / "counts/count"
    declare_two(project, count)
    with cores(number):
        budget = Machine().cores()
        done = project.nox("-j", "2", "-s", "build-stages")
    assert sorted(built(done)) == ["left", "right"]
    assert budget <= number
    assert most(count) <= budget + 2
    assert count.read_text("utf-8").count("+") == 2 * COMPILERS
    assert planned(project.nox("-s", "build-stages-plan")) == {
        "left": ("cached", ""),
        "right": ("cached", ""),
    }


@pytest.mark.slow
def test_two_runs_at_once_stay_within_the_budget(
    project: Project, tmp_path: Path
) -> None:
    """They share it as they share the store."""
    count = tmp_path / "counts/count"
    other = make_project(tmp_path / "other", project.env)
    shared = {"NOX_BUILDSTAGES_CACHE_DIR": str(project.store)}
    declare_two(project, count)
    declare_two(other, count)
    with cores(2), other.start("-s", "build-stage-left", env=shared) as beside:
        budget = Machine().cores()
        done = project.nox("-s", "build-stage-right")
        output = beside.communicate(timeout=60)[0]
    assert beside.returncode == 0, output
    assert built(done) == ["right"]
    assert "building left 1.0" in output
    assert most(count) <= budget + 2


def test_stage_that_runs_out_of_memory(project: Project) -> None:
    """It is built again with half the jobs, and said so."""
    tree = kernels_tree(project, faults=["memory"])
    declare_solo(project, outputs=[tree], **{"memory-per-job": "1MB"})
    with cores(2):
        if Machine().cores() == 1:
            pytest.skip("one core: nothing to halve")
        done = project.nox("-s", "build-stage-only")
    said = "kernels ran out of memory with 2 jobs; retrying with 1 job"
    assert re.search(said, done.output)
    assert project.wheels() == [KERNELS]
    declare_solo(project, outputs=[tree], jobs=1)
    assert planned(project.nox("-s", "build-stages-plan")) == {
        "kernels": ("cached", "")
    }


LIMIT = 500_000_000
"""Bytes of a group: enough for one compiler of a large table, and not for two."""

LARGE = """
#define A 1,2,3,4,5,6,7,8,
#define B A A A A A A A A A A
#define C B B B B B B B B B B
#define D C C C C C C C C C C
#define E D D D D D D D D D D
#define F E E E E E E E E E E
int table[] = { F F F 0 };
"""
"""A C source of 2.4 million numbers, for which gcc needs 320 MB."""

MAKE = """
import subprocess
import tinybackend
from tinybackend import get_requires_for_build_wheel, prepare_metadata_for_build_wheel

def build_wheel(*arguments, **named):
    subprocess.run(["make", "one.o", "two.o"], check=True)
    return tinybackend.build_wheel(*arguments, **named)
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup with a limit, whose processes the kernel kills if they need more."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    limit = "memory.limit_in_bytes" if v1.is_dir() else "memory.max"
    folder = (v1 if v1.is_dir() else v2) / f"nox-buildstages-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("nobody but root can make a cgroup")
    try:
        try:
            (folder / limit).write_text(str(LIMIT), "utf-8")
        except OSError:
            pytest.skip("no cgroup limits memory here")
        yield folder
    finally:
        while folder.is_dir():  # until the last process has ended
            with suppress(OSError):
                folder.rmdir()
            time.sleep(0.1)


@pytest.mark.slow
def test_the_kernel_kills_a_compiler_for_memory(project: Project, group: Path) -> None:
    """The build is retried with one job, and the next one begins with that."""
    if not shutil.which("make") or not shutil.which("gcc"):
        pytest.skip("no make and gcc")
    files = {"backend.py": MAKE, "one.c": LARGE, "two.c": LARGE}
    make_tree(
        *(project.folder / "kernels", "kernels", "1.0"),
        files={**files, "pyproject.toml": in_tree_backend("backend")},
    )
    declare_solo(project, outputs=["kernels @ ./kernels"], jobs=2)
    join = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    limited = replace(project, prefix=("sh", "-c", join, "sh"))
    done = limited.nox("-s", "build-stage-only")
    assert "kernels ran out of memory with 2 jobs; retrying with 1 job" in done.output
    assert project.wheels() == [KERNELS]
    (project.folder / "kernels" / "one.c").write_text(LARGE + "int more;", "utf-8")
    done = limited.nox("-s", "build-stage-only")
    assert built(done) == ["kernels"]
    assert "building kernels 1.0 with 1 job: " in done.output
    assert "ran out of memory" not in done.output
    small = {"jobs": 2, "memory-per-job": "1MB"}
    declare_solo(project, outputs=["kernels @ ./kernels"], **small)
    done = limited.nox("-s", "build-stage-only", "--", "--rebuild")
    assert (
        "building kernels 1.0 with 2 jobs: memory-per-job is 1.0 MB, although a"
        in done.output
    )
