"""The line about a store that takes much room, and the trees of failed builds in it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from nox_buildstages.store import failed_builds
from nox_buildstages.store.build_dir import BuildDirectory
from nox_buildstages.store.failed_builds import make_room, remove_kept_trees
from nox_buildstages.store.size import describe_large_store, size_note
from nox_buildstages.store.store import Store

LARGE = (
    "the store takes 31.0 GB; to limit it: nox -s build-stages-prune --"
    " --larger-than 20GB"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    (store.folder / "locks").mkdir(parents=True)
    return store


def test_a_large_store_is_named(store: Store) -> None:
    """It is measured once a day, because that takes long."""
    assert describe_large_store(store) == ""
    note = size_note(store)
    assert json.loads(note.read_text("utf-8")) == 0
    note.write_text("31000000000", "utf-8")
    assert describe_large_store(store) == LARGE
    os.utime(note, (0, 0))
    assert describe_large_store(store) == ""


def test_the_store_is_marked_as_a_cache(store: Store) -> None:
    """Programs for backups read the first line, of 43 characters."""
    for _ in range(2):
        with store.use():
            tag = (store.folder / "CACHEDIR.TAG").read_text("ascii")
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def failed(store: Store, output: str, *, days: float = 0) -> BuildDirectory:
    """Make the tree of a failed build."""
    build_dir = BuildDirectory(store.folder / "builds" / f"{output}-key")
    build_dir.folder.mkdir(parents=True)
    build_dir.begin(Path("/e"), lambda _: build_dir.folder / "source")
    build_dir.keep_tree(output)
    then = time.time() - days * 86_400
    os.utime(build_dir.failure, (then, then))
    return build_dir


def test_the_tree_of_a_failed_build_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For 14 days, one for each output, as long as there is room, or it is used."""
    kept, old, same = (
        failed(store, "kept", days=13),
        failed(store, "old", days=15),
        failed(store, "same"),
    )
    used = failed(store, "used")
    remove_kept_trees(store, "same")
    assert not old.folder.exists()
    assert not same.folder.exists()
    assert kept.folder.exists()
    assert kept.partial_build(store.folder) is None  # no build resumes
    monkeypatch.setattr(failed_builds, "ROOM", 0)
    make_room(store, store.folder, None)
    assert kept.folder.exists()
    with store.hold_lock(used.folder.name):
        make_room(store, store.folder, 10**18)
    assert not kept.folder.exists()
    assert used.folder.exists()
