"""The lines at the end of a run that was stopped: what is kept, and how to resume."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages.run.events import BEGUN, BUILT, CACHED, PLANNED, STOPPED
from nox_buildstages.run.log_progress import count_steps, measure_progress
from nox_buildstages.system.files import open_text
from nox_buildstages.text import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nox_buildstages.run.events import Event

_WIDTH = 72
"""The number of characters of a line, which nox begins with six others."""

_UNFINISHED = (BEGUN, STOPPED)
"""The states of a step that Ctrl-C, a timeout or the end of its process has stopped."""


_Place: TypeAlias = tuple[str, str, str, str]
"""Stage, Python, output and version."""


def describe_stop(events: Sequence[Event], command: str, *, now: float) -> list[str]:
    """Return what is kept if a run was stopped, and the command to resume.

    ``now`` is the end of steps whose process was killed.

    The lines are empty if nothing was stopped, or if there is nothing to keep.
    """
    last: dict[_Place, Event] = {}
    begun: dict[_Place, float] = {}
    logs: dict[_Place, str] = {}
    stopped_sessions: dict[tuple[object, ...], bool] = {}
    for it in events:
        place = (it.stage, it.python, it.output, it.version)
        if it.step == "output" and it.state not in (PLANNED, CACHED):
            last[place] = it
            if it.state == BEGUN:
                begun[place] = it.time
        elif it.step == "compile":
            logs[place] = str(it.facts.get("log", ""))
        elif it.step == "session":
            stopped_sessions[it.subject] = it.state in _UNFINISHED
    done = [it.output for it in last.values() if it.state == BUILT]
    stopped = {place for place, it in last.items() if it.state in _UNFINISHED}
    partial = [place for place in logs if place in stopped]
    if not (partial or (done and any(stopped_sessions.values()))):
        return []
    kept = [f"{', '.join(dict.fromkeys(done))} (done)"] if done else []
    for place in partial:
        end = last[place].time if last[place].state == STOPPED else now
        seconds = end - begun[place]
        duration = format_time(seconds) if seconds >= 1 else "just begun"
        count = _count_files(logs[place])
        kept.append(f"{place[2]} ({', '.join(filter(None, (count, duration)))})")
    *others, final = kept
    words = f"{', '.join(others)} and {final}" if others else final
    lines = wrap(f"stopped. Kept: {words}.", _WIDTH, subsequent_indent="  ")
    return [*lines, f"Run `{command}` again to resume."]


def _count_files(log: str) -> str:
    """Return what a build has compiled, by its log; empty if that isn't known."""
    with suppress(OSError), open_text(Path(log)) as lines:
        progress = measure_progress(count_steps(lines), None)
        if str(progress):
            return f"{progress} {'compiled' if progress.unit == 'files' else 'done'}"
    return ""
