"""Projects to measure, and commands that run in them."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.measuring import Command, run
from support.index import Index
from support.packages import make_tinybackend
from support.project import Project, hermetic_env, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from benchmarks.measuring import Argv

BARE = """
import nox


@nox.session(reuse_venv=True)
@nox.parametrize("number", range({count}))
def empty(session, number):
    pass
"""
"""A noxfile with sessions that do nothing."""


def nox(*words: str) -> Argv:
    """Return a command that runs this Python's nox."""
    return (sys.executable, "-m", "nox", "-db", "uv", *words)


BUILD_STAGES = nox("-s", "build-stages")
LOCK = nox("-s", "build-stages-lock")
PLAN = nox("-s", "build-stages-plan")
BARE_NOX = nox("-s", "empty")


@contextmanager
def toy_surroundings(folder: Path) -> Iterator[tuple[dict[str, str], Index]]:
    """Yield variables that know an index and nothing else, and the index."""
    with Index(folder / "index") as index:
        make_tinybackend(index.folder)
        env = hermetic_env(folder / "scratch", folder / "caches", index)
        yield {**env, "PATH": os.environ["PATH"]}, index


def final_table(requirements: list[str]) -> str:
    """Return the table of the runtime."""
    return f"[tool.nox-buildstages.final]\nrequirements = {requirements}\n"


def stage_table(name: str, output: str) -> str:
    """Return the table of a stage with one output."""
    head = f'\n[[tool.nox-buildstages.stage]]\nname = "{name}"\n'
    return f'{head}outputs = ["{output}"]\n'


def built_project(folder: Path, table: str, env: Mapping[str, str]) -> Project:
    """Return a project with a table, built."""
    project = make_project(folder, env)
    project.write(table)
    run(BUILD_STAGES, folder, project.env)
    return project


def bare_project(folder: Path, env: Mapping[str, str], count: int = 1) -> Project:
    """Return a project with sessions that do nothing, their environments made."""
    project = make_project(folder, env)
    project.noxfile.write_text(BARE.format(count=count), encoding="utf-8")
    run(BARE_NOX, folder, env)
    return project


def command(what: str, project: Project, *argv: str) -> Command:
    """Return a command that runs in a project."""
    return Command(what=what, commands=(argv,), cwd=project.folder, env=project.env)


def make_cold(project: Project) -> None:
    """Leave of a project its locks, and of its store the downloads."""
    remove_environments(project)
    if project.store.is_dir():
        for path in project.store.iterdir():
            if path.name != "sources":
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_environments(project: Project) -> None:
    """Leave of a project its locks, and the store."""
    for path in (project.folder / ".nox", project.wheelhouse):
        shutil.rmtree(path, ignore_errors=True)
