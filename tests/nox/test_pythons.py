"""One set of locks for several Pythons of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
import uv

from nox_buildstages.value import replace
from support.packages import make_sdist, make_wheel
from support.pair import built, declare, installed, lock_texts, refused, world
from support.project import make_project
from support.pythons import HERE, another

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.index import Index
    from support.project import Completed, Project

OTHER = another()
THERE = OTHER.version if OTHER else "3.39"
OLDER, NEWER = sorted((HERE, THERE), key=lambda version: int(version[2:]))
BOTH = (HERE, THERE)
ABSENT = "3.39"
LOCKS = ("first", "second", "final")
SOURCE = "int kernels(void) { return 1; }\n"

needs_two = pytest.mark.skipif(OTHER is None, reason="there is one Python here")


def publish(index: Index) -> None:
    """Put two outputs on the index, and what there is one of for the newer alone.

    Kernels are compiled, and their backend says and wants more on the newer Python.
    """
    folder = index.folder
    newer = f"py{NEWER.replace('.', '')}-none-any"
    make_wheel(folder, "numlib", "1.0")
    make_wheel(folder, "numlib", "2.0", requires_python=f">={NEWER}")
    make_wheel(folder, "tensorlib", "1.0")
    make_wheel(folder, "tensorlib", "2.0", tag=newer)
    for name in ("tool", "extra"):
        make_wheel(folder, name, "1.0")
    more = {"requires": ["numlib", "extra"], "requires-for-build": ["tool"]}
    make_sdist(
        folder,
        "kernels",
        "1.0",
        requires=["numlib"],
        static=False,
        files={"kernels.c": SOURCE},
        settings={"compile": ["kernels.c"], "on-python": {NEWER: more}},
    )
    make_sdist(folder, "models", "1.0", requires=["kernels"])


def declare_both(project: Project, *pythons: str, **second: Any) -> None:  # noqa: ANN401 - TOML
    """Declare the two outputs, for both Pythons if no others are named."""
    stages = [
        {"name": "first", "dependencies": ["tensorlib"], "outputs": ["kernels"]},
        {"name": "second", "dependencies": ["kernels"], "outputs": ["models"]},
    ]
    table = {
        "python": [*(pythons or BOTH)],
        "match-runtime": ["tensorlib"],
        "final": {"requirements": ["models", "tensorlib"], "imports": ["models"]},
        "stage": [stages[0], {**stages[1], **second}],
    }
    declare(project, table)


def seeing_both(project: Project) -> Project:
    """Return a project whose nox finds both Pythons."""
    path = project.env["PATH"]
    path = path if OTHER is None else OTHER.on_path(path)
    return replace(project, env={**project.env, "PATH": path})


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, caches: Path
) -> Iterator[tuple[Project, Completed]]:
    """A project that is locked and built for both, and what nox printed."""
    with world(tmp_path_factory.mktemp("pythons"), caches) as (index, alone):
        index.remove("tensorlib")
        publish(index)
        project = seeing_both(alone)
        declare_both(project)
        yield project, project.nox("-s", "build-stages")


@pytest.fixture
def pythons(made: tuple[Project, Completed], tmp_path: Path) -> Project:
    """A project for both Pythons without locks, whose store has all that was built."""
    first, _ = made
    project = seeing_both(make_project(tmp_path / "project", first.env))
    declare_both(project)
    shutil.copytree(first.store, project.store)
    return project


def markers(project: Project, lock: str, name: str) -> dict[str, str | None]:
    """Return the marker of each version of a package in a lock."""
    packages = project.lock(lock)["packages"]
    return {it["version"]: it.get("marker") for it in packages if it["name"] == name}


def on(version: str) -> str:
    return f'python_version == "{version}"'


# Locking ---------------------------------------------------------------------------


@needs_two
def test_one_lock_is_for_both(made: tuple[Project, Completed]) -> None:
    """It says so in the terms of PEP 751."""
    for name in LOCKS:
        lock = made[0].lock(name)
        starts = [marker.split(" and ")[0] for marker in lock["environments"]]
        assert starts == [on(OLDER), on(NEWER)]
        first, last = OLDER, f"3.{int(NEWER[2:]) + 1}"
        assert lock["requires-python"] == f"<{last},>={first}"


@needs_two
def test_what_differs_has_a_marker(made: tuple[Project, Completed]) -> None:
    """A version that the older one can't have is the newer one's alone."""
    project, _ = made
    found = markers(project, "final", "numlib")
    assert found == {"1.0": on(OLDER), "2.0": on(NEWER)}
    assert markers(project, "final", "extra") == {"1.0": on(NEWER)}
    assert markers(project, "first", "tool") == {"1.0": on(NEWER)}
    assert markers(project, "first", "tinybackend") == {"1.0": None}


@needs_two
def test_what_must_match_has_a_version_for_both(
    made: tuple[Project, Completed],
) -> None:
    """The newest that both can have, though one could have a newer."""
    for name in ("first", "final"):
        assert markers(made[0], name, "tensorlib") == {"1.0": None}


@needs_two
def test_backends_are_asked_on_each_python(made: tuple[Project, Completed]) -> None:
    """An output has an entry for each answer, and nothing is said of borrowing."""
    project, done = made
    kernels = project.lock("first")["tool"]["nox-buildstages"]["outputs"]
    assert [(it["marker"], it["build-requires"]) for it in kernels] == [
        (on(OLDER), ["tinybackend"]),
        (on(NEWER), ["tinybackend", "tool"]),
    ]
    assert [it["requires-dist"] for it in kernels] == [["numlib"], ["extra", "numlib"]]
    assert "asked-on" not in kernels[0]
    assert "using the answers of build backends" not in done.output
    for version in BOTH:
        asked = f"asking the build backend of kernels on Python {version}\n"
        assert asked in done.output
    (models,) = project.lock("second")["tool"]["nox-buildstages"]["outputs"]
    assert "marker" not in models


@needs_two
@pytest.mark.slow
def test_whoever_locks_writes_the_same(
    made: tuple[Project, Completed], pythons: Project, tmp_path: Path
) -> None:
    """From whichever Python's session, and with nothing in any cache."""
    shutil.rmtree(pythons.store)
    env = {"UV_CACHE_DIR": str(tmp_path / "uv")}
    done = pythons.nox("-s", f"build-stage-second-{THERE}", env=env)
    assert "; locking" in done.output
    assert lock_texts(pythons) == lock_texts(made[0])
    assert "building kernels 1.0 with " in done.output
    assert (pythons.wheelhouse / THERE / "logs/kernels.log").is_file()
    again = pythons.nox("-s", "build-stages-lock", "--", "--check", env=env)
    assert "the lock files are up to date" in again.output


