"""The memory of a build, as kept in records."""

from __future__ import annotations

from typing import Any

from nox_buildstages.value import Value

_TOO_MUCH = 10**15
"""Bytes or jobs that no machine has."""


class Kill(Value):
    """The end of a build for lack of memory."""

    jobs: int
    free: int  # bytes that were free when the build began


class BuildMemory(Value):
    """The most memory of a build at any time."""

    process: int  # bytes of the largest process
    build: int  # bytes of all processes together
    jobs: int
    is_complete: bool = True  # whether all compilers ran to the end, and were measured
    kill: Kill | None = None  # of an attempt

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON; what most builds have in common is left out."""
        value = {"process": self.process, "build": self.build, "jobs": self.jobs}
        partial = {} if self.is_complete else {"complete": False}
        kill = self.kill
        killed = {"killed": {"jobs": kill.jobs, "free": kill.free}} if kill else {}
        return {**value, **partial, **killed}

    @classmethod
    def from_dict(cls, value: Any) -> BuildMemory | None:  # noqa: ANN401 - any JSON
        """Return the value of a record; None if the record has none, or a wrong one."""
        try:
            killed = value.get("killed")
            return cls(
                process=_parse(value["process"]),
                build=_parse(value["build"]),
                jobs=_parse(value["jobs"]),
                is_complete=value.get("complete") is not False,
                kill=killed
                and Kill(jobs=_parse(killed["jobs"]), free=_parse(killed["free"])),
            )
        except (LookupError, TypeError, ValueError, AttributeError):
            return None


def memory_field(memory: BuildMemory | None) -> dict[str, Any]:
    """Return the field of a record, in a table; empty if nothing was measured."""
    return {} if memory is None else {"memory": memory.to_dict()}


def _parse(value: object) -> int:
    if isinstance(value, int) and 0 < value < _TOO_MUCH:
        return value
    raise ValueError(value)
