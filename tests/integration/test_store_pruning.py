"""Pruning a real store, alone and beside sessions that use it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from nox_buildstages.errors import UsageError
from nox_buildstages.store.inventory import Kind, disk_size, list_items
from nox_buildstages.store.key import Recipe
from nox_buildstages.store.listing import list_wheels
from nox_buildstages.store.pruning import Limits, PruneResult, prune
from nox_buildstages.store.store import DAY, Store, note_use
from nox_buildstages.system.locks import hold_lock
from support.packages import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nox_buildstages.store.store import StoredWheel

KEY = "ab" * 32
ALL = Limits(older_than=0)
GARBAGE = Limits()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def never(line: str) -> None:
    raise AssertionError(f"it had to wait: {line}")


def pruned(store: Store, limits: Limits, *, is_dry: bool = False) -> PruneResult:
    return prune(store, limits, report=never, is_dry=is_dry)


def put(
    store: Store,
    tmp_path: Path,
    name: str = "some-package",
    *,
    content: str = "x = 1\n",
) -> StoredWheel:
    wheel = make_wheel(tmp_path / "built", name, "1.0", files={"x.py": content})
    log = tmp_path / "built" / "log"
    log.write_text("made it\n")
    recipe = Recipe(
        name=name,
        version="1.0",
        source="sha256:aa",
        environment={},
        env={},
        config_settings={},
        interpreter={"version": "3.11.7"},
        tools={},
    )
    return store.put(recipe, wheel, log=log, seconds=1, run="run-1")


def write(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def age(path: Path, days: float) -> None:
    """Let something, with all that is in it, have been used last some days ago."""
    then = time.time() - days * DAY
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then), follow_symlinks=False)


def gone(done: PruneResult) -> list[Path]:
    """Return what was removed but the files of locks, which are there anyway."""
    return [item.path for item in done.removed if item.kind is not Kind.LOCK]


def folder_of(entry: StoredWheel) -> Path:
    return entry.path.parents[1]


def test_a_store_that_is_not_there_is_not_made(store: Store) -> None:
    """There is nothing to remove, and nothing is written."""
    assert pruned(store, ALL) == PruneResult()
    assert not store.folder.exists()


def test_what_was_not_used_for_long_goes(store: Store, tmp_path: Path) -> None:
    """The other stays, and the report has the sizes of both."""
    old, new = put(store, tmp_path, "old"), put(store, tmp_path, "new")
    age(folder_of(old), 31)
    before = disk_size(store.folder / "wheels")
    done = pruned(store, Limits(older_than=30 * int(DAY)))
    assert store.find(old.key) is None
    assert store.find(new.key) == new
    assert gone(done) == [folder_of(old)]
    assert done.freed + done.size == before
    assert disk_size(store.folder / "wheels") == done.size


def test_what_is_found_is_used(store: Store, tmp_path: Path) -> None:
    """It doesn't go, and is still listed by the age of its build."""
    old, older = put(store, tmp_path, "old"), put(store, tmp_path, "older")
    age(folder_of(old), 31)
    age(folder_of(older), 32)
    assert store.find(older.key) is not None
    assert pruned(store, Limits(older_than=30 * int(DAY))).removed
    assert [*store.wheels(store.keys())] == [older]
    put(store, tmp_path, "old")
    assert [it.recipe.name for it in store.wheels(store.keys())] == ["old", "older"]


def test_a_use_is_noted_once_a_day(store: Store, tmp_path: Path) -> None:
    """Finding something again and again writes nothing."""
    folder = folder_of(put(store, tmp_path))
    age(folder, 0.5)
    before = folder.stat().st_mtime
    assert store.find(folder.name) is not None
    assert folder.stat().st_mtime == before


def test_the_longest_unused_goes_until_the_rest_fits(
    store: Store, tmp_path: Path
) -> None:
    """What others keep there counts, and isn't touched."""
    entries = [put(store, tmp_path, name) for name in ("a", "b", "c")]
    for days, entry in enumerate(entries):
        age(folder_of(entry), days + 1)
    write(store.folder / "not-ours" / "file", "x" * 50_000)
    held = pruned(store, GARBAGE).size
    done = pruned(store, Limits(larger_than=held - 1))
    assert gone(done) == [folder_of(entries[2])]
    assert done.size == disk_size(store.folder)
    done = pruned(store, Limits(larger_than=0))
    assert done.size == disk_size(store.folder / "not-ours") > 0
    assert (store.folder / "not-ours" / "file").exists()