@pytest.mark.slow
@needs_two
@pytest.mark.parametrize("version", [HERE, THERE])
def test_a_lock_for_one_is_stale_for_both(pythons: Project, version: str) -> None:
    """The plan says what it can with it, and locking what came."""
    declare_both(pythons, version)
    pythons.nox("-s", "build-stages-lock")
    declare_both(pythons)
    shutil.rmtree(pythons.folder / ".nox")
    planned = pythons.nox("-s", "build-stages-plan").output
    assert "locks: out of date, " in planned
    assert [it for it in BOTH if f"final (Python {it})" in planned] == [*BOTH]
    assert planned.count("   not locked yet") == 2
    said = pythons.nox("-s", "build-stages-lock").output
    assert f"made for Python <3.{int(NEWER[2:]) + 1},>={OLDER}, no longer for" in said


# What doesn't go together ----------------------------------------------------------


def lock_alone(project: Project, index: Index, *dependencies: str) -> str:
    """Lock a stage with more dependencies for both Pythons; return why it can't be."""
    make_sdist(index.folder, "alone", "1.0")
    only = {"name": "only", "dependencies": [*dependencies], "outputs": ["alone"]}
    table = {"python": [*BOTH], "match-runtime": ["torn"], "stage": [only]}
    declare(project, {**table, "final": {"requirements": ["alone"]}})
    return refused(project, "-s", "build-stages-lock")


