"""The common state of a process's sessions in a run of nox."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

from nox_buildstages.run.screen import Screen
from nox_buildstages.value import Record, field

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from nox_buildstages.run.journal import Journal

    T = TypeVar("T")

_LOG = logging.getLogger(__name__)

_UNKNOWN: Any = object()
"""In place of an answer."""


class _Answer:
    """The answer to a question; threads that ask at the same time wait for it."""

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
    is_parallel: bool = False  # whether other sessions work at the same time
    stops_on_error: bool = False  # nox's --stop-on-first-error
    uses: ExitStack = field(default_factory=ExitStack)  # in use until the process ends
    _answers: dict[Hashable, dict[tuple[Hashable, ...], _Answer]] = field(
        default_factory=dict
    )
    """The answers by kind and question."""

    def report(self, line: str) -> None:
        """Print a line in nox's log, in place of the progress on the screen."""
        _LOG.debug("printed: %s", line)
        with self.screen.lock:
            self.screen.clear()
            logging.getLogger("nox").info(line)

    def report_once(self, line: str) -> None:
        """Print a line, unless this process has printed the same line."""
        self.once(("printed", line), lambda: self.report(line))

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
