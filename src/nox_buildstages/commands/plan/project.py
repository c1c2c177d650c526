"""``build-stages-plan``: plan every cell of a project for every Python."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from nox_buildstages.commands.plan import github
from nox_buildstages.commands.plan.formats import format_json, format_text
from nox_buildstages.commands.plan.reasons import Plan, plan_outputs, plan_without_locks
from nox_buildstages.config.cells import Cells
from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.environments.targets import on_machine, python_versions
from nox_buildstages.errors import LockError, UsageError
from nox_buildstages.lock.files import folder
from nox_buildstages.store.history import History
from nox_buildstages.system.machine import is_this_machine
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nox_buildstages.commands.plan.reasons import PlannedOutput
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.files.selection import Selection
    from nox_buildstages.preflight.finding import Finding
    from nox_buildstages.workspace.workspace import Workspace


def run_plan(workspace: Workspace) -> None:
    """Print what would be built and why; with ``--github``, write a matrix of jobs.

    Raises:
        BuildStagesError: A job can't be planned, or a source can't be read.
    """
    options, report = workspace.options, workspace.tools.run.report
    views, missing = _list_views(workspace)
    if options.github:
        jobs = plan_jobs(workspace, views, missing)
        lines = "\n".join(github.publish(jobs, workspace.tools.run.outer))
    else:
        plan = plan_project(workspace, views)
        if missing:
            report(f"no Python {', '.join(missing)} here to plan for")
        if options.json:
            cells = [
                it for it in workspace.cells.cells if any(it is v.cell for v in views)
            ]
            lines = format_json(plan, Cells(cells=tuple(cells)))
        else:
            lines = "\n".join(format_text(plan))
            if plan.findings:
                from nox_buildstages.preflight.finding import format_findings  # noqa: PLC0415

                found = format_findings(
                    plan.findings, encoding=sys.stdout.encoding or "utf-8"
                )
                lines = "\n".join((lines, "", *found))
    if lines:
        print(lines)  # noqa: T201 - the output of the session
    else:
        workspace.tools.run.report("nothing is built: there are no stages")


def plan_project(workspace: Workspace, views: Sequence[Workspace]) -> Plan:
    """Plan every output of some cells; out-of-date locks are better than none."""
    locks = _check_locks(workspace)
    history = History(store=workspace.tools.store)
    planned: dict[tuple[str, str, str], PlannedOutput] = {}
    for it in (it for view in views for it in _plan_view(view, history)):
        identity = it.python, it.title, it.name
        if not planned.setdefault(identity, it).version:  # another cell locks it
            planned[identity] = it
    findings: tuple[Finding, ...] = ()
    if any(it.reasons for it in planned.values()):
        from nox_buildstages.commands.plan.preflight import check_builds  # noqa: PLC0415 - to build

        contexts = (
            (view, view.context(_read_stale_locks(view, view.selection)))
            for view in views
        )
        findings = check_builds(contexts, planned.values())
    return Plan(
        locks=locks,
        pythons=tuple(dict.fromkeys(view.python for view in views)),
        outputs=tuple(planned.values()),
        findings=findings,
    )


def plan_jobs(
    workspace: Workspace, views: Sequence[Workspace], missing: Sequence[str]
) -> github.GitHubPlan:
    """Plan the jobs that build some cells of the project on other machines.

    Raises:
        LockError: The locks are out of date, so every job would fail.
        UsageError: A Python isn't available to plan its cells.
    """
    project = workspace.project
    if missing:
        raise UsageError(
            problem="--github plans for every Python, and one isn't available here",
            hint="install it in this job too:\n  uv python install "
            + " ".join(missing),
        )
    history = History(store=workspace.tools.store)
    cells = []
    for view in views:
        context = view.context(view.read_locks())
        planned = _plan_view(view, history)
        cells.append(github.plan_cell(context, planned, view.wheelhouse.folder))
    return github.GitHubPlan(
        cells=tuple(cells),
        wheelhouse=github.relative_path(project, project.wheelhouse),
        locks=github.relative_path(project, project.lock_dir),
        only_missing=workspace.options.only_missing,
    )


def _list_views(workspace: Workspace) -> tuple[list[Workspace], list[str]]:
    """Return a workspace for each selected cell and Python, and the missing Pythons.

    Raises:
        UsageError: The selection names an unknown value, or selects nothing.
    """
    here, select = workspace.interpreter, workspace.options.select
    wanted = [
        (python, view)
        for view in workspace.each_cell()
        for python in python_versions(view.project, here)
    ]
    known: dict[str, dict[str, None]] = {}
    combinations = [
        {**dict(view.project.cell.choices), "python": python} for python, view in wanted
    ]
    for it in combinations:
        for axis, value in it.items():
            known.setdefault(axis, {})[value] = None
    values: dict[str, set[str]] = {}
    for axis, value in select:
        if axis not in known:
            raise _unknown_selection(f"there is no axis {axis!r}", axis, known)
        if value not in known[axis]:
            problem = f"{axis} has no value {value!r}"
            raise _unknown_selection(problem, value, known[axis])
        values.setdefault(axis, set()).add(value)
    selected = [
        pair
        for pair, choices in zip(wanted, combinations, strict=True)
        if all(choices[axis] in chosen for axis, chosen in values.items())
    ]
    if not selected:
        raise UsageError(
            problem="--select: no cell has these values together",
            hint="select fewer, or remove the entry of exclude that leaves it out",
        )
    versions = tuple(
        sorted({python for python, _ in selected}, key=[*known["python"]].index)
    )
    found = workspace.pythons.find_local(versions)
    views = [
        replace(view, interpreter=on_machine(found[it][1], view.project.machine))
        for it in found
        for python, view in selected
        if python == it
    ]
    return views, [it for it in versions if it not in found]


def _unknown_selection(problem: str, word: str, known: Iterable[str]) -> UsageError:
    return UsageError(
        problem=f"--select: {problem}{did_you_mean(word, known)}",
        hint=f"choose one of these: {', '.join(known)}",
    )


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
    view: Workspace, selection: Selection | None = None
) -> Mapping[str, Lock]:
    """Return the locks even if they are out of date; none if they can't be read.

    With a selection, return none if the locks are for other Pythons.
    """
    try:
        return folder.read_locks(view.project, view.tools.run, selection=selection)
    except LockError:
        return {}


def _plan_view(view: Workspace, history: History) -> tuple[PlannedOutput, ...]:
    """Plan every output for a Python and a cell; the history is of all cells."""
    locks = _read_stale_locks(view, view.selection)
    if not locks:
        return plan_without_locks(view.project, view.python)
    wheels = view.wheelhouse.read_manifest().wheels
    keys = {entry["name"]: entry["key"] for entry in wheels}
    options = view.options
    outputs = {output.name for output in view.project.outputs}
    return plan_outputs(
        view.context(locks),
        replace(history, keys=keys),
        rebuild=outputs if options.rebuild_all else options.rebuild,
        elsewhere=options.github or not is_this_machine(view.project.machine),
    )
