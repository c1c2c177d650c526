"""The sessions without an environment: prune, merge, and those of all cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.commands.final import run_all_cells
from nox_buildstages.commands.merge.merge import run_merge
from nox_buildstages.commands.prune import run_prune
from nox_buildstages.errors import UsageError
from support.pair import Pair
from support.sessions import Sessions

if TYPE_CHECKING:
    from support.project import Project


@pytest.fixture
def sessions(project: Project, caplog: pytest.LogCaptureFixture) -> Sessions:
    caplog.set_level("INFO", logger="nox")
    Pair().write(project)
    return Sessions(project=project)


def test_leftovers_are_pruned(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """With `--dry-run` they stay; the summary ends with the size of the store."""
    leftover = sessions.project.store / "wheels/.new-x"
    leftover.mkdir(parents=True)
    name = "build-stages-prune"
    run_prune(sessions.options(name, "--dry-run"), sessions.run)
    assert leftover.exists()
    run_prune(sessions.options(name), sessions.run)
    assert not leftover.exists()
    store = f"the store is {sessions.project.store}"
    assert caplog.messages.count(store) == 2


def test_nothing_to_merge_is_an_error(sessions: Sessions) -> None:
    """The folders are words after `--`."""
    options = sessions.options("build-stages-merge")
    with pytest.raises(UsageError, match="no folder"):
        run_merge(options, sessions.run, sessions.cells)


def test_all_cells_are_listed(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """Each with the folder of its wheels."""
    Pair(top={"matrix": {"arch": ["8.0", "9.0"]}}).write(sessions.project)
    run_all_cells(sessions.options("build-stages"), sessions.run, sessions.cells)
    assert caplog.messages == [
        "arch=8.0: wheelhouse/8.0",
        "arch=9.0: wheelhouse/9.0",
    ]
