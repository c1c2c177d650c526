"""What of a build that was stopped the next one goes on with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.builder.sandbox import Sandbox
from nox_buildstages.store import build_dir as workplace
from nox_buildstages.store.build_dir import BuildDirectory, Checkpoints
from nox_buildstages.system.open_files import written_below
from nox_buildstages.system.process import Command
from support.namespaces import needs_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable

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
    write(project / "build/two.o", "compiled", age=workplace.PAUSE)
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


def test_what_was_open_at_the_checkpoint_is_taken_away(place: BuildDirectory) -> None:
    """Though it was written to long before: a linker may begin a file and think."""
    project = begun(place)
    write(project / "build/one.so", "half", age=60)
    write(project / "build/two.so", "whole", age=60)
    with (project / "build/one.so").open("a"), (project / "build/two.so").open():
        place.checkpoint(ENVIRONMENT)
    begun(place)
    assert texts(project) == {**FRESH, "build/two.so": "whole"}


def test_what_a_keeper_noted_counts_where_it_is_newer(place: BuildDirectory) -> None:
    """It was there when the build was stopped; the last checkpoint was before."""
    project = begun(place)
    for name in ("one.o", "two.o"):
        write(project / name, "compiled", age=-5)
    moment = (project / "one.o").stat().st_mtime_ns + 10**9
    place.stop.write_text("\0".join((str(moment), str(project / "two.o"), "/else")))
    begun(place)
    assert texts(project) == {**FRESH, "one.o": "compiled"}
    write(project / "two.o", "half", age=-5)
    place.stop.write_text(f"{OLD}")
    begun(place)
    assert texts(project) == FRESH


@pytest.mark.parametrize("text", ["", "soon", "\0"])
def test_a_note_that_can_not_be_read_is_none(place: BuildDirectory, text: str) -> None:
    """As after a crash of the machine."""
    begun(place)
    before = place.half_built(ENVIRONMENT)
    place.stop.write_text(text)
    assert place.half_built(ENVIRONMENT) == before


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
    assert place.half_built(ENVIRONMENT) is None
    assert texts(begun(place)) == FRESH


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_mark_that_can_not_be_read_is_none(place: BuildDirectory, text: str) -> None:
    """As after a crash of the machine."""
    begun(place)
    (place.folder / "state.json").write_text(text)
    assert place.half_built(ENVIRONMENT) is None


def test_nothing_is_whole_before_all_is_unpacked(place: BuildDirectory) -> None:
    """A stop while unpacking leaves nothing to go on with."""

    def stopped(target: Path) -> Path:
        unpack(target)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.begin(ENVIRONMENT, stopped)
    assert place.half_built(ENVIRONMENT) is None
    place.checkpoint(ENVIRONMENT)
    assert place.half_built(ENVIRONMENT) is None


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


def test_a_checkpoint_waits_for_room_on_the_disk(
    place: BuildDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was closed on a full disk may not be whole."""
    begun(place)
    before = place.half_built(ENVIRONMENT)
    room = shutil.disk_usage(place.folder).free
    monkeypatch.setattr(workplace, "ROOM", room * 2)
    place.checkpoint(ENVIRONMENT)
    assert place.half_built(ENVIRONMENT) == before
    monkeypatch.setattr(workplace, "ROOM", 0)
    place.checkpoint(ENVIRONMENT)
    assert place.half_built(ENVIRONMENT) != before


def test_checkpoints_are_made_now_and_then(
    place: BuildDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not each time that somebody looks."""
    begun(place)
    attend = Checkpoints(place=place, environment=ENVIRONMENT)
    first = place.half_built(ENVIRONMENT)
    attend()
    second = place.half_built(ENVIRONMENT)
    assert second != first
    attend()
    assert place.half_built(ENVIRONMENT) == second
    monkeypatch.setattr(workplace, "PAUSE", 0.0)
    monkeypatch.setattr(workplace, "SHARE", 0)
    attend = Checkpoints(place=place, environment=ENVIRONMENT)
    attend()
    attend()
    assert place.half_built(ENVIRONMENT) != second


def test_a_checkpoint_that_can_not_be_written_ends_no_build(
    place: BuildDirectory,
) -> None:
    """The last one counts on."""
    begun(place)
    place.clear()
    place.folder.parent.mkdir(exist_ok=True)
    place.folder.write_text("in the way")
    Checkpoints(place=place, environment=ENVIRONMENT)()


@pytest.mark.parametrize(
    ("mode", "is_written"), [("r", False), ("w", True), ("a", True), ("r+", True)]
)
def test_who_writes_is_seen(tmp_path: Path, mode: str, is_written: bool) -> None:  # noqa: FBT001
    """Readers aren't; nor is what lies elsewhere."""
    (tmp_path / "here").mkdir()
    for name in ("here/file", "elsewhere"):
        (tmp_path / name).write_text("")
    found: Callable[[], list[Path]] = lambda: [*written_below(tmp_path / "here")]  # noqa: E731
    with (tmp_path / "here/file").open(mode), (tmp_path / "elsewhere").open("w"):
        assert found() == [tmp_path / "here/file"] * is_written
    assert found() == []


@needs_namespaces
def test_who_writes_at_another_path_is_seen(tmp_path: Path) -> None:
    """That of a backend that is shown its folder there; not who is shown another."""
    here, place, other = (tmp_path / name for name in ("here", "place", "other"))
    for folder in (place, other):
        folder.mkdir()
    place.joinpath("b").touch()
    opened = "import sys; files = [open(it, 'w') for it in sys.argv[1:]]"
    code = f"{opened}; print(flush=True); input()"
    command = Command(argv=(sys.executable, "-c", code))

    def writing(folder: Path, *names: str) -> subprocess.Popen[str]:
        written = (str(folder / name) for name in names)
        told = replace(command, argv=(*command.argv, *written))
        argv = Sandbox().show_at(folder, here).wrap(told).argv
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)

    with writing(place, "a") as first, writing(other, "b", "c") as second:
        for process in (first, second):
            assert process.stdout is not None
            process.stdout.readline()
        assert [*written_below(place, here=here)] == [place / "a"]
        for process in (first, second):
            process.communicate("\n")
