"""How long the builds of a plan may take, from how long they took last time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nox_buildstages.text import format_time

if TYPE_CHECKING:
    from nox_buildstages.commands.plan.reasons import Plan, Tree

_WORTH_SAYING = 0.9
"""The share of the whole time below which builds side by side are mentioned."""


def describe_total(plan: Plan, *, cores: int) -> str:
    """Return how many outputs are to be built, and how long that may take.

    The time is unknown if the store lacks a build. Builds side by side share the cores,
    so their time is a lower bound.
    """
    builds = [it for it in plan.outputs if it.reasons]
    count = len(plan.outputs)
    if not builds:
        saved = sum(it.seconds or 0 for it in plan.outputs)
        time = f", which took {format_time(saved)} to build" if saved >= 1 else ""
        noun = "output" if count == 1 else "outputs"
        return f"nothing to build: {count} {noun} cached{time}"
    known = [it.seconds for it in builds if it.seconds is not None]
    text = f"to build: {len(builds)} of {count}"
    if not known:
        return f"{text}, time unknown"
    total = sum(known)
    text += f", about {format_time(max(total, 1))}"
    if len(known) < len(builds):
        return f"{text} for {len(known)} of them, the others' time is unknown"
    if len(builds) == 1:
        return text
    text += " alone"
    schedules = [_schedule(tree) for tree in plan.trees]
    best = max([*(seconds for seconds, _ in schedules), total / cores])
    if best < total * _WORTH_SAYING:
        stages = min(cores, max(stages for _, stages in schedules))
        flag = f"with -j {stages}" if stages > 1 else "side by side"
        text += f", at best {format_time(best)} {flag}"
    return text


def _schedule(tree: Tree) -> tuple[float, int]:
    """Return the seconds of the longest chain of stages, and how many build at once."""
    ends, levels = dict[str, float](), dict[str, int]()
    building = Counter[int]()
    for branch in tree.branches:
        times = (it.seconds or 0 for it in branch.outputs if it.reasons)
        seconds = max(times, default=0)  # outputs are built side by side
        start = max((ends.get(it, 0) for it in branch.needs), default=0)
        level = max((levels.get(it, 0) for it in branch.needs), default=0)
        ends[branch.stage] = start + seconds
        levels[branch.stage] = level + bool(seconds)
        building[levels[branch.stage]] += bool(seconds)
    return max(ends.values(), default=0), max(building.values(), default=0)
