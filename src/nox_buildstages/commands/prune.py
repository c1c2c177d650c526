"""`build-stages-prune`: limit the size and the age of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.errors import PruneError
from nox_buildstages.store import pruning
from nox_buildstages.store.store import Store, cache_folder

if TYPE_CHECKING:
    from nox_buildstages.run.run import Run
    from nox_buildstages.workspace.options import Options


def run_prune(options: Options, run: Run) -> None:
    """Remove files from the store, and print a summary.

    Raises:
        PruneError: A file can't be removed.
    """
    store = Store(cache_folder(run.outer))
    limits = pruning.Limits(
        older_than=options.older_than, larger_than=options.larger_than
    )
    pruned = pruning.prune(
        store,
        limits,
        run=run.id,
        waiting=lambda: run.report("waiting for another build-stages-prune to end"),
        is_dry=options.dry_run,
    )
    run.report(f"the store is {store.folder}")
    for line in pruning.told(pruned, limits, is_dry=options.dry_run):
        run.report(line)
    if pruned.failures:
        raise PruneError(failures=pruned.failures)