@pytest.fixture
def bare(project: Project) -> Project:
    """A project that sees both Pythons, with an index of its own."""
    return seeing_both(project)


@needs_two
def test_a_conflict_on_one_python_says_on_which(bare: Project, index: Index) -> None:
    """The other one's environment can be resolved."""
    for version in ("1.0", "2.0"):
        make_wheel(index.folder, "numlib", version)
    requires = [f"numlib<2; python_version == '{OLDER}'"]
    make_wheel(index.folder, "user", "1.0", requires=requires)
    said = lock_alone(bare, index, "numlib>=2", "user")
    assert f"stage only for CPython {OLDER} on" in said


@needs_two
def test_what_must_be_built_on_one_python_says_on_which(
    bare: Project, index: Index
) -> None:
    """It has wheels for the other."""
    tag = f"py{NEWER.replace('.', '')}-none-any"
    make_wheel(index.folder, "compiled", "1.0", tag=tag)
    make_sdist(index.folder, "compiled", "1.0")
    said = lock_alone(bare, index, "compiled")
    assert f"stage only for CPython {OLDER} on" in said
    assert 'outputs = ["compiled==1.0"]' in said


@needs_two
def test_no_version_for_all_names_both_sides(bare: Project, index: Index) -> None:
    """Each with its Python."""
    for version, python in (("1.0", OLDER), ("2.0", NEWER)):
        tag = f"cp{python.replace('.', '')}-none-any"
        make_wheel(index.folder, "torn", version, tag=tag)
    said = lock_alone(bare, index, "torn")
    assert "torn: no version suits every environment (match-runtime)" in said
    assert f"  only for CPython {OLDER} on" in said
    assert f"with these, stage only for CPython {NEWER} on" in said


# Building --------------------------------------------------------------------------


@needs_two
@pytest.mark.parametrize("version", BOTH)
def test_each_has_a_wheelhouse(
    made: tuple[Project, Completed], tmp_path: Path, version: str
) -> None:
    """With its own wheels and logs, and a lock that the fitting interpreter takes."""
    project, _ = made
    house = project.wheelhouse / version
    short = version.replace(".", "")
    kernels, models = sorted(path.name for path in house.glob("*.whl"))
    assert kernels.startswith(f"kernels-1.0-cp{short}-cp{short}-")
    assert models == "models-1.0-py3-none-any.whl"
    assert {path.name for path in house.glob("logs/*")} == {"kernels.log", "models.log"}
    folder = tmp_path / "environment"
    for command in (
        ("venv", "-p", version, str(folder)),
        (
            *("pip", "sync", "--preview-features", "pylock", "--no-build"),
            *("--python", str(folder), str(house / "pylock.toml")),
        ),
    ):
        subprocess.run([uv.find_uv_bin(), "-q", *command], env=project.env, check=True)
    more = {"extra": "1.0", "numlib": "2.0"} if version == NEWER else {"numlib": "1.0"}
    held = {"kernels": "1.0", "models": "1.0", "tensorlib": "1.0", **more}
    session = f".nox/build-stages-{version.replace('.', '-')}"
    assert installed(folder) == installed(project.folder / session) == held


@needs_two
def test_a_second_run_does_nothing(made: tuple[Project, Completed]) -> None:
    """Nothing is locked, asked or built, for any of them."""
    done = made[0].nox("-s", "build-stages")
    assert built(done) == []
    for word in ("locking", "asking", "wrote"):
        assert word not in done.output


