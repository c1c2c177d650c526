"""The files by which a step of GitHub Actions says what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.commands.plan.plan_github import assignments, lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nox_buildstages.commands.plan.plan_github import GitHubPlan


def publish(plan: GitHubPlan, variables: Mapping[str, str]) -> Iterator[str]:
    """Write a plan to the files that GitHub Actions names.

    Args:
        plan: The jobs.
        variables: Of the step; what they name no file for is yielded instead.

    Yields:
        Lines for people.

    Raises:
        OSError: A file can't be written to.
    """
    outputs, summary = plan.outputs(), list(plan.summary())
    if path := variables.get("GITHUB_OUTPUT"):
        _append(path, assignments(outputs))
    else:
        yield from lines(outputs)
    if path := variables.get("GITHUB_STEP_SUMMARY"):
        _append(path, "".join(f"{line}\n" for line in summary))
    else:
        yield from summary


def _append(path: str, text: str) -> None:
    with Path(path).open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)
