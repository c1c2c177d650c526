"""The state of a run of nox, from its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nox_buildstages.run.events import (
    BEGUN,
    BUILT,
    CACHED,
    FAILED,
    PLANNED,
    RUNNING,
    STOPPED,
)
from nox_buildstages.value import Record, field, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nox_buildstages.run.events import Event

DONE = (BUILT, CACHED)
"""The states of an output that has a wheel."""

OVER = (*DONE, FAILED, STOPPED)
"""The states of an output that doesn't change any more in this run."""


class OutputState(Record):
    """The state of an output, and the output's running steps, the innermost last."""

    stage: str
    name: str
    version: str
    state: str = PLANNED
    since: float = 0.0  # when the build began
    plan: Mapping[str, Any] = field(default_factory=dict)  # the facts before
    facts: Mapping[str, Any] = field(default_factory=dict)
    steps: dict[object, Event] = field(default_factory=dict)

    @property
    def step(self) -> Event | None:
        """The running step, or None."""
        return next(reversed(self.steps.values()), None)

    @property
    def is_running(self) -> bool:
        """Whether something is done for the output, other than waiting."""
        begun = self.state not in OVER and (self.state == BEGUN or bool(self.steps))
        return begun and not (self.step and self.step.step == "wait")

    def add(self, event: Event) -> None:
        """Take an event of the step ``output`` into account."""
        if event.state == PLANNED:
            self.version, self.plan = event.version, event.facts
            return
        # A wheel that was built in this run is found by later sessions.
        if event.state == CACHED and self.state in OVER:
            return
        self.state, self.facts = event.state, event.facts
        if event.state == BEGUN:
            self.since = event.time
        else:
            self.steps.clear()

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until the wheel is ready; None if nobody can know."""
        if self.state in OVER:
            return 0.0
        expected = self.plan.get("expected")
        if self.state != BEGUN:
            return 0.0 if self.plan.get("is_stored") else expected
        left = self.step.facts.get("left") if self.step else None
        if left is None and expected is not None and expected > now - self.since:
            left = expected - (now - self.since)
        return left


class RunState(Record):
    """The state of a run: the outputs, and the steps running for no output."""

    began: float | None = None
    is_parallel: bool = False  # whether nox runs sessions side by side
    outputs: dict[tuple[str, ...], OutputState] = field(default_factory=dict)
    """By Python, stage and name, in the order of the stages."""
    steps: dict[object, Event] = field(default_factory=dict)
    later: dict[tuple[str, ...], Event] = field(default_factory=dict)
    """Planned steps without an output, by Python and stage."""

    def add(self, event: Event) -> None:
        """Take another event into account."""
        if event.step == "run" and event.state == BEGUN:
            self.began = event.time
            self.is_parallel = bool(event.facts.get("parallel"))
        if event.step in ("run", "session", "stage", "summary", "debug-log"):
            return
        place = (event.python, event.stage)
        if not event.output and event.state == PLANNED:
            self.later[place] = event
            return
        steps, output = self.steps, None
        key = (*place, event.output)
        if event.output and (key in self.outputs or event.step != "ask"):
            output = self.outputs.setdefault(
                key,
                OutputState(
                    stage=event.stage, name=event.output, version=event.version
                ),
            )
            steps = output.steps
        if event.step == "output" and output is not None:
            output.add(event)
        elif event.state == RUNNING:
            earlier = steps.get(event.subject)
            if earlier is not None:
                facts = {**earlier.facts, **event.facts}
                steps[event.subject] = replace(earlier, facts=facts)
        elif event.state == BEGUN:
            steps[event.subject] = event
            if not event.output:
                self.later.pop(place, None)
        else:
            steps.pop(event.subject, None)

    def count_done(self) -> int:
        """Return the number of outputs with a wheel."""
        return sum(it.state in DONE for it in self.outputs.values())

    def count_running(self) -> int:
        """Return the number of outputs for which something is done."""
        return sum(it.is_running for it in self.outputs.values())

    def unmet(self, output: OutputState) -> list[str]:
        """Return the required stages of an output with missing wheels."""
        waiting = {it.stage for it in self.outputs.values() if it.state not in DONE}
        return [it for it in output.plan.get("requires", ()) if it in waiting]

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until all wheels are ready; None if nobody can know.

        Builds use as many jobs as the last time. The run takes as long as the longest
        chain of stages, or as all work on all cores if longer. Without ``-j``, stages
        follow one another.
        """
        left = {key: it.seconds_left(now) for key, it in self.outputs.items()}
        known = [seconds for seconds in left.values() if seconds is not None]
        if not known or len(known) < len(left):
            return None
        stages: dict[tuple[str, str], list[tuple[float, float]]] = {}
        cores = 1.0
        for (python, stage, _), it in self.outputs.items():
            seconds = it.seconds_left(now) or 0.0
            cores = max(cores, it.plan.get("cores", 1))
            work = seconds * it.plan.get("jobs", 1)
            stages.setdefault((python, stage), []).append((seconds, work))
        alone = {
            place: max(_total(it) / cores, *(seconds for seconds, _ in it))
            for place, it in stages.items()
        }
        if not self.is_parallel:
            return sum(alone.values())
        ends: dict[tuple[str, str], float] = {}
        for (python, stage, _), it in self.outputs.items():  # in the order of stages
            requires = ((python, name) for name in it.plan.get("requires", ()))
            start = max((ends.get(name, 0.0) for name in requires), default=0.0)
            ends[python, stage] = max(
                ends.get((python, stage), 0.0), start + alone[python, stage]
            )
        work = sum(_total(it) for it in stages.values())
        return max(*ends.values(), work / cores)


def _total(times: Iterable[tuple[float, float]]) -> float:
    return sum(work for _, work in times)


def fold_events(events: Iterable[Event]) -> RunState:
    """Return the state after some events."""
    state = RunState()
    for event in events:
        state.add(event)
    return state
