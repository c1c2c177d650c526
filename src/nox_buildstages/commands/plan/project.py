"""``build-stages-plan``: plan every cell of a project for every Python."""

from __future__ import annotations

import sys
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Literal

from packaging.utils import canonicalize_name

from nox_buildstages.commands.plan import github
from nox_buildstages.commands.plan.formats import format_json
from nox_buildstages.commands.plan.reasons import (
    Branch,
    Plan,
    Tree,
    plan_outputs,
    plan_without_locks,
)
from nox_buildstages.commands.plan.tree import (
    Style,
    describe_installs,
    describe_locks,
    render_plan,
)
from nox_buildstages.config.cells import Cells
from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.environments.targets import on_machine, python_versions
from nox_buildstages.errors import LockError, StaleLockError, UsageError
from nox_buildstages.lock.files import folder
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.model import FINAL
from nox_buildstages.safe_text import Shown, show, show_json
from nox_buildstages.store.history import History
from nox_buildstages.system.machine import is_this_machine
from nox_buildstages.system.terminal import print_lines
from nox_buildstages.text import takes_colour
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.commands.plan.reasons import PlannedOutput
    from nox_buildstages.lock.files.selection import SelectedLock
    from nox_buildstages.preflight.finding import Finding
    from nox_buildstages.workspace.workspace import Workspace


def run_plan(workspace: Workspace) -> None:
    """Print what would be built and why, in the form chosen by the options.

    Raises:
        BuildStagesError: A job can't be planned, or a source can't be read.
    """
    options, report = workspace.options, workspace.tools.run.report
    lines: Iterable[Shown] = ()
    style, encoding = _find_style(workspace.tools.run.outer)
    views, missing = _list_views(workspace)
    if options.github:
        jobs = plan_jobs(workspace, views, missing)
        lines = github.publish(jobs, workspace.tools.run.outer)
        for warning in jobs.warnings():
            report(warning)
    else:
        contexts = [(view, view.context(_read_stale_locks(view))) for view in views]
        plan = plan_project(workspace, contexts)
        if missing:
            report(f"no Python {', '.join(missing)} here to plan for")
        is_whole = not (options.json or options.graph or options.explain)
        if plan.locks != "current" and not is_whole:
            report("; ".join(describe_locks(plan)))
        if options.json:
            cells = [
                it for it in workspace.cells.cells if any(it is v.cell for v in views)
            ]
            cores = workspace.tools.job_pool.machine.cores()
            lines = show_json(format_json(plan, Cells(cells=tuple(cells)), cores=cores))
        elif options.graph:
            from nox_buildstages.commands.plan.mermaid import render_mermaid  # noqa: PLC0415 - few ask

            lines = map(show, render_mermaid(plan))
        elif options.explain:
            lines = _explain(workspace, plan, [it for _, it in contexts], style)
        elif plan.outputs:
            cores = workspace.tools.job_pool.machine.cores()
            lines = [*render_plan(plan, style, cores=cores)]
            if plan.findings:
                from nox_buildstages.preflight.finding import format_findings  # noqa: PLC0415

                found = format_findings(
                    plan.findings, encoding=encoding, width=style.width
                )
                lines += map(show, ("", *found))
        else:
            report("nothing is built: there are no stages")
    print_lines(lines, stream=sys.stdout, encoding=encoding)


def _find_style(outer: Mapping[str, str]) -> tuple[Style, str]:
    """Return how the terminal shows a plan, and the terminal's encoding."""
    stream = sys.stdout
    is_sized = stream.isatty() or outer.get("COLUMNS", "").isdecimal()
    style = Style(
        width=get_terminal_size().columns if is_sized else None,
        colour=takes_colour(stream, outer),
    )
    is_dumb = outer.get("TERM") == "dumb"
    return style, "ascii" if is_dumb else stream.encoding or "utf-8"


def _explain(
    workspace: Workspace, plan: Plan, contexts: Sequence[BuildContext], style: Style
) -> Iterator[Shown]:
    """Yield everything about the output, or the package, named by the options.

    Raises:
        UsageError: No stage builds the package, and no environment contains the
            package.
    """
    from nox_buildstages.commands.plan import explain  # noqa: PLC0415 - few ask

    name = canonicalize_name(workspace.options.explain)
    history = History(store=workspace.tools.store)
    planned = {(it.python, it.title, it.name): it for it in plan.outputs}
    found = [*explain.explain_output(name, contexts, planned, history)]
    for number, it in enumerate(found):
        if number:
            yield show()
        yield from explain.render_explanation(it, style)
    if not found:
        yield from map(show, explain.explain_package(name, contexts))


