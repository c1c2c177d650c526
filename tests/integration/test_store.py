"""The store: wheels by key, whole or not at all, whoever else is at it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock, Timeout
from packaging.version import Version
from platformdirs import user_cache_path

from nox_buildstages.store.history import History
from nox_buildstages.store.key import Ingredient, Recipe
from nox_buildstages.store.memory import BuildMemory
from nox_buildstages.store.store import Store, StoredWheel, cache_folder
from nox_buildstages.system.files import keep_text, sha256_of
from nox_buildstages.value import replace
from support.packages import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

RECIPE = Recipe(
    name="some-package",
    version="1.0",
    source="sha256:aa",
    environment={"torch": Ingredient(version="2.13.0", sha256="bb")},
    env={},
    config_settings={"--listed": ("x", "y")},
    interpreter={"version": "3.11.7"},
    tools={},
)
KEY = RECIPE.key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@dataclass
class Product:
    """A wheel that was built, with its log."""

    wheel: Path
    log: Path
    run: str = "run-1"

    def put(self, store: Store, recipe: Recipe = RECIPE) -> StoredWheel:
        """Put the wheel into a store."""
        return store.put(
            recipe, self.wheel, log=self.log, seconds=1.23456, run=self.run
        )


def make_product(tmp_path: Path, content: str = "x = 1\n") -> Product:
    files = {"some_package.py": content}
    wheel = make_wheel(tmp_path / "built", "some-package", "1.0", files=files)
    log = tmp_path / "built" / "log"
    log.write_text("made it\n")
    return Product(wheel=wheel, log=log)


@pytest.fixture
def product(tmp_path: Path) -> Product:
    return make_product(tmp_path)


def folder_of(store: Store) -> Path:
    return store.folder / "wheels" / KEY


def leftovers(store: Store) -> list[Path]:
    return list(store.folder.rglob(".new-*"))


def test_what_is_put_is_found(store: Store, product: Product) -> None:
    """With all that is known of it, and all that went into it."""
    put = product.put(store)
    assert store.find(KEY) == store.peek(KEY) == put
    assert (put.recipe, put.run) == (RECIPE, "run-1")
    wheel = put
    assert (wheel.name, wheel.version) == ("some-package", Version("1.0"))
    assert wheel.path.name == product.wheel.name
    assert wheel.path.read_bytes() == product.wheel.read_bytes()
    assert wheel.sha256 == sha256_of(product.wheel)
    assert wheel.size == product.wheel.stat().st_size
    assert wheel.seconds == 1.235
    assert wheel.log.read_text() == "made it\n"
    assert wheel.key == KEY


RECORD = """{
 "format": 1,
 "recipe": {
  "config_settings": {
   "--listed": [
    "y",
    "z"
   ],
   "--plain": "x"
  },
  "env": {
   "ARCH": "9.0",
   "NAME": "\\u00e9"
  },
  "environment": {
   "low-lib": {
    "sha256": "bbbb",
    "stage": "low",
    "version": "1.0"
   },
   "torch": {
    "sha256": "aaaa",
    "stage": "",
    "version": "2.13.0+cu130"
   }
  },
  "interpreter": {
   "version": "3.11.7"
  },
  "name": "flash-attn",
  "network": true,
  "patches": [
   {
    "name": "patches/a.patch",
    "sha256": "cccc"
   }
  ],
  "source": "git:dddd#csrc",
  "tools": {
   "nvcc": "13.0"
  },
  "version": "2.8.3"
 },
 "run": "4711-abc",
 "seconds": 1.235,
 "sha256": "c8d27a58c983d63f54eb1a984251ffd58f5c3e993f28582340275e5b1a26a2c0",
 "size": 8,
 "wheel": "flash_attn-2.8.3-py3-none-any.whl"
}"""
RECORD_KEY = "5efc6c99549a34afa1e915cd0496da37e77818a001a73734d1c5f2bdd577cd71"


def test_the_format_of_a_record_never_changes(store: Store, tmp_path: Path) -> None:
    """A record of the first release is found, and this release writes the same."""
    folder = store.folder / "wheels" / RECORD_KEY
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(RECORD)
    (folder / "build.log").write_text("made it\n")
    (folder / "flash_attn-2.8.3-py3-none-any.whl").write_bytes(b"a wheel\n")
    found = store.find(RECORD_KEY)
    assert found is not None
    assert found.recipe.config_settings == {"--listed": ("y", "z"), "--plain": "x"}
    assert found.recipe.environment["low-lib"].stage == "low"
    other = Store(tmp_path / "other")
    again = other.put(
        found.recipe, found.path, log=found.log, seconds=found.seconds, run=found.run
    )
    assert again.path.with_name("record.json").read_text() == RECORD


def test_what_was_not_put_is_not_found(store: Store) -> None:
    """Looking makes nothing."""
    assert store.find(KEY) is None
    assert store.peek(KEY) is None
    assert not store.folder.exists()


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [append, flip, truncate, empty, Path.unlink])
def test_a_damaged_wheel_is_not_found(
    store: Store, product: Product, damage: Callable[[Path], None]
) -> None:
    """It is never installed; what went into it can still be told."""
    path = product.put(store).path
    damage(path)
    assert store.find(KEY) is None
    peeked = store.peek(KEY)
    assert peeked is not None
    assert peeked.recipe == RECIPE


def test_a_wheel_without_its_log_is_not_found(store: Store, product: Product) -> None:
    """An entry is whole or it is none."""
    product.put(store).log.unlink()
    assert store.find(KEY) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": 1}', "\0"])
def test_a_record_that_cannot_be_read_is_none(
    store: Store, product: Product, text: str
) -> None:
    """No error of another kind escapes."""
    product.put(store)
    (folder_of(store) / "record.json").write_text(text)
    assert store.peek(KEY) is None
    assert store.find(KEY) is None


@pytest.mark.parametrize("damage", [truncate, empty, Path.unlink])
def test_a_damaged_record_is_none(
    store: Store, product: Product, damage: Callable[[Path], None]
) -> None:
    """A wheel of which nothing is known isn't used."""
    product.put(store)
    damage(folder_of(store) / "record.json")
    assert store.peek(KEY) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 0),
        ("recipe", []),
        ("recipe", {**RECIPE.to_dict(), "environment": []}),
        ("recipe", {**RECIPE.to_dict(), "version": "x y"}),
        ("recipe", {**RECIPE.to_dict(), "version": 1}),
        ("wheel", None),
        ("sha256", "00"),
        ("size", "1"),
        ("recipe", {**RECIPE.to_dict(), "source": "sha256:cc"}),
        ("wheel", "../../../outside.whl"),
    ],
)
def test_a_record_that_says_something_else_is_not_believed(
    store: Store, product: Product, field: str, value: object
) -> None:
    """Of another format, of other types, of another key, or of a file elsewhere."""
    product.put(store)
    shutil.copy(product.wheel, store.folder / "outside.whl")
    path = folder_of(store) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert store.find(KEY) is None


