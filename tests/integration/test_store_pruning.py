"""Bounding a real store, alone and beside sessions at work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from nox_buildstages.store import in_use as presence
from nox_buildstages.store.in_use import DAY
from nox_buildstages.store.inventory import Kind, inventory, size_of
from nox_buildstages.store.key import Recipe
from nox_buildstages.store.pruning import Limits, Pruned, prune
from nox_buildstages.store.store import Store
from nox_buildstages.system.locks import taken
from support.packages import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nox_buildstages.store.store import StoredWheel

RUN = "1-own"
KEY = "ab" * 32
ALL = Limits(older_than=0)
GARBAGE = Limits()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def never() -> None:
    raise AssertionError("it had to wait")


def pruned(store: Store, limits: Limits, *, is_dry: bool = False) -> Pruned:
    return prune(store, limits, run=RUN, waiting=never, is_dry=is_dry)


def put(store: Store, tmp_path: Path, name: str = "some-package") -> StoredWheel:
    wheel = make_wheel(tmp_path / "built", name, "1.0", files={"x.py": "x = 1\n"})
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


def gone(done: Pruned) -> list[Path]:
    """Return what was removed but the files of locks, which are there anyway."""
    return [thing.path for thing in done.removed if thing.kind is not Kind.LOCK]


def folder_of(entry: StoredWheel) -> Path:
    return entry.path.parent


def test_a_store_that_is_not_there_is_not_made(store: Store) -> None:
    """There is nothing to remove, and nothing is written."""
    assert pruned(store, ALL) == Pruned()
    assert not store.folder.exists()


def test_what_was_not_used_for_long_goes(store: Store, tmp_path: Path) -> None:
    """The other stays, and the report has the sizes of both."""
    old, new = put(store, tmp_path, "old"), put(store, tmp_path, "new")
    age(folder_of(old), 31)
    before = size_of(store.folder / "wheels")
    done = pruned(store, Limits(older_than=30 * int(DAY)))
    assert store.find(old.key) is None
    assert store.find(new.key) == new
    assert gone(done) == [folder_of(old)]
    assert done.freed + done.held == before
    assert size_of(store.folder / "wheels") == done.held


def test_what_is_found_is_used(store: Store, tmp_path: Path) -> None:
    """It doesn't go, and is still listed by the age of its build."""
    old, older = put(store, tmp_path, "old"), put(store, tmp_path, "older")
    age(folder_of(old), 31)
    age(folder_of(older), 32)
    assert store.find(older.key) is not None
    assert pruned(store, Limits(older_than=30 * int(DAY))).removed
    assert [*store.wheels()] == [older]
    put(store, tmp_path, "old")
    assert [it.recipe.name for it in store.wheels()] == ["old", "older"]


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
    held = pruned(store, GARBAGE).held
    done = pruned(store, Limits(larger_than=held - 1))
    assert gone(done) == [folder_of(entries[2])]
    assert done.held == size_of(store.folder)
    done = pruned(store, Limits(larger_than=0))
    assert done.held == size_of(store.folder / "not-ours") > 0
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
    write(top / "sources" / KEY / "a-1.tar.gz")
    write(top / "git" / KEY / "HEAD")
    write(top / "git" / f"{KEY}.lock")
    write(top / "answers" / f"{KEY}.json")
    write(top / "interpreters" / f"{KEY}.json")
    write(top / "compilers" / "ccache-x" / "gcc")
    write(top / "logs" / "a.log")
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
        "jobs/host/.1-x.json.y",
    ):
        write(top / leftover)
    assert {thing.kind for thing in inventory(store)} == set(Kind)
    done = pruned(store, ALL)
    assert (done.left, done.held) == ((), 0)
    left = {str(it.relative_to(top)) for it in top.rglob("*") if it.is_file()}
    assert left == {"runs/gate.lock"}


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
    next(folder.glob("*.whl")).unlink()


def cut(folder: Path) -> None:
    next(folder.glob("*.whl")).write_bytes(b"")


def without_log(folder: Path) -> None:
    (folder / "build.log").unlink()


