"""`build-stages-lock`: write the lock files, or check that they are up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.lock.files import folder

if TYPE_CHECKING:
    from nox_buildstages.workspace.workspace import Workspace


def run_lock(workspace: Workspace) -> None:
    """Write the lock files; with ``--check`` or ``--locked``, only check them.

    Nothing is resolved if that couldn't change anything.

    Raises:
        LockError: No versions satisfy the declaration; or the files are out of date.
    """
    options = workspace.options
    if options.check or options.locked:
        for view in workspace.each_cell():
            view.read_locks()
        folder.check_as_written(workspace.cells)
    elif options.upgrades or not workspace.has_final_locks():
        workspace.relock()
        return
    workspace.tools.run.report("the lock files are up to date")
