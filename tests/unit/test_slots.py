"""How cores and memory are divided among builds."""

from __future__ import annotations

from functools import partial

import pytest
from packaging.requirements import Requirement

from nox_buildstages.builder.jobs.slots import (
    MEMORY_PER_JOB,
    JobGrant,
    JobRequest,
    count_jobs,
    grant_jobs,
    job_variables,
)
from nox_buildstages.model import Output, Stage

GB = 10**9
WAITING = JobGrant()
OUTPUT = Output(requirement=Requirement("kernels"), location="")


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
        ([running(7)], 1),
        ([running(7), WAITING, WAITING], 1),
        ([running(8)], None),
        ([running(4), running(4)], None),
        ([running(9)], None),
    ],
)
def test_cores_are_shared(others: list[JobGrant], jobs: int | None) -> None:
    """What is left is divided by those who wait; where nothing is left, all wait."""
    got = grant_jobs(JobRequest(), others, cores=8, memory=None)
    assert (got and got.jobs) == jobs


@pytest.mark.parametrize(
    ("free", "others", "jobs"),
    [
        (16, [running(2, 8, 16)], 2),
        (9, [running(2, 8, 16)], 2),
        (5, [running(2, 8, 16)], 1),
        (3, [running(2, 8, 16)], None),
        (16, [running(2, 16, 16)], None),
        (30, [running(1, 4, 16), running(1, 4, 30)], 2),
        (16, [running(2, 0)], 4),
        (16, [WAITING], 2),
    ],
)
def test_memory_is_shared(free: int, others: list[JobGrant], jobs: int | None) -> None:
    """What others may still come to need isn't given twice, though it is free yet."""
    asked = JobRequest(memory_per_job=4 * GB)
    got = grant_jobs(asked, others, cores=8, memory=free * GB)
    assert (got and got.jobs) == jobs


def test_the_sum_stays_within_the_budget() -> None:
    """However builds come and go, and whoever of them is alone."""
    asked = JobRequest(memory_per_job=3 * GB)
    for cores in range(1, 9):
        for memory in range(3, 40):
            grant = partial(grant_jobs, asked, cores=cores, memory=memory * GB)
            parts: list[JobGrant] = []
            while (got := grant([*parts, WAITING])) is not None:
                parts.append(got)
            assert 1 <= sum(it.jobs for it in parts) <= cores
            assert sum(it.memory for it in parts) <= memory * GB


@pytest.mark.parametrize(
    ("jobs", "memory", "asked"),
    [
        (None, None, JobRequest(memory_per_job=MEMORY_PER_JOB)),
        (None, 4 * GB, JobRequest(memory_per_job=4 * GB)),
        (3, None, JobRequest(most=3, memory_per_job=0)),
        (3, 4 * GB, JobRequest(most=3, memory_per_job=4 * GB)),
    ],
)
def test_what_a_stage_wishes(
    jobs: int | None, memory: int | None, asked: JobRequest
) -> None:
    """Who names a number has thought of memory, unless he names that, too."""
    stage = Stage(name="a", outputs=(OUTPUT,), jobs=jobs, memory_per_job=memory)
    assert JobRequest.of(stage) == asked


def test_build_tools_are_told() -> None:
    """Each in the variable that it knows, and compilers have no threads besides."""
    told = job_variables(3)
    assert told["MAX_JOBS"] == told["CMAKE_BUILD_PARALLEL_LEVEL"] == "3"
    assert told["MAKEFLAGS"] == "-j3"
    assert told["NVCC_THREADS"] == "1"


def test_jobs_are_counted_in_words() -> None:
    """As one says it."""
    assert (count_jobs(1), count_jobs(2)) == ("1 job", "2 jobs")
