"""Properties of every recipe and its key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, strategies as st

from nox_buildstages.store.key import (
    AppliedPatch,
    Ingredient,
    Recipe,
    describe_changes,
    digest_json,
)
from nox_buildstages.value import field_names, replace, to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

characters = st.characters(codec="utf-8", exclude_characters="\0")
words = st.text(characters, min_size=1, max_size=6)
# A name ends at a blank, so that "a" 1 and "a 1" can't give the same reason.
names = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=6)
digests = st.text("0123456789abcdef", min_size=12, max_size=12)
ingredients = st.builds(
    Ingredient,
    version=words,
    sha256=digests,
    stage=st.one_of(st.just(""), words),
)
patches = st.builds(AppliedPatch, sha256=digests, name=words)
settings = st.one_of(
    st.text(characters, max_size=4), st.lists(words, max_size=3).map(tuple)
)
strings = st.dictionaries(names, st.text(characters, max_size=4), max_size=3)
parts: dict[str, st.SearchStrategy[Any]] = {
    "name": words,
    "version": words,
    "source": st.builds("{}:{}".format, st.sampled_from(("git", "sha256")), digests),
    "environment": st.dictionaries(names, ingredients, max_size=3),
    "env": strings,
    "config_settings": st.dictionaries(names, settings, max_size=3),
    "interpreter": strings,
    "tools": strings,
    "patches": st.lists(patches, max_size=3).map(tuple),
    "network": st.booleans(),
    "open_files": st.booleans(),
    "own_cuda": st.booleans(),
    "code": st.one_of(st.just(""), words),
    "requires_dist": st.sets(words, max_size=3).map(lambda it: tuple(sorted(it))),
    "machine": strings,
    "passed": st.dictionaries(names, digests, max_size=3),
}


def make(*, passed: dict[str, str], **fields: Any) -> Recipe:  # noqa: ANN401
    """Return a recipe; passed variables have a digest for the key."""
    return Recipe(**fields, passed=passed, passed_digest=digest_json(passed))


recipes = st.builds(make, **parts)


def shuffled(value: Any) -> Any:  # noqa: ANN401 - of any field
    return dict(reversed(value.items())) if isinstance(value, dict) else value


def of(recipe: Recipe) -> Mapping[str, Any]:
    return to_dict(recipe)


def test_every_field_is_drawn() -> None:
    """A new field of Recipe needs a strategy here."""
    rest = {"scheme", "passed_digest", "recorded_key", "unused", "find_processor"}
    assert parts.keys() == {*field_names(Recipe)} - rest


@given(recipes)
def test_the_order_of_names_does_not_matter(recipe: Recipe) -> None:
    """Equal recipes have equal keys, in whichever order their tables were filled."""
    turned = Recipe(**{name: shuffled(value) for name, value in of(recipe).items()})
    assert turned.key == recipe.key
    assert describe_changes(recipe, turned) == ()


@given(recipe=recipes, draw=st.data(), name=st.sampled_from(sorted(parts)))
def test_a_change_of_one_field_changes_the_key_and_is_described(
    recipe: Recipe, draw: st.DataObject, name: str
) -> None:
    """A different value of any field gives a different key and a reason to show."""
    was = getattr(recipe, name)
    now = draw.draw(parts[name].filter(lambda value: value != was))
    changed = make(**{**{it: getattr(recipe, it) for it in parts}, name: now})
    assert changed.key != recipe.key
    there, back = describe_changes(recipe, changed), describe_changes(changed, recipe)
    assert there
    assert len(there) == len(back)
    assert len(set(there)) == len(there)


@given(recipes, recipes)
def test_keys_are_equal_if_recipes_are(one: Recipe, other: Recipe) -> None:
    """Two recipes have equal keys exactly if they are equal and nothing differs."""
    assert (
        (one == other) == (one.key == other.key) == (not describe_changes(one, other))
    )


@given(recipes)
def test_json_keeps_everything(recipe: Recipe) -> None:
    """A recipe that was written to a file and read again is equal."""
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    if recipe.passed:  # the record of the wheel has the key
        again = replace(again, recorded_key=recipe.key)
    assert again.key == recipe.key
