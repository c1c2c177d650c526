"""Planning a project at work: for each cell, and each Python that is at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from nox_buildstages.commands.plan import actions, formats, reasons as plan
from nox_buildstages.commands.plan.jobs import cell_plan, within
from nox_buildstages.commands.plan.plan_github import GitHubPlan
from nox_buildstages.commands.plan.reasons import Plan
from nox_buildstages.environments.targets import python_versions
from nox_buildstages.errors import InvalidLockError, LockError, UsageError
from nox_buildstages.lock.files import folder
from nox_buildstages.store.history import History

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from nox_buildstages.commands.plan.plan_github import CellPlan
    from nox_buildstages.commands.plan.reasons import Planned
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.workspace.workspace import Workspace


def run_plan(workspace: Workspace) -> None:
    """Print what would be built and why; with ``--github``, write a matrix of jobs.

    Raises:
        BuildStagesError: A job can't be planned, or a source can't be read.
    """
    options = workspace.options
    if options.github:
        lines = actions.publish(for_github(workspace), workspace.tools.outer)
    elif options.json:
        lines = formats.document(whole(workspace), workspace.cells)
    else:
        lines = formats.text(whole(workspace))
    for line in lines:
        print(line)  # noqa: T201 - the output of the session


def whole(workspace: Workspace) -> Plan:
    """Return what would become of every output.

    Locks that are stale are better than none: they tell what a changed variable
    does, and the user is told that they are.
    """
    state = _state_of_locks(workspace)
    views = [*_views(workspace)]
    planned: dict[Hashable, Planned] = {}
    for it in (it for view in views for it in _planned(view)):
        if not planned.setdefault(it.place, it).version:  # not locked in that cell
            planned[it.place] = it
    return Plan(
        locks=state,
        pythons=tuple(dict.fromkeys(view.python for view in views)),
        outputs=tuple(planned.values()),
    )


def for_github(workspace: Workspace) -> GitHubPlan:
    """Return the jobs that build the cells of the project elsewhere.

    Raises:
        LockError: The locks aren't current; every job would end with that.
        UsageError: There is no Python here to plan a cell for.
    """
    project, views = workspace.project, [*_views(workspace)]
    wanted = python_versions(project, workspace.interpreter)
    if len(views) < len(wanted) * len(workspace.cells.cells):
        raise UsageError(
            problem="--github plans for every Python, and one isn't here",
            hint="install it, as where its wheels are built",
        )
    return GitHubPlan(
        cells=tuple(map(_job, views)),
        wheelhouse=within(project, project.wheelhouse),
        locks=within(project, project.lock_dir),
        only_missing=workspace.options.only_missing,
    )


def _views(workspace: Workspace) -> Iterator[Workspace]:
    """Yield a workspace for each Python that is at hand, and each cell."""
    wanted = python_versions(workspace.project, workspace.interpreter)
    found = workspace.pythons.find_local(wanted)
    for _, python in found.values():
        for view in workspace.each_cell():
            yield replace(view, interpreter=python)
    missing = [version for version in wanted if version not in found]
    if missing:
        workspace.tools.report(f"no Python {', '.join(missing)} here to plan for")


def _state_of_locks(workspace: Workspace) -> Literal["current", "stale", "missing"]:
    """Return what the locks are; where they aren't current, the user is told."""
    report = workspace.tools.report
    try:
        for view in workspace.each_cell():
            folder.read_locks(view.project, view.tools.run, inputs=workspace.inputs)
    except LockError as error:
        report(error.summary)
    else:
        return "current"
    if not any(map(_locks_at_hand, workspace.each_cell())):
        return "missing"
    report("planned with them as they are; locking may change more")
    return "stale"


def _locks_at_hand(view: Workspace) -> Mapping[str, Lock]:
    """Return the locks as they are; nothing where they can't be read."""
    try:
        return folder.read_locks(view.project, view.tools.run)
    except LockError:
        return {}


def _planned(view: Workspace) -> tuple[Planned, ...]:
    """Return what would become of every output for one interpreter and cell.

    Stale locks may not be for it; then everything is locked first.
    """
    try:
        locks = view.select_locks(_locks_at_hand(view))
    except InvalidLockError:
        locks = {}
    if not locks:
        return plan.unlocked(view.project, view.python)
    keys = {
        entry["name"]: entry["key"] for entry in view.wheelhouse.read_manifest().wheels
    }
    options = view.options
    every = {output.name for output in view.project.outputs}
    return plan.plan(
        view.context(locks),
        History(store=view.tools.store, keys=keys),
        asked=every if options.rebuild_all else options.rebuild,
        elsewhere=options.github,
    )


def _job(view: Workspace) -> CellPlan:
    """Return what a job for one interpreter and cell has to know.

    Raises:
        LockError: The locks aren't current, or aren't for that interpreter.
    """
    context = view.context(view.read_locks())
    return cell_plan(context, _planned(view), view.wheelhouse.folder)
