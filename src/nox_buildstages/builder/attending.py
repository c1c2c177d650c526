"""Who looks after a build while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from nox_buildstages.errors import BuildTimeoutError
from nox_buildstages.text import format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.model import Stage

    Attendant: TypeAlias = Callable[[], None] | None


def all_of(*attendants: Attendant) -> Callable[[], None]:
    """Return one that lets each of several look, in their order."""
    present = [attendant for attendant in attendants if attendant is not None]

    def attend() -> None:
        for attendant in present:
            attendant()

    return attend


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """The moment at which a stage has to stop.

    Attributes:
        stage: Which one.
        seconds: That it has in all.
        moment: By the monotonic clock.
    """

    stage: str
    seconds: float
    moment: float

    @classmethod
    def of(cls, stage: Stage) -> Deadline | None:
        """Return that of a stage that begins now; None where it has all the time."""
        if stage.timeout is None:
            return None
        moment = time.monotonic() + stage.timeout
        return cls(stage=stage.name, seconds=stage.timeout, moment=moment)

    def watch(self, output: str) -> Callable[[], None]:
        """Return one that ends the build of an output when the time is over."""
        return partial(self._check, output)

    def _check(self, output: str) -> None:
        if time.monotonic() >= self.moment:
            raise BuildTimeoutError(
                subject=f"{output} (stage {self.stage})",
                problem=f"stopped after {format_time(self.seconds)}, its timeout",
            )
