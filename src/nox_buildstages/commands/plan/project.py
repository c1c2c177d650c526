"""``build-stages-plan``: plan every cell of a project for every Python."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from nox_buildstages.commands.plan import github
from nox_buildstages.commands.plan.formats import format_json, format_text
from nox_buildstages.commands.plan.reasons import Plan, plan_outputs, plan_without_locks
from nox_buildstages.environments.targets import python_versions
from nox_buildstages.errors import LockError, UsageError
from nox_buildstages.lock.files import folder
from nox_buildstages.store.history import History

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nox_buildstages.commands.plan.reasons import PlannedOutput
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.model import Interpreter
    from nox_buildstages.workspace.workspace import Workspace


def run_plan(workspace: Workspace) -> None:
    """Print what would be built and why; with ``--github``, write a matrix of jobs.

    Raises:
        BuildStagesError: A job can't be planned, or a source can't be read.
    """
    options = workspace.options
    if options.github:
        plan = plan_jobs(workspace)
        lines = "\n".join(github.publish(plan, workspace.tools.run.outer))
    elif options.json:
        lines = format_json(plan_project(workspace), workspace.cells)
    else:
        lines = "\n".join(format_text(plan_project(workspace)))
    if lines:
        print(lines)  # noqa: T201 - the output of the session
    else:
        workspace.tools.run.report("nothing is built: there are no stages")


def plan_project(workspace: Workspace) -> Plan:
    """Plan every output; out-of-date locks are better than none."""
    locks = _check_locks(workspace)
    views = [*_each_view(workspace)]
    planned: dict[tuple[str, str, str], PlannedOutput] = {}
    for it in (it for view in views for it in _plan_view(view)):
        identity = it.python, it.title, it.name
        if not planned.setdefault(identity, it).version:  # another cell locks it
            planned[identity] = it
    return Plan(
        locks=locks,
        pythons=tuple(dict.fromkeys(view.python for view in views)),
        outputs=tuple(planned.values()),
    )


def plan_jobs(workspace: Workspace) -> github.GitHubPlan:
    """Plan the jobs that build the cells of the project on other machines.

    Raises:
        LockError: The locks are out of date, so every job would fail.
        UsageError: A Python isn't available to plan its cells.
    """
    project, views = workspace.project, [*_each_view(workspace)]
    wanted = python_versions(project, workspace.interpreter)
    if len(views) < len(wanted) * len(workspace.cells.cells):
        raise UsageError(
            problem="--github plans for every Python, and one isn't available here",
            hint="install it in this job too:\n  uv python install " + " ".join(wanted),
        )
    cells = []
    for view in views:
        context = view.context(view.read_locks())
        cells.append(
            github.plan_cell(context, _plan_view(view), view.wheelhouse.folder)
        )
    return github.GitHubPlan(
        cells=tuple(cells),
        wheelhouse=github.relative_path(project, project.wheelhouse),
        locks=github.relative_path(project, project.lock_dir),
        only_missing=workspace.options.only_missing,
    )


def _each_view(workspace: Workspace) -> Iterator[Workspace]:
    """Yield a workspace for each available Python and each cell."""
    wanted = python_versions(workspace.project, workspace.interpreter)
    found = workspace.pythons.find_local(wanted)
    for _, interpreter in found.values():
        for view in workspace.each_cell():
            yield replace(view, interpreter=interpreter)
    missing = [version for version in wanted if version not in found]
    if missing:
        workspace.tools.run.report(f"no Python {', '.join(missing)} here to plan for")


def _check_locks(workspace: Workspace) -> Literal["current", "stale", "missing"]:
    """Return the state of the lock files, and report it unless they are up to date."""
    report = workspace.tools.run.report
    try:
        for view in workspace.each_cell():
            folder.read_locks(view.project, view.tools.run, inputs=workspace.inputs)
    except LockError as error:
        report(error.summary)
    else:
        return "current"
    if not any(map(_read_stale_locks, workspace.each_cell())):
        return "missing"
    report("planned with these lock files; locking may change more")
    return "stale"


def _read_stale_locks(
    view: Workspace, interpreter: Interpreter | None = None
) -> Mapping[str, Lock]:
    """Return the locks even if they are out of date; none if they can't be read.

    For an interpreter, return none if the locks are for other Pythons.
    """
    try:
        return folder.read_locks(view.project, view.tools.run, interpreter=interpreter)
    except LockError:
        return {}


def _plan_view(view: Workspace) -> tuple[PlannedOutput, ...]:
    """Plan every output for a Python and a cell."""
    locks = _read_stale_locks(view, view.interpreter)
    if not locks:
        return plan_without_locks(view.project, view.python)
    wheels = view.wheelhouse.read_manifest().wheels
    keys = {entry["name"]: entry["key"] for entry in wheels}
    options = view.options
    outputs = {output.name for output in view.project.outputs}
    return plan_outputs(
        view.context(locks),
        History(store=view.tools.store, keys=keys),
        rebuild=outputs if options.rebuild_all else options.rebuild,
        elsewhere=options.github,
    )