@needs_two
def test_the_plan_is_for_both(made: tuple[Project, Completed]) -> None:
    """A tree for each Python."""
    output = made[0].nox("-s", "build-stages-plan").output
    trees = output.split("final (Python ")[1:]
    assert [tree[: tree.index(")")] for tree in trees] == [*BOTH]
    for tree in trees:
        assert re.findall(r"(\w+) 1\.0 +. cached", tree) == ["kernels", "models"]


@needs_two
def test_each_is_a_job_of_its_own(made: tuple[Project, Completed]) -> None:
    """With its session, its wheelhouse and its key."""
    said = made[0].nox("-s", "build-stages-plan", "--", "--github").output
    (line,) = (line for line in said.splitlines() if line.startswith("matrix="))
    assert "\nwheelhouse=wheelhouse\n" in said
    jobs = json.loads(line.removeprefix("matrix="))["include"]
    assert len({job.pop("key") for job in jobs}) == 2
    assert jobs == [
        {
            "cell": f"python-{version}",
            "label": f"python={version}",
            "session": f"build-stages-{version}",
            "release": f"build-stages-release-{version}",
            "python": version,
            "wheelhouse": f"wheelhouse/{version}",
            "tools": "c++ cc gfortran ld nvcc rustc",
            "pass-env": "",
            "runs-on": "",
            "container": "",
            "setup": "",
            "variables": f"CELL_PYTHON={version}",
        }
        for version in BOTH
    ]


@needs_two
@pytest.mark.parametrize(
    "flags", [(), pytest.param(("-j", "2"), marks=pytest.mark.slow)]
)
def test_one_run_builds_both(
    made: tuple[Project, Completed], pythons: Project, flags: tuple[str, ...]
) -> None:
    """Locks are made once, each wheel too, one after the other or side by side."""
    project, done = made
    if flags:
        shutil.rmtree(pythons.store)
        project, done = pythons, pythons.nox(*flags, "-s", "build-stages")
    assert done.output.count("; locking") == 1
    assert sorted(built(done)) == ["kernels", "kernels", "models", "models"]
    for version in BOTH:
        assert (project.wheelhouse / version / "pylock.toml").is_file()


# nox's flags and missing Pythons ---------------------------------------------------


@pytest.mark.slow
@needs_two
def test_the_second_environment_is_reused_as_nox_is_told(pythons: Project) -> None:
    """With -R it isn't changed, as the session's own isn't."""
    declare_both(pythons, THERE, HERE)
    session = f"build-stage-first-{HERE}"
    shutil.rmtree(pythons.store)
    pythons.nox("-s", session)
    declare_both(pythons, THERE, HERE, dependencies=["kernels", "numlib"])
    shutil.rmtree(pythons.store)
    said = refused(pythons, "-R", "-s", session)
    assert f".nox/build-stages-lock-{THERE}: differs from its lock" in said
    assert "run nox without -R" in said


@needs_two
def test_nothing_is_asked_where_nothing_may_run(pythons: Project) -> None:
    """With --install-only locking fails, and says why."""
    shutil.rmtree(pythons.store)
    said = refused(pythons, "--install-only", "-s", "build-stages-lock")
    assert "run nox without --install-only" in said
    assert not (pythons.folder / "build-stages").exists()


@pytest.mark.slow
def test_no_python_is_no_success(pythons: Project) -> None:
    """If no Python of the list is here, nox fails; it would skip all sessions.

    Environments of an earlier run, with another Python, change nothing.
    """
    declare_both(pythons, HERE)
    pythons.nox("-s", "build-stages-lock")
    assert (pythons.folder / ".nox/build-stages-lock/bin/python").exists()
    declare_both(pythons, ABSENT)
    advice = f"Python {ABSENT} isn't installed here, and nox runs on {HERE}."
    for session in ("build-stages", "build-stages-lock"):
        assert advice in refused(pythons, "-s", session)


