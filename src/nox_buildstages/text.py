"""Sizes, times, tables, differences and names as people read them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import humanize

from nox_buildstages.safe_text import Shown, show

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TextIO

    K = TypeVar("K", bound=str)
    V = TypeVar("V")

GAP = "  "
_UNITS = (("h", 3600), ("min", 60), ("s", 1))
_STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}
_PLAIN = str.maketrans(
    {
        "·": "-",
        "…": "...",
        "→": "->",
        "─": "-",
        "━": "=",
        "╌": "-",
        "✓": "+",
        "✗": "x",
        "○": "o",
        "◌": "~",
        "●": "*",
        "├": "|",
        "│": "|",
        "└": "`",
    }
)
_SHORT = 9.95
"""Seconds below which a time has a decimal."""

_OFF = {"", "0", "false", "no", "off"}


def align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a line for each row; each column is as wide as the widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield GAP.join(cell.ljust(width) for cell, width in cells).rstrip()


def format_size(size: float) -> str:
    """Format a size in bytes in powers of 1000, such as ``250.8 kB``."""
    return re.sub(" Bytes?$", " B", humanize.naturalsize(size))


def format_time(seconds: float) -> str:
    """Format a time in hours, minutes and whole seconds, such as ``4 min 12 s``."""
    rest = int(seconds)
    parts = []
    for unit, size in _UNITS:
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts) or "0 s"


def format_seconds(seconds: float) -> str:
    """Format a time; below ten seconds, with a decimal, such as ``0.4 s``."""
    return f"{seconds:.1f} s" if seconds < _SHORT else format_time(seconds)


def count(number: int, word: str) -> str:
    """Return a number of things, such as ``1 wheel`` or ``4 wheels``."""
    return f"{number} {word}{'s' * (number != 1)}"


def show_path(path: Path, here: Path) -> str:
    """Return a path for a message: relative, if in the current folder."""
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def diff(
    old: Mapping[K, V], new: Mapping[K, V]
) -> Iterator[tuple[K, V | None, V | None]]:
    """Yield every key whose value differs, sorted, with the old and the new value.

    The value is None on the side that lacks the key.
    """
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before != after:
            yield key, before, after


def wrap_line(line: str, width: int, *, indent: str) -> list[str]:
    """Return a line as lines that fit; words stay whole, later lines are indented."""
    if len(line) <= width:
        return [line]
    from textwrap import wrap  # noqa: PLC0415 - slow, and few lines are long

    return wrap(
        *(line, width),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a name, followed by a number if the name is taken."""
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name}-{number}"
    return free


def takes_colour(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether a stream shows colours, according to NO_COLOR, FORCE_COLOR and TERM."""
    return has_colour(env, is_terminal=stream.isatty())


def has_colour(env: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Whether variables and the kind of a stream ask for colours."""
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR", "").lower() not in _OFF:
        return True
    return is_terminal and env.get("TERM") != "dumb"


def paint(text: str, style: str, *, colour: bool) -> Shown:
    """Return a text in a style such as ``bold red``, if the terminal has colours."""
    codes = ";".join(_STYLES[word] for word in style.split())
    return Shown(f"\x1b[{codes}m{show(text)}\x1b[0m") if colour else show(text)


def fit_encoding(text: str, encoding: str | None) -> str:
    """Return a text with only the characters of an encoding."""
    encoding = encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return text
