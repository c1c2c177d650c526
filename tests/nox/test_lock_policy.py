"""When locks are made, kept and refused."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from support.packages import make_sdist, make_tinybackend, make_wheel
from support.pair import (
    Pair,
    built,
    entry,
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


@pytest.mark.parametrize(
    ("words", "outer"), [((), CI), (("--", "--locked"), {})], ids=["CI", "locked"]
)
def test_missing_and_stale_locks_are_errors_where_none_may_be_written(
    project: Project, words: tuple[str, ...], outer: dict[str, str]
) -> None:
    """In CI, or with --locked, the error names the command, and nothing is written.

    `build-stages-lock` itself works there, and then so does everything.
    """
    Pair().write(project)
    output = refused(project, "-s", "build-stages", *words, env=outer)
    assert "no lock files in" in output
    assert COMMAND in output
    assert "Traceback" not in output
    assert lock_texts(project) == {}
    project.nox("-s", "build-stages-lock", env=outer)
    project.nox("-s", "build-stages", *words, env=outer)
    before = lock_texts(project)
    Pair(top={"constraints": ["tensorlib==1.0"]}).write(project)
    output = refused(project, "-s", "build-stages", *words, env=outer)
    assert "the lock files are out of date" in output
    assert COMMAND in output
    assert lock_texts(project) == before


def test_check_tells_whether_the_locks_are_current(project: Project) -> None:
    """`-- --check` fails for missing and stale locks, and writes nothing ever."""
    Pair().write(project)
    check = ("-s", "build-stages-lock", "--", "--check")
    assert COMMAND in refused(project, *check)
    assert lock_texts(project) == {}
    assert stored(project) == []
    project.nox("-s", "build-stages-lock")
    before = lock_texts(project)
    assert "up to date" in project.nox(*check).output
    Pair(second={"dependencies": ["kernels", "tensorlib<2"]}).write(project)
    assert "out of date" in refused(project, *check)
    assert lock_texts(project) == before


def test_lock_that_cannot_be_read_is_named(project: Project) -> None:
    """A damaged lock file is an error in CI, and made anew elsewhere."""
    Pair().write(project)
    project.nox("-s", "build-stages-lock")
    path = project.folder / "build-stages/pylock.first.toml"
    whole = path.read_bytes()
    path.write_text("<<<<<<< HEAD\n", "utf-8")
    output = refused(project, "-s", "build-stages", env=CI)
    assert "pylock.first.toml" in output
    assert COMMAND in output
    project.nox("-s", "build-stages")
    assert path.read_bytes() == whole


def test_lock_that_is_missing_makes_all_stale(project: Project) -> None:
    """One lock of several that is gone is noticed, and comes back as it was."""
    Pair().write(project)
    project.nox("-s", "build-stages-lock")
    before = lock_texts(project)
    project.folder.joinpath("build-stages/pylock.second.toml").unlink()
    output = refused(project, "-s", "build-stages", env=CI)
    assert "pylock.second.toml is missing" in output
    assert "; locking" in project.nox("-s", "build-stages").output
    assert lock_texts(project) == before


# Stability


def test_equal_inputs_give_equal_bytes(project: Project, caches: Path) -> None:
    """Locking again, even from nothing, writes the same bytes."""
    Pair(top={"match-runtime": ["tensorlib"]}).write(project)
    project.nox("-s", "build-stages-lock")
    before = lock_texts(project)
    project.nox("-s", "build-stages-lock")
    assert lock_texts(project) == before
    shutil.rmtree(project.folder / "build-stages")
    shutil.rmtree(project.store)
    fresh = {"UV_CACHE_DIR": str(caches / "fresh")}
    project.nox("-s", "build-stages-lock", env=fresh)
    assert lock_texts(project) == before


def test_stale_lock_is_refreshed_and_keeps_its_versions(
    project: Project, index: Index
) -> None:
    """A lock made anew takes what the change forces, and nothing newer beside it."""
    Pair().write(project)
    project.nox("-s", "build-stages")
    assert all_versions(project) == OLD
    publish_newer(index)
    make_wheel(index.folder, "extra", "1.0")
    Pair(second={"dependencies": ["kernels", "tensorlib", "extra"]}).write(project)
    done = project.nox("-s", "build-stages")
    assert "the lock files are out of date" in done.output
    assert "; locking" in done.output
    assert all_versions(project) == {**OLD, "extra": "1.0"}
    assert built(done) == ["models"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--upgrade-package=Tinybackend",), {**OLD, "tinybackend": "2.0"}),
        (
            ("--upgrade-package", "tensorlib", "--upgrade-package", "kernels"),
            {**OLD, "tensorlib": "3.0", "kernels": "2.0"},
        ),
        ((), OLD),
    ],
    ids=["another spelling", "two", "nothing"],
)
def test_upgrade_takes_what_was_asked_for(
    project: Project, index: Index, words: tuple[str, ...], expected: dict[str, str]
) -> None:
    """However it is spelled and however often, and nothing where nobody asks."""
    Pair().write(project)
    project.nox("-s", "build-stages-lock")
    publish_newer(index)
    project.nox("-s", "build-stages-lock", "--", *words)
    assert all_versions(project) == expected


# One version of what matches the runtime


MATCH = {"match-runtime": ["tensorlib"]}


def test_runtime_holds_the_stages_back(project: Project) -> None:
    """Where the runtime can only have 1.0, no stage is built against 2.0."""
    final = {"requirements": ["models", "tensorlib<2"]}
    Pair(top=MATCH, final=final).write(project)
    project.nox("-s", "build-stages")
    assert all_versions(project)["tensorlib"] == "1.0"
    assert entry(project, "kernels")["environment"]["tensorlib"] == "1.0"


def test_stage_holds_the_runtime_back(project: Project) -> None:
    """Where a stage can only have 1.0, the runtime has that, and so has every stage."""
    first = {"dependencies": ["tensorlib<2"]}
    Pair(top=MATCH, first=first).write(project)
    project.nox("-s", "build-stages-lock")
    assert all_versions(project)["tensorlib"] == "1.0"


def test_output_holds_everyone_back(project: Project, index: Index) -> None:
    """What an output will require once it is built counts as well."""
    index.remove("models")
    requires = ["kernels", "tensorlib<2"]
    make_sdist(index.folder, "models", "1.0", requires=requires, static=False)
    Pair(top=MATCH).write(project)
    project.nox("-s", "build-stages-lock")
    assert all_versions(project)["tensorlib"] == "1.0"


def test_without_match_runtime_versions_may_differ(project: Project) -> None:
    """Only what is named in match-runtime has one version everywhere."""
    final = {"requirements": ["models", "tensorlib<2"]}
    Pair(final=final).write(project)
    project.nox("-s", "build-stages-lock")
    assert versions(project, "final")["tensorlib"] == "1.0"
    assert versions(project, "first")["tensorlib"] == "2.0"


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
    project.nox("-s", "build-stages-lock")
    before = lock_texts(project)
    Pair(final={"requirements": ["models", "nowhere"]}).write(project)
    output = refused(project, "-s", "build-stages-lock")
    assert "runtime environment: can't be locked" in output
    assert "nowhere" in output
    assert lock_texts(project) == before
