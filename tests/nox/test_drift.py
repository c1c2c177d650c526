"""Nothing drifts: what is locked stays; who asks for one gets that alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from support.packages import (
    make_sdist,
    make_tinybackend,
    make_tree,
    make_wheel,
)
from support.pair import (
    Pair,
    built,
    entry,
    installed,
    lock_texts,
    publish,
    refused,
    stored,
    world,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from support.index import Index
    from support.project import Project

LOCKS = ("first", "second", "final")
SESSIONS = ("build-stage-first", "build-stage-second", "build-stages")
FINAL = {"requirements": ["models", "shallow"]}
TABLE = Pair(top={"match-runtime": ["tensorlib"]}, final=FINAL)
CHECK = ("-s", "build-stages-lock", "--", "--check")
DEAD = "http://127.0.0.1:9/simple/"
NOTHING = "no version, file or source changed"


@pytest.fixture
def locked(project: Project, index: Index) -> Project:
    """A project whose locks are older than the newest version of everything."""
    publish(index)
    make_wheel(index.folder, "shallow", "1.0", requires=["deep"])
    make_wheel(index.folder, "deep", "1.0")
    TABLE.write(project)
    project.prepare("build-stages-lock")
    publish_newer(index)
    return project


def publish_newer(index: Index) -> None:
    """Publish a newer build dependency, torch's stand-in, output, and runtime's own."""
    make_tinybackend(index.folder, "2.0")
    make_wheel(index.folder, "tensorlib", "3.0")
    make_sdist(index.folder, "kernels", "2.0", requires=["tensorlib"])
    make_wheel(index.folder, "deep", "2.0")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run of everything comes to."""

    said: str
    wheels: dict[str, tuple[str, str]]
    environments: dict[str, dict[str, str]]


def run_from_nothing(project: Project, scratch: Path) -> Result:
    """Run everything with empty store and caches, in environments made anew."""
    for folder in (project.store, project.wheelhouse, project.folder / ".nox", scratch):
        shutil.rmtree(folder, ignore_errors=True)
    env = {
        "NOX_BUILDSTAGES_CACHE_DIR": str(scratch / "store"),
        "UV_CACHE_DIR": str(scratch / "uv"),
    }
    done = project.nox("-s", "build-stages", env=env)
    assert built(done) == ["kernels", "models"]
    entries = {name: entry(project, name) for name in ("kernels", "models")}
    return Result(
        said=done.output,
        wheels={name: (it["key"], it["sha256"]) for name, it in entries.items()},
        environments={
            session: installed(project.folder / ".nox" / session)
            for session in SESSIONS
        },
    )


def held(project: Project) -> dict[tuple[str, str], Any]:
    """Return everything that the locks hold: by lock, and project or output."""
    found: dict[tuple[str, str], Any] = {}
    for name in LOCKS:
        lock = project.lock(name)
        outputs = lock["tool"]["nox-buildstages"].pop("outputs", [])
        for each in (*lock.pop("packages"), *outputs):
            assert found.setdefault((name, each["name"]), each) is each
        del lock["tool"]["nox-buildstages"]["inputs"]
        del lock["tool"]["nox-buildstages"]["series"]
        lock["tool"]["nox-buildstages"].pop("declared", None)
        found[name, ""] = lock
    return found


def test_newer_releases_change_nothing(locked: Project, tmp_path: Path) -> None:
    """With locks, empty store and caches give the same wheels and environments.

    Locks that another change made stale keep every version and file they had.
    """
    locks, before = lock_texts(locked), held(locked)
    one = run_from_nothing(locked, tmp_path / "one")
    assert one.environments["build-stages"] == {
        "kernels": "1.0",
        "models": "1.0",
        "tensorlib": "2.0",
        "shallow": "1.0",
        "deep": "1.0",
    }
    assert one.environments["build-stage-first"]["tinybackend"] == "1.0"
    assert "locking" not in one.said
    assert lock_texts(locked) == locks
    env = {"env": {"UNSEEN": "1"}}
    Pair(top=TABLE.top, final=FINAL, second=env).write(locked)
    other = run_from_nothing(locked, tmp_path / "other")
    assert "; locking" in other.said
    assert NOTHING in other.said
    assert held(locked) == before
    assert other.environments == one.environments
    (_, sha256), (_, another) = other.wheels["kernels"], one.wheels["kernels"]
    assert sha256 == another
    (_, sha256), (_, another) = other.wheels["models"], one.wheels["models"]
    assert sha256 == another


UPGRADES: dict[str, tuple[str, set[tuple[str, str]]]] = {
    "tinybackend": (
        "tinybackend 1.0 → 2.0 in first, second",
        {("first", "tinybackend"), ("second", "tinybackend")},
    ),
    "tensorlib": (
        "tensorlib 2.0 → 3.0 in first, second, final",
        {(name, "tensorlib") for name in LOCKS},
    ),
    "kernels": (
        "kernels 1.0 → 2.0 in first, second, final",
        {(name, "kernels") for name in LOCKS},
    ),
    "deep": ("deep 1.0 → 2.0 in final", {("final", "deep")}),
}


def lines(output: str) -> set[str]:
    """Return what a run told of changes."""
    said = [line.removeprefix("nox > ") for line in output.splitlines()]
    return {line for line in said if "→" in line or line == NOTHING}


OTHERS = sorted(UPGRADES.keys() - {"tinybackend"})


@pytest.mark.parametrize(
    "name",
    ["tinybackend", *(pytest.param(it, marks=pytest.mark.slow) for it in OTHERS)],
)
def test_one_that_is_asked_for_changes_alone(locked: Project, name: str) -> None:
    """`--upgrade-package X` changes the entries of X, and no other in any lock."""
    before = held(locked)
    words = ("--upgrade-package", name)
    done = locked.nox("-s", "build-stages-lock", "--", *words)
    after = held(locked)
    line, expected = UPGRADES[name]
    assert after.keys() == before.keys()
    assert {key for key in after if after[key] != before[key]} == expected
    assert lines(done.output) == {line}


