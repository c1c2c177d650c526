"""The key of a wheel, and the description of how two recipes differ."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from nox_buildstages.reader import UnreadableError
from nox_buildstages.store.key import (
    AppliedPatch,
    Ingredient,
    Recipe,
    describe_changes,
    digest_values,
    seal_values,
)
from nox_buildstages.value import replace

TORCH = Ingredient(version="2.13.0", sha256="aa" * 32)
FLASH = Ingredient(version="2.8.3", sha256="bb" * 32, stage="kernels")
RECIPE = Recipe(
    name="some-package",
    version="1.0",
    source="sha256:" + "c" * 64,
    environment={"torch": TORCH, "flash-attn": FLASH},
    env={"MAX": "1"},
    config_settings={"--plain": "x", "--listed": ("y", "z")},
    interpreter={"version": "3.11.7", "abi": "cpython-311"},
    tools={"nvcc": "13.0"},
)


def environment(**changed: Ingredient) -> dict[str, Ingredient]:
    return {**RECIPE.environment, **changed}


CHANGES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"name": "other"}, ("name some-package → other",)),
    ({"version": "1.1"}, ("version 1.0 → 1.1",)),
    (
        {"source": "git:" + "d" * 40},
        ("source sha256:cccccccccccc → git:dddddddddddd",),
    ),
    (
        {"source": RECIPE.source + "#python"},
        ("source sha256:cccccccccccc → sha256:cccccccccccc#python",),
    ),
    (
        {"source": "tree:sha256:" + "e" * 64},
        ("source sha256:cccccccccccc → tree:sha256:eeeeeeeeeeee",),
    ),
    (
        {"version": "1.1", "source": "tree:sha256:" + "e" * 64},
        ("version 1.0 → 1.1",),
    ),
    (
        {"environment": environment(numpy=Ingredient(version="2.0", sha256="dd" * 32))},
        ("numpy 2.0 was added to the environment",),
    ),
    (
        {"environment": {"torch": TORCH}},
        ("flash-attn was removed from the environment",),
    ),
    (
        {"environment": environment(torch=replace(TORCH, version="2.14"))},
        ("torch 2.13.0 → 2.14",),
    ),
    (
        {"environment": environment(torch=replace(TORCH, sha256="ee" * 32))},
        ("torch 2.13.0 is a different wheel file",),
    ),
    (
        {"environment": {**environment(), "flash-attn": replace(FLASH, sha256="ff")}},
        ("the wheel flash-attn of stage kernels changed",),
    ),
    ({"env": {"MAX": "2"}}, ("env MAX '1' → '2'",)),
    ({"env": {}}, ("env MAX '1' → unset",)),
    ({"env": {"MAX": "1", "NEW": ""}}, ("env NEW unset → ''",)),
    (
        {"config_settings": {"--plain": "x"}},
        ("config setting --listed ('y', 'z') → unset",),
    ),
    (
        {"config_settings": {**RECIPE.config_settings, "--plain": ("x",)}},
        ("config setting --plain 'x' → ('x',)",),
    ),
    (
        {"interpreter": {"version": "3.11.8", "abi": "cpython-311"}},
        ("interpreter version '3.11.7' → '3.11.8'",),
    ),
    ({"patches": (AppliedPatch(sha256="aa", name="x"),)}, ("patches: x was added",)),
    ({"tools": {"nvcc": "13.1"}}, ("tool nvcc '13.0' → '13.1'",)),
    ({"tools": {}}, ("tool nvcc '13.0' → not declared",)),
    ({"tools": {"nvcc": "13.0\nnew\nmore"}}, ("tool nvcc '13.0' → 'new'",)),
    ({"tools": {"nvcc": "new\nmore"}}, ("tool nvcc '13.0' → 'new'",)),
    ({"network": True}, ("network off → on",)),
    ({"open_files": True}, ("sandbox on → off",)),
    ({"own_cuda": True}, ("CUDA of the machine → of the environment",)),
    ({"machine": {"cc": "gcc 12"}}, ("machine's cc not found → 'gcc 12'",)),
    (
        {"machine": {"rustc": "exit status 1"}},
        ("machine's rustc not found → found, but --version fails (exit status 1)",),
    ),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_every_change_gives_another_key_and_is_described(
    change: dict[str, Any], words: tuple[str, ...]
) -> None:
    """The description names the field, the old value and the new one."""
    changed = replace(RECIPE, **change)
    assert changed.key != RECIPE.key
    assert describe_changes(RECIPE, changed) == words


def test_an_edited_folder_is_described_in_words() -> None:
    """Its digests say nothing to anybody; the folder in it that is built does."""
    old, new = (replace(RECIPE, source=f"tree:sha256:{it * 64}") for it in "ef")
    assert describe_changes(old, new) == ("files of its folder changed",)
    inner = replace(new, source=f"{new.source}#python")
    assert describe_changes(old, inner) == (
        "source tree:sha256:eeeeeeeeeeee → tree:sha256:ffffffffffff#python",
    )


def test_the_most_telling_difference_comes_first() -> None:
    """Source before environment before variables, names in order."""
    changed = replace(
        RECIPE,
        source="git:1",
        environment={},
        env={"A": "1", "MAX": "1", "B": "2"},
        tools={},
    )
    assert describe_changes(RECIPE, changed) == (
        "source sha256:cccccccccccc → git:1",
        "flash-attn was removed from the environment",
        "torch was removed from the environment",
        "env A unset → '1'",
        "env B unset → '2'",
        "tool nvcc '13.0' → not declared",
    )


def patched(*patches: str) -> Recipe:
    """Return the recipe with patches, each written as its contents and its name."""
    pairs = (patch.split() for patch in patches)
    applied = (AppliedPatch(sha256=content * 32, name=name) for content, name in pairs)
    return replace(RECIPE, patches=tuple(applied))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (["aa x"], ["ab x"], "x changed"),
        (["aa x"], [], "x was removed"),
        (["aa x"], ["ab y"], "y was added, x was removed"),
        (
            ["aa x", "bb y"],
            ["bc y", "cc z"],
            "y changed, z was added, x was removed",
        ),
        (["aa x", "bb y"], ["bb y", "aa x"], "their order changed"),
        (["aa x", "bb y"], ["bb x", "aa y"], "their order changed"),
    ],
)
def test_changes_of_patches_are_described(
    old: list[str], new: list[str], words: str
) -> None:
    """By the patches' names, or by their order if only that changed."""
    before, after = patched(*old), patched(*new)
    assert before.key != after.key
    assert describe_changes(before, after) == (f"patches: {words}",)


