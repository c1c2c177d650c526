"""How much memory a job of a build may need, and how that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from nox_buildstages.builder.jobs.slots import count_jobs
from nox_buildstages.text import format_size
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.model import Stage
    from nox_buildstages.preflight.facts import Memory
    from nox_buildstages.store.memory import BuildMemory

DEFAULT = 2_000_000_000
"""Bytes: enough for a C++ compiler that reads torch's headers."""

LEAST = 500_000_000
"""Bytes; the next version of a source may need more than the last."""

_MARGIN = 4
"""A fourth is added to what was measured."""

Origin: TypeAlias = Literal["table", "killed", "measured", "recipe", "default"]


class MemoryNeed(Value):
    """The memory that a job of a build may need."""

    size: int  # bytes; 0 to ignore memory
    origin: Origin
    reason: str = ""  # in words
    exceeded: str = ""  # why the table's number is too small, in words

    def within(self, memory: Memory, *, most: int | None) -> Memory:
        """Return the memory of a machine, for at most some jobs with this need."""
        return replace(
            memory,
            per_job=self.size,
            is_known=self.origin == "table",
            reason=self.reason,
            exceeded=self.exceeded,
            cores=min(memory.cores, most or memory.cores),
        )


def choose_need(
    stage: Stage, earlier: Iterable[BuildMemory], known: int | None = None
) -> MemoryNeed:
    """Choose the memory for each job of an output.

    ``earlier`` are builds of the output, the most telling first. An incomplete build,
    such as a failed one, only raises the need. ``known`` is the need by the
    output's recipe. Without a complete build, and with a number of jobs in the table,
    no guess limits the jobs.
    """
    needs: list[MemoryNeed] = []
    seen: list[tuple[int, str]] = []  # bytes, without a margin, and the reason
    for it in earlier:
        measured = it.process + it.process // _MARGIN
        reason = f"a process took {format_size(it.process)} in the last build"
        needs.append(MemoryNeed(size=measured, origin="measured", reason=reason))
        seen.append((it.process, reason))
        if it.kill is not None:
            # If as much is free again, half the jobs run.
            half = it.kill.free // max(1, it.kill.jobs // 2)
            jobs = count_jobs(it.kill.jobs)
            reason = f"the last build was killed for memory at {jobs}"
            needs.append(MemoryNeed(size=half, origin="killed", reason=reason))
            seen.append((half, reason))
        if it.is_complete:
            reason = f"a compiler may need {format_size(LEAST)}"
            needs.append(MemoryNeed(size=LEAST, origin="measured", reason=reason))
            break
    else:
        if known is not None:
            reason = f"its recipe says {format_size(known)} for each"
            needs.append(MemoryNeed(size=known, origin="recipe", reason=reason))
        elif stage.jobs is None:
            reason = f"a compiler may need {format_size(DEFAULT)}"
            needs.append(MemoryNeed(size=DEFAULT, origin="default", reason=reason))
    declared = stage.memory_per_job
    if declared is not None:
        return MemoryNeed(
            size=declared,
            origin="table",
            reason=f"memory-per-job is {format_size(declared)}",
            exceeded=next((it for size, it in seen if size > declared > 0), ""),
        )
    nothing = MemoryNeed(size=0, origin="default")
    return max(needs, key=lambda it: it.size, default=nothing)
