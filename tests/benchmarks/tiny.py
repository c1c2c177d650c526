"""What a run costs in which nothing is to be built, on packages made from nothing."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from benchmarks.measuring import Group, Row, Workload
from benchmarks.projects import (
    BARE_NOX,
    BUILD_STAGES,
    LOCK,
    PLAN,
    bare_project,
    built_project,
    command,
    final_table,
    nox,
    stage_table,
    toy_surroundings,
)
from nox_buildstages.store.store import Store
from nox_buildstages.value import replace
from support.packages import make_sdist, make_tree, make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nox_buildstages.store.store import StoredWheel
    from support.index import Index
    from support.project import Project

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

BIG_PACKAGES, BIG_OUTPUTS, BIG_FILES = 100, 4, 2_000
"""Of a big project: packages in the runtime, outputs in folders, files in each."""

CELLS = """
[tool.nox-buildstages.matrix]
arch = {values}
lib = {values}

[tool.nox-buildstages.final]
requirements = ["base", "kernels", "codecs", "ops", "models"]

[[tool.nox-buildstages.stage]]
name = "base"
outputs = ["base"]

[[tool.nox-buildstages.stage]]
name = "kernels"
outputs = ["kernels"]
env = {{ ARCH = "{{arch}}" }}

[[tool.nox-buildstages.stage]]
name = "codecs"
outputs = ["codecs"]
env = {{ LIB = "{{lib}}" }}

[[tool.nox-buildstages.stage]]
name = "ops"
dependencies = ["base", "kernels"]
outputs = ["ops"]

