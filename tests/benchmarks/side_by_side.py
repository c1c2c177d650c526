"""What builds cost that could run at the same time, on packages made from nothing."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING

import tomli_w

from benchmarks.measuring import Command, Group, Known, Row, Workload, run
from benchmarks.projects import (
    LOCK,
    command,
    final_table,
    make_cold,
    nox,
    stage_table,
    toy_surroundings,
)
from nox_buildstages.value import replace
from support.packages import make_sdist
from support.project import make_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from support.index import Index
    from support.project import Project

SLEEP = 6
"""Seconds that each build sleeps."""

UNEVEN = {"alone": [18.0], "large": [3.0] * 6, "middle": [3.0] * 4, "small": [3.0] * 2}
"""The compilers of each stage, in CPU seconds."""
TWO = {"compiled": [2.0] * 4, "alone": [5.0]}

MAKING_BACKEND = '''
"""Runs make, with as many jobs as MAX_JOBS says or as make finds out."""

import json, os, subprocess, sys
from pathlib import Path

import tinybackend
from tinybackend import *

BURN = "import sys, time\\nwhile time.process_time() < float(sys.argv[1]): pass\\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    seconds = json.loads(Path("compilers.json").read_text())
    Path("burn.py").write_text(BURN)
    run = f"@{sys.executable} burn.py"
    rules = [f"{number}:\\n\\t{run} {it}" for number, it in enumerate(seconds)]
    targets = " ".join(map(str, range(len(seconds))))
    Path("Makefile").write_text("\\n".join([f"all: {targets}", *rules, ""]))
    jobs = os.environ.get("MAX_JOBS")
    subprocess.run(["make", *([f"-j{jobs}"] if jobs else [])], check=True)
    return tinybackend.build_wheel(wheel_directory, config_settings, metadata_directory)
'''
"""A build backend whose compilers take CPU seconds and do nothing else."""


def _sleeping(folder: Path) -> Iterator[Group]:
    """Two stages whose builds sleep, so that any number of them can run."""
    with toy_surroundings(folder) as (env, index):
        settings = {"says": ["sleeping"], "pause": SLEEP}
        for name in ("left", "right"):
            make_sdist(index.folder, name, "1.0", settings=settings)
        project = _locked(folder / "project", ["left", "right"], env)
        what = f"cold, 2 stages of {SLEEP} s"
        row = Row(
            name="side-by-side",
            ours=_cold(f"{what}, `-j 2`", project, "-j", "2"),
            peer=_cold(f"{what}, one after the other", project),
            goal=0.6,
        )
        yield Group(rows=(row,), runs=3, warm_up=False)


def _uneven(folder: Path) -> Iterator[Group]:
    """Four stages that take all cores, if they share them well."""
    with toy_surroundings(folder) as (env, index):
        for name, seconds in UNEVEN.items():
            _make_burning(index, name, seconds)
        project = _locked(folder / "project", [*UNEVEN], env)
        work = sum(map(sum, UNEVEN.values())) / len(os.sched_getaffinity(0))
        least = max(work, *map(max, UNEVEN.values()))
        row = Row(
            name="uneven",
            ours=Known(what="longest compiler, or work ÷ cores", seconds=least),
            peer=_cold("cold, 4 uneven stages, `-j 4`", project, "-j", "4"),
            goal=0.9,
            is_least=True,
        )
        yield Group(rows=(row,), runs=3, warm_up=False)


def _two_projects(folder: Path) -> Iterator[Group]:
    """Two projects, each of which leaves a core free for a part of the time."""
    with toy_surroundings(folder) as (env, index):
        projects = []
        for side in ("left", "right"):
            names = [f"{side}-{name}" for name in TWO]
            for name, seconds in zip(names, TWO.values(), strict=True):
                _make_burning(index, name, seconds)
            projects.append(_locked(folder / side, names, env))

        def prepare() -> None:
            for project in projects:
                make_cold(project)

        one_after_the_other = Command(
            what="one after the other",
            commands=tuple(
                nox("-f", str(it.noxfile), "-s", "build-stages") for it in projects
            ),
            cwd=folder,
            env=projects[0].env,  # both use the same store
            prepare=prepare,
        )
        row = Row(
            name="two-projects",
            ours=replace(one_after_the_other, what="cold, 2 projects", at_once=True),
            peer=one_after_the_other,
            goal=1,
        )
        yield Group(rows=(row,), runs=3, warm_up=False)


WORKLOADS = (
    Workload(
        names=("side-by-side",), seconds=80, groups=_sleeping, quick=("side-by-side",)
    ),
    Workload(names=("uneven",), seconds=110, groups=_uneven),
    Workload(names=("two-projects",), seconds=110, groups=_two_projects),
)


def _make_burning(index: Index, name: str, seconds: list[float]) -> None:
    """Put an sdist on an index whose compilers take these CPU seconds."""
    system = {
        "requires": ["tinybackend"],
        "build-backend": "making",
        "backend-path": ["."],
    }
    files = {
        "pyproject.toml": tomli_w.dumps({"build-system": system}),
        "making.py": MAKING_BACKEND,
        "compilers.json": json.dumps(seconds),
    }
    make_sdist(index.folder, name, "1.0", files=files)


def _locked(folder: Path, names: list[str], env: Mapping[str, str]) -> Project:
    """Return a project with a stage for each of some names, and its locks."""
    project = make_project(folder, env)
    project.write(final_table(names) + "".join(stage_table(it, it) for it in names))
    run(LOCK, folder, project.env)
    return project


def _cold(what: str, project: Project, *words: str) -> Command:
    """Return a command that builds a project of which only the locks exist."""
    build = command(what, project, *nox(*words, "-s", "build-stages"))
    return replace(build, prepare=partial(make_cold, project))