@pytest.mark.parametrize("value", [[], None, "x"])
def test_a_record_of_another_key_is_no_history(
    store: Store, product: Product, value: object
) -> None:
    """Whoever compares builds would stumble over what is no recipe of ours."""
    product.put(store)
    path = folder_of(store) / "record.json"
    recipe = {**RECIPE.to_dict(), "env": value}
    path.write_text(json.dumps({**json.loads(path.read_text()), "recipe": recipe}))
    assert store.peek(KEY) is None
    assert [*store.wheels(store.keys())] == []


def test_a_damaged_entry_is_replaced(
    store: Store, product: Product, tmp_path: Path
) -> None:
    """Whatever lies at its place, even what can't be written to.

    An earlier wheel stays as it is, because others may be using it.
    """
    folder = folder_of(store)
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("")
    (folder / "deep").chmod(0o500)
    folder.chmod(0o500)
    before = product.put(store)
    again = replace(make_product(tmp_path, "x = 2\n"), run="run-2")
    again.put(store)
    assert store.find(KEY, before.sha256) == before
    found = store.find(KEY)
    assert found is not None
    assert found.run == "run-2"
    assert found.sha256 == sha256_of(again.wheel)
    names = {path.name for path in folder.iterdir()}
    assert names == {"record.json", "deep", before.sha256, found.sha256}


def test_what_a_killed_prune_was_removing_is_removed(
    store: Store, product: Product
) -> None:
    """By the next session, which keeps every prune waiting."""
    product.put(store)
    gone = store.wheel_folder(KEY).with_name(f".gone-{'0' * 64}")
    (gone / "deep").mkdir(parents=True)
    store.prune_mark.touch()
    with store.use():
        assert [*gone.parent.iterdir()] == [store.wheel_folder(KEY)]
    assert not store.prune_mark.exists()


def test_a_file_in_place_of_an_entry_is_replaced(
    store: Store, product: Product
) -> None:
    """So is a damaged wheel that is built again with the same bytes."""
    store.wheel_folder(KEY).parent.mkdir(parents=True)
    store.wheel_folder(KEY).write_text("")
    built = product.put(store)
    truncate(built.path)
    assert store.find(KEY) is None
    assert product.put(store) == store.find(KEY) == built


