"""What a run costs in which nothing is to be built, on packages made from nothing."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.measuring import Contender, Heat, Row, Scene, run
from nox_buildstages.store.store import Store
from nox_buildstages.value import replace
from support.index import Index
from support.packages import make_sdist, make_tinybackend
from support.project import Project, hermetic_env, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from benchmarks.measuring import Argv
    from nox_buildstages.store.store import StoredWheel

BARE = """
import nox


@nox.session(reuse_venv=True)
def empty(session):
    pass
"""

CHAIN = """
[tool.nox-buildstages.final]
requirements = ["one", "two", "three"]

[[tool.nox-buildstages.stage]]
name = "first"
outputs = ["one"]
env = { FLAG = "1" }

[[tool.nox-buildstages.stage]]
name = "second"
dependencies = ["one"]
outputs = ["two"]

[[tool.nox-buildstages.stage]]
name = "third"
dependencies = ["two"]
outputs = ["three"]
"""
"""Three stages, each of which needs the one before it."""

MANY_STAGES = 200
MANY_WHEELS = 10_000
PROJECTS = 500
"""Of how many projects the many wheels are."""


def nox(*words: str) -> Argv:
    """Return a command that runs this Python's nox."""
    return (sys.executable, "-m", "nox", "-db", "uv", *words)


def _noop(folder: Path) -> Iterator[Heat]:
    """Three stages with nothing to do, and what nox does without us."""
    with _surroundings(folder) as (env, index):
        project = _chain(folder / "project", index, env)
        bare = _bare(folder / "bare", env)
    empty = _contender("bare nox, one empty session", bare, *nox("-s", "empty"))
    python = (sys.executable, "-c")
    pairs = (
        Row(
            name="noop",
            ours=_contender(
                "no-op `nox -s build-stages`, 3 stages",
                project,
                *nox("-s", "build-stages"),
            ),
            peer=empty,
            goal=2,
        ),
        Row(
            name="plan",
            ours=_contender(
                "no-op `nox -s build-stages-plan`",
                project,
                *nox("-s", "build-stages-plan"),
            ),
            peer=empty,
            goal=2,
        ),
        Row(
            name="list",
            ours=_contender("`nox --list`", project, *nox("--list")),
            peer=_contender("bare `nox --list`", bare, *nox("--list")),
            goal=2,
        ),
        Row(
            name="import",
            ours=_contender(
                "`import nox_buildstages`", bare, *python, "import nox_buildstages"
            ),
            peer=_contender("`import nox`", bare, *python, "import nox"),
            goal=1,
        ),
    )
    yield from (Heat(rows=(row,), runs=15) for row in pairs)


def _stages(folder: Path) -> Iterator[Heat]:
    """Many stages with nothing to do."""
    with _surroundings(folder) as (env, index):
        many = _wide(folder / "many", MANY_STAGES, index, env)
        one = _wide(folder / "one", 1, index, env)
    words = nox("-s", "build-stages")
    row = Row(
        name="stages",
        ours=_contender(f"no-op, {MANY_STAGES} stages", many, *words),
        peer=_contender("no-op, 1 stage", one, *words),
        goal=2,
    )
    yield Heat(rows=(row,), runs=7)


def _store(folder: Path) -> Iterator[Heat]:
    """Many wheels stored, of this project and of others."""
    with _surroundings(folder) as (env, index):
        few = _chain(folder / "project", index, env)
        changed = _changed(few, folder / "changed")
    many, changed_many = (
        _with_store(project, folder / "store") for project in (few, changed)
    )
    _fill(few.store, many.store)
    words, plan = nox("-s", "build-stages"), nox("-s", "build-stages-plan")
    rows = (
        Row(
            name="store",
            ours=_contender(f"no-op, {MANY_WHEELS:,} wheels stored", many, *words),
            peer=_contender("no-op, 3 wheels", few, *words),
            goal=1.2,
        ),
        Row(
            name="store-plan",
            ours=_contender(
                f"plan of what was never built, {MANY_WHEELS:,} wheels",
                changed_many,
                *plan,
            ),
            peer=_contender("the same, 3 wheels", changed, *plan),
        ),
    )
    yield from (Heat(rows=(row,), runs=7) for row in rows)