def test_a_dry_run_removes_nothing(store: Store, tmp_path: Path) -> None:
    """And says the same as the one that does."""
    entry = put(store, tmp_path)
    dry = pruned(store, ALL, is_dry=True)
    assert store.find(entry.key) == entry
    assert dry == pruned(store, ALL)
    assert store.find(entry.key) is None


def test_every_kind_is_known(store: Store, tmp_path: Path) -> None:
    """All that our own code writes can be removed."""
    top = store.folder
    put(store, tmp_path)
    write(top / "builds" / KEY / "source" / "a.o")
    write(top / "builds" / ("e" * 64) / "failed.json")
    write(top / "sources" / KEY / "a-1.tar.gz")
    write(top / "git" / KEY / "HEAD")
    write(top / "git" / f"{KEY}.lock")
    write(top / "answers" / f"{KEY}.json")
    write(top / "interpreters" / f"{KEY}.json")
    write(top / "compilers" / "ccache-x" / "gcc")
    write(top / "logs" / "a.log")
    write(top / "folders" / f"{KEY}.txt")
    write(top / "failures" / f"a-{KEY}.json")
    write(top / "selections" / f"{KEY}.json")
    list_wheels(store)
    write(top / "locks" / "x.run")
    write(top / "jobs" / "host" / "1-x.json")
    write(top / "jobs" / "host" / "1-x.lock")
    for leftover in (
        "wheels/.new-x/a.whl",
        "builds/locking-x/source/a.py",
        "builds/fetching-x/a.whl",
        "compilers/.new-x/gcc",
        f"sources/{KEY}/.a/a-1.tar.gz",
        f"sources/.gone-{KEY}/a-1.tar.gz",
        f"git/.gone-{KEY}/HEAD",
        "answers/.a.json.x",
        "logs/.a.log.x",
        "lists/.wheels.json.x",
        "jobs/host/.1-x.json.y",
    ):
        write(top / leftover)
    assert {thing.kind for thing in list_items(store)} == set(Kind)
    done = pruned(store, ALL)
    assert (done.left, done.size) == ((), 0)
    left = {str(it.relative_to(top)) for it in top.rglob("*") if it.is_file()}
    assert left == {"users.lock"}


def test_what_is_not_ours_stays(store: Store) -> None:
    """Where someone names a folder of theirs as the store, by mistake."""
    for name in (
        "wheels/mine.whl",
        "builds/project/setup.py",
        "sources/main.c",
        "git/project/HEAD",
        "answers/42.txt",
        "logs/notes.txt",
        "locks/key",
        "jobs/host/claims.lock",
    ):
        write(store.folder / name)
    assert pruned(store, Limits(older_than=0, larger_than=0)).removed == ()


def without_record(folder: Path) -> None:
    (folder / "record.json").unlink()


def garbled(folder: Path) -> None:
    (folder / "record.json").write_text("{}")


def without_wheel(folder: Path) -> None:
    next(folder.rglob("*.whl")).unlink()


def cut(folder: Path) -> None:
    next(folder.rglob("*.whl")).write_bytes(b"")


def without_log(folder: Path) -> None:
    next(folder.rglob("build.log")).unlink()


@pytest.mark.parametrize("is_listed", [False, True])
@pytest.mark.parametrize(
    "damage", [without_record, garbled, without_wheel, cut, without_log]
)
def test_an_entry_that_is_never_found_is_garbage(
    store: Store, tmp_path: Path, damage: Callable[[Path], None], *, is_listed: bool
) -> None:
    """It goes without any limit; the sound one beside it stays."""
    folder, sound = folder_of(put(store, tmp_path, "a")), put(store, tmp_path, "b")
    if is_listed:
        list_wheels(store)
    damage(folder)
    assert gone(pruned(store, GARBAGE)) == [folder]
    assert store.find(sound.key) == sound


def test_earlier_wheels_of_a_key_are_garbage(store: Store, tmp_path: Path) -> None:
    """Nobody uses them while a prune works; the newest one stays."""
    first = put(store, tmp_path, "a")
    second = put(store, tmp_path, "a", content="x = 2\n")
    assert first.path.exists()
    assert store.find(first.key, first.sha256) == first
    assert gone(pruned(store, GARBAGE)) == [first.path.parent]
    assert store.find(second.key) == second


def test_an_entry_of_another_release_is_no_garbage(
    store: Store, tmp_path: Path
) -> None:
    """Two that share a store leave each other's alone."""
    record = folder_of(put(store, tmp_path)) / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "format": 99}))
    assert gone(pruned(store, GARBAGE)) == []
    assert gone(pruned(store, ALL)) == [record.parent]


