"""The settings ``exclude-newer``: the last upload that counts, or a span before now."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from nox_buildstages.declarations.workspace import get_table

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL, SOME = "exclude-newer", "exclude-newer-package"
"""The keys in ``[tool.uv]``, and in lock files for the dates that spans meant."""

_ISO = r"[+-]?P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?"
_WORDS = (
    r"[+-]?\s*(?:(\d+)\s*(?:w|wks?|weeks?)\b,?)?\s*(?:(\d+)\s*(?:d|days?)\b,?)?"
    r"\s*(?:(\d+)\s*(?:h|hrs?|hours?)\b,?)?\s*(?:(\d+)\s*(?:m|mins?|minutes?)\b,?)?"
    r"\s*(?:(\d+)\s*(?:s|secs?|seconds?)\b)?(?:\s+ago)?"
)
_UNITS = ("weeks", "days", "hours", "minutes", "seconds")


def parse_span(text: object) -> timedelta | None:
    """Read a span, such as ``7 days``, ``1w 2d`` or ``P7D`` (ISO 8601); else None.

    As in uv, months and years aren't among the units, and a sign has no effect.
    """
    if not isinstance(text, str):
        return None
    # A unit may touch the next number: 1w2d.
    spaced = re.sub(r"(?<=[a-z])(?=\d)", " ", text.strip())
    found = re.fullmatch(_ISO, text.strip()) or re.fullmatch(_WORDS, spaced)
    if found is None or not any(found.groups()):
        return None
    numbers = map(int, found.groups(default="0"))
    try:
        return timedelta(**dict(zip(_UNITS, numbers, strict=True)))
    except OverflowError:
        return None


def find_dates(
    declared: str | None, uv: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the dates that spans mean now: of all projects, and by project.

    A declaration of our table comes before ``[tool.uv.pip]``, and that before
    ``[tool.uv]``. Times aren't included.
    """
    pip = get_table(uv, "pip")
    spans = {**get_table(uv, SOME), **get_table(pip, SOME)}
    by_project = {
        name: _date(now, span)
        for name, text in spans.items()
        if (span := parse_span(text)) is not None
    }
    span = parse_span(declared or pip.get(ALL, uv.get(ALL)))
    return {
        **({} if span is None else {ALL: _date(now, span)}),
        **({SOME: by_project} if by_project else {}),
    }


def _date(now: datetime, span: timedelta) -> str:
    try:
        date = now - span
    except OverflowError:
        date = datetime.min.replace(tzinfo=now.tzinfo)
    return f"{date.replace(tzinfo=None).isoformat(timespec='seconds')}Z"
