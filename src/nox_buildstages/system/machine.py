"""Cores, memory and C library of this machine, within the limits of our cgroup."""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

_PROCESSOR = (
    *("vendor_id", "cpu family", "model", "model name", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
    *("cpu", "isa", "uarch", "features"),
)
"""Fields of the kernel, for different processors, that compilers may depend on."""

_FIRST_PROCESSOR = 40
"""Lines about the first processor; those of others are equal."""

_V2 = ""
"""The name of the hierarchy of version 2 in ``/proc/self/cgroup``."""


def is_this_machine(name: str | None) -> bool:
    """Whether a processor, as markers call it, is that of this machine, or None."""
    return name in (None, platform.machine())


def libc() -> str:
    """Return the C library of this machine, such as ``glibc-2.36``.

    Return the name of the operating system if the C library isn't glibc.
    """
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, OSError, ValueError):  # pragma: no cover - no glibc
        found = None
    return (found or platform.system()).replace(" ", "-").lower()


def processor(file: Path = Path("/proc/cpuinfo")) -> str:
    """Return this machine's processor, and a digest of everything that it can do.

    If the system doesn't say it, no two machines are equal.
    """
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            pairs = (it.partition(":") for it in islice(lines, _FIRST_PROCESSOR))
            found = {name.strip(): value.strip() for name, _, value in pairs}
    except OSError:
        found = {}
    facts = {it: found[it] for it in _PROCESSOR if it in found}
    if not facts:
        facts = {"machine": platform.node()}
    digest = hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()
    return f"{facts.get('model name', platform.machine())} ({digest[:12]})"


def _count_cores() -> int:
    """Return the number of cores allowed for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # pragma: no cover - planning works on any system


class Machine(Value):
    """The cores and the memory reported by the kernel."""

    root: Path = Path("/")  # the folder of ``proc`` and ``sys``
    allowed_cores: Callable[[], int] = _count_cores
    name: str = platform.node()  # unique among the machines with a shared folder

    def cores(self) -> int:
        """Return the number of available cores; the quota of a cgroup is rounded up."""
        quotas: list[tuple[int | None, int | None]] = []
        for folder in self._list_groups(_V2):
            quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
            quotas.append((_parse_number(quota), _parse_number(period)))
        for folder in self._list_groups("cpu"):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quotas.append(
                (_read_number(folder / names[0]), _read_number(folder / names[1]))
            )
        limits = [
            -(-quota // max(1, period))
            for quota, period in quotas
            if quota is not None and period is not None
        ]
        return max(1, min([self.allowed_cores(), *limits]))

    def free_memory(self) -> int | None:
        """Return the number of bytes we may still use; None if unknown.

        The kernel's cache of files not used lately counts as free.
        """
        available = _read_field(self.root / "proc/meminfo", "MemAvailable:")
        free = [] if available is None else [available * 1024]
        for folder in self._list_groups(_V2):
            free += _free_in(folder, "memory.max", "memory.current", "inactive_file")
            free += _free_in(folder, "memory.high", "memory.current", "inactive_file")
        for folder in self._list_groups("memory"):
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
            free += _free_in(folder, limit, used, "total_inactive_file")
        return max(0, min(free)) if free else None

    def memory_limit(self) -> int | None:
        """Return the number of bytes that a process may ever use; None if unknown.

        This is the least of the machine's memory, the cgroups' limits and ulimit.
        """
        total = _read_field(self.root / "proc/meminfo", "MemTotal:")
        limits = [] if total is None else [total * 1024]
        files = [it / "memory.max" for it in self._list_groups(_V2)]
        files += [it / "memory.limit_in_bytes" for it in self._list_groups("memory")]
        limits += [it for it in map(_read_number, files) if it is not None]
        with suppress(ImportError):  # Windows has no such limits
            import resource  # noqa: PLC0415

            for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
                limit, _ = resource.getrlimit(kind)
                limits += [] if limit == resource.RLIM_INFINITY else [limit]
        return min(limits) if limits else None

    def oom_kills(self) -> int:
        """Return how many processes of our cgroup were killed for lack of memory."""
        counts = [
            _read_field(folder / name, "oom_kill")
            for controller, name in (
                (_V2, "memory.events"),
                ("memory", "memory.oom_control"),
            )
            for folder in self._list_groups(controller)[:1]
        ]
        return sum(count for count in counts if count is not None)

    def _list_groups(self, controller: str) -> tuple[Path, ...]:
        """Return the folder of our cgroup, then the folders of the parents."""
        group, mount = self._find_group(controller), self._find_mount(controller)
        if group is None or mount is None:
            return ()
        root, top = mount
        is_inside = group.is_relative_to(root) and ".." not in group.parts
        folder = top / group.relative_to(root) if is_inside else top
        return (folder, *(it for it in folder.parents if it.is_relative_to(top)))

    def _find_group(self, controller: str) -> PurePosixPath | None:
        for line in _read(self.root / "proc/self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return PurePosixPath(path)
        return None

    def _find_mount(self, controller: str) -> tuple[PurePosixPath, Path] | None:
        """Return the mounted part of a hierarchy, and the mount point."""
        for line in _read(self.root / "proc/self/mountinfo").splitlines():
            left, _, right = line.partition(" - ")
            kind, _, options = (*right.split(" "), "", "")[:3]
            is_match = (
                kind == "cgroup2"
                if controller == _V2
                else kind == "cgroup" and controller in options.split(",")
            )
            if is_match:
                root, point = left.split(" ")[3:5]
                return PurePosixPath(root), self.root / point.lstrip("/")
        return None


def _free_in(folder: Path, limit: str, used: str, cached: str) -> list[int]:
    """Return the free bytes of a cgroup in a list; none without a limit."""
    size, usage = _read_number(folder / limit), _read_number(folder / used)
    if size is None or usage is None:
        return []
    return [size - usage + (_read_field(folder / "memory.stat", cached) or 0)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_number(path: Path) -> int | None:
    """Return the number in a file; None for ``max`` and -1, which mean no limit."""
    return _parse_number(_read(path).strip())


def _parse_number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _read_field(path: Path, name: str) -> int | None:
    """Return the number after a name at the beginning of a line."""
    for line in _read(path).splitlines():
        found, value, *_ = (*line.split(), "", "")
        if found == name and value.isdecimal():
            return int(value)
    return None
