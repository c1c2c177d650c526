"""The data of a report: from the events of a run, and from manifests, to a value."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from nox_buildstages.run.events import (
    BEGUN,
    BUILT,
    CACHED,
    ENDED,
    FAILED,
    PLANNED,
    STOPPED,
)
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from nox_buildstages.run.events import Event
    from nox_buildstages.wheelhouse.manifest import Entry

RUNNING, KILLED, DONE = "running", "killed", "done"
"""More states of a run, and of a step without an end."""

KEPT, MISSING = "kept", "not built"
"""More states of an output: its wheel is older than the run; it has none."""

WITH_WHEEL = (BUILT, CACHED, KEPT)
"""The states of an output that has a wheel."""

LOCKS = "locks"
"""The lane of steps that belong to no stage."""

ENVIRONMENT, WAIT, COMPILE, CHECK, LOCK = (
    *("environment", "wait", "compile", "check", "lock"),
)
"""The kinds of steps that are drawn apart."""

KINDS = {
    "lock": LOCK,
    "ask": LOCK,
    "fetch": ENVIRONMENT,
    "environment": ENVIRONMENT,
    "install": ENVIRONMENT,
    "wait": WAIT,
    "preflight": CHECK,
    "compile": COMPILE,
    "import": CHECK,
    "check": CHECK,
}
"""The kind of each step that is drawn."""


_HITS = re.compile(r"(\d{1,9}) of (\d{1,9})")
"""In the words about a compiler cache: the compilations found, and all."""


_DECISIVE = frozenset(("lock", "stage", "install", "import", "check", "output"))
"""The steps whose failure is one of the run."""


class Step(Value):
    """Something that took time in a run."""

    step: str
    state: str  # ended, failed, stopped, running or killed
    started: float  # seconds since the epoch
    ended: float
    lane: str  # the stage, or LOCKS
    python: str
    output: str
    version: str
    facts: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The kind of the step in the drawing; empty for none."""
        kind = KINDS.get(self.step, "")
        return LOCK if kind and self.lane == LOCKS else kind

    @property
    def seconds(self) -> float:
        """How long the step took."""
        return self.ended - self.started


class OutputReport(Value):
    """An output of a cell."""

    name: str
    version: str
    stage: str  # with the values of its axes
    state: str
    python: str = ""
    seconds: float | None = None  # of the build, whenever it was
    size: int | None = None  # bytes
    memory: Mapping[str, Any] = field(default_factory=dict)
    jobs: int | None = None
    is_resumed: bool = False
    cache: tuple[int, int] | None = None  # compilations that were found, of how many
    reasons: tuple[str, ...] = ()
    compared: Mapping[str, Any] = field(default_factory=dict)
    """The earlier build: ``key``, ``seconds``, ``size``, and ``built`` if known."""
    slowest: tuple[Mapping[str, Any], ...] = ()
    """The files that took longest: ``file``, ``seconds``, ``memory`` in bytes,
    ``architectures``."""
    problem: tuple[str, ...] = ()  # the text of the error
    entry: Mapping[str, Any] = field(default_factory=dict)  # of the manifest
    log: str = ""  # relative to the page; empty if there is none


class FinalReport(Value):
    """The runtime environment of a cell."""

    state: str
    packages: Mapping[str, str] = field(default_factory=dict)  # versions by name
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of names in match-runtime: the version in each environment."""
    imports: tuple[str, ...] = ()
    has_skipped_imports: bool = False  # nothing had changed since they worked
    checks: tuple[Step, ...] = ()  # imports, too
    problem: tuple[str, ...] = ()


class Column(Value):
    """A cell for a Python: a project without a matrix has one."""

    cell: str
    python: str  # empty if there is one only
    folder: str  # of the wheelhouse, relative to the page; empty for the same
    outputs: tuple[OutputReport, ...]
    final: FinalReport | None

    @property
    def label(self) -> str:
        """The name of the column; empty for a single column."""
        python = f"Python {self.python}" if self.python else ""
        return ", ".join(filter(None, (self.cell, python)))


class Report(Value):
    """Everything known of a run."""

    title: str  # the name of the project's folder
    run: str  # its id
    state: str  # done, failed, stopped, killed or running
    started: float
    ended: float
    about: Mapping[str, Any] = field(default_factory=dict)
    """``command``, ``pythons``, ``platform``, ``cores``, ``memory`` in bytes,
    ``versions``."""
    steps: tuple[Step, ...] = ()
    columns: tuple[Column, ...] = ()
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By stage: the stages that it needs directly; a runtime needs all of its cell."""
    problem: tuple[str, ...] = ()  # of a session, if no output failed

    @property
    def outputs(self) -> tuple[OutputReport, ...]:
        """The outputs of all cells, shared ones once."""
        found = {
            (it.python, it.stage, it.name): it for c in self.columns for it in c.outputs
        }
        return tuple(found.values())