@pytest.mark.parametrize(
    "damage", [without_record, garbled, without_wheel, cut, without_log]
)
def test_an_entry_that_is_never_found_is_garbage(
    store: Store, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """It goes without any limit; the sound one beside it stays."""
    folder, sound = folder_of(put(store, tmp_path, "a")), put(store, tmp_path, "b")
    damage(folder)
    assert gone(pruned(store, GARBAGE)) == [folder]
    assert store.find(sound.key) == sound


def test_an_entry_of_another_release_is_no_garbage(
    store: Store, tmp_path: Path
) -> None:
    """Two that share a store leave each other's alone."""
    record = folder_of(put(store, tmp_path)) / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "format": 99}))
    assert gone(pruned(store, GARBAGE)) == []
    assert gone(pruned(store, ALL)) == [record.parent]


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
    assert list(store.folder.glob("*/*")) == [store.folder / "runs" / "gate.lock"]


def test_a_file_of_two_names_is_counted_once(store: Store) -> None:
    """A clone shares files with its mirror."""
    file = write(store.folder / "git" / KEY / "pack", "x" * 50_000)
    alone = size_of(store.folder)
    (store.folder / "builds" / KEY).mkdir(parents=True)
    os.link(file, store.folder / "builds" / KEY / "pack")
    assert size_of(store.folder) == alone == pruned(store, GARBAGE).held


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
    folder = folder_of(put(store, tmp_path))
    stuck = write(folder / "deep" / "file")
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
import os, sys
from pathlib import Path
from nox_buildstages.store import in_use

store, run = Path(sys.argv[1]), sys.argv[2].format(pid=os.getpid())
waiting = lambda: print("waits", flush=True)
with in_use.present(store, run=run, waiting=waiting):
    print("at work", flush=True)
    sys.stdin.readline()
print("ended", flush=True)
sys.stdin.readline()
"""


@contextmanager
def session(store: Store, run: str = "{pid}-x") -> Iterator[subprocess.Popen[str]]:
    """Run a process that is at work with a store until a line is written to it."""
    with subprocess.Popen(
        [sys.executable, "-c", SESSION, str(store.folder), run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_what_a_session_may_have_found_stays(store: Store, tmp_path: Path) -> None:
    """All that was used since a day before it began; what is older goes."""
    needed, old = put(store, tmp_path, "needed"), put(store, tmp_path, "old")
    age(folder_of(needed), 0.9)
    age(folder_of(old), 3)
    write(store.folder / "locks" / "x.lock")
    leftover = write(store.folder / "wheels" / ".new-x" / "file").parent
    with session(store) as other:
        assert said(other) == "at work"
        done = pruned(store, Limits(older_than=0, larger_than=0))
        assert gone(done) == [folder_of(old)]
        assert done.since is not None
        assert store.find(needed.key) == needed
        assert leftover.exists()
    assert pruned(store, ALL).since is None
    assert store.find(needed.key) is None
    assert not leftover.exists()


def test_a_run_that_goes_on_has_something_at_work(store: Store) -> None:
    """Between two sessions of it, too; its own pruning is no reason to wait for."""
    write(store.folder / "logs" / "a.log")
    with session(store) as other:
        said(other)
        go_on(other)
        assert said(other) == "ended"
        assert pruned(store, ALL).removed == ()
        own = f"{other.pid}-x"
        assert prune(store, ALL, run=own, waiting=never, is_dry=True).removed
    assert pruned(store, ALL).removed


@pytest.mark.parametrize("run", ["nobody-x", "999999999-x"])
def test_a_run_that_is_gone_needs_nothing(store: Store, run: str) -> None:
    """Its trace is removed, by the next session or here."""
    write(store.folder / "logs" / "a.log")
    with session(store, run) as other:
        said(other)
        go_on(other)
        said(other)
        assert len(pruned(store, ALL).removed) == 1
    assert list(store.folder.glob("runs/*")) == [store.folder / "runs" / "gate.lock"]


def test_a_run_that_ended_its_last_session_long_ago_needs_nothing(
    store: Store,
) -> None:
    """Its number may be that of another process by now."""
    write(store.folder / "logs" / "a.log")
    with session(store) as other:
        said(other)
        go_on(other)
        said(other)
        (trace,) = store.folder.glob("runs/[0-9]*")
        age(trace, 1)
        assert len(pruned(store, ALL).removed) == 1


def test_a_process_of_someone_else_counts(store: Store) -> None:
    """One that we may not send signals to is there all the same."""
    trace = write(store.folder / "runs" / f"{int(time.time())}-1-x-1.lock")
    assert presence.at_work_since(store.folder) == float(trace.name.split("-")[0])


def test_a_session_begins_when_a_pruning_ends(store: Store) -> None:
    """It says that it waits."""
    with presence.gate(store.folder), session(store) as other:
        assert said(other) == "waits"
    with session(store) as other:
        assert said(other) == "at work"


def test_the_next_session_of_a_process_takes_up_where_the_last_one_ended(
    store: Store,
) -> None:
    """Nobody can have removed what it needs meanwhile; so it doesn't wait."""
    run = f"{os.getpid()}-x"
    with presence.present(store.folder, run=run, waiting=never):
        (trace,) = store.folder.glob("runs/[0-9]*")
    with (
        presence.gate(store.folder),
        presence.present(store.folder, run=run, waiting=never),
    ):
        assert taken(trace) is None
        assert [*store.folder.glob("runs/[0-9]*")] == [trace]
    assert presence.at_work_since(store.folder) == float(trace.name.split("-")[0])


