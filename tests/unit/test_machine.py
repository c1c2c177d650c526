"""The kernel reports cores and memory; the machines here consist of files."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.system.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
MEMINFO = "MemTotal:       2000 kB\nMemFree:  10 kB\nMemAvailable:   1000 kB\n"
ALL = 1000 * 1024
UNLIMITED = "9223372036854771712\n"


def machine(root: Path, files: Mapping[str, str], *, allowed: int = 8) -> Machine:
    """Return a machine whose kernel tells what is in these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(root=root, allowed_cores=lambda: allowed)


def v2(told: Mapping[str, str], *, group: str = "/") -> dict[str, str]:
    """Return the files of a machine with cgroups of version 2."""
    return {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": f"0::{group}\n",
        "proc/self/mountinfo": V2,
        **{f"sys/fs/cgroup/{name}": text for name, text in told.items()},
    }


def v1(told: Mapping[str, str], *, group: str = "/") -> dict[str, str]:
    """Return the files of a machine with cgroups of version 1."""
    return {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": f"5:memory:{group}\n4:cpu,cpuacct:{group}\n0::/\n",
        "proc/self/mountinfo": V1,
        **{f"sys/fs/cgroup/{name}": text for name, text in told.items()},
    }


def limited(limit: str, used: int, idle: int = 0) -> dict[str, str]:
    """Return what version 2 tells of the memory of a group."""
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{used}\n",
        "memory.stat": f"anon 5\ninactive_file {idle}\nactive_file 7\n",
    }


def limited_v1(limit: str, used: int, idle: int = 0) -> dict[str, str]:
    """Return what version 1 tells of the memory of a group."""
    return {
        "memory.limit_in_bytes": f"{limit}\n",
        "memory.usage_in_bytes": f"{used}\n",
        "memory.stat": f"inactive_file 1\ntotal_inactive_file {idle}\n",
    }


def below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


CORES = {
    "nothing is known": ({}, 8),
    "v2, no quota": (v2({"cpu.max": "max 100000\n"}), 8),
    "v2, two cores": (v2({"cpu.max": "200000 100000\n"}), 2),
    "v2, one core and a half": (v2({"cpu.max": "150000 100000\n"}), 2),
    "v2, a tenth of a core": (v2({"cpu.max": "10000 100000\n"}), 1),
    "v2, more than there are": (v2({"cpu.max": "6400000 100000\n"}), 8),
    "v2, the group around it": (
        v2({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "3 1\n"}, group="/a/b"),
        3,
    ),
    "v1, no quota": (
        v1(
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            }
        ),
        8,
    ),
    "v1, four cores": (
        v1(
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            group="/a",
        ),
        4,
    ),
}


@pytest.mark.parametrize(("files", "cores"), CORES.values(), ids=CORES)
def test_cores(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    """The allowed cores, limited by the CPU time of our cgroup."""
    assert machine(tmp_path, files).cores() == cores


MEMORY = {
    "nothing is known": ({}, None),
    "no cgroups": ({"proc/meminfo": MEMINFO}, ALL),
    "an old kernel": ({"proc/meminfo": "MemTotal: 5 kB\nMemAvailable:\n"}, None),
    "v2, no limit": (v2(limited("max", 5000)), ALL),
    "v2, a limit": (v2(limited("90000", 30000)), 60000),
    "v2, files not used lately": (v2(limited("90000", 30000, 20000)), 80000),
    "v2, a limit above all": (v2(limited("90000000", 1)), ALL),
    "v2, used up": (v2(limited("90000", 90001)), 0),
    "v2, the group around it": (
        v2(
            {
                **below("a/b", limited("max", 1)),
                **below("a", limited("70000", 30000)),
                **limited("80000", 10000),
            },
            group="/a/b",
        ),
        40000,
    ),
    "v2, from where it is throttled": (
        v2({**limited("90000", 30000), "memory.high": "50000\n"}),
        20000,
    ),
    "v2, a group that isn't mounted": (
        v2(limited("90000", 30000), group="/../other"),
        60000,
    ),
    "v1, no limit": (v1(below("memory", limited_v1(UNLIMITED, 5000))), ALL),
    "v1, a limit": (
        v1(below("memory/a", limited_v1("90000", 30000, 4000)), group="/a"),
        64000,
    ),
    "v1, in a container": (
        {
            **v1(below("memory", limited_v1("90000", 30000)), group="/docker/x"),
            "proc/self/mountinfo": V1.replace(" / /sys", " /docker/x /sys"),
        },
        60000,
    ),
}


@pytest.mark.parametrize(("files", "free"), MEMORY.values(), ids=MEMORY)
def test_free_memory(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    """The least of the free memory of the machine and of all our cgroups."""
    assert machine(tmp_path, files).free_memory() == free


KILLS = {
    "nothing is known": ({}, 0),
    "v2": (v2({"memory.events": "oom 3\noom_kill 2\n"}), 2),
    "v2, of our group only": (
        v2({"a/memory.events": "oom_kill 1\n", "memory.events": "oom_kill 9\n"})
        | {"proc/self/cgroup": "0::/a\n"},
        1,
    ),
    "v1": (v1({"memory/memory.oom_control": "under_oom 0\noom_kill 4\n"}), 4),
}


@pytest.mark.parametrize(("files", "kills"), KILLS.values(), ids=KILLS)
def test_oom_kills(tmp_path: Path, files: dict[str, str], kills: int) -> None:
    """The kernel counts the processes it killed for lack of memory."""
    assert machine(tmp_path, files).oom_kills() == kills


def test_this_machine() -> None:
    """It has at least one core, and no more than the system has."""
    this = Machine()
    assert 1 <= this.cores() <= (os.cpu_count() or 1)
    free = this.free_memory()
    assert free is None or free > 0
    assert this.oom_kills() >= 0


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 2 * ALL),
        (v2(limited("max", 5)), 2 * ALL),
        (v2(limited("700", 5)), 700),
        (v2(below("a", limited("700", 5)) | limited("600", 5), group="/a"), 600),
        (v1(below("memory", limited_v1("900", 5))), 900),
        (v1(below("memory", limited_v1(UNLIMITED.strip(), 5))), 2 * ALL),
    ],
)
def test_the_most_memory(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    """It is that of the machine, unless a cgroup or ulimit allows less."""
    assert machine(tmp_path, files).memory_limit() == limit


def test_the_most_memory_by_ulimit(tmp_path: Path) -> None:
    """A limit of each process counts, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (10**10, hard))
    try:
        assert machine(tmp_path, {}).memory_limit() == 10**10
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