def require_python(project: Project, required: str) -> None:
    """Declare a runtime that needs nothing, and ``requires-python``."""
    own = {"name": "app", "version": "1", "requires-python": required}
    table: dict[str, Any] = {"nox-buildstages": {"final": {"requirements": []}}}
    project.write(tomli_w.dumps({"project": own, "tool": table}))


@pytest.mark.slow
def test_no_python_that_the_project_requires(project: Project) -> None:
    """If nox's own isn't one and there is no other, both are named."""
    require_python(project, f"=={ABSENT}.*")
    said = refused(project, "-s", "build-stages-lock")
    assert f"Python =={ABSENT}.* isn't installed here, and nox runs on {HERE}." in said
    project.nox("--list")


def test_a_shim_is_no_python(project: Project) -> None:
    """A script of pyenv for a Python that isn't selected here fails."""
    shims = project.folder / "shims"
    shims.mkdir()
    shim = shims / f"python{ABSENT}"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    declare(project, {"python": [ABSENT], "final": {"requirements": []}})
    path = os.pathsep.join((str(shims), project.env["PATH"]))
    said = refused(project, "-s", "build-stages", env={"PATH": path})
    assert f"Python {ABSENT} isn't installed here" in said
    declare(project, {"python": [ABSENT, HERE], "final": {"requirements": []}})
    project.nox("-s", "build-stages-lock", env={"PATH": path})


@needs_two
def test_the_python_that_the_project_requires(project: Project) -> None:
    """If nox's own isn't one, nox takes one that is; a pin among them comes first."""
    project = seeing_both(project)
    require_python(project, f"!={HERE}.*,>=3.10")
    (project.folder / ".python-version").write_text(f"{THERE}\n", "utf-8")
    project.nox("-s", "build-stages")
    assert project.lock("final")["requires-python"] == f"=={THERE}.*"
    (project.folder / ".python-version").write_text(f"{HERE}\n", "utf-8")
    listed = project.nox("--list", "--json").output
    (found,) = (it for it in json.loads(listed) if it["session"] == "build-stages")
    assert found["python"] == f"!={HERE}.*,>=3.10"


@pytest.mark.slow
def test_a_python_that_is_not_here_is_locked_all_the_same(pythons: Project) -> None:
    """It takes the answers of one that is, and the lock says of which."""
    declare_both(pythons, HERE, ABSENT)
    said = pythons.nox("-s", "build-stages-lock").output
    assert f"using the answers of build backends here for CPython {ABSENT} on" in said
    (kernels,) = pythons.lock("first")["tool"]["nox-buildstages"]["outputs"]
    (asked,) = kernels["asked-on"]
    assert asked.startswith(on(HERE))
    done = pythons.nox("-s", "build-stages").output
    assert f"build-stages-{ABSENT} skipped: Python interpreter {ABSENT} not" in done
    names = [path.name for path in pythons.wheelhouse.iterdir()]
    assert sorted(names) == [".gitignore", HERE, "report.html", "timeline.json"]
    planned = pythons.nox("-s", "build-stages-plan").output
    assert f"no Python {ABSENT} here to plan for" in planned
    said = refused(pythons, "-s", "build-stages-plan", "--", "--github")
    assert "--github plans for every Python, and one isn't available here" in said


@pytest.mark.slow
def test_a_python_may_be_a_path(project: Project, index: Index) -> None:
    """As nox takes it; such a Python needs no version in its name."""
    make_sdist(index.folder, "kernels", "1.0")
    table = {
        "python": [sys.executable],
        "final": {"requirements": ["kernels"]},
        "stage": [{"name": "first", "outputs": ["kernels"]}],
    }
    declare(project, table)
    done = project.nox("-s", "build-stages")
    assert built(done) == ["kernels"]
    assert project.wheels() == ["kernels-1.0-py3-none-any.whl"]
    plan = project.nox("-s", "build-stages-plan").output
    assert "nothing to build" in plan