def test_a_recipe_with_an_added_part_is_no_garbage(
    store: Store, tmp_path: Path
) -> None:
    """A newer release put the wheel into the store, and finds it again."""
    path = folder_of(put(store, tmp_path)) / "record.json"
    record = json.loads(path.read_text())
    record["recipe"]["added"] = "x"
    path.write_text(json.dumps(record))
    assert gone(pruned(store, GARBAGE)) == []
    assert gone(pruned(store, ALL)) == [path.parent]


def test_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    """Nothing outside is touched, its modes neither."""
    outside = write(tmp_path / "outside" / "record.json").parent
    outside.chmod(0o555)
    for name in (f"wheels/{KEY}", f"builds/{KEY}", f"sources/{KEY}", "logs/a.log"):
        link = store.folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(outside)
    tree = store.folder / "builds" / ("cd" * 32)
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    assert len(pruned(store, ALL).removed) == 5
    assert (outside / "record.json").exists()
    assert outside.stat().st_mode & 0o777 == 0o555
    assert list(store.folder.glob("*/*")) == []


def test_a_file_of_two_names_is_counted_once(store: Store) -> None:
    """A clone shares files with its mirror."""
    file = write(store.folder / "git" / KEY / "pack", "x" * 50_000)
    alone = disk_size(store.folder)
    (store.folder / "builds" / KEY).mkdir(parents=True)
    os.link(file, store.folder / "builds" / KEY / "pack")
    assert disk_size(store.folder) == alone == pruned(store, GARBAGE).size


@contextmanager
def refusing(store: Store, file: Path) -> Iterator[None]:
    """Let a file in the store not be removed, by the superuser neither."""
    mark = ["chattr", "+i", str(file)]
    if subprocess.run(mark, check=False, capture_output=True).returncode:
        pytest.skip("no file is safe from us here")
    try:
        yield
    finally:
        for path in store.folder.rglob(file.name):
            unmark = ["chattr", "-i", str(path)]
            subprocess.run(unmark, check=True, capture_output=True)


def test_what_a_killed_pruning_leaves_is_garbage(store: Store, tmp_path: Path) -> None:
    """No half of an entry is taken for the whole, by a build or the next pruning."""
    built = put(store, tmp_path)
    folder, stuck = folder_of(built), write(built.path.parent / "deep" / "file")
    with refusing(store, stuck):
        (failure,) = pruned(store, ALL).failures
        assert store.peek(folder.name) is None
    aside = folder.with_name(f".gone-{folder.name}")
    assert failure.filename == str(aside)
    assert gone(pruned(store, GARBAGE)) == [aside]
    assert not aside.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may remove it")
def test_what_may_not_be_removed_is_told(store: Store) -> None:
    """Nobody loses the rest of the report for it."""
    stuck = write(store.folder / "answers" / f"{KEY}.json")
    stuck.parent.chmod(0o500)
    try:
        (failure,) = pruned(store, ALL).failures
    finally:
        stuck.parent.chmod(0o700)
    assert failure.filename == str(stuck)


def test_what_can_not_be_removed_is_told_and_the_rest_goes(store: Store) -> None:
    """Each with what the system said."""
    stuck = write(store.folder / "answers" / f"{KEY}.json")
    write(store.folder / "logs" / "a.log")
    with refusing(store, stuck):
        done = pruned(store, ALL)
    assert [thing.kind for thing in done.removed] == [Kind.LOG]
    assert [thing.path for thing in done.left] == [stuck]
    (failure,) = done.failures
    assert failure.filename == str(stuck)


SESSION = """
import sys
from pathlib import Path
from nox_buildstages.store.store import Store

with Store(Path(sys.argv[1])).use(on_wait=lambda: print("waits", flush=True)):
    print("uses", flush=True)
    sys.stdin.readline()
print("ended", flush=True)
"""

PRUNING = """
import sys
from pathlib import Path
from nox_buildstages.store.listing import list_wheels
from nox_buildstages.store.pruning import Limits, prune
from nox_buildstages.store.store import Store

sys.stdin.readline()
store = Store(Path(sys.argv[1]))
report = lambda line: print(line, flush=True)
result = prune(store, Limits(older_than=0), report=report)
print(len(result.removed), len(result.failures), flush=True)
"""


