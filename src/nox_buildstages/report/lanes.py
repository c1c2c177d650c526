"""The steps of a run side by side: a lane for each stage, with rows of bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.report.data import COMPILE, ENVIRONMENT, LOCK, LOCKS, WAIT
from nox_buildstages.run.events import CACHED
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nox_buildstages.report.data import Report, Step


class Bar(Value):
    """A bar of the timeline."""

    kind: str
    state: str
    started: float
    ended: float
    text: str
    more: str = ""


class Lane(Value):
    """The bars of a stage; those of a row don't overlap."""

    label: str
    rows: tuple[tuple[Bar, ...], ...]
    note: str = ""


def arrange_lanes(report: Report) -> tuple[Lane, ...]:
    """Return the lanes of a report, in the order of the stages."""
    several = any(column.python for column in report.columns)
    found: dict[str, list[Step]] = {LOCKS: []}
    cached: dict[str, list[str]] = {}
    for output in report.outputs:
        label = lane_of(output.stage, output.python if several else "")
        found.setdefault(label, [])
        if output.state == CACHED:
            cached.setdefault(label, []).append(output.name)
    for step in report.steps:
        if step.kind:
            label = lane_of(step.lane, step.python if several else "")
            found.setdefault(label, []).append(step)
    return tuple(
        Lane(
            label=label,
            rows=_pack(_bars(steps)),
            note=f"{', '.join(cached[label])}: cached" if label in cached else "",
        )
        for label, steps in found.items()
        if steps or label in cached
    )


def lane_of(stage: str, python: str) -> str:
    """Return the label of a stage's lane."""
    return f"{stage} · {python}" if python and stage != LOCKS else stage


def _bars(steps: Iterable[Step]) -> Iterator[Bar]:
    """Yield the bars of a lane; overlapping steps around builds are one bar."""
    for kind in (LOCK, ENVIRONMENT):
        united: list[Step] = []
        own = sorted((it for it in steps if it.kind == kind), key=lambda it: it.started)
        end = 0.0
        for step in own:
            if united and step.started > end:
                yield _unite(united)
                united = []
            united.append(step)
            end = max(end, step.ended)
        if united:
            yield _unite(united)
    for step in steps:
        if step.kind not in (LOCK, ENVIRONMENT):
            yield _bar(step)


def _unite(steps: list[Step]) -> Bar:
    # Locks may be made although a build backend failed when asked.
    whole = [it for it in steps if it.step == "lock"] or steps
    states = [it.state for it in whole if it.state != "ended"]
    kind = steps[0].kind
    return Bar(
        kind=kind,
        state=states[0] if states else "ended",
        started=min(it.started for it in steps),
        ended=max(it.ended for it in steps),
        text="locks" if kind == LOCK else "environment",
    )


def _bar(step: Step) -> Bar:
    text, more = step.step, ""
    if step.kind == COMPILE:
        text = f"{step.output} {step.version}"
        jobs = step.facts.get("jobs")
        more = f"{jobs} job{'' if jobs == 1 else 's'}" if jobs else ""
    elif step.kind == WAIT:
        text = str(step.facts.get("reason", "waiting"))
    elif step.step == "check":
        command = step.facts.get("command", "check")
        text = command if isinstance(command, str) else " ".join(command)
    elif step.step == "import":
        text = "imports"
    elif step.step == "preflight":
        text = f"{step.output}: preflight"
    return Bar(
        kind=step.kind,
        state=step.state,
        started=step.started,
        ended=step.ended,
        text=text,
        more=more,
    )


def _pack(bars: Iterable[Bar]) -> tuple[tuple[Bar, ...], ...]:
    """Return rows of bars that don't overlap; a bar goes to the first free row."""
    rows: list[list[Bar]] = []
    for bar in sorted(bars, key=lambda it: (it.started, -it.ended)):
        row = next((it for it in rows if it[-1].ended <= bar.started), None)
        if row is None:
            rows.append([bar])
        else:
            row.append(bar)
    return tuple(map(tuple, rows))