@pytest.mark.slow
def test_all_that_is_newer_comes_when_asked_for(locked: Project) -> None:
    """`--upgrade` takes every newer version; then there is nothing more to change."""
    before = held(locked)
    words = ("-s", "build-stages-lock", "--", "--upgrade")
    assert lines(locked.nox(*words).output) == {line for line, _ in UPGRADES.values()}
    after = held(locked)
    expected = set().union(*(keys for _, keys in UPGRADES.values()))
    assert {key for key in after if after[key] != before[key]} == expected
    assert lines(locked.nox(*words).output) == {NOTHING}


@pytest.mark.slow
def test_a_stage_that_comes_and_goes_is_told(locked: Project) -> None:
    """And what it brings into the final environment."""
    tree = make_tree(locked.folder / "third", "third", "1.0", requires=[])
    stages = tuple(
        {"name": name, "dependencies": ["tensorlib"], "outputs": [output]}
        for name, output in (("first", "kernels"), ("third", f"third @ ./{tree.name}"))
    )
    table = {"final": {"requirements": ["kernels", "third"]}, "stage": list(stages)}
    locked.write(tomli_w.dumps({"tool": {"nox-buildstages": table}}))
    output = locked.nox("-s", "build-stages-lock").output
    said = [
        "the lock of third is new: 3 projects",
        "the lock of second is gone",
        "deep 1.0 left final",
        "models 1.0 left final",
        "shallow 1.0 left final",
        "third 1.0 came into final",
    ]
    told = output.partition("wrote to")[2].splitlines()[1:]
    assert [line.removeprefix("nox > ") for line in told[: len(said)]] == said


# What makes locks stale


@pytest.fixture(scope="module")
def current(
    tmp_path_factory: pytest.TempPathFactory, caches: Path
) -> Iterator[tuple[Project, Mapping[str, Any]]]:
    """A project with current locks, which takes what it can from everywhere."""
    with world(tmp_path_factory.mktemp("current"), caches) as (index, project):
        make_wheel(index.folder, "shallow", "1.0")
        make_wheel(index.folder, "grouped", "1.0")
        make_tree(project.folder / "mine", "mine", "1.0", requires=[])
        document = {
            "project": {"name": "own", "version": "0", "dependencies": ["mine"]},
            "dependency-groups": {"run": ["grouped"]},
            "tool": {
                "uv": {"sources": {"mine": {"path": "mine"}}},
                "nox-buildstages": {
                    "final": {"groups": ["run"]},
                    "stage": [{"name": "only", "outputs": ["mine"]}],
                },
            },
        }
        project.write(tomli_w.dumps(document))
        project.nox("-s", "build-stages-lock")
        yield project, document


CHANGES: dict[str, dict[str, Any]] = {
    "table": {"tool": {"nox-buildstages": {"constraints": ["shallow<2"]}}},
    "dependencies": {"project": {"dependencies": ["mine", "shallow"]}},
    "group": {"dependency-groups": {"run": ["grouped", "shallow"]}},
    "index": {"tool": {"uv": {"index": [{"name": "x", "url": DEAD}]}}},
    "sources": {"tool": {"uv": {"sources": {"grouped": {"path": "there"}}}}},
}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the values of another one over its own."""
    return {
        **one,
        **{
            key: merged(one.get(key, {}), value) if isinstance(value, dict) else value
            for key, value in other.items()
        },
    }


def check_stale(project: Project) -> None:
    """See that `--check` fails and names the command, and that nothing is written."""
    before, wheels = lock_texts(project), stored(project)
    said = refused(project, *CHECK, env={"UV_DEFAULT_INDEX": DEAD})
    assert "the lock files are out of date: " in said
    assert "\n  nox -s build-stages-lock\n" in said
    assert lock_texts(project) == before
    assert stored(project) == wheels


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_is_declared_makes_locks_stale(
    current: tuple[Project, Mapping[str, Any]], change: str
) -> None:
    """Wherever in the pyproject.toml it is that the locks are made from."""
    project, document = current
    project.write(tomli_w.dumps(merged(document, CHANGES[change])))
    check_stale(project)


def test_a_change_of_what_a_folder_declares_makes_locks_stale(
    current: tuple[Project, Mapping[str, Any]],
) -> None:
    """Its own pyproject.toml may say other requirements now; its code can't."""
    project, document = current
    project.write(tomli_w.dumps(document))
    code = project.folder / "mine/mine/__init__.py"
    code.write_text("x = 2\n")
    pyproject = project.folder / "mine/pyproject.toml"
    before = pyproject.read_text()
    pyproject.write_text(f"{before}\n[tool.other]\n")
    check_stale(project)
    pyproject.write_text(before)
    check_current(project)


def check_current(project: Project) -> None:
    """See that `--check` is content, with nothing in reach."""
    output = project.nox(*CHECK, env={"UV_DEFAULT_INDEX": DEAD}).output
    assert "the lock files are up to date" in output


def test_whether_locks_are_current_is_known_without_network(
    current: tuple[Project, Mapping[str, Any]], tmp_path: Path
) -> None:
    """The index is gone, uv's cache and the store are empty: it still says so."""
    project, document = current
    project.write(tomli_w.dumps(document))
    env = {
        "NOX_BUILDSTAGES_CACHE_DIR": str(tmp_path / "store"),
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "UV_DEFAULT_INDEX": DEAD,
    }
    assert "the lock files are up to date" in project.nox(*CHECK, env=env).output
