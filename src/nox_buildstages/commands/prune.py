"""``build-stages-prune``: limit the size and age of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.errors import BuildStagesError
from nox_buildstages.store.inventory import Kind
from nox_buildstages.store.pruning import Limits, prune
from nox_buildstages.store.size import size_note
from nox_buildstages.store.store import Store
from nox_buildstages.text import align, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nox_buildstages.run.run import Run
    from nox_buildstages.store.inventory import StoreItem
    from nox_buildstages.store.pruning import PruneResult
    from nox_buildstages.workspace.session_options import Options


def run_prune(options: Options, run: Run) -> None:
    """Remove items from the store, and print what was removed and what is left.

    Raises:
        BuildStagesError: Something can't be removed.
        UsageError: A session that uses the store runs this command.
    """
    run.uses.close()  # sessions of this process have ended: don't wait for them
    run.forget("store")
    store = Store.of_user(run.outer)
    limits = Limits(
        older_than=options.older_than,
        larger_than=options.larger_than,
        is_none=options.all,
    )
    run.report(f"the store is {store.folder}")
    result = prune(store, limits, report=run.report, is_dry=options.dry_run)
    if not options.dry_run:
        size_note(store).unlink(missing_ok=True)
    for line in render(result, limits, is_dry=options.dry_run):
        run.report(line)
    if result.failures:
        count = len(result.failures)
        raise BuildStagesError(
            subject="the store",
            problem=f"{count} item{'s' if count > 1 else ''} can't be removed",
            details=[f"{it.filename}: {it.strerror or it}" for it in result.failures],
            hint="check the permissions, then run the same command again",
        )


def render(result: PruneResult, limits: Limits, *, is_dry: bool) -> Iterator[str]:
    """Yield a line for each kind of items, then the sums."""

    def count(kind: Kind, items: Iterable[StoreItem]) -> tuple[str, str]:
        sizes = [item.size for item in items if item.kind is kind]
        return str(len(sizes)), format_size(sum(sizes))

    head = ("", "to remove" if is_dry else "removed", "size", "left", "size")
    kinds = {item.kind for item in (*result.removed, *result.left)}
    rows = [
        (kind.value, *count(kind, result.removed), *count(kind, result.left))
        for kind in Kind
        if kind in kinds
    ]
    yield from align([head, *rows] if rows else [])
    freed, size = format_size(result.freed), format_size(result.size)
    if is_dry:
        yield f"would remove {freed}; the store would take {size}"
    else:
        yield f"removed {freed}; the store now takes {size}"
    if limits.larger_than is not None and result.size > limits.larger_than:
        limit = format_size(limits.larger_than)
        yield f"the rest is larger than {limit}, and can't be removed now"
    if limits == Limits():
        yield (
            "without limits, only garbage is removed; to limit the store:"
            " -- --older-than 30d, -- --larger-than 20GB, or both"
        )
