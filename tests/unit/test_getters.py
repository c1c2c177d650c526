"""Sizes and times, as users write them in a table and after ``--``."""

from __future__ import annotations

import pytest

from nox_buildstages.config.getters import parse_duration, parse_size

HOUR = 3600
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("45s", 45),
        ("90min", 90 * 60),
        ("5h", 5 * HOUR),
        ("30d", 30 * DAY),
        ("2w", 14 * DAY),
        ("1h30min", 90 * 60),
        ("1h30m", 90 * 60),
        ("1h5m", 65 * 60),
        ("1w2d3h4min5s", 9 * DAY + 3 * HOUR + 245),
        ("0s", 0),
        ("007d", 7 * DAY),
        ("999999999w", 999_999_999 * 7 * DAY),
    ],
)
def test_a_duration_is_read_in_seconds(written: str, expected: int) -> None:
    """A number and its unit, or several of them, the greatest first."""
    assert parse_duration(written) == expected


@pytest.mark.parametrize(
    "written",
    [
        *("", "30", "d", "5parsecs", "-1d", "+1d", "1.5h", "1 h", "5H", "1e3s"),
        *("30min1h", "1h1h", "5h ", " 5h", "5h\n", "\u0665h", "1000000000s", "h30m"),
        *("6m", "1d6m", "1h100m"),
    ],
)
def test_anything_else_is_no_duration(written: str) -> None:
    """Not ``6m`` either, which someone else takes for six months."""
    assert parse_duration(written) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("20GB", 20 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("512MB", 512 * 10**6),
        ("0KB", 0),
        ("2TiB", 2**41),
    ],
)
def test_a_size_is_read_in_bytes(written: str, expected: int) -> None:
    """Powers of 1000, or of 1024 where there is an ``i``."""
    assert parse_size(written) == expected


@pytest.mark.parametrize("written", ["", "20", "20G", "GB", "-1GB", "4 apples", "1gb"])
def test_anything_else_is_no_size(written: str) -> None:
    """A number without its unit could be anything."""
    assert parse_size(written) is None
