"""The items to remove from a store, and the report of pruning."""

from __future__ import annotations

from pathlib import Path

import pytest

from nox_buildstages.commands.prune import render
from nox_buildstages.store.inventory import Kind, StoreItem
from nox_buildstages.store.pruning import Limits, PruneResult, choose_items
from nox_buildstages.value import replace

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
def test_the_items_to_remove_and_their_order(
    older_than: int | None, larger_than: int | None, expected: list[StoreItem]
) -> None:
    """Garbage, then items that are too old, then the least recently used ones."""
    limits = Limits(older_than=older_than, larger_than=larger_than)
    assert choose_items(ALL, limits, now=NOW) == tuple(expected)


def test_trees_of_failed_builds_go_first() -> None:
    """And everything goes if nothing may stay."""
    failed = replace(NEW, kind=Kind.FAILED)
    limits = Limits(larger_than=50)
    assert choose_items((OLD, MIDDLE, failed), limits, now=NOW) == (failed,)
    assert {*choose_items(ALL, Limits(is_none=True), now=NOW)} == {*ALL}


def test_files_that_cannot_be_removed_count() -> None:
    """More items are removed if other files take a part of the room."""
    limits = Limits(larger_than=60)
    assert choose_items((OLD, MIDDLE, NEW), limits, now=NOW, fixed=1) == (OLD,)
    assert choose_items((OLD, MIDDLE, NEW), limits, now=NOW, fixed=99) == (
        OLD,
        MIDDLE,
        NEW,
    )


def test_an_empty_store_has_nothing_to_remove() -> None:
    """However little room there is."""
    assert choose_items((), Limits(older_than=0, larger_than=0), now=NOW, fixed=9) == ()


def test_a_use_in_the_future_counts_as_recent() -> None:
    """A wrong clock makes nothing old."""
    later = replace(OLD, used=NOW + 999)
    assert choose_items((later,), Limits(older_than=0), now=NOW) == ()


def test_the_report_has_a_line_for_each_kind() -> None:
    """Removed and left items, then the sums."""
    result = PruneResult(removed=(OLD, GARBAGE), left=(MIDDLE, NEW), foreign=1000)
    lines = [*render(result, Limits(older_than=5), is_dry=False)]
    assert lines == [
        "                   removed  size  left  size",
        "wheels             1        10 B  1     30 B",
        "unfinished builds  0        0 B   1     20 B",
        "leftovers          1        5 B   0     0 B",
        "removed 15 B; the store now takes 1.1 kB",
    ]


def test_an_empty_store_has_no_lines() -> None:
    """Only the sums, and how to set a limit if there is none."""
    assert [*render(PruneResult(), Limits(), is_dry=False)] == [
        "removed 0 B; the store now takes 0 B",
        (
            "without limits, only garbage is removed; to limit the store:"
            " -- --older-than 30d, -- --larger-than 20GB, or both"
        ),
    ]


def test_a_dry_run_reports_what_would_be_removed() -> None:
    """Its words differ from those of a real run."""
    lines = [*render(PruneResult(removed=(OLD,)), Limits(older_than=5), is_dry=True)]
    assert lines[0].split() == ["to", "remove", "size", "left", "size"]
    assert lines[-1] == "would remove 10 B; the store would take 0 B"


def test_a_limit_that_is_exceeded_is_reported() -> None:
    """Items that can't be removed may take more than the limit."""
    result = PruneResult(left=(OLD,))
    lines = [*render(result, Limits(larger_than=9), is_dry=False)]
    assert lines[-1] == "the rest is larger than 9 B, and can't be removed now"