def test_what_a_killed_rebuild_was_storing_is_removed(
    store: Store, product: Product
) -> None:
    """When the next run finds the wheel; what a running one stores stays.

    The wheel's key may be another than the build's.
    """
    folder = product.put(store).path.parents[1]
    for name in (".new-abcd1234", ".new-efgh5678"):
        (folder / name).mkdir()
    (folder / ".record.json.0123abcd").touch()
    held = os.open(folder / ".new-efgh5678", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    store.remove_partial_build("0" * 64, KEY)
    os.close(held)
    assert [it.name for it in folder.glob(".*")] == [".new-efgh5678"]
    assert store.find(KEY)


def test_a_wheel_of_an_earlier_version_stays_when_it_is_built_again(
    store: Store, product: Product, tmp_path: Path
) -> None:
    """Its files were in the folder of the key, where a run may be using them."""
    built = product.put(store)
    for path in [*built.path.parent.iterdir()]:
        path.replace(store.wheel_folder(KEY) / path.name)
    built.path.parent.rmdir()
    earlier = store.find(KEY)
    assert earlier is not None
    assert earlier.path.parent == store.wheel_folder(KEY)
    make_product(tmp_path, "x = 2\n").put(store)
    assert store.find(KEY, earlier.sha256) == built
    assert sha256_of(earlier.path) == earlier.sha256


def test_a_failed_build_is_known_until_its_key_has_a_wheel(
    store: Store, product: Product
) -> None:
    """Builds that differ less tell more; a damaged file tells nothing."""
    history = History(store=store)
    for size, other in ((1, "2.0"), (2, "1.0")):
        recipe = replace(RECIPE, version=other)
        store.note_failure(recipe, BuildMemory(process=size, build=size, jobs=1))
    name = RECIPE.name
    for text in ("{", "[]", '{"recipe": 1}'):
        (store.folder / f"failures/{name}-{text[0]}.json").write_text(text)
    assert [it.process for it in history.memory_of(RECIPE)] == [2, 1]
    product.put(store)
    assert [it.process for it in history.memory_of(RECIPE)] == [1]


def test_a_put_that_fails_leaves_nothing(
    store: Store, product: Product, tmp_path: Path
) -> None:
    """What was there stays, and no half of the new one is left."""
    first = product.put(store)
    with pytest.raises(FileNotFoundError):
        replace(product, log=tmp_path / "gone").put(store)
    assert store.find(KEY) == first
    assert leftovers(store) == []


PUT = """
import sys
from pathlib import Path
from nox_buildstages.store.key import Recipe
from nox_buildstages.store.store import Store
import json

folder, wheel, log, recipe = sys.argv[1:]
store = Store(Path(folder))
sys.stdin.readline()
recipe = Recipe.from_dict(json.loads(recipe))
for _ in range(100):
    with store.hold_lock(recipe.key):
        store.put(recipe, Path(wheel), log=Path(log), seconds=1, run="x")
"""


def test_many_may_put_the_same_at_once(store: Store, product: Product) -> None:
    """Each process holds the key's lock, and the last wheel is sound."""
    paths = map(str, (store.folder, product.wheel, product.log))
    arguments = [*paths, json.dumps(RECIPE.to_dict())]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", PUT, *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [writer.communicate(timeout=60)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], said
    assert store.find(KEY) is not None
    assert leftovers(store) == []


@pytest.mark.parametrize("before", [None, b"", b"\xff" * 64, b"0" * 63])
def test_a_salt_is_made_once(store: Store, before: bytes | None) -> None:
    """All who ask at once get the same one; a damaged one is replaced."""
    if before is not None:
        store.folder.mkdir(parents=True, exist_ok=True)
        (store.folder / "salt").write_bytes(before)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(lambda: store.salt) for _ in range(8)]
    (salt,) = {it.result() for it in asked}
    assert re.fullmatch("[0-9a-f]{64}", salt)
    assert (store.folder / "salt").read_text() == salt


def test_a_store_that_cannot_be_written_to_has_a_salt(tmp_path: Path) -> None:
    """It is another one each time."""
    tmp_path.joinpath("file").touch()
    store = Store(tmp_path / "file")
    assert store.salt != store.salt


def test_a_lock_is_held_by_one_process(store: Store) -> None:
    """Another one waits; a lock of another name is free; afterwards it is too."""
    with store.hold_lock("a"):
        assert not can_lock(store, "a")
        assert can_lock(store, "b")
    assert can_lock(store, "a")


def can_lock(store: Store, name: str) -> bool:
    code = "import sys, filelock; filelock.FileLock(sys.argv[1], 0).acquire()"
    path = store.folder / "locks" / f"{name}.lock"
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0 or "Timeout" in done.stderr, done.stderr
    return done.returncode == 0