def test_the_name_of_a_patch_is_no_part_of_the_key() -> None:
    """Only the contents of a patch count."""
    before, after = patched("aa x", "bb y"), patched("aa a/x", "bb z")
    assert before == after
    assert before.key == after.key
    assert describe_changes(before, after) == ()


def test_a_recipe_without_patches_is_written_as_before_patches_existed() -> None:
    """So old keys and records stay valid."""
    assert "patches" not in RECIPE.to_dict()
    assert Recipe.from_dict(RECIPE.to_dict()).patches == ()


def test_a_recipe_without_network_is_written_as_before_network_existed() -> None:
    """So old keys and records stay valid."""
    assert "network" not in RECIPE.to_dict()
    assert Recipe.from_dict(RECIPE.to_dict()).network is False


def test_switching_the_network_off_is_described() -> None:
    """Like switching the network on."""
    on = replace(RECIPE, network=True)
    assert describe_changes(on, RECIPE) == ("network on → off",)


def test_the_order_of_declarations_does_not_matter() -> None:
    """Equal recipes have equal keys and nothing to describe."""
    turned = replace(
        RECIPE,
        environment=dict(reversed(list(RECIPE.environment.items()))),
        config_settings=dict(reversed(list(RECIPE.config_settings.items()))),
    )
    assert turned.key == RECIPE.key
    assert describe_changes(RECIPE, turned) == ()


EVERYTHING = replace(
    RECIPE,
    version="2.8.3",
    source="git:" + "d" * 40 + "#csrc",
    env={"ARCH": "9.0", "NAME": "é"},
    patches=(AppliedPatch(sha256="cc" * 32, name="patches/a.patch"),),
    network=True,
)


def passing(salt: str = "salt", **values: str) -> Recipe:
    passed, digest = seal_values(values, salt), digest_values(values)
    return replace(RECIPE, passed=passed, passed_digest=digest)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (passing(X="a"), passing(X="b"), ("env X changed",)),
        (RECIPE, passing(X="b"), ("env X unset → set",)),
        (passing(X="a"), RECIPE, ("env X set → unset",)),
        (replace(RECIPE, env={"X": "a"}), passing(X="a"), ("env X changed",)),
        (
            replace(RECIPE, scheme=1, env={"X": "s", "OLD": "s", "MAX": "1"}),
            replace(passing(X="a"), env={"MAX": "1"}),
            ("env OLD set → unset", "env X changed"),
        ),
    ],
    ids=["changed", "set", "unset", "no longer in the table", "scheme 1"],
)
def test_the_value_of_a_passed_variable_is_in_no_reason(
    old: Recipe, new: Recipe, words: tuple[str, ...]
) -> None:
    """Records of scheme 1 don't say which variables were passed."""
    reasons = describe_changes(old, new)
    found = [it for it in reasons if "env MAX" not in it and "keys are" not in it]
    assert tuple(found) == words
    assert old.key != new.key


def test_a_record_of_another_store_is_compared_by_its_key() -> None:
    """Its salt is another one, and its digests say nothing here."""
    recipe, other = passing(X="a"), passing("another", X="a")
    assert other.key == recipe.key
    assert other.passed != recipe.passed
    recorded = replace(Recipe.from_dict(other.to_dict()), recorded_key=other.key)
    assert recipe.equals_foreign(recorded)
    assert not passing(X="b").equals_foreign(recorded)
    assert not recipe.equals_foreign(replace(recorded, version="2"))
    assert other.passed_digest not in json.dumps(other.to_dict())


