"""When locks are made, kept and refused."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from support.packages import make_sdist, make_tinybackend, make_wheel
from support.pair import (
    Pair,
    built,
    lock_texts,
    publish,
    refused,
    stored,
    versions,
)

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

COMMAND = "\n  nox -s build-stages-lock\n"
CI = {"CI": "1"}


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


def publish_newer(index: Index) -> None:
    """Put a newer version of everything that a pair takes on the index."""
    make_tinybackend(index.folder, "2.0")
    make_wheel(index.folder, "tensorlib", "3.0")
    make_sdist(index.folder, "kernels", "2.0", requires=["tensorlib"])


def all_versions(project: Project) -> dict[str, str]:
    """Return the versions in all locks, which must agree."""
    found: dict[str, str] = {}
    for name in ("first", "second", "final"):
        for package, version in versions(project, name).items():
            assert found.setdefault(package, version) == version
    return found


OLD = {"kernels": "1.0", "models": "1.0", "tensorlib": "2.0", "tinybackend": "1.0"}


# Where no lock may be written


def test_missing_and_stale_locks_are_errors_where_none_may_be_written(
    project: Project,
) -> None:
    """In CI, or with --locked, the error names the command, and nothing is written.

    It says what has changed, not only a file.

    `build-stages-lock` itself works there, and then so does everything.
    """
    ways: tuple[tuple[tuple[str, ...], dict[str, str]], ...]
    ways = ((), CI), (("--", "--locked"), {})
    Pair().write(project)
    for words, outer in ways:
        output = refused(project, "-s", "build-stages", *words, env=outer)
        assert "no lock files in" in output
        assert COMMAND in output
        assert "Traceback" not in output
        assert lock_texts(project) == {}
    project.nox("-s", "build-stages-lock", env=CI)
    for words, outer in ways:
        project.nox("-s", "build-stages", *words, env=outer)
    before = lock_texts(project)
    Pair(top={"constraints": ["tensorlib==1.0"]}).write(project)
    for words, outer in ways:
        output = refused(project, "-s", "build-stages", *words, env=outer)
        assert "the lock files are out of date: constraints\n" in output
        assert COMMAND in output
        assert lock_texts(project) == before


def test_check_tells_whether_the_locks_are_current(project: Project) -> None:
    """`-- --check` fails for missing and stale locks, and writes nothing ever."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    check = ("-s", "build-stages-lock", "--", "--check")
    before, wheels = lock_texts(project), stored(project)
    assert "up to date" in project.nox(*check).output
    Pair(second={"dependencies": ["kernels", "tensorlib<2"]}).write(project)
    assert "out of date" in refused(project, *check)
    assert lock_texts(project) == before
    shutil.rmtree(project.folder / "build-stages")
    assert COMMAND in refused(project, *check)
    assert lock_texts(project) == {}
    assert stored(project) == wheels


@pytest.mark.slow
def test_lock_that_cannot_be_read_is_named(project: Project) -> None:
    """A damaged or missing lock file is an error in CI, and written again elsewhere."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    before = lock_texts(project)
    folder = project.folder / "build-stages"
    folder.joinpath("pylock.first.toml").write_text("<<<<<<< HEAD\n", "utf-8")
    output = refused(project, "-s", "build-stages", env=CI)
    assert "pylock.first.toml" in output
    assert COMMAND in output
    project.nox("-s", "build-stage-first")
    assert lock_texts(project) == before
    folder.joinpath("pylock.second.toml").unlink()
    output = refused(project, "-s", "build-stages", env=CI)
    assert "pylock.second.toml is missing" in output
    assert "; locking" in project.nox("-s", "build-stage-first").output
    assert lock_texts(project) == before


# Stability


def test_equal_inputs_give_equal_bytes(project: Project, caches: Path) -> None:
    """Locking again, even from nothing, writes the same bytes."""
    Pair(top={"match-runtime": ["tensorlib"]}).write(project)
    project.prepare("build-stages-lock")
    before = lock_texts(project)
    project.nox("-s", "build-stages-lock")
    assert lock_texts(project) == before
    shutil.rmtree(project.folder / "build-stages")
    shutil.rmtree(project.store)
    fresh = {"UV_CACHE_DIR": str(caches / "fresh")}
    done = project.nox("-s", "build-stages-lock", env=fresh)
    assert "locked 3 environments, 4 projects (2 built in stages)" in done.output
    assert lock_texts(project) == before


def test_stale_lock_is_refreshed_and_keeps_its_versions(
    project: Project, index: Index
) -> None:
    """A lock made anew takes what the change forces, and nothing newer beside it."""
    Pair().write(project)
    project.prepare()
    assert all_versions(project) == OLD
    publish_newer(index)
    make_wheel(index.folder, "extra", "1.0")
    Pair(second={"dependencies": ["kernels", "tensorlib", "extra"]}).write(project)
    done = project.nox("-s", "build-stage-second")
    changed = "stage second: dependencies"
    assert f"the lock files are out of date: {changed}; locking" in done.output
    assert all_versions(project) == {**OLD, "extra": "1.0"}
    assert built(done) == ["models"]


def test_upgrade_takes_what_was_asked_for(project: Project, index: Index) -> None:
    """However it is spelled and however often, and nothing where nobody asks."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    publish_newer(index)
    expected = OLD
    more = ("--upgrade-package", "tensorlib", "--upgrade-package", "kernels")
    for words, new in (
        ((), {}),
        (("--upgrade-package=Tinybackend",), {"tinybackend": "2.0"}),
        (more, {"tensorlib": "3.0", "kernels": "2.0"}),
    ):
        project.nox("-s", "build-stages-lock", "--", *words)
        expected = {**expected, **new}
        assert all_versions(project) == expected


# One version of what matches the runtime


MATCH = {"match-runtime": ["tensorlib"]}


@pytest.mark.slow
def test_only_what_matches_the_runtime_has_one_version(project: Project) -> None:
    """If the runtime can only have 1.0, a stage is built against 2.0 otherwise."""
    final = {"requirements": ["models", "tensorlib<2"]}
    Pair(final=final).write(project)
    project.nox("-s", "build-stages-lock")
    assert versions(project, "final")["tensorlib"] == "1.0"
    assert versions(project, "first")["tensorlib"] == "2.0"
    Pair(top=MATCH, final=final).write(project)
    project.nox("-s", "build-stages-lock")
    assert all_versions(project)["tensorlib"] == "1.0"


def test_impossible_match_names_both_sides(project: Project) -> None:
    """Where no version suits all, it says who wishes what, and writes nothing."""
    final = {"requirements": ["models", "tensorlib>=2"]}
    first = {"dependencies": ["tensorlib<2"]}
    Pair(top=MATCH, final=final, first=first).write(project)
    output = refused(project, "-s", "build-stages")
    assert "tensorlib: no version suits every environment" in output
    assert "final: tensorlib>=2" in output
    assert "stage first: tensorlib<2" in output
    assert "Traceback" not in output
    assert lock_texts(project) == {}
    assert project.wheels() == []


def test_lock_that_fails_leaves_the_old_ones(project: Project) -> None:
    """All lock files are written, or none."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    before = lock_texts(project)
    Pair(final={"requirements": ["models", "nowhere"]}).write(project)
    output = refused(project, "-s", "build-stages-lock")
    assert "runtime environment: no index has nowhere" in output
    assert lock_texts(project) == before
