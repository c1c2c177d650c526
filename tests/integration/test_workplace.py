"""The tree of an interrupted build, and how the next build resumes in it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from nox_buildstages.builder.scripts import supervise
from nox_buildstages.store.build_dir import BuildDirectory

ENVIRONMENT = Path("/environments/kernels")
OLD = 1_000_000_000
"""Seconds since the epoch: long before any checkpoint."""


@pytest.fixture
def place(tmp_path: Path) -> BuildDirectory:
    return BuildDirectory(tmp_path / "builds/key")


def unpack(target: Path) -> Path:
    """Unpack a source of two files, as old as an sdist's."""
    project = target / "kernels-1.0"
    project.mkdir(parents=True)
    for name in ("setup.py", "kernel.c"):
        write(project / name, f"{name} as it was")
    return project


def write(path: Path, text: str, *, age: float | None = None) -> None:
    """Write a file, its time so many seconds ago, or that of an sdist's files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    moment = OLD if age is None else time.time() - age
    os.utime(path, (moment, moment))


def begun(place: BuildDirectory) -> Path:
    return place.begin(ENVIRONMENT, unpack)


def note(place: BuildDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Note a checkpoint as the supervisor of this process would."""
    with monkeypatch.context() as patch:
        patch.setattr(supervise, "processes", lambda: {os.getpid()})
        supervise.note_checkpoint(str(place.checkpoint))


def texts(project: Path) -> dict[str, str]:
    found = (path for path in project.rglob("*") if path.is_file())
    return {path.relative_to(project).as_posix(): path.read_text() for path in found}


FRESH = {"setup.py": "setup.py as it was", "kernel.c": "kernel.c as it was"}


def test_a_build_begins_with_a_fresh_tree(place: BuildDirectory) -> None:
    """With folders for its home and its wheel, both empty; nothing else is left."""
    write(place.folder / "source/old", "of an unpacking that was stopped")
    project = begun(place)
    assert project == place.source / "kernels-1.0"
    assert texts(project) == FRESH
    assert not list(place.home.iterdir()) + list(place.wheel.iterdir())
    assert not (place.source / "old").exists()


def test_a_build_goes_on_with_what_is_whole(place: BuildDirectory) -> None:
    """The tree that there is, older than the last checkpoint; home and wheel not."""
    project = begun(place)
    write(project / "build/kernel.o", "compiled", age=60)
    write(place.home / "temporary", "x", age=60)
    write(place.wheel / "half.whl", "x", age=60)
    assert begun(place) == project
    assert texts(project) == {**FRESH, "build/kernel.o": "compiled"}
    assert not list(place.home.iterdir()) + list(place.wheel.iterdir())


def test_what_is_younger_than_the_checkpoint_is_taken_away(
    place: BuildDirectory,
) -> None:
    """It may have been written when the build was stopped; a checkpoint spares it."""
    project = begun(place)
    write(project / "build/one.o", "compiled", age=60)
    write(project / "build/two.o", "half", age=0)
    write(place.build / "three.o", "half", age=0)
    begun(place)
    assert texts(project) == {**FRESH, "build/one.o": "compiled"}
    assert texts(place.build) == {}
    write(project / "build/two.o", "compiled", age=1)
    state = json.loads((place.folder / "state.json").read_text())
    state["time"] += 10_000_000_000
    (place.folder / "state.json").write_text(json.dumps(state))
    begun(place)
    assert "build/two.o" in texts(project)


def test_a_clock_of_whole_seconds_is_trusted_less(place: BuildDirectory) -> None:
    """There, what was changed after a checkpoint may seem older than it."""
    project = begun(place)
    path = place.folder / "state.json"
    state = json.loads(path.read_text())
    moment = state["time"] // 10**9
    for name, seconds in (("one.o", moment - 3), ("two.o", moment - 1)):
        write(project / name, "compiled")
        os.utime(project / name, (seconds, seconds))
    path.write_text(json.dumps({**state, "time": moment * 10**9}))
    begun(place)
    assert texts(project) == {**FRESH, "one.o": "compiled"}


