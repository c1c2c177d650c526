"""Commands to CI systems: folded groups, annotations, the summary of a job.

Lines of a build are strangers' text, which mustn't be taken for commands to the runner.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.safe_text import (
    Shown,
    escape_markdown,
    show,
    show_lines,
    without_codes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MOST_LINES = 5000
"""The number of lines of a log that are printed; the last ones."""


def is_folding(env: Mapping[str, str]) -> bool:
    """Whether this is a CI system that folds lines."""
    return bool(env.get("GITHUB_ACTIONS") or env.get("GITLAB_CI"))


def fold(title: str, lines: Iterable[str], env: Mapping[str, str]) -> Iterator[Shown]:
    """Yield lines of strangers' text as a folded group."""
    kept = [*lines]
    shown = [show(without_codes(it)) for it in kept[-_MOST_LINES:]]
    if len(kept) > len(shown):
        left_out = len(kept) - len(shown)
        shown.insert(0, show(f"… {left_out} lines above are in the log only"))
    token = os.urandom(16).hex()
    if env.get("GITHUB_ACTIONS"):
        yield Shown(f"::group::{show(title)}")
        yield Shown(f"::stop-commands::{token}")
        yield from shown
        yield Shown(f"::{token}::")
        yield Shown("::endgroup::")
    else:
        name, now = f"build_{token}", int(time.time())
        start = f"section_start:{now}:{name}[collapsed=true]"
        yield Shown(f"\x1b[0K{start}\r\x1b[0K{show(title)}")
        yield from shown
        yield Shown(f"\x1b[0Ksection_end:{now}:{name}\r\x1b[0K")


def annotate(
    message: str, path: Path, line: int | None, env: Mapping[str, str]
) -> Iterator[Shown]:
    """Yield the command that shows an error beside a line of a file, in GitHub."""
    if env.get("GITHUB_ACTIONS"):
        top = Path(env.get("GITHUB_WORKSPACE") or Path.cwd())
        shown = path.relative_to(top) if path.is_relative_to(top) else path
        place = f"file={_escape(str(shown), more=':,')}"
        if line is not None:
            place += f",line={line}"
        text = "\n".join(show_lines(message))
        yield Shown(f"::error {place},title=nox-buildstages::{_escape(text)}")


def add_to_summary(
    lines: Iterable[str], env: Mapping[str, str], *, title: str = ""
) -> None:
    """Add lines of Markdown, if any, to the summary of a job, in GitHub.

    Raises:
        OSError: The file can't be written.
    """
    path, added = env.get("GITHUB_STEP_SUMMARY"), [*lines]
    if path and added:
        heading = ["", f"#### {escape_markdown(title)}"] if title else []
        with Path(path).open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in (*heading, "", *added))


def _escape(text: str, *, more: str = "") -> str:
    """Escape a text as GitHub's commands want it."""
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
