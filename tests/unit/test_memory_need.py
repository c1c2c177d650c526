"""How much memory each job of a build may need, and why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from nox_buildstages.builder.jobs.memory import DEFAULT, LEAST, MemoryNeed, choose_need
from nox_buildstages.model import Output, Stage
from nox_buildstages.preflight.recipe_facts import memory_of
from nox_buildstages.store.memory import BuildMemory, Kill

MB, GB = 10**6, 10**9
OUTPUT = Output(requirement=Requirement("kernels"), location="")


def stage(*, jobs: int | None = None, memory: int | None = None) -> Stage:
    return Stage(name="a", outputs=(OUTPUT,), jobs=jobs, memory_per_job=memory)


def build(process: int, **more: Any) -> BuildMemory:  # noqa: ANN401
    return BuildMemory(process=process, build=2 * process, jobs=2, **more)


AUTO, NUMBER = stage(), stage(jobs=4)
PARTIAL = {"is_complete": False}
KILLED = {"kill": Kill(jobs=4, free=16 * GB), "is_complete": False}


@pytest.mark.parametrize(
    ("declared", "earlier", "known", "size", "origin"),
    [
        # The table wins.
        (stage(memory=GB), [build(8 * GB, **KILLED)], 9 * GB, GB, "table"),
        (stage(jobs=4, memory=GB), [], None, GB, "table"),
        # Then a complete build, with a margin.
        (AUTO, [build(4 * GB)], 9 * GB, 5 * GB, "measured"),
        (NUMBER, [build(GB)], None, 1250 * MB, "measured"),
        (AUTO, [build(4 * GB), build(8 * GB)], None, 5 * GB, "measured"),
        (AUTO, [build(10 * MB)], None, LEAST, "measured"),
        # An incomplete one only raises the need.
        (AUTO, [build(GB, **PARTIAL)], None, DEFAULT, "default"),
        (AUTO, [build(2 * GB, **PARTIAL)], None, 2500 * MB, "measured"),
        (AUTO, [build(GB, **PARTIAL)], 9 * GB, 9 * GB, "recipe"),
        (AUTO, [build(GB, **PARTIAL), build(4 * GB)], 9 * GB, 5 * GB, "measured"),
        (AUTO, [build(4 * GB, **PARTIAL), build(GB)], None, 5 * GB, "measured"),
        # After a kill, half the jobs fit into the same memory.
        (AUTO, [build(GB, **KILLED)], None, 8 * GB, "killed"),
        (NUMBER, [build(GB, **KILLED)], None, 8 * GB, "killed"),
        (AUTO, [build(8 * GB, **KILLED)], None, 10 * GB, "measured"),
        (AUTO, [build(GB), build(GB, **KILLED)], None, 1250 * MB, "measured"),
        (AUTO, [build(GB, kill=Kill(jobs=1, free=3 * GB))], None, 3 * GB, "killed"),
        # A guess doesn't limit a number of jobs; what is known of the package does.
        (AUTO, [], None, DEFAULT, "default"),
        (AUTO, [], 4 * GB, 4 * GB, "recipe"),
        (NUMBER, [], None, 0, "default"),
        (NUMBER, [], 4 * GB, 4 * GB, "recipe"),
    ],
)
def test_memory_of_a_job(
    declared: Stage,
    earlier: list[BuildMemory],
    known: int | None,
    size: int,
    origin: str,
) -> None:
    """The table, else the last build with a margin, else the recipe, else 2 GB."""
    need = choose_need(declared, earlier, known)
    assert (need.size, need.origin) == (size, origin)
    assert need.reason or not need.size


@pytest.mark.parametrize(
    ("declared", "earlier", "exceeded"),
    [
        (8 * GB, [build(4 * GB)], ""),
        (4 * GB, [build(4 * GB)], ""),
        (GB, [build(4 * GB)], "a process took 4.0 GB in the last build"),
        (GB, [build(MB, **KILLED)], "the last build was killed for memory at 4 jobs"),
        (8 * GB, [build(MB, **KILLED)], ""),
        (GB, [build(MB), build(4 * GB)], ""),
        (0, [build(4 * GB, **KILLED)], ""),
    ],
)
def test_builds_that_needed_more_than_the_table_says(
    declared: int, earlier: list[BuildMemory], exceeded: str
) -> None:
    """The table still decides, and is told; 0 ignores memory."""
    need = choose_need(stage(memory=declared), earlier)
    assert (need.size, need.exceeded) == (declared, exceeded)


def test_reasons_of_limits() -> None:
    """The reason follows "with 2 jobs: "."""
    (measured, killed) = (
        choose_need(AUTO, [it]) for it in (build(4 * GB), build(GB, **KILLED))
    )
    assert measured == MemoryNeed(
        size=5 * GB,
        origin="measured",
        reason="a process took 4.0 GB in the last build",
    )
    assert killed.reason == "the last build was killed for memory at 4 jobs"


@pytest.mark.parametrize("memory", [build(GB), build(GB, **KILLED)])
def test_a_record_keeps_memory(memory: BuildMemory) -> None:
    """What is written is read again."""
    assert BuildMemory.from_dict(json.loads(json.dumps(memory.to_dict()))) == memory


@pytest.mark.parametrize(
    "value",
    [
        *(None, "4GB", [], {}, {"process": 1}),
        {"process": "1", "build": 1, "jobs": 1},
        {"process": 0, "build": 1, "jobs": 1},
        {"process": 1, "build": 10**20, "jobs": 1},
        {"process": 1, "build": 1, "jobs": 1, "killed": {"jobs": 2}},
        {"process": 1, "build": 1, "jobs": 1, "killed": 3},
    ],
)
def test_a_wrong_record_of_memory_is_none(value: object) -> None:
    """The wheel of the record can be used all the same."""
    assert BuildMemory.from_dict(value) is None


def test_a_recipe_knows_the_memory_of_a_package() -> None:
    """It counts the threads of a job; a build without CUDA needs less."""

    def memory(name: str = "flash-attn", **variables: str) -> int | None:
        version = Version("2.8.3")
        return memory_of(name, version, torch=None, variables=variables)

    one = memory(NVCC_THREADS="1")
    assert one is not None
    assert memory(NVCC_THREADS="3") == 3 * one
    assert memory(FLASH_ATTENTION_SKIP_CUDA_BUILD="TRUE") is None
    assert memory("unknown") is None