def test_the_name_of_a_stage_is_no_part_of_the_key() -> None:
    """A stage that was renamed rebuilds nothing."""
    renamed = environment(**{"flash-attn": replace(FLASH, stage="renamed")})
    changed = replace(RECIPE, environment=renamed)
    assert changed.key == RECIPE.key
    assert describe_changes(RECIPE, changed) == ()


def test_a_recipe_of_an_earlier_scheme_says_so_alone() -> None:
    """The recipe keeps its key, and what it couldn't know is no change."""
    before = replace(RECIPE, scheme=1)
    assert Recipe.from_dict(before.to_dict()) == before
    assert "scheme" not in before.to_dict()
    now = replace(RECIPE, machine={"cc": "gcc 12"}, version="1.1")
    assert describe_changes(before, now) == (
        "keys are computed in a new way (scheme 1 → 2)",
        "version 1.0 → 1.1",
    )


MACHINE = {"cc": "gcc 12", "libc": "glibc-2.36"}
COMPILED = replace(RECIPE, machine=MACHINE)


def test_a_wheel_without_compilers_is_for_all_of_them() -> None:
    """The key, the record and the comparison leave compilers and C library out."""
    kept, other = COMPILED.without_compilers, {"cc": "gcc 13", "libc": "musl"}
    wanted = replace(COMPILED, machine=other)
    assert wanted.without_compilers.key == kept.key != COMPILED.key
    assert wanted.accepts(Recipe.from_dict(kept.to_dict()))
    assert not wanted.accepts(COMPILED)
    assert replace(wanted, version="1.1").compare(kept) == ("version 1.0 → 1.1",)
    assert kept.compare(wanted) == wanted.compare(kept) == ()
    # Without compilers isn't the same as a machine that doesn't count, by ``tools``.
    assert kept.key != RECIPE.key == RECIPE.without_compilers.key


def test_a_compiler_that_was_missing_counts() -> None:
    """The build might have started it; one that wasn't started may be missing now."""
    kept = COMPILED.without_compilers
    wanted = replace(COMPILED, machine={**MACHINE, "nvcc": "nvcc 13"})
    assert wanted.without_compilers.key == kept.key
    assert not wanted.accepts(kept)
    assert wanted.compare(kept) == ("machine's nvcc not found → 'nvcc 13'",)
    assert COMPILED.accepts(wanted.without_compilers)
    assert COMPILED.compare(wanted.without_compilers) == ()


def test_a_wheel_for_one_processor_is_for_no_other() -> None:
    """It is kept under a key of its own."""
    here, there = (
        replace(COMPILED, find_processor=partial(str, it)) for it in ("new", "old")
    )
    kept = Recipe.from_dict(there.for_processor.to_dict())
    assert kept.processor == "old"
    assert there.accepts(kept)
    assert there.compare(kept) == ()
    assert not here.accepts(kept)
    assert here.compare(kept) == ("machine's processor 'old' → 'new'",)


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        (
            replace(RECIPE, scheme=1),
            "b554c89826f4e76d03f2311eb182379903145d645325efb9b12b1642497270de",
        ),
        (
            replace(EVERYTHING, scheme=1),
            "e323b7a96b70702bfaefeed8770dac6eb6545ec6b5da5e744560cd7acdfd692c",
        ),
        (RECIPE, "57e15bceec1106f3bd5e9cf8405313e42a55239b6058d496695f79f356612902"),
        (
            EVERYTHING,
            "1b83fb92ee2a5d4dd03190897dc84e02e4c7e09a03e677a9cd45582e28a60031",
        ),
    ],
)
def test_the_key_of_a_recipe_never_changes(recipe: Recipe, key: str) -> None:
    """Every release computes the same key, so that stores stay valid."""
    assert recipe.key == key


@pytest.mark.parametrize(
    "recipe", [RECIPE, patched("aa x", "bb y"), replace(RECIPE, network=True)]
)
def test_a_recipe_comes_back_from_json(recipe: Recipe) -> None:
    """What was written is what is read: no describe_changes, no other key, equal."""
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.key == recipe.key
    assert describe_changes(recipe, again) == ()
    assert again.patches == recipe.patches
    assert [*map(str, again.patches)] == [*map(str, recipe.patches)]


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in RECIPE.to_dict().items() if name != key}


@pytest.mark.parametrize(
    "value",
    [
        without("environment"),
        without("tools"),
        {**RECIPE.to_dict(), "jobs": 4},
        {**RECIPE.to_dict(), "environment": {"torch": {"version": "1"}}},
        {**RECIPE.to_dict(), "environment": ["torch"]},
        {**RECIPE.to_dict(), "config_settings": None},
        {**RECIPE.to_dict(), "patches": [{"sha256": "aa"}]},
        {**RECIPE.to_dict(), "patches": None},
    ],
)
def test_a_recipe_of_another_scheme_is_refused(value: dict[str, Any]) -> None:
    """Missing, unknown and mistyped fields raise."""
    with pytest.raises(UnreadableError):
        Recipe.from_dict(value)
