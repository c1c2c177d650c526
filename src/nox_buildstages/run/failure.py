"""The lines at the end of a run that was stopped: what is kept, and how to resume."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

from packaging.utils import canonicalize_name

from nox_buildstages.run.events import (
    ASKED,
    BEGUN,
    BUILT,
    CACHED,
    PLANNED,
    STOPPED,
)
from nox_buildstages.system.files import open_text
from nox_buildstages.text import format_time

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nox_buildstages.run.events import Event

_WIDTH = 72
"""The number of characters of a line, which nox begins with six others."""

_FIXED = "\N{NO-BREAK SPACE}"
"""Stands for a space at which no line ends."""

_UNFINISHED = (BEGUN, STOPPED)
"""The states of a step that Ctrl-C, a timeout or the end of its process has stopped."""


_Place: TypeAlias = tuple[str, str, str, str]
"""Stage, Python, output and version."""


def describe_stop(
    events: Sequence[Event], command: Sequence[str], *, now: float
) -> list[str]:
    """Return what is kept if a run was stopped, and the command to resume.

    ``now`` is the end of steps whose process was killed.

    The lines are empty if nothing was stopped, or if there is nothing to keep.
    """
    last: dict[_Place, Event] = {}
    begun: dict[_Place, Event] = {}
    planned: set[str] = set()
    logs: dict[_Place, str] = {}
    stopped_sessions: dict[tuple[object, ...], bool] = {}
    for it in events:
        place = (it.stage, it.python, it.output, it.version)
        if it.step == "output" and it.state == PLANNED:
            planned.add(it.output)
        elif it.step == "output" and it.state != CACHED:
            begun[place], last[place] = begun.get(place, it), it
        elif it.step == "compile":
            logs[place] = str(it.facts.get("log", ""))
        elif it.step == "session":
            stopped_sessions[it.subject] = it.state in _UNFINISHED
    done = sorted({it.output for it in last.values() if it.state == BUILT})
    partial = [it for it in logs if it in last and last[it].state in _UNFINISHED]
    if not (partial or (done and any(stopped_sessions.values()))):
        return []
    kept = [f"{', '.join(done)} (done)"] if done else []
    afresh = {it[2] for it in partial if ASKED in begun[it].facts.get("reasons", ())}
    for place in partial:
        end = last[place].time if last[place].state == STOPPED else now
        seconds = end - begun[place].time
        duration = format_time(seconds) if seconds >= 1 else "just begun"
        count = _count_files(logs[place])
        if place[2] in afresh:
            kept.append(f"the earlier wheel of {place[2]}")
        else:
            state = ", ".join(filter(None, (count, duration)))
            kept.append(f"{place[2]} ({state.replace(' ', _FIXED)})")
    *others, final = kept
    words = f"{', '.join(others)} and {final}" if others else final
    text = f"stopped. Kept: {words}."
    wrapped = wrap(text, _WIDTH, subsequent_indent="  ")
    lines = [line.replace(_FIXED, " ") for line in wrapped]
    rest = planned.difference(done, (it[2] for it in partial)) | afresh
    resuming = _resume_rebuild(command, rest)
    run = f"Run `{shlex.join(resuming)}`"
    if resuming != [*command]:
        why = "the same command would start from the beginning."
        return [*lines, f"{run} to resume:", why]
    verb = "start from the beginning" if afresh else "resume"
    return [*lines, f"{run} again to {verb}."]


def _resume_rebuild(command: Sequence[str], rest: Collection[str]) -> list[str]:
    """Return a command of nox whose ``--rebuild`` names only outputs in ``rest``."""
    if "--" not in command:
        return [*command]
    end = command.index("--")
    words, asked, is_all = [*command[end + 1 :]], set[str](), False
    others: list[str] = []
    while words:
        word, equals, value = words.pop(0).partition("=")
        if word != "--rebuild":
            others.append(f"{word}{equals}{value}")
            continue
        if not value and words and not words[0].startswith("-"):
            value = words.pop(0)
        asked |= {canonicalize_name(value)} if value else set()
        is_all = is_all or not value
    names = sorted(rest if is_all else asked.intersection(rest))
    if not is_all and {*names} == asked:
        return [*command]
    others += (word for name in names for word in ("--rebuild", name))
    return [*command[:end], *(("--", *others) if others else ())]


def _count_files(log: str) -> str:
    """Return what a build has compiled, by its log; empty if that isn't known."""
    from nox_buildstages.run.log_progress import count_steps, measure_progress  # noqa: PLC0415 - for few

    with suppress(OSError), open_text(Path(log)) as lines:
        progress = measure_progress(count_steps(lines), None)
        if str(progress):
            return f"{progress} {'compiled' if progress.unit == 'files' else 'done'}"
    return ""