def test_a_file_that_was_open_at_the_checkpoint_is_removed(
    place: BuildDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was written to long before: a linker may begin a file and think."""
    project = begun(place)
    write(project / "build/one.so", "half", age=60)
    write(project / "build/two.so", "whole", age=60)
    with (project / "build/one.so").open("a"), (project / "build/two.so").open():
        note(place, monkeypatch)
    begun(place)
    assert texts(project) == {**FRESH, "build/two.so": "whole"}


def test_what_a_keeper_noted_counts_where_it_is_newer(place: BuildDirectory) -> None:
    """It was there when the build was stopped; the last checkpoint was before."""
    project = begun(place)
    for name in ("one.o", "two.o"):
        write(project / name, "compiled", age=-5)
    moment = (project / "one.o").stat().st_mtime_ns + 10**9
    place.checkpoint.write_text(
        "\0".join((str(moment), str(project / "two.o"), "/else"))
    )
    begun(place)
    assert texts(project) == {**FRESH, "one.o": "compiled"}
    write(project / "two.o", "half", age=-5)
    place.checkpoint.write_text(f"{OLD}")
    begun(place)
    assert texts(project) == FRESH


@pytest.mark.parametrize("text", ["", "soon", "\0"])
def test_a_note_that_can_not_be_read_is_none(place: BuildDirectory, text: str) -> None:
    """As after a crash of the machine."""
    begun(place)
    before = place.partial_build(ENVIRONMENT)
    place.checkpoint.write_text(text)
    assert place.partial_build(ENVIRONMENT) == before


def test_a_source_file_that_was_being_written_is_as_it_was(
    place: BuildDirectory,
) -> None:
    """It comes from a fresh tree; what the build had made of others stays."""
    project = begun(place)
    write(project / "setup.py", "half rewr", age=0)
    write(project / "kernel.c", "generated", age=60)
    begun(place)
    assert texts(project) == {**FRESH, "kernel.c": "generated"}
    assert not (place.folder / "fresh").exists()


def test_journals_stay(place: BuildDirectory) -> None:
    """Ninja reads its own up to the last whole line, and appends to them always."""
    project = begun(place)
    write(project / "build/.ninja_log", "# ninja log v7\n", age=0)
    begun(place)
    assert "build/.ninja_log" in texts(project)


def test_links_stay_or_go_as_files_do(place: BuildDirectory) -> None:
    """A link that leads nowhere is no obstacle."""
    project = begun(place)
    (project / "dangling").symlink_to("nowhere")
    begun(place)
    assert not (project / "dangling").is_symlink()


def test_what_lies_in_a_read_only_folder_is_taken_away_too(
    place: BuildDirectory,
) -> None:
    """Some builds make such."""
    project = begun(place)
    write(project / "build/one.o", "half", age=0)
    (project / "build").chmod(0o500)
    begun(place)
    assert texts(project) == FRESH


@pytest.mark.parametrize(
    "change",
    [
        {"environment": "/environments/another"},
        {"format": 0},
        {"unknown": 1},
        {"open": None},
    ],
)
def test_a_tree_that_is_not_known_to_be_whole_goes(
    place: BuildDirectory, change: dict[str, Any]
) -> None:
    """One of another environment, of another version of ours, or with no mark."""
    project = begun(place)
    write(project / "build/kernel.o", "compiled", age=60)
    path = place.folder / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert place.partial_build(ENVIRONMENT) is None
    assert texts(begun(place)) == FRESH


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_mark_that_can_not_be_read_is_none(place: BuildDirectory, text: str) -> None:
    """As after a crash of the machine."""
    begun(place)
    (place.folder / "state.json").write_text(text)
    assert place.partial_build(ENVIRONMENT) is None


def test_nothing_is_whole_before_all_is_unpacked(place: BuildDirectory) -> None:
    """A stop while unpacking leaves nothing to go on with."""

    def stopped(target: Path) -> Path:
        unpack(target)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.begin(ENVIRONMENT, stopped)
    assert place.partial_build(ENVIRONMENT) is None
    place.checkpoint.write_text("1")
    assert place.partial_build(ENVIRONMENT) is None


def test_a_stop_while_mending_is_mended(place: BuildDirectory) -> None:
    """The mark is renewed last."""
    project = begun(place)
    write(project / "setup.py", "half rewr", age=0)
    write(project / "build/kernel.o", "compiled", age=60)

    def stopped(target: Path) -> Path:
        unpack(target)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.begin(ENVIRONMENT, stopped)
    write(project / "setup.py", "half rewr", age=0)
    begun(place)
    assert texts(project) == {**FRESH, "build/kernel.o": "compiled"}
