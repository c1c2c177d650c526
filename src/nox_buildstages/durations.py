"""Times, as people write them."""

from __future__ import annotations

_UNITS = (("h", 3600), ("min", 60), ("s", 1))


def spelled(seconds: float) -> str:
    """Return a time in hours, minutes and whole seconds, such as ``4 min 12 s``."""
    left = int(seconds)
    parts = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts) or "0 s"
