"""What is removed from a store, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nox_buildstages.store.inventory import Kind, StoreItem
from nox_buildstages.store.pruning import Limits, Pruned, choose, told

NOW = 1000.0

OLD = StoreItem(kind=Kind.WHEEL, path=Path("old"), size=10, used=100.0)
MIDDLE = StoreItem(kind=Kind.TREE, path=Path("middle"), size=20, used=500.0)
NEW = StoreItem(kind=Kind.WHEEL, path=Path("new"), size=30, used=900.0)
GARBAGE = StoreItem(
    kind=Kind.LEFTOVER, path=Path("x"), size=5, used=NOW, is_garbage=True
)
ALL = (NEW, GARBAGE, OLD, MIDDLE)


@pytest.mark.parametrize(
    ("older_than", "larger_than", "expected"),
    [
        (None, None, [GARBAGE]),
        (1000, None, [GARBAGE]),
        (900, None, [GARBAGE]),
        (899, None, [GARBAGE, OLD]),
        (500, None, [GARBAGE, OLD]),
        (100, None, [GARBAGE, OLD, MIDDLE]),
        (0, None, [NEW, GARBAGE, OLD, MIDDLE]),
        (None, 1000, [GARBAGE]),
        (None, 60, [GARBAGE]),
        (None, 59, [GARBAGE, OLD]),
        (None, 50, [GARBAGE, OLD]),
        (None, 49, [GARBAGE, OLD, MIDDLE]),
        (None, 29, [GARBAGE, OLD, MIDDLE, NEW]),
        (None, 0, [GARBAGE, OLD, MIDDLE, NEW]),
        (899, 60, [GARBAGE, OLD]),
        (899, 30, [GARBAGE, OLD, MIDDLE]),
    ],
)
def test_what_goes_and_in_which_order(
    older_than: int | None, larger_than: int | None, expected: list[StoreItem]
) -> None:
    """Garbage always, then what is too old, then the longest unused until it fits."""
    limits = Limits(older_than=older_than, larger_than=larger_than)
    assert choose(ALL, limits, now=NOW) == tuple(expected)


def test_what_stays_whatever_happens_counts() -> None:
    """More has to go where something else takes a part of the room."""
    limits = Limits(larger_than=60)
    assert choose((OLD, MIDDLE, NEW), limits, now=NOW, beside=1) == (OLD,)
    assert choose((OLD, MIDDLE, NEW), limits, now=NOW, beside=99) == (OLD, MIDDLE, NEW)


def test_nothing_to_choose_from() -> None:
    """However little room there is."""
    assert choose((), Limits(older_than=0, larger_than=0), now=NOW, beside=9) == ()


def test_a_use_in_the_future_is_a_use_just_now() -> None:
    """A clock that went wrong makes nothing old."""
    later = replace(OLD, used=NOW + 999)
    assert choose((later,), Limits(older_than=0), now=NOW) == ()


def test_the_report_has_a_line_for_each_kind() -> None:
    """What was removed and what is left of it, then the sum."""
    pruned = Pruned(removed=(OLD, GARBAGE), left=(MIDDLE, NEW), beside=1000)
    lines = [*told(pruned, Limits(older_than=5), is_dry=False)]
    assert lines == [
        "                  removed  size  left  size",
        "wheels            1        10 B  1     30 B",
        "half-built trees  0        0 B   1     20 B",
        "leftovers         1        5 B   0     0 B",
        "removed 15 B; the store holds 1.1 kB now",
    ]


def test_an_empty_store_has_no_lines() -> None:
    """Only the sum, and where no limit was given, how to give one."""
    assert [*told(Pruned(), Limits(), is_dry=False)] == [
        "removed 0 B; the store holds 0 B now",
        (
            "only what nobody needs was looked for; to bound the store:"
            " -- --older-than 30d, -- --larger-than 20GB, or both"
        ),
    ]


def test_a_dry_run_says_would() -> None:
    """Nobody takes it for done."""
    lines = [*told(Pruned(removed=(OLD,)), Limits(older_than=5), is_dry=True)]
    assert lines[0].split() == ["to", "remove", "size", "left", "size"]
    assert lines[-1] == "would remove 10 B; the store would hold 0 B"


def test_what_could_not_be_reached_is_said() -> None:
    """A limit that isn't kept, and the sessions that are the reason."""
    pruned = Pruned(left=(OLD,), since=1.0)
    lines = [*told(pruned, Limits(larger_than=9), is_dry=False)]
    assert lines[-2:] == [
        "sessions are at work: what they may need stays",
        "more than 9 B can't be removed now",
    ]
