"""The common state of a process's sessions in a run of nox."""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

from nox_buildstages.errors import BuildStagesError, BuildTimeoutError
from nox_buildstages.run.events import BEGUN, ENDED, FAILED, RUNNING, STOPPED, Event
from nox_buildstages.run.screen import Screen
from nox_buildstages.safe_text import show_lines
from nox_buildstages.system.terminal import print_lines
from nox_buildstages.value import Record, field

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from nox_buildstages.run.events import Step
    from nox_buildstages.run.journal import Journal
    from nox_buildstages.safe_text import Shown

    T = TypeVar("T")

_LOG = logging.getLogger(__name__)

_UNKNOWN: Any = object()
"""In place of an answer."""


class _Answer:
    """The answer to a question; threads asking at the same time wait for the answer."""

    __slots__ = ("lock", "value")

    def __init__(self) -> None:
        self.lock = RLock()
        self.value = _UNKNOWN


class Run(Record):
    """A run of nox in a single process; every ``register()`` makes a run.

    The sessions of a process follow each other and ask the same questions: the content
    of a lock file, the tags of an interpreter, the recipe of a wheel. ``once`` answers
    each question once.
    """

    id: str  # the same in all processes of the run
    journal: Journal
    outer: Mapping[str, str] = field(default_factory=dict)
    """The environment variables that nox was started with."""
    screen: Screen = field(default_factory=Screen)
    colour: bool = False  # whether the terminal shows colours
    columns: int = 100  # of the terminal
    width: int | None = None  # of the terminal; None if there is none
    is_verbose: bool = False  # nox's -v
    is_parallel: bool = False  # whether other sessions work at the same time
    stops_on_error: bool = False  # nox's --stop-on-first-error
    uses: ExitStack = field(default_factory=ExitStack)  # in use until the process ends
    keeps_events: bool = False  # whether sessions build, so there is a journal
    has_worked: bool = False  # since the last report of this process
    place: Mapping[str, str] = field(default_factory=dict)
    """The session, its Python and its cell, in every event."""
    _answers: dict[Hashable, dict[tuple[Hashable, ...], _Answer]] = field(
        default_factory=dict
    )
    """The answers by kind and question."""
    _events: list[Event] = field(default_factory=list)
    _by_stage: dict[str, list[Event]] = field(default_factory=dict)
    _offset: int = 0  # of the first event that wasn't read, in bytes

    def report(self, text: str) -> None:
        """Print a text in nox's log, in place of the progress on the screen."""
        _LOG.debug("printed: %s", text)
        with self.screen.lock:
            self.screen.clear()
            logging.getLogger("nox").info("%s", "\n".join(show_lines(text)))

    def print_lines(self, lines: Iterable[Shown]) -> None:
        """Print lines as they are, in place of the progress on the screen."""
        with self.screen.lock:
            self.screen.clear()
            shown = [*lines]
            for line in shown:
                _LOG.debug("printed: %s", line)
            print_lines(shown)

    def report_once(self, line: str) -> None:
        """Print a line, unless this process has printed the same line."""
        self.once(("printed", line), lambda: self.report(line))

    def emit(
        self,
        step: Step,
        state: str,
        place: Mapping[str, str] | None = None,
        **facts: object,
    ) -> None:
        """Emit an event: show it, and keep it in the journal.

        ``place`` has fields of the event, such as ``stage`` and ``output``.
        """
        event = Event(
            step=step,
            state=state,
            time=time.time(),
            process=os.getpid(),
            facts=facts,
            **{**self.place, **(place or {})},
        )
        if self.keeps_events and state != RUNNING:
            self.journal.add(event)
            self.has_worked = self.has_worked or event.is_work
        self.screen.note(event)

    def events(self) -> list[Event]:
        """Return the events in the journal; each event is read once."""
        found, self._offset = self.journal.read_from(self._offset)
        self._events += found
        for event in found:
            self._by_stage.setdefault(event.stage, []).append(event)
        return self._events

    def events_of(self, *stages: str) -> list[Event]:
        """Return the events of some stages; those of no stage are of ``""``."""
        self.events()
        return [it for stage in stages for it in self._by_stage.get(stage, ())]

    def wheels_in_use(self) -> dict[str, str]:
        """Return the sha256 of each wheel in the store that this run uses, by key."""
        return {
            it.facts["key"]: it.facts["sha256"]
            for it in self.events()
            if it.step == "output" and it.facts.keys() >= {"key", "sha256"}
        }

    @contextmanager
    def step(
        self,
        step: Step,
        place: Mapping[str, str] | None = None,
        *,
        success: str = ENDED,
        **facts: object,
    ) -> Iterator[dict[str, object]]:
        """Emit that a step has begun, and at the end the success, failure or stop.

        Yields:
            The facts of the last event, to which the block may add some.
        """
        self.emit(step, BEGUN, place, **facts)
        state = STOPPED  # by Ctrl-C
        try:
            yield facts
            state = success
        except Exception as error:
            if not isinstance(error, BuildTimeoutError):  # the next run resumes it
                state = FAILED
            facts["problem"] = getattr(error, "summary", str(error))
            if isinstance(error, BuildStagesError):
                facts["message"] = [*error.lines()]
            raise
        finally:
            self.emit(step, state, place, **facts)

    @contextmanager
    def wait(
        self,
        hold: Callable[[Callable[..., None]], AbstractContextManager[T]],
        what: str,
        place: Mapping[str, str] | None = None,
    ) -> Iterator[T]:
        """Enter a block that may have to wait for something, with a line and events.

        ``hold`` returns the block, which calls its argument before waiting; an argument
        of this call replaces ``{}`` in ``what``.
        """
        begun = False

        def begin(*missing: object) -> None:
            nonlocal begun
            begun, reason = True, what.format(*missing)
            self.emit("wait", BEGUN, place, reason=reason)
            output = (place or {}).get("output")
            who = f"{output} is " if output else ""
            self.report(f"{who}waiting for {reason}")

        with hold(begin) as held:
            if begun:
                self.emit("wait", ENDED, place)
            yield held

    def once(self, question: tuple[Hashable, ...], find: Callable[[], T]) -> T:
        """Return the answer to a question, which is searched for only once.

        The question begins with a word for the kind. An error isn't remembered.
        """
        of_kind = self._answers.setdefault(question[0], {})
        answer = of_kind.get(question) or of_kind.setdefault(question, _Answer())
        if answer.value is _UNKNOWN:
            with answer.lock:
                if answer.value is _UNKNOWN:
                    answer.value = find()
        found: T = answer.value
        return found

    def forget(self, *beginning: Hashable) -> None:
        """Forget the answers to all questions beginning with these words."""
        if len(beginning) == 1:
            self._answers.pop(beginning[0], None)
            return
        of_kind = self._answers.get(beginning[0], {})
        for question in [*of_kind]:
            if question[: len(beginning)] == beginning:
                of_kind.pop(question, None)
