"""Patterns that see logs: no line makes a search take long, whoever wrote it."""

from __future__ import annotations

import re
import time
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODULES = {
    "builder.diagnosis.causes": re.Pattern.match,
    "builder.diagnosis.hints": re.Pattern.search,
    "builder.diagnosis.neighbours": re.Pattern.search,
    "builder.compilers.ninja_log": re.Pattern.match,
    "run.log_progress": re.Pattern.match,
    "errors": re.Pattern.match,
}
"""The modules, and the method by which they call patterns that a line can make slow."""

LINE = 4_000
"""The characters of a line: more than a search sees."""

PIECES = ("a", "a-", "a.", "a/", "/", " ", "1", "a:1", "'a", "a b ", "error ", "g++-")
LONGEST = 0.1
"""Seconds of CPU; the slowest pattern takes some thousandths."""


def patterns(value: object) -> Iterator[re.Pattern[str]]:
    """Yield all patterns in a value of a module."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, (tuple, list, frozenset)):
        for it in value:
            yield from patterns(it)


@pytest.mark.parametrize(("module", "method"), MODULES.items())
def test_a_line_is_searched_in_linear_time(
    module: str, method: Callable[[re.Pattern[str], str], object]
) -> None:
    """With time that grows as the square of the line, this would take minutes."""
    values = vars(import_module(f"nox_buildstages.{module}")).values()
    found = {it.pattern: it for value in values for it in patterns(value)}
    assert found
    for piece in PIECES:
        line = (piece * LINE)[: LINE - 1] + "!"
        for pattern in found.values():
            begun = time.process_time()
            method(pattern, line)
            assert time.process_time() - begun < LONGEST, (pattern.pattern, piece)
