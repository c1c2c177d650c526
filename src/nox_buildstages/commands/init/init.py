"""The session `build-stages-init`: from what a project declares to its first table."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from nox_buildstages.commands.init.known import locate
from nox_buildstages.commands.init.proposer import Proposer
from nox_buildstages.commands.init.pyproject import (
    append,
    change_document,
    change_text,
    describe_change,
    render,
    write_proposal,
)
from nox_buildstages.commands.init.scope import choose_scope
from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.config.project import read_cells
from nox_buildstages.declarations.foreign import read_foreign
from nox_buildstages.declarations.workspace import get_table
from nox_buildstages.lock.files import folder
from nox_buildstages.safe_text import show
from nox_buildstages.system.files import read_file
from nox_buildstages.system.terminal import print_lines
from nox_buildstages.value import replace
from nox_buildstages.workspace.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nox_buildstages.workspace.workspace import Workspace


def run_init(workspace: Workspace, *, document: Mapping[str, Any]) -> None:
    """Propose stages for what has no wheel, without writing any lock.

    Raises:
        BuildStagesError: No stages can be proposed, or they can't be written.
    """
    options, run = workspace.options, workspace.tools.run
    pyproject = workspace.project.pyproject

    # Choose what to look at, and read it as the table will declare it.
    foreign = read_foreign(document, pyproject.parent, run.outer)
    uv = get_table(document, "tool", "uv")
    names = tuple(locate(name, uv) for name in options.names)
    for name, located in zip(options.names, names, strict=True):
        if name != located:
            run.report(f"{name}: taken from git, as its recipe says: {located}")
    scope = choose_scope(document, foreign, replace(options, names=names))
    for note in (*foreign.notes, *scope.notes):
        run.report(note)
    run.report(scope.describe())
    cells = arrange_cells(
        read_cells(
            change_document(document, scope.changes),
            pyproject=pyproject,
            may_lack_stages=True,
            may_lack_outputs=True,
        )
    )
    workspace = open_workspace(cells, cells.first, workspace.environment, options, run)

    # Find the stages.
    requirements = cells.first.project.final.requirements
    with ExitStack() as stack:
        stack.enter_context(workspace.hold_lock())
        project_locker = workspace.project_locker()
        context = project_locker.contexts[0]
        earlier = folder.read_all_locks(context.project)
        if not earlier:
            earlier = project_locker.prefer_uv_lock()[0]
        locker, provider = stack.enter_context(
            project_locker.open_locker(context, project_locker.targets[0], earlier)
        )
        proposal = Proposer(
            cells=cells, locker=locker, provider=provider, report=run.report
        ).propose()
    changes = (*scope.changes, *proposal.changes)
    if requirements and not (proposal.stages or proposal.changes):
        target = workspace.interpreter.short
        everything = "everything else" if cells.outputs else "everything"
        run.report(f"nothing needs a stage: {everything} has a wheel for {target}")
    if scope.left_out or not requirements:
        run.report(scope.hint)
    if not (proposal.stages or changes):
        return

    # Print the tables, and write them.
    text = read_file(pyproject.resolve()).decode("utf-8")
    changed = change_text(text, changes)
    addition = ""
    if proposal.stages or changed.new_tables:
        addition = render(
            proposal.heading,
            proposal.stages,
            tables=changed.new_tables,
            root=pyproject.parent,
        )
    lines = [f"# Change {describe_change(it)}\n" for it in changed.inserted]
    text = "".join([*lines, addition])
    print_lines(map(show, text.splitlines()), stream=sys.stdout)
    if options.write:
        write_proposal(
            pyproject, append(changed.text, addition) if addition else changed.text
        )
        run.report(f"wrote it to {pyproject.name}")
    else:
        words = "".join(f" {word}" for word in options.scope_words)
        run.report(f"to write it: nox -s build-stages-init --{words} --write")
