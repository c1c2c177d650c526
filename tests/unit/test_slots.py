"""How cores and memory are divided among builds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from nox_buildstages.builder.jobs.slots import (
    JobGrant,
    JobRequest,
    count_jobs,
    grant_jobs,
    grant_more,
    job_variables,
)
from nox_buildstages.value import replace

GB = 10**9
WAITING = JobGrant()


def running(jobs: int, memory: int = 0, base: int | None = None) -> JobGrant:
    return JobGrant(jobs=jobs, memory=memory * GB, base=base and base * GB)


@pytest.mark.parametrize(
    ("cores", "memory", "asked", "jobs"),
    [
        (8, None, JobRequest(), 8),
        (8, 100, JobRequest(memory_per_job=4 * GB), 8),
        (8, 13, JobRequest(memory_per_job=4 * GB), 3),
        (8, 100, JobRequest(most=3), 3),
        (2, 100, JobRequest(most=3), 2),
        (8, 13, JobRequest(most=5, memory_per_job=4 * GB), 3),
        (8, 1, JobRequest(most=5, memory_per_job=0), 5),
        (8, 3, JobRequest(memory_per_job=4 * GB), 1),
        (8, 0, JobRequest(memory_per_job=4 * GB), 1),
        (1, 0, JobRequest(memory_per_job=0), 1),
    ],
)
def test_who_is_alone_gets_what_there_is(
    cores: int, memory: int | None, asked: JobRequest, jobs: int
) -> None:
    """As cores and memory allow, no more than was wished, and always one."""
    free = None if memory is None else memory * GB
    got = grant_jobs(asked, (), cores=cores, memory=free)
    assert got == JobGrant(jobs=jobs, memory=jobs * asked.memory_per_job, base=free)


@pytest.mark.parametrize(
    ("others", "jobs"),
    [
        ([WAITING], 4),
        ([WAITING, WAITING], 3),
        ([WAITING] * 20, 1),
        ([running(4)], 4),
        ([running(4), WAITING], 2),
        ([running(5), WAITING], 2),
        ([running(1)], 8),
        ([running(1)] * 20, 8),
        ([running(1), running(4)], 4),
        ([running(7)], "cores"),
        ([running(7), WAITING, WAITING], "cores"),
        ([running(8)], "cores"),
        ([running(4), running(4)], "cores"),
        ([running(9)], "cores"),
    ],
)
def test_cores_are_shared(others: list[JobGrant], jobs: int | str) -> None:
    """What is left is divided by those who wait; builds with a single job don't count.

    A number is kept to the end, so a build waits for as many as are its due.
    """
    got = grant_jobs(JobRequest(), others, cores=8, memory=None)
    assert (got.jobs if isinstance(got, JobGrant) else got) == jobs


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_who_needs_one_core_waits_for_nobody(cores: int) -> None:
    """Neither a build that has a single job, nor one that gets more later."""
    for request in (JobRequest(most=1), JobRequest(pipe=Path("jobs"))):
        for others in ([running(cores)], [running(1)] * 9, [running(3), WAITING]):
            got = grant_jobs(request, others, cores=cores, memory=None)
            assert isinstance(got, JobGrant)


@pytest.mark.parametrize(
    ("others", "jobs"),
    [
        ([], 8),
        ([WAITING], 4),
        ([running(1)] * 3, 5),
        ([running(7)], 1),
        ([running(8)], 1),
        ([running(3), running(4), WAITING], 1),
    ],
)
def test_who_gets_more_later_takes_what_is_free(
    others: list[JobGrant], jobs: int
) -> None:
    """Here each compiler counts, for this build gets the cores of others in time."""
    request = JobRequest(pipe=Path("jobs"))
    got = grant_jobs(request, others, cores=8, memory=None)
    assert isinstance(got, JobGrant)
    assert got.jobs == jobs


@pytest.mark.parametrize(
    ("others", "more"),
    [
        ([], 7),
        ([running(4)], 3),
        ([replace(running(2), asks=True)], 3),
        ([running(2), WAITING], 3),
        ([running(7)], 0),
        ([running(9)], 0),
        ([running(1, 12, 20)], 3),
        ([running(1, 16, 20)], 1),
        ([running(1, 18, 20)], 0),
    ],
)
def test_a_running_build_gets_more(others: list[JobGrant], more: int) -> None:
    """Of free cores and memory, shared with those that ask as well; or it asks on."""
    request = JobRequest(memory_per_job=2 * GB, pipe=Path("jobs"))
    memory = 20 if any(it.base for it in others) else None
    base = memory and 20 * GB
    has = JobGrant(jobs=1, memory=2 * GB, base=base)
    got = grant_more(request, has, others, cores=8, memory=base)
    assert got == JobGrant(
        jobs=1 + more, memory=(1 + more) * 2 * GB, base=base, asks=not more
    )
    few = grant_more(replace(request, most=3), has, others, cores=8, memory=base)
    assert few.jobs == min(3, 1 + more)


@pytest.mark.parametrize(
    ("free", "others", "jobs"),
    [
        (16, [running(2, 8, 16)], 2),
        (9, [running(2, 8, 16)], 2),
        (5, [running(2, 8, 16)], 1),
        (3, [running(2, 8, 16)], "memory"),
        (16, [running(2, 16, 16)], "memory"),
        (30, [running(1, 4, 16), running(1, 4, 30)], 2),
        (16, [running(2, 0)], 4),
        (16, [WAITING], 2),
    ],
)
def test_memory_is_shared(free: int, others: list[JobGrant], jobs: int | str) -> None:
    """What others may still come to need isn't given twice, though it is free yet."""
    for pipe in (None, Path("jobs")):
        asked = JobRequest(memory_per_job=4 * GB, pipe=pipe)
        got = grant_jobs(asked, others, cores=8, memory=free * GB)
        assert (got.jobs if isinstance(got, JobGrant) else got) == jobs


def test_the_sum_stays_within_the_budget() -> None:
    """However builds come and go: a compiler for each core, and one for each build."""
    asked = JobRequest(memory_per_job=3 * GB)
    for cores in range(1, 9):
        for memory in range(3, 40):
            for pipe in (None, Path("jobs")):
                request = replace(asked, pipe=pipe)
                grant = partial(grant_jobs, request, cores=cores, memory=memory * GB)
                parts: list[JobGrant] = []
                while not isinstance(got := grant([*parts, WAITING]), str):
                    parts.append(got)
                    if len(parts) > cores:
                        break
                compilers = sum(it.jobs for it in parts)
                assert 1 <= compilers <= cores + len(parts)
                assert sum(it.memory for it in parts) <= memory * GB


def test_build_tools_are_told() -> None:
    """Each in the variable that it knows, and compilers have no threads besides."""
    told = job_variables(3)
    assert told["MAX_JOBS"] == told["CMAKE_BUILD_PARALLEL_LEVEL"] == "3"
    assert told["MAKEFLAGS"] == "-j3"
    assert told["NVCC_THREADS"] == "1"


def test_jobs_are_counted_in_words() -> None:
    """As one says it."""
    assert (count_jobs(1), count_jobs(2)) == ("1 job", "2 jobs")