class Place(Value):
    """A cell of the project, for a Python."""

    cell: str
    python: str
    folder: str  # of the wheelhouse, relative to the page
    stages: tuple[tuple[str, tuple[str, ...]], ...]
    """Each stage's label with the names of its outputs, in order."""
    final: str  # the label of the final stage
    sessions: Mapping[str, str]  # the label of the stage of each session
    logs: Mapping[str, str]  # the log of each output that has one
    entries: tuple[Entry, ...] = ()  # of the manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the stages, and of the final stage."""
        return (*(label for label, _ in self.stages), self.final)

    def contains(self, event: Event) -> bool:
        """Whether an event belongs to the cell, for the cell's Python."""
        is_here = event.stage in self.labels or event.session in self.sessions
        return is_here and event.python == self.python


def read_steps(
    events: Iterable[Event],
    *,
    without_end: str,
    stages: Mapping[str, str],
    now: float,
) -> tuple[Step, ...]:
    """Return the steps of a run, in the order in which they began.

    A step without an end has the state ``without_end``, and takes until ``now``.
    ``stages`` has the stage of each session, for events without a stage. Making lock
    files is in a separate lane, with the environments needed for locking.
    """
    begun: dict[tuple[object, ...], list[Event]] = defaultdict(list)
    pairs: list[tuple[Event, Event | None]] = []
    for event in events:
        if event.state == BEGUN:
            begun[event.subject].append(event)
        elif begun[event.subject]:
            pairs.append((begun[event.subject].pop(), event))
    pairs += ((it, None) for left in begun.values() for it in left)
    locking = [
        (first.process, first.time, last.time if last else now)
        for first, last in pairs
        if first.step == "lock"
    ]

    def find_lane(event: Event) -> str:
        during_lock = any(
            process == event.process and start <= event.time < end
            for process, start, end in locking
        )
        if event.step in {"lock", "ask"} or during_lock:
            return LOCKS
        return event.stage or stages.get(event.session) or LOCKS

    steps = [
        Step(
            step=first.step,
            state=without_end if last is None else last.state,
            started=first.time,
            ended=max(first.time, now if last is None else last.time),
            lane=find_lane(first),
            python=first.python,
            output=first.output,
            version=first.version,
            facts={**first.facts, **(last.facts if last else {})},
        )
        for first, last in pairs
    ]
    return tuple(sorted(steps, key=lambda it: (it.started, -it.ended)))


def make_report(  # noqa: PLR0913 - what is known of a run comes from many sides
    events: Sequence[Event],
    places: Sequence[Place],
    *,
    title: str,
    run: str,
    requires: Mapping[str, tuple[str, ...]],
    about: Mapping[str, Any],
    is_over: bool,
    was_killed: bool = False,
    now: float | None = None,
) -> Report:
    """Return the report of a run.

    Until the run is over, steps without an end are running. They take until ``now``, in
    seconds since the epoch; without ``now``, until the last event.
    """
    without_end = KILLED if was_killed else STOPPED if is_over else RUNNING
    stages = {name: label for it in places for name, label in it.sessions.items()}
    last = now if now is not None else max((it.time for it in events), default=0.0)
    steps = read_steps(events, without_end=without_end, stages=stages, now=last)
    found = _Found(without_end=without_end, events={}, steps={})
    for event in events:
        key = (event.python, event.stage, event.output)
        found.events.setdefault(key, []).append(event)
    for step in steps:
        found.steps.setdefault((step.python, step.lane, step.output), []).append(step)
    pythons = {it.python for it in places}
    columns = tuple(
        Column(
            cell=place.cell,
            python=place.python if len(pythons) > 1 else "",
            folder=place.folder,
            outputs=tuple(
                found.report_output(place, label, name)
                for label, names in place.stages
                for name in names
            ),
            final=found.report_final(place),
        )
        for place in places
    )
    failed = [it for it in steps if it.state == FAILED and it.step in _DECISIVE]
    problem: tuple[str, ...] = ()
    if not any(it.problem for column in columns for it in column.outputs):
        problem = next((_problem(it.facts) for it in failed), ())
    states = {it.state for it in steps if it.step in _DECISIVE}
    state = RUNNING if without_end == RUNNING else DONE
    state = next((it for it in (FAILED, STOPPED) if it in states), state)
    return Report(
        title=title,
        run=run,
        state=KILLED if was_killed else state,
        started=min((it.time for it in events), default=0.0),
        ended=last,
        about=about,
        steps=steps,
        columns=columns,
        requires=requires,
        problem=problem,
    )


