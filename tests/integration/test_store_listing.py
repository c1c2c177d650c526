"""The list of all wheels in a store: a hint that saves reading their records."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.store.history import History
from nox_buildstages.store.inventory import list_items
from nox_buildstages.store.key import Recipe
from nox_buildstages.store.listing import list_wheels
from nox_buildstages.store.store import Store
from nox_buildstages.value import replace
from support.packages import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nox_buildstages.store.store import StoredWheel

RECIPE = Recipe(
    name="kernels",
    version="1.0",
    source="sha256:aa",
    environment={},
    env={"FLAG": "1"},
    config_settings={},
    interpreter={"version": "3.11.7"},
    tools={},
)
MODELS = replace(RECIPE, name="models")


@dataclass
class Shop:
    """A store, and a wheel to put into it as often as needed."""

    store: Store
    wheel: Path
    log: Path

    @property
    def list(self) -> Path:
        """The file with the list."""
        return self.store.folder / "lists" / "wheels.json"

    def put(self, recipe: Recipe) -> StoredWheel:
        """Put a wheel into the store, as versions that know no list also do."""
        return self.store.put(recipe, self.wheel, log=self.log, seconds=1, run="x")

    def folder(self, recipe: Recipe) -> Path:
        """Return the folder of a recipe's wheel."""
        return self.store.wheel_folder(recipe.key)

    def previous(self, recipe: Recipe = RECIPE) -> Recipe | None:
        """Return what a plan compares with a recipe of another flag."""
        changed = replace(recipe, env={"FLAG": "new"})
        found = History(store=self.store).previous(changed)
        return None if found is None else found.recipe


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A store of two wheels, and the list of them."""
    log = tmp_path / "log"
    log.write_text("made it\n", "utf-8")
    store, wheel = Store(tmp_path / "store"), make_wheel(tmp_path, "kernels", "1.0")
    shop = Shop(store, wheel, log)
    for recipe in (RECIPE, MODELS):
        shop.put(recipe)
    assert shop.previous() == RECIPE
    return shop


def listed(shop: Shop) -> set[str]:
    """Return the keys of the list."""
    return {key for wheels in list_wheels(shop.store).values() for key in wheels}


def test_only_records_of_the_project_are_read(shop: Shop) -> None:
    """With many wheels of others, reading all records would take long."""
    before = shop.list.stat().st_ino
    shop.folder(MODELS).joinpath("record.json").unlink()
    assert shop.previous() == RECIPE
    assert list_wheels(shop.store)["models"].keys() == {MODELS.key}
    assert shop.list.stat().st_ino == before


def missing(shop: Shop) -> None:
    shutil.rmtree(shop.list.parent)


def cut(shop: Shop) -> None:
    shop.list.write_bytes(shop.list.read_bytes()[:100])


def garbled(shop: Shop) -> None:
    shop.list.write_bytes(b"\xff\x00")


def other_shape(shop: Shop) -> None:
    shop.list.write_text("[1, 2]", "utf-8")


def other_entries(shop: Shop) -> None:
    shop.list.write_text(json.dumps({"kernels": 5}), "utf-8")


def without_entry(shop: Shop) -> None:
    shop.list.write_text("{}", "utf-8")


@pytest.mark.parametrize(
    "damage", [missing, cut, garbled, other_shape, other_entries, without_entry]
)
def test_a_damaged_list_is_made_again(
    shop: Shop, damage: Callable[[Shop], None]
) -> None:
    """No damage hides a wheel, and the next reader finds a complete list."""
    before = shop.list.read_bytes()
    damage(shop)
    assert shop.previous() == RECIPE
    assert json.loads(shop.list.read_bytes()) == json.loads(before)


def test_what_others_put_is_found_and_what_they_remove_is_not(shop: Shop) -> None:
    """Nobody but readers of the list writes it."""
    newer = replace(RECIPE, env={"FLAG": "1", "OTHER": "1"})
    shutil.rmtree(shop.folder(RECIPE))
    assert shop.previous() is None
    shop.put(newer)
    assert shop.previous() == newer
    assert listed(shop) == {newer.key, MODELS.key}


def test_a_wrong_list_gives_no_wrong_wheel(shop: Shop) -> None:
    """The record decides of which project a wheel is, and the key which one it is."""
    swapped = {"models": {RECIPE.key: 1}, "kernels": {MODELS.key: 1}}
    shop.list.write_text(json.dumps(swapped), "utf-8")
    assert shop.previous() is None
    assert History(store=shop.store).previous(RECIPE) is not None
    assert shop.store.find(RECIPE.key) is not None
    assert not any(it.is_garbage for it in list_items(shop.store))


def test_a_list_that_cannot_be_written_changes_nothing(shop: Shop) -> None:
    """As in a read-only store, or on a full disk."""
    shutil.rmtree(shop.list.parent)
    shop.list.parent.write_text("no folder", "utf-8")
    assert shop.previous() == RECIPE
    assert shop.previous(MODELS) == MODELS


def test_readers_and_writers_at_once(shop: Shop) -> None:
    """Whoever comes last, the next reader knows all wheels."""
    recipes = [replace(RECIPE, env={"FLAG": str(it)}) for it in range(20)]

    def put_and_read(recipe: Recipe) -> None:
        shop.put(recipe)
        assert recipe.key in listed(shop)

    with ThreadPoolExecutor(4) as pool:
        [*pool.map(put_and_read, recipes)]
    assert listed(shop) == {it.key for it in (RECIPE, MODELS, *recipes)}


def test_a_wheel_that_was_built_again_is_no_garbage(shop: Shop, tmp_path: Path) -> None:
    """The list still has the size of the wheel before, which is garbage."""
    before = shop.store.peek(RECIPE.key)
    assert before is not None
    longer = make_wheel(tmp_path / "b", "kernels", "1.0", files={"x.py": "x = 1\n"})
    replace(shop, wheel=longer).put(RECIPE)
    garbage = [it.path for it in list_items(shop.store) if it.is_garbage]
    assert garbage == [before.path.parent]