SCENES = (
    Scene(names=("noop", "plan", "list", "import"), seconds=25, heats=_noop),
    Scene(names=("stages",), seconds=70, heats=_stages),
    Scene(names=("store", "store-plan"), seconds=40, heats=_store),
)


@contextmanager
def _surroundings(folder: Path) -> Iterator[tuple[dict[str, str], Index]]:
    """Yield variables that know an index and nothing else, and the index."""
    with Index(folder / "index") as index:
        make_tinybackend(index.folder)
        env = hermetic_env(folder / "scratch", folder / "caches", index)
        yield {**env, "PATH": os.environ["PATH"]}, index


def _chain(folder: Path, index: Index, env: Mapping[str, str]) -> Project:
    """Return a project of three stages, built."""
    for name in ("one", "two", "three"):
        make_sdist(index.folder, name, "1.0")
    return _built(folder, CHAIN, env)


def _wide(folder: Path, count: int, index: Index, env: Mapping[str, str]) -> Project:
    """Return a project of stages that don't need each other, built."""
    names = [f"package-{number}" for number in range(count)]
    for name in names:
        make_sdist(index.folder, name, "1.0")
    stages = (
        f'\n[[tool.nox-buildstages.stage]]\nname = "{name}"\noutputs = ["{name}"]\n'
        for name in names
    )
    final = f"[tool.nox-buildstages.final]\nrequirements = {names}\n"
    return _built(folder, final + "".join(stages), env)


def _built(folder: Path, table: str, env: Mapping[str, str]) -> Project:
    project = make_project(folder, env)
    project.write(table)
    run(nox("-s", "build-stages"), folder, project.env)
    return project


def _bare(folder: Path, env: Mapping[str, str]) -> Project:
    """Return a project with a session that does nothing, its environment made."""
    project = make_project(folder, env)
    project.noxfile.write_text(BARE, encoding="utf-8")
    run(nox("-s", "empty"), folder, env)
    return project


def _changed(project: Project, folder: Path) -> Project:
    """Return a project in another folder, whose first stage has another flag.

    It was never built there; so a plan looks for what it is like in all of the store.
    """
    shutil.copytree(project.folder, folder, ignore=shutil.ignore_patterns(".nox"))
    changed = replace(project, folder=folder)
    changed.write(CHAIN.replace('FLAG = "1"', 'FLAG = "2"'))
    shutil.rmtree(changed.wheelhouse)
    return changed


def _with_store(project: Project, store: Path) -> Project:
    """Return a project as it is with another store."""
    env = {**project.env, "NOX_BUILDSTAGES_CACHE_DIR": str(store)}
    return replace(project, env=env, store=store)


def _fill(few: Path, many: Path) -> None:
    """Make a store with the wheels of another, and many more."""
    shutil.copytree(few, many)
    store = Store(many)
    entries = [*store.wheels(store.keys())]
    for number in range(MANY_WHEELS - len(entries)):
        project = number % PROJECTS
        _put_another(store, entries[project % len(entries)], project, number)


def _put_another(store: Store, entry: StoredWheel, project: int, number: int) -> None:
    """Put a wheel into a store as if it had been built from another recipe.

    Those of the first project are of an output that there is, with other flags.
    """
    name = f"{entry.recipe.name}-{project}" if project else entry.recipe.name
    recipe = replace(entry.recipe, name=name, env={"FLAG": str(number)})
    store.put(recipe, entry.path, log=entry.log, seconds=entry.seconds, run=entry.run)


def _contender(what: str, project: Project, *argv: str) -> Contender:
    return Contender(what=what, commands=(argv,), cwd=project.folder, env=project.env)