class _Found(Value):
    """The events and steps of a run, by Python, stage and output."""

    without_end: str  # the state of a step without an end
    events: dict[tuple[str, str, str], list[Event]]
    steps: dict[tuple[str, str, str], list[Step]]

    def report_output(self, place: Place, stage: str, name: str) -> OutputReport:
        """Return the report of an output: the last event not "cached" counts."""
        key = (place.python, stage, name)
        own = self.events.get(key, [])
        results = [it for it in own if it.step == "output" and it.state != PLANNED]
        telling = [it for it in results if it.state != CACHED] or results
        facts: dict[str, Any] = {}
        for event in own:
            if event.step in {"output", "compile"}:
                facts |= event.facts
        entry = next((it for it in place.entries if it["name"] == name), {})
        state = KEPT if entry else MISSING
        if telling:
            state = telling[-1].state
            state = self.without_end if state == BEGUN else state
        if state in WITH_WHEEL:
            facts = {**entry, **facts}
        steps = self.steps.get(key, [])
        compiled = [it.seconds for it in steps if it.step == "compile"]
        found = _HITS.search(facts.get("hits") or "")
        return OutputReport(
            name=name,
            version=results[-1].version if results else entry.get("version", ""),
            stage=stage,
            python=place.python,
            state=state,
            seconds=facts.get("seconds", sum(compiled) if compiled else None),
            size=facts.get("size"),
            memory=facts.get("memory") or {},
            jobs=facts.get("jobs"),
            is_resumed=bool(facts.get("resumed")),
            cache=(int(found[1]), int(found[2])) if found else None,
            reasons=tuple(facts.get("reasons") or ()),
            compared=facts.get("compared") or {},
            slowest=tuple(facts.get("slowest") or ()),
            problem=_problem(facts) if state == FAILED else (),
            entry=entry if state in WITH_WHEEL else {},
            log=place.logs.get(name, ""),
        )

    def report_final(self, place: Place) -> FinalReport | None:
        """Return the report of a runtime environment; None if the run had none."""
        key = (place.python, place.final, "")
        steps = self.steps.get(key, [])
        facts: dict[str, Any] = {}
        for event in self.events.get(key, []):
            facts |= event.facts
        if not steps:
            return None
        states = {it.state for it in steps}
        failed = [it for it in steps if it.state == FAILED]
        return FinalReport(
            state=next((it for it in (FAILED, STOPPED, KILLED) if it in states), ENDED),
            packages=facts.get("installed") or {},
            versions=facts.get("versions") or {},
            imports=tuple(facts.get("modules") or ()),
            has_skipped_imports=bool(facts.get("skipped")),
            checks=tuple(it for it in steps if it.step in {"import", "check"}),
            problem=_problem(failed[-1].facts) if failed else (),
        )


