"""A run of nox whose lines for the user are recorded."""

from __future__ import annotations

from nox_buildstages.run.run import Run
from nox_buildstages.value import field


class RecordingRun(Run):
    """A run that prints nothing.

    Attributes:
        reports: The lines for the user.
    """

    reports: list[str] = field(default_factory=list)

    def report(self, line: str) -> None:
        """Record a line."""
        self.reports.append(line)
