"""Is there enough memory for a job?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding
from nox_buildstages.text import format_size

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "memory"


def check(facts: Facts) -> Finding | None:
    """Compare the memory of a job with the limit, and with the free memory."""
    memory = facts.memory
    if memory is None or not memory.per_job:
        return None
    each, known = format_size(memory.per_job), memory.is_known
    if memory.limit is not None and memory.limit < memory.per_job:
        return Finding(
            check=NAME,
            state="error" if known else "warning",
            text=f"a job needs {each} of memory, and builds here have"
            f" {format_size(memory.limit)}",
            hint="raise the limit of the container, the cgroup or ulimit, or use a"
            " larger machine; if a job needs less, set memory-per-job of the stage",
        )
    if memory.exceeded:
        return Finding(
            check=NAME,
            state="warning",
            text=f"memory-per-job is {each}, although {memory.exceeded}",
            hint="raise memory-per-job of the stage, or leave it out: it is measured",
        )
    if memory.free is None:
        return None
    free = f"{format_size(memory.free)} of memory free"
    fitting = memory.free // memory.per_job
    if fitting < 1:
        return Finding(
            check=NAME,
            state="warning",
            text=f"{free}, and a job needs {each}: it may be killed",
            hint="end other programs, or wait for other builds",
        )
    is_enough = fitting >= memory.cores
    text = f"{free} for jobs of {each}"
    if not is_enough:
        jobs = f"{fitting} job{'s' * (fitting > 1)} of {each}"
        text = f"{free}: {jobs} at once, and not {memory.cores} ({memory.reason})"
    return Finding(check=NAME, state="ok" if is_enough else "warning", text=text)