def plan_project(
    workspace: Workspace, contexts: Sequence[tuple[Workspace, BuildContext]]
) -> Plan:
    """Plan every output of some cells; out-of-date locks are better than none."""
    locks, changes = _check_locks(workspace)
    history = History(store=workspace.tools.store)
    planned: dict[tuple[str, str, str], PlannedOutput] = {}
    for it in (it for one in contexts for it in _plan_view(*one, history)):
        identity = it.python, it.title, it.name
        if not planned.setdefault(identity, it).version:  # another cell locks it
            planned[identity] = it
    findings: tuple[Finding, ...] = ()
    if any(it.reasons for it in planned.values()):
        from nox_buildstages.commands.plan.preflight import check_builds  # noqa: PLC0415 - to build

        findings = check_builds(contexts, planned.values())
    return Plan(
        locks=locks,
        lock_changes=changes,
        pythons=tuple(dict.fromkeys(view.python for view, _ in contexts)),
        outputs=tuple(planned.values()),
        trees=_grow_trees(contexts, planned),
        findings=findings,
    )


def _grow_trees(
    contexts: Sequence[tuple[Workspace, BuildContext]],
    planned: Mapping[tuple[str, str, str], PlannedOutput],
) -> tuple[Tree, ...]:
    """Return the tree of each cell and Python, from the planned outputs."""
    several = len({view.python for view, _ in contexts}) > 1
    seen = set[tuple[str, str]]()
    trees = []
    for view, context in contexts:
        branches = []
        for stage in context.graph.order:
            title = view.project.stage_label(stage.name)
            identity = view.python, title
            branch = Branch(
                stage=stage.name,
                needs=context.graph.requires[stage.name],
                outputs=tuple(planned[(*identity, it.name)] for it in stage.outputs),
                is_above=identity in seen,
            )
            seen.add(identity)
            branches.append(branch)
        installs = "not locked yet"
        if FINAL in context.locks:
            installs = describe_installs(
                (pin.name, str(pin.version), isinstance(pin, StagePin))
                for pin in context.pins(FINAL)
            )
        python = f"Python {view.python}" if several else ""
        title = ", ".join(filter(None, (str(view.project.cell), python)))
        tree = Tree(
            title=f"({title})" if title else "",
            installs=installs,
            branches=tuple(branches),
        )
        trees.append(tree)
    return tuple(trees)


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
        planned = _plan_view(view, context, history)
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


def _check_locks(
    workspace: Workspace,
) -> tuple[Literal["current", "stale", "missing"], str]:
    """Return the state of the lock files, and what is wrong with those that exist."""
    try:
        for view in workspace.each_cell():
            folder.read_locks(view.project, view.tools.run, inputs=workspace.inputs)
    except LockError as error:
        if any(map(_has_locks, workspace.each_cell())):
            if isinstance(error, StaleLockError):
                error = workspace.explain_stale(error)
            return "stale", error.problem
        if isinstance(error, StaleLockError):
            return "missing", error.problem if error.subject else ""
        return "missing", error.summary
    return "current", ""


def _has_locks(view: Workspace) -> bool:
    """Whether the lock files can be read, even if they are for other Pythons."""
    try:
        folder.read_locks(view.project, view.tools.run)
    except LockError:
        return False
    return True


def _read_stale_locks(view: Workspace) -> Mapping[str, SelectedLock]:
    """Return the locks even if they are out of date; none if they are for others."""
    try:
        selection = replace(view.selection, cells=None)
        return folder.select_locks(view.project, view.tools.run, selection)
    except LockError:
        return {}


def _plan_view(
    view: Workspace, context: BuildContext, history: History
) -> tuple[PlannedOutput, ...]:
    """Plan every output for a Python and a cell; the history is of all cells."""
    if not context.locks:
        return plan_without_locks(view.project, view.python)
    wheels = view.wheelhouse.read_manifest().wheels
    keys = {entry["name"]: entry["key"] for entry in wheels}
    options = view.options
    outputs = {output.name for output in view.project.outputs}
    return plan_outputs(
        context,
        replace(history, keys=keys),
        rebuild=outputs if options.rebuild_all else options.rebuild,
        elsewhere=options.github or not is_this_machine(view.project.machine),
    )
