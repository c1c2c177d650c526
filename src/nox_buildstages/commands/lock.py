"""`build-stages-lock`: write the lock files, or check that they are up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nox_buildstages.workspace.workspace import Workspace


def run_lock(workspace: Workspace) -> None:
    """Write the lock files; with ``--check`` or ``--locked``, only check them.

    Raises:
        LockError: No versions satisfy the declaration; or the files are out of date.
    """
    if workspace.options.check or workspace.options.locked:
        for view in workspace.each_cell():
            view.read_locks()
        workspace.tools.run.report("the lock files are up to date")
    else:
        workspace.relock()
