"""What this machine has for us: cores, and the memory that is free to our cgroup."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNIFIED = ""
"""What ``/proc/self/cgroup`` calls the hierarchy of version 2."""


def _allowed() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # pragma: no cover - not on Linux


def libc() -> str:
    """Return the C library of this machine, such as ``glibc-2.36``.

    Return the name of the operating system if the C library isn't glibc.
    """
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, OSError, ValueError):  # pragma: no cover - no glibc
        found = None
    return (found or platform.system()).replace(" ", "-").lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Cores and memory, as the kernel tells of them.

    Where it doesn't tell, as on other systems than Linux, only cores are known.

    Attributes:
        root: Below which ``proc`` and ``sys`` are.
        allowed: Returns how many cores this process may run on.
        name: That tells it from others that may share a folder with it.
    """

    root: Path = Path("/")
    allowed: Callable[[], int] = _allowed
    name: str = platform.node()

    def cores(self) -> int:
        """Return how many cores' time there is, that of a cgroup rounded up."""
        quotas = (*self._quotas_v2(), *self._quotas_v1())
        return max(1, min([self.allowed(), *quotas]))

    def free_memory(self) -> int | None:
        """Return how many bytes we may still take; None where that isn't known.

        What the kernel holds of files that weren't used lately counts as free.
        """
        meminfo = self.root / "proc/meminfo"
        available = _field(meminfo, "MemAvailable:")
        room = [] if available is None else [available * 1024]
        room += (*self._room_v2(), *self._room_v1())
        return max(0, min(room)) if room else None

    def kills(self) -> int:
        """Return how many processes of our cgroup were killed for memory so far."""
        told = [
            _field(folder / name, "oom_kill")
            for controller, name in (
                (UNIFIED, "memory.events"),
                ("memory", "memory.oom_control"),
            )
            for folder in self._groups(controller)[:1]
        ]
        return sum(count for count in told if count is not None)

    def _quotas_v2(self) -> Iterator[int]:
        for folder in self._groups(UNIFIED):
            quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
            if quota.isdecimal() and period.isdecimal():
                yield _rounded_up(int(quota), int(period))

    def _quotas_v1(self) -> Iterator[int]:
        for folder in self._groups("cpu"):
            quota = _number(folder / "cpu.cfs_quota_us")
            period = _number(folder / "cpu.cfs_period_us")
            if quota is not None and period is not None:
                yield _rounded_up(quota, period)

    def _room_v2(self) -> Iterator[int]:
        for folder in self._groups(UNIFIED):
            used = _number(folder / "memory.current")
            for name in ("memory.max", "memory.high"):
                limit = _number(folder / name)
                if limit is not None and used is not None:
                    idle = _field(folder / "memory.stat", "inactive_file") or 0
                    yield limit - used + idle

    def _room_v1(self) -> Iterator[int]:
        for folder in self._groups("memory"):
            limit = _number(folder / "memory.limit_in_bytes")
            used = _number(folder / "memory.usage_in_bytes")
            if limit is not None and used is not None:
                idle = _field(folder / "memory.stat", "total_inactive_file") or 0
                yield limit - used + idle

    def _groups(self, controller: str) -> tuple[Path, ...]:
        """Return the folder of our cgroup, then those of the ones around it."""
        group, mount = self._group(controller), self._mount(controller)
        if group is None or mount is None:
            return ()
        root, top = mount
        inside = group.is_relative_to(root) and ".." not in group.parts
        folder = top / group.relative_to(root) if inside else top
        return (folder, *(it for it in folder.parents if it.is_relative_to(top)))

    def _group(self, controller: str) -> PurePosixPath | None:
        for line in _text(self.root / "proc/self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return PurePosixPath(path)
        return None

    def _mount(self, controller: str) -> tuple[PurePosixPath, Path] | None:
        """Return what of a hierarchy is mounted, and where."""
        for line in _text(self.root / "proc/self/mountinfo").splitlines():
            left, _, right = line.partition(" - ")
            kind, _, options = (*right.split(" "), "", "")[:3]
            is_it = (
                kind == "cgroup2"
                if controller == UNIFIED
                else kind == "cgroup" and controller in options.split(",")
            )
            if is_it:
                root, point = left.split(" ")[3:5]
                return PurePosixPath(root), self.root / point.lstrip("/")
        return None


def _rounded_up(quota: int, period: int) -> int:
    return -(-quota // max(1, period))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """Return the number that a file holds; None where it says ``max``, or -1."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _field(path: Path, name: str) -> int | None:
    """Return the number behind a name at the beginning of a line."""
    for line in _text(path).splitlines():
        found, value, *_ = (*line.split(), "", "")
        if found == name and value.isdecimal():
            return int(value)
    return None