def test_a_lock_is_let_go_where_the_block_fails(store: Store) -> None:
    """An error leaves nobody waiting."""

    def fail() -> None:
        with store.hold_lock("a"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    lock = FileLock(store.folder / "locks" / "a.lock", 0)
    try:
        lock.acquire()
    except Timeout:  # pragma: no cover
        pytest.fail("it is still held")
    lock.release()


def test_a_workplace_goes_when_all_went_well(store: Store) -> None:
    """Its path depends on the key alone, and nothing is left of it."""
    with store.open_build_dir(store.build_dir("a")) as first:
        assert list(first.folder.iterdir()) == []
        (first.folder / "file").write_text("")
    assert not first.folder.exists()
    with store.open_build_dir(store.build_dir("a")) as second:
        assert second == first
    with store.open_build_dir(store.build_dir("b")) as third:
        assert third != first


def test_a_workplace_stays_where_the_block_was_stopped(store: Store) -> None:
    """The next one of that key finds what there is."""

    def fail() -> None:
        with store.open_build_dir(store.build_dir("a")) as place:
            (place.folder / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with store.open_build_dir(store.build_dir("a")) as place:
        assert (place.folder / "file").read_text() == "half"


def test_a_workplace_is_had_when_nothing_runs_in_it_any_more(store: Store) -> None:
    """Whoever was killed may have left a program that is being ended just now."""
    lock = store.processes_lock("a")
    lock.parent.mkdir(parents=True)
    ended: list[float] = []

    def let_go() -> None:
        ended.append(time.monotonic())
        fcntl.flock(held, fcntl.LOCK_UN)

    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        timer = threading.Timer(0.3, let_go)
        timer.start()
        with store.open_build_dir(store.build_dir("a")):
            assert ended
        timer.join()


def test_the_store_is_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else in the user's cache; an empty variable is none, a path is made whole."""
    assert cache_folder({}) == user_cache_path("nox-buildstages")
    assert cache_folder({"NOX_BUILDSTAGES_CACHE_DIR": ""}) == cache_folder({})
    chosen = {"NOX_BUILDSTAGES_CACHE_DIR": str(tmp_path / "x")}
    assert cache_folder(chosen) == tmp_path / "x"
    monkeypatch.chdir(tmp_path)
    relative = {"NOX_BUILDSTAGES_CACHE_DIR": "x"}
    assert cache_folder(relative) == tmp_path / "x"


def test_entries_are_listed_newest_first(store: Store, product: Product) -> None:
    """A record that can't be read is left out, and what is on its way in."""
    other = replace(RECIPE, env={"A": "1"})
    for age, recipe in enumerate((RECIPE, other)):
        product.put(store, recipe)
        record = store.folder / "wheels" / recipe.key / "record.json"
        os.utime(record, (1000 - age, 1000 - age))
    for name in (".new-x", "broken"):
        shutil.copytree(folder_of(store), store.folder / "wheels" / name)
    (store.folder / "wheels" / "broken" / "record.json").write_text("{}")
    assert [entry.recipe for entry in store.wheels(store.keys())] == [RECIPE, other]


@pytest.mark.parametrize("stranger", ["file", "link to itself"])
def test_what_stands_in_the_place_of_a_folder_is_moved_away(
    store: Store, product: Product, stranger: str
) -> None:
    """It is kept, as nobody knows whose it is, and the folder is made again."""
    product.put(store)
    place = store.folder / "wheels"
    place.rename(store.folder / "old")
    if stranger == "file":
        place.write_text("mine", "utf-8")
    else:
        place.symlink_to("wheels")
    assert store.move_strangers() == [place]
    assert len([*store.folder.glob("wheels.moved-*")]) == 1
    product.put(store)
    assert store.move_strangers() == []
    assert store.find(KEY)


def test_a_store_that_takes_no_wheel_is_named_before_a_build(store: Store) -> None:
    """Not after hours."""
    store.folder.mkdir()
    store.folder.joinpath("wheels").write_text("x", "utf-8")
    build_dir = store.build_dir("a" * 64)
    with (
        pytest.raises(OSError, match=str(store.folder / "wheels")),
        store.open_build_dir(build_dir),
    ):
        pytest.fail("the build has begun")


def test_a_text_that_can_be_made_again_replaces_anything(tmp_path: Path) -> None:
    """A folder in its place goes; and without permission nothing is written."""
    path = tmp_path / "answers/x.json"
    (path / "folder").mkdir(parents=True)
    keep_text(path, "1")
    assert path.read_text("utf-8") == "1"
    keep_text(path / "below", "2")
    assert path.read_text("utf-8") == "1"