@contextmanager
def running(store: Store, code: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process with a store until it ends or the block does."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def resume(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_pruning_waits_for_sessions(store: Store, tmp_path: Path) -> None:
    """It names them, removes nothing meanwhile, and everything afterwards."""
    wheel = put(store, tmp_path)
    age(folder_of(wheel), 3)
    with (
        running(store, SESSION) as first,
        running(store, SESSION) as second,
        running(store, PRUNING) as pruning,
    ):
        assert [line_of(first), line_of(second)] == ["uses", "uses"]
        resume(pruning)
        line = line_of(pruning)
        assert line.startswith("waiting until these have ended: ")
        pids = {int(pid) for pid in re.findall(r"\(process (\d+)\)", line)}
        assert pids == {first.pid, second.pid}, line
        resume(first)
        assert line_of(first) == "ended"
        assert store.find(wheel.key) == wheel
        resume(second)
        assert line_of(second) == "ended"
        assert line_of(pruning) == "1 0"
    assert store.find(wheel.key) is None


def test_a_dry_run_does_not_wait(store: Store, tmp_path: Path) -> None:
    """It removes nothing, so it can run beside sessions."""
    wheel = put(store, tmp_path)
    with running(store, SESSION) as session:
        assert line_of(session) == "uses"
        assert gone(pruned(store, ALL, is_dry=True)) == [folder_of(wheel)]


def test_a_killed_session_is_not_waited_for(store: Store, tmp_path: Path) -> None:
    """The kernel releases its lock."""
    put(store, tmp_path)
    with running(store, SESSION) as session:
        assert line_of(session) == "uses"
        session.kill()
        session.wait()
        assert len(gone(pruned(store, ALL))) == 1


def test_a_session_waits_for_pruning(store: Store) -> None:
    """It says so, and starts when pruning has ended."""
    store.folder.mkdir()
    with (
        running(store, SESSION) as session,
        hold_lock(store.users_lock, on_wait=pytest.fail),
    ):
        assert line_of(session) == "waits"
    with running(store, SESSION) as session:
        assert line_of(session) == "uses"


def test_two_sessions_of_a_process_use_a_store(store: Store) -> None:
    """A session never waits for itself."""
    with store.use(on_wait=pytest.fail), store.use(on_wait=pytest.fail):
        assert store.users_lock.is_file()


def test_pruning_does_not_wait_for_itself(store: Store) -> None:
    """A session that prunes the store it uses would wait forever."""
    with store.use(), pytest.raises(UsageError, match="would wait for itself"):
        prune(store, ALL, report=never)


def test_pruning_does_not_wait_for_its_parent(store: Store) -> None:
    """Neither would a check of the runtime that starts build-stages-prune end."""
    with store.use(), running(store, PRUNING) as pruning:
        output, _ = pruning.communicate("\n", timeout=30)
    assert "would wait for itself" in output


def test_a_tree_with_running_processes_stays(store: Store) -> None:
    """The supervisor of a killed build may still be ending its processes."""
    tree = write(store.folder / "builds" / KEY / "source" / "a.o").parents[1]
    age(tree, 3)
    locks = store.folder / "locks"
    locks.mkdir()
    with FileLock(locks / f"{KEY}-runs.lock"):
        done = pruned(store, ALL)
        assert done.removed == ()
        assert {thing.kind for thing in done.left} == {Kind.TREE, Kind.LOCK}
    assert len(pruned(store, ALL).removed) == 2
    assert not tree.exists()


def test_something_else_goes_where_the_first_is_locked(
    store: Store, tmp_path: Path
) -> None:
    """The limit is kept all the same."""
    entry = put(store, tmp_path)
    age(folder_of(entry), 1)
    tree = write(store.folder / "builds" / KEY / "a.o").parent
    age(tree, 3)
    limits = Limits(larger_than=max(disk_size(tree), disk_size(folder_of(entry))))
    with FileLock(write(store.folder / "locks" / f"{KEY}-runs.lock")):
        done = pruned(store, limits)
    assert gone(done) == [folder_of(entry)]
    assert tree.exists()


def test_a_session_can_use_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    """Nothing can be removed from such a store, so no lock is needed."""
    file = write(tmp_path / "file")
    with Store(file).use(on_wait=pytest.fail):
        assert file.read_text() == "x"
    note_use(file / "gone")


def test_two_prunings_at_once(store: Store, tmp_path: Path) -> None:
    """The second one waits, then finds nothing to do: both succeed."""
    wheels = [put(store, tmp_path, f"p{number}") for number in range(20)]
    with running(store, PRUNING) as first, running(store, PRUNING) as second:
        resume(first)
        resume(second)
        outputs = [it.communicate(timeout=60)[0] for it in (first, second)]
    counts = [output.splitlines()[-1].split() for output in outputs]
    assert sorted(int(removed) for removed, _ in counts) == [0, len(wheels)]
    assert [failed for _, failed in counts] == ["0", "0"]