def long_ago(trace: Path) -> None:
    age(trace, 1)


def is_removed(trace: Path) -> None:
    trace.unlink()


@pytest.mark.parametrize("change", [long_ago, is_removed])
def test_a_session_that_may_have_been_overlooked_begins_anew(
    store: Store, change: Callable[[Path], None]
) -> None:
    """The last one ended too long ago for others to count on the next."""
    run = f"{os.getpid()}-x"
    with presence.present(store.folder, run=run, waiting=never):
        (trace,) = store.folder.glob("runs/[0-9]*")
    change(trace)
    with (
        presence.gate(store.folder),
        pytest.raises(AssertionError, match="had to wait"),
        presence.present(store.folder, run=run, waiting=never),
    ):
        pass
    with presence.present(store.folder, run=run, waiting=never):
        assert presence.at_work_since(store.folder) is not None


def test_a_use_is_noted_when_a_pruning_ends(store: Store, tmp_path: Path) -> None:
    """So that a wheel is found before it is chosen, or when it is gone."""
    entry = put(store, tmp_path)
    age(folder_of(entry), 3)
    find = (
        "import sys; from pathlib import Path\n"
        "from nox_buildstages.store.store import Store\n"
        "print('looks', flush=True)\n"
        "print(Store(Path(sys.argv[1])).find(sys.argv[2]), flush=True)"
    )
    command = [sys.executable, "-c", find, str(store.folder), entry.key]
    with presence.gate(store.folder):
        finder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert said(finder) == "looks"
        with pytest.raises(subprocess.TimeoutExpired):
            finder.wait(0.5)
        (folder_of(entry) / "record.json").unlink()
    assert finder.communicate(timeout=30)[0] == "None\n"


@pytest.mark.parametrize("name", [f"{KEY}.lock", f"{KEY}-runs.lock"])
def test_what_is_being_built_stays(store: Store, name: str) -> None:
    """A build's tree is that of who holds its lock, or of what still runs in it."""
    tree = write(store.folder / "builds" / KEY / "source" / "a.o").parents[1]
    age(tree, 3)
    locks = store.folder / "locks"
    locks.mkdir()
    with FileLock(locks / name):
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
    limits = Limits(larger_than=max(size_of(tree), size_of(folder_of(entry))))
    with FileLock(write(store.folder / "locks" / f"{KEY}.lock")):
        done = pruned(store, limits)
    assert gone(done) == [folder_of(entry)]
    assert tree.exists()


def test_a_session_may_work_where_nothing_can_be_written(tmp_path: Path) -> None:
    """It is not announced, and that is no error."""
    write(tmp_path / "file")
    with presence.present(tmp_path / "file", run="1-x", waiting=never):
        assert (tmp_path / "file").read_text() == "x"
    presence.note_use(tmp_path / "file", tmp_path / "gone")


def test_two_prunings_at_once(store: Store, tmp_path: Path) -> None:
    """The second one waits, then finds nothing to do: both end well."""
    entries = [put(store, tmp_path, f"p{number}") for number in range(20)]
    code = (
        "import sys; from pathlib import Path\n"
        "from nox_buildstages.store.pruning import Limits, prune\n"
        "from nox_buildstages.store.store import Store\n"
        "sys.stdin.readline()\n"
        "done = prune(Store(Path(sys.argv[1])), Limits(older_than=0), run='1-x',"
        " waiting=lambda: None)\n"
        "print(len(done.removed), len(done.failures))"
    )
    command = [sys.executable, "-c", code, str(store.folder)]
    both = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in both:
        go_on(process)
    told = [process.communicate(timeout=60)[0].split() for process in both]
    assert sorted(int(removed) for removed, _ in told) == [0, len(entries) + 1]
    assert [failed for _, failed in told] == ["0", "0"]
