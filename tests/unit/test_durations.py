"""Times, as people write them."""

from __future__ import annotations

import pytest

from nox_buildstages.durations import spelled


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "59 s"),
        (60, "1 min"),
        (90_000, "25 h"),
        (61, "1 min 1 s"),
        (18_000, "5 h"),
        (5_430, "1 h 30 min 30 s"),
    ],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    """In hours, minutes and seconds, as far as there are any."""
    assert spelled(seconds) == words
