"""A run of nox whose lines for the user are recorded."""

from __future__ import annotations

from dataclasses import dataclass, field

from nox_buildstages.run.run import Run


@dataclass(kw_only=True, slots=True)
class RecordingRun(Run):
    """A run that prints nothing.

    Attributes:
        reports: The lines for the user.
    """

    reports: list[str] = field(default_factory=list)

    def report(self, line: str) -> None:
        """Record a line."""
        self.reports.append(line)