[[tool.nox-buildstages.stage]]
name = "models"
dependencies = ["ops", "codecs"]
outputs = ["models"]
"""
"""Five stages, one of which is built for each cell, and three for each value."""
VALUES = 10
"""Of each of the two axes: 100 cells."""

MANY_STAGES = 200
MANY_WHEELS = 10_000
PROJECTS = 500
"""Of how many projects the many wheels are."""


def _noop(folder: Path) -> Iterator[Group]:
    """Three stages with nothing to do, and what nox does without us."""
    with toy_surroundings(folder) as (env, index):
        project = _chain(folder / "project", index, env)
        bare = bare_project(folder / "bare", env)
        empty = command("bare nox, one empty session", bare, *BARE_NOX)
        python = (sys.executable, "-c")
        rows = (
            Row(
                name="noop",
                ours=command(
                    "no-op `nox -s build-stages`, 3 stages", project, *BUILD_STAGES
                ),
                peer=empty,
                goal=1.5,
            ),
            Row(
                name="plan",
                ours=command("no-op `nox -s build-stages-plan`", project, *PLAN),
                peer=empty,
                goal=2,
            ),
            Row(
                name="relock-toy",
                ours=command("`nox -s build-stages-lock` again", project, *LOCK),
                peer=empty,
                goal=2.5,
            ),
            Row(
                name="list",
                ours=command("`nox --list`", project, *nox("--list")),
                peer=command("bare `nox --list`", bare, *nox("--list")),
                goal=1.15,
            ),
            Row(
                name="import",
                ours=command(
                    "`import nox_buildstages`", bare, *python, "import nox_buildstages"
                ),
                peer=command("`import nox`", bare, *python, "import nox"),
                goal=0.25,
            ),
        )
        yield from (Group(rows=(row,), runs=15) for row in rows)


def _stages(folder: Path) -> Iterator[Group]:
    """Many stages with nothing to do."""
    with toy_surroundings(folder) as (env, index):
        many = _wide(folder / "many", MANY_STAGES, index, env)
        one = _wide(folder / "one", 1, index, env)
    row = Row(
        name="stages",
        ours=command(f"no-op, {MANY_STAGES} stages", many, *BUILD_STAGES),
        peer=command("no-op, 1 stage", one, *BUILD_STAGES),
        goal=2,
    )
    yield Group(rows=(row,), runs=7)


def _cells(folder: Path) -> Iterator[Group]:
    """A matrix of many cells with nothing to do."""
    with toy_surroundings(folder) as (env, index):
        for name in ("base", "kernels", "codecs", "ops", "models"):
            make_sdist(index.folder, name, "1.0")
        values = [str(number) for number in range(VALUES)]
        project = built_project(folder / "project", CELLS.format(values=values), env)
    what = f"no-op, {VALUES**2} cells with 5 stages"
    row = Row(name="cells", ours=command(what, project, *BUILD_STAGES), goal=2)
    yield Group(rows=(row,), runs=5)


def _big(folder: Path) -> Iterator[Group]:
    """A project of the size of a real one with nothing to do."""
    with toy_surroundings(folder) as (env, index):
        toy = _chain(folder / "project", index, env)
        packages = [f"package-{number}" for number in range(BIG_PACKAGES)]
        for name in packages:
            make_wheel(index.folder, name, "1.0")
        outputs = [f"output-{number}" for number in range(BIG_OUTPUTS)]
        files = {f"src/{number}.c": f"int x{number};\n" for number in range(BIG_FILES)}
        for name in outputs:
            make_tree(folder / "trees" / name, name, "1.0", files=files)
        stages = (stage_table(name, f"{name} @ ../trees/{name}") for name in outputs)
        table = final_table([*packages, *outputs]) + "".join(stages)
        big = built_project(folder / "big", table, env)
    what = f"{BIG_PACKAGES} packages, {BIG_OUTPUTS} folders of {BIG_FILES:,} files"
    row = Row(
        name="big",
        ours=command(f"no-op, {what}", big, *BUILD_STAGES),
        peer=command("no-op, 3 stages", toy, *BUILD_STAGES),
        goal=2,
    )
    yield Group(rows=(row,), runs=7)


def _store(folder: Path) -> Iterator[Group]:
    """Many wheels stored, of this project and of others."""
    with toy_surroundings(folder) as (env, index):
        few = _chain(folder / "project", index, env)
        changed = _changed(few, folder / "changed")
    many, changed_many = (
        _with_store(project, folder / "store") for project in (few, changed)
    )
    _fill(few.store, many.store)
    prune = nox("-s", "build-stages-prune")
    rows = (
        Row(
            name="store",
            ours=command(f"no-op, {MANY_WHEELS:,} wheels stored", many, *BUILD_STAGES),
            peer=command("no-op, 3 wheels", few, *BUILD_STAGES),
            goal=1.2,
        ),
        Row(
            name="store-plan",
            ours=command(
                f"plan of what was never built, {MANY_WHEELS:,} wheels",
                changed_many,
                *PLAN,
            ),
            peer=command("the same, 3 wheels", changed, *PLAN),
            goal=1.3,
        ),
        Row(
            name="store-prune",
            ours=command(f"`build-stages-prune`, {MANY_WHEELS:,} wheels", many, *prune),
            peer=command("the same, 3 wheels", few, *prune),
        ),
    )
    yield from (Group(rows=(row,), runs=7) for row in rows)


WORKLOADS = (
    Workload(
        names=("noop", "plan", "relock-toy", "list", "import"),
        seconds=30,
        groups=_noop,
        quick=("noop", "plan", "relock-toy", "list", "import"),
    ),
    Workload(names=("stages",), seconds=70, groups=_stages),
    Workload(names=("cells",), seconds=120, groups=_cells),
    Workload(names=("big",), seconds=20, groups=_big, quick=("big",)),
    Workload(
        names=("store", "store-plan", "store-prune"),
        seconds=45,
        groups=_store,
        quick=("store", "store-plan"),
    ),
)


def _chain(folder: Path, index: Index, env: Mapping[str, str]) -> Project:
    """Return a project of three stages, built."""
    for name in ("one", "two", "three"):
        make_sdist(index.folder, name, "1.0")
    return built_project(folder, CHAIN, env)


def _wide(folder: Path, count: int, index: Index, env: Mapping[str, str]) -> Project:
    """Return a project of stages that don't need each other, built."""
    names = [f"package-{number}" for number in range(count)]
    for name in names:
        make_sdist(index.folder, name, "1.0")
    stages = (stage_table(name, name) for name in names)
    return built_project(folder, final_table(names) + "".join(stages), env)


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