def _problem(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines of an error as the user saw them."""
    return tuple(facts.get("message") or filter(None, [facts.get("problem")]))


# The critical path -------------------------------------------------------------------


def critical_path(
    weights: Mapping[str, float], requires: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    """Return the slowest chain of nodes, each needing the node before.

    Nodes without a weight take no time, and are left out. The graph has no cycles.
    """
    longest: dict[str, tuple[float, tuple[str, ...]]] = {}

    def find(name: str) -> tuple[float, tuple[str, ...]]:
        if name not in longest:
            before = max(
                (find(it) for it in requires.get(name, ())),
                key=lambda it: it[0],
                default=(0.0, ()),
            )
            weight = weights.get(name, 0.0)
            chain = (*before[1], name) if weight else before[1]
            longest[name] = (before[0] + weight, chain)
        return longest[name]

    return max(map(find, weights), key=lambda it: it[0], default=(0.0, ()))[1]


def find_critical_path(report: Report) -> tuple[tuple[str, ...], float]:
    """Return the slowest chain of stages, and the seconds.

    With several Pythons, return the chain of the slowest Python.
    """
    requires = {name: (*needed, LOCKS) for name, needed in report.requires.items()}
    longest: tuple[tuple[str, ...], float] = ((), 0.0)
    for python in sorted({it.python for it in report.steps}):
        weights = weigh_stages(it for it in report.steps if it.python == python)
        path = critical_path(weights, requires)
        seconds = sum(weights[it] for it in path)
        longest = max(longest, (path, seconds), key=lambda it: it[1])
    return longest


def weigh_stages(steps: Iterable[Step]) -> dict[str, float]:
    """Return the seconds in which each stage worked rather than only waited."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for it in steps:
        if it.kind not in {"", WAIT}:
            spans[it.lane].append((it.started, it.ended))
    return {
        lane: sum(end - start for start, end in _unite(found))
        for lane, found in spans.items()
    }


def _unite(spans: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the spans in order, with overlapping spans united."""
    current: tuple[float, float] | None = None
    for start, end in sorted(spans):
        if current is not None and start <= current[1]:
            current = (current[0], max(current[1], end))
        else:
            if current is not None:
                yield current
            current = (start, end)
    if current is not None:
        yield current


# The file ----------------------------------------------------------------------------


def timestamp(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run_field(report: Report, column: Column, place: Place) -> dict[str, Any]:
    """Return the field ``run`` of a cell's manifest: the cell's part of a report."""
    lanes = {*place.labels, LOCKS}
    return _without_empty(
        {
            "id": report.run,
            "state": report.state,
            "started": timestamp(report.started),
            "ended": timestamp(report.ended),
            **report.about,
            "cell": place.cell,
            "python": place.python,
            "requires": {
                name: [*report.requires[name]]
                for name in report.requires
                if name in lanes
            },
            "outputs": [_output_field(it, report) for it in column.outputs],
            "final": column.final and _final_field(column.final),
            "steps": [
                _without_empty(
                    {
                        "step": it.step,
                        "state": it.state,
                        "stage": "" if it.lane == LOCKS else it.lane,
                        "output": it.output,
                        "started": timestamp(it.started),
                        "ended": timestamp(it.ended),
                    }
                )
                for it in report.steps
                if it.lane in lanes and it.python in ("", place.python) and it.kind
            ],
            "problem": [*report.problem],
        }
    )


def _output_field(output: OutputReport, report: Report) -> dict[str, Any]:
    wanted = (output.python, output.stage, output.name)
    steps = [it for it in report.steps if (it.python, it.lane, it.output) == wanted]
    build = next((it for it in steps if it.step == "output"), None)
    return _without_empty(
        {
            "name": output.name,
            "version": output.version,
            "stage": output.stage,
            "state": output.state,
            "started": build and timestamp(build.started),
            "ended": build and timestamp(build.ended),
            "seconds": output.seconds,
            "size": output.size,
            "reasons": [*output.reasons],
            "compared": {
                name: timestamp(it) if name == "built" else it
                for name, it in output.compared.items()
            },
            "jobs": output.jobs,
            "peak": {**output.memory},
            "resumed": output.is_resumed,
            "cache": output.cache
            and dict(zip(("hits", "compilations"), output.cache, strict=True)),
            "slowest": [*output.slowest],
            "problem": [*output.problem],
        }
    )


def _final_field(final: FinalReport) -> dict[str, Any]:
    return _without_empty(
        {
            "state": final.state,
            "packages": {**final.packages},
            "versions": {name: {**it} for name, it in final.versions.items()},
            "imports": [*final.imports],
            "imports-skipped": final.has_skipped_imports,
            "checks": [
                {
                    "command": it.facts.get("command") or it.step,
                    "state": it.state,
                    "seconds": round(it.seconds, 3),
                }
                for it in final.checks
                if it.step == "check"
            ],
            "problem": [*final.problem],
        }
    )


def _without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that say something; so does zero."""
    return {
        name: it for name, it in fields.items() if it or (it == 0 and it is not False)
    }
