"""Whether there is a store behind the store, and where."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from nox_buildstages.errors import UsageError
from nox_buildstages.model import RemoteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nox_buildstages.model import Project
    from nox_buildstages.store.remote import Remote
    from nox_buildstages.store.store import Store

URL_VARIABLE = "NOX_BUILDSTAGES_REMOTE_STORE"
WRITE_VARIABLE = "NOX_BUILDSTAGES_REMOTE_STORE_WRITE"


def remote_store(
    project: Project,
    store: Store,
    outer: Mapping[str, str],
    report: Callable[[str], None],
    run: str,
) -> Remote | None:
    """Return the remote store of a project; None if it has none.

    Args:
        project: The project, as declared.
        store: The store to which wheels are fetched.
        outer: The environment variables that nox was started with.
        report: Prints a line for the user.
        run: The id of this run of nox.

    Raises:
        UsageError: A variable has a value that means nothing.
    """
    declared = chosen(project, outer)
    if declared is None:
        return None
    from nox_buildstages.store.remote import Remote  # noqa: PLC0415 - few have one

    return Remote(declared=declared, store=store, report=report, run=run)


def chosen(project: Project, outer: Mapping[str, str]) -> RemoteStore | None:
    """Return the remote store of a project, its URL or path absolute.

    The environment has the last word. What the table says of writing is said of the
    table's own store.

    Args:
        project: What is declared.
        outer: The environment variables that nox was started with.

    Raises:
        UsageError: A variable has a value that means nothing.
    """
    found = project.remote_store
    url = outer.get(URL_VARIABLE)
    if url is not None:
        found = RemoteStore(url=url.strip()) if url.strip() else None
    write = outer.get(WRITE_VARIABLE)
    if write not in (None, "", "0", "1"):
        raise UsageError(
            problem=f"{WRITE_VARIABLE} is {write!r}",
            hint="set it to 1, and wheels are put into the remote store, or to 0",
        )
    if found is None:
        return None
    located = replace(found, url=_located(found.url, project.root))
    return replace(located, write=write == "1") if write else located


def _located(url: str, root: Path) -> str:
    return url if "://" in url else os.path.normpath(root / url)
