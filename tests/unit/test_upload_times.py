"""Spans in exclude-newer, and the dates that they mean."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from nox_buildstages.declarations.upload_times import ALL, SOME, find_dates, parse_span

NOW = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        *(("7 days", 168), ("1 week", 168), ("7d", 168), ("1w2d", 216), ("P7D", 168)),
        *(("P1WT2H", 170), ("PT12H", 12), ("24 hours", 24), ("90 mins", 1.5)),
        *(("1 week, 2 days", 216), ("2 weeks ago", 336), ("-7 days", 168)),
        *(("0 days", 0), ("1h30m", 1.5), ("+P7D", 168), ("PT3600S", 1)),
    ],
)
def test_a_span(text: str, hours: float) -> None:
    """Words as in uv, or ISO 8601."""
    assert parse_span(text) == timedelta(hours=hours)


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "P", "PT", "ago", "friday", "1 month", "1 year", "P1M", "P1Y"),
        *("2 days 1 week", "7 DAYS", "2026-11-01", "1.5 days", "9999999999 days"),
        *(False, 7, None),
    ],
)
def test_what_is_no_span(text: object) -> None:
    """Uv refuses months and years, and decides about the rest."""
    assert parse_span(text) is None


@pytest.mark.parametrize(
    ("declared", "uv", "dates"),
    [
        (None, {}, {}),
        ("2026-01-01", {ALL: "7 days"}, {}),
        (None, {ALL: "7 days"}, {ALL: "2026-11-21T12:00:00Z"}),
        ("1d", {ALL: "7 days"}, {ALL: "2026-11-27T12:00:00Z"}),
        (None, {ALL: "1d", "pip": {ALL: "2d"}}, {ALL: "2026-11-26T12:00:00Z"}),
        (None, {ALL: "999999 days"}, {ALL: "0001-01-01T00:00:00Z"}),
        (
            None,
            {ALL: "2026-01-01", SOME: {"a": "P1D", "b": False, "c": "2026-01-01"}},
            {SOME: {"a": "2026-11-27T12:00:00Z"}},
        ),
        (None, {SOME: 1, "pip": {SOME: []}}, {}),  # uv will refuse it
    ],
)
def test_the_dates_of_spans(
    declared: str | None, uv: dict[str, Any], dates: dict[str, Any]
) -> None:
    """Our table comes first; a time is no span."""
    assert find_dates(declared, uv, NOW) == dates
