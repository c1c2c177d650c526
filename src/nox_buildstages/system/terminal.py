"""The only place where lines are printed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nox_buildstages.text import fit_encoding

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from nox_buildstages.safe_text import Shown


def print_lines(
    lines: Iterable[Shown],
    *,
    stream: TextIO | None = None,
    encoding: str | None = None,
) -> None:
    """Print lines as they are, by default to the standard error stream.

    ``encoding`` has the characters that can be shown; by default it is the stream's.
    """
    to = stream or sys.stderr
    for line in lines:
        print(fit_encoding(line, encoding or to.encoding), file=to)
    to.flush()
