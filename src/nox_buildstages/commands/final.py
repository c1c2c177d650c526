"""The final stage: install the runtime from the wheelhouse, and check it."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nox_buildstages.builder.prepare import (
    occupy_environment,
    record_environment,
    restore_environment,
    sync_environment,
)
from nox_buildstages.builder.stage import find_results
from nox_buildstages.environments.environment import check_variables
from nox_buildstages.environments.import_check import import_command
from nox_buildstages.environments.interpreter import identify_interpreter
from nox_buildstages.environments.packages import IMPORTS_NOTE, digest_packages
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.lock.files.effects import describe_unused, find_unused_outputs
from nox_buildstages.lock.files.selection import KeptText
from nox_buildstages.model import FINAL, REPORT
from nox_buildstages.run.events import BUILT, ENDED
from nox_buildstages.run.processes import print_summary
from nox_buildstages.store.key import digest_json
from nox_buildstages.system.files import make_ignored_folder, read_file, write_text
from nox_buildstages.system.machine import is_this_machine
from nox_buildstages.system.process import Command
from nox_buildstages.text import show_path
from nox_buildstages.wheelhouse.directory import unused_wheelhouses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.stage import OutputResult
    from nox_buildstages.config.cells import Cells
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.model import Project
    from nox_buildstages.run.run import Run
    from nox_buildstages.wheelhouse.directory import Wheelhouse
    from nox_buildstages.workspace.session_options import Options
    from nox_buildstages.workspace.workspace import Workspace

_BOUND_FORMAT = 1
"""A new number if the text of the bound lock changes."""


def run_final(workspace: Workspace) -> str | None:
    """Install the runtime from the wheelhouse alone, run the checks, print a summary.

    If the checks are skipped, return the reason.

    Raises:
        BuildStagesError: A wheel is missing, the environment can't be made, or a module
            can't be imported.
    """
    project, tools, options = workspace.project, workspace.tools, workspace.options
    if options.statement:
        return "--check installs nothing"
    final, house = project.final, workspace.wheelhouse
    environment = workspace.environment
    context = workspace.context(workspace.ensure_locks()[0])
    place = context.place(FINAL)
    with tools.run.step("install", place) as facts:
        stages = workspace.cell.graph.order
        results = [
            result for stage in stages for result in find_results(context, stage)
        ]
        pins = {it.name: str(it.version) for it in context.pins(FINAL)}
        facts["packages"], facts["installed"] = len(pins), pins
        facts["versions"] = _list_matches(context)
        with occupy_environment(tools, environment):
            restore_environment(tools, environment)
            entries = _install_runtime(workspace, context, results)
            record_environment(environment)
    if (final.imports or final.checks) and not environment.may_run():
        return "--install-only: the environment is ready, nothing was checked"
    variables = check_variables(environment, tools.run.outer, final.pass_env)
    works = False
    try:
        if final.imports:
            _check_imports(context, environment, again=options.check_again)
        for check in final.checks:
            with tools.run.step("check", place, command=shlex.join(check), prints=True):
                _find_program(check[0], project, variables["PATH"])
                environment.run(check, project.root, env=variables)
        works = True
    finally:
        _print_summary(context, entries)
        used = {pin.name for name in context.locks for pin in context.pins(name)}
        for name in find_unused_outputs(project, used):
            tools.run.report(describe_unused(project, name))
        if any(entry["status"] == BUILT for entry in entries):
            from nox_buildstages.store.size import describe_large_store  # noqa: PLC0415 - if it grew

            if line := describe_large_store(tools.store):
                tools.run.report(line)
        if entries and not works:
            folder = show_path(house.folder, project.root)
            tools.run.report(f"the wheels are kept, in {folder}: none is built again")
        tools.run.emit("summary", ENDED, place)
    return None


def _find_program(name: str, project: Project, path: str) -> None:
    """Check that the program of a check is there.

    Raises:
        BuildStagesError: It isn't.
    """
    is_path = os.sep in name
    key = project.final.requirements_key
    if shutil.which(str(project.root / name) if is_path else name, path=path) is None:
        where = "can be run" if is_path else "is in the runtime or on PATH"
        raise BuildStagesError(
            subject="final.checks",
            problem=f"no program {name} {where}",
            hint="correct the path"
            if is_path
            else f"add the package that has it to {key}, or install it",
        )


def _install_runtime(
    workspace: Workspace, context: BuildContext, results: Sequence[OutputResult]
) -> list[dict[str, Any]]:
    """Make the wheelhouse contain some wheels alone, and install the runtime from it.

    If another run delivers other wheels in the meantime, this is done again. Return the
    entries of the manifest.
    """
    project, house, options = workspace.project, workspace.wheelhouse, workspace.options
    environment, own = workspace.environment, project.final.project
    make_ignored_folder(house.folder)
    while True:
        with house.hold_lock():
            entries = house.put(results)
            house.keep_only({it.output.name for it in results})
            bound = house.write_bound_text(_bind_lock(context, house))
        try:
            if own is None:
                sync_environment(context, FINAL, environment, bound)
            else:
                from nox_buildstages.builder import editable  # noqa: PLC0415 - for it alone

                afresh = options.rebuild_all or own in options.rebuild
                editable.install_editable(
                    context, own, environment, bound, rebuild=afresh
                )
        except BuildStagesError:
            if house.has(results):
                raise
        else:
            return entries


def _print_summary(context: BuildContext, entries: Sequence[Mapping[str, Any]]) -> None:
    """Print the table of the cell, with the reasons of builds of this run."""
    run, project = context.tools.run, context.project
    python = context.interpreter.version
    stages = {project.stage_label(it.name) for it in project.stages}
    reasons = {
        it.output: it.facts["reasons"]
        for it in run.events_of(*stages)
        if it.step == "output" and it.python == python and "reasons" in it.facts
    }
    events = run.events_of(project.stage_label(FINAL))
    page = project.wheelhouse / REPORT
    print_summary(
        run,
        [{**it, "reasons": reasons.get(it["name"], ())} for it in entries],
        [*run.events()[:1], *(it for it in events if it.python == python)],
        page if run.has_worked or page.is_file() else None,
    )


def _list_matches(context: BuildContext) -> dict[str, dict[str, str]]:
    """Return the versions of the names in match-runtime, in each environment."""
    return {
        name: {
            context.project.stage_label(lock): str(pin.version)
            for lock in (*context.graph.stages, FINAL)
            for pin in context.pins(lock)
            if pin.name == name
        }
        for name in context.project.match_runtime
    }


def _bind_lock(context: BuildContext, house: Wheelhouse) -> str:
    """Return the text of the bound lock, as the store keeps it if nothing changed."""
    wheels = context.wheels(FINAL)
    kept = KeptText.of(
        context.tools.store.folder,
        format=_BOUND_FORMAT,
        lock_dir=str(context.project.lock_dir),
        packages=context.locks[FINAL].packages,
        wheels=[(it.path.name, it.size, it.sha256) for it in wheels.values()],
    )
    text = kept.load()
    if text is None:
        text = house.bind(context.pylock(FINAL), wheels)
        kept.save(text)
    return text


def _check_imports(
    context: BuildContext, environment: Environment, *, again: bool
) -> None:
    """Import the modules, unless they worked and nothing known has changed since.

    The project itself changes without notice, because it is installed editable.
    """
    run, final = context.tools.run, context.project.final
    if final.project is not None:
        _import_modules(context, environment)
        return
    note = environment.location / IMPORTS_NOTE
    inputs = _digest_import_inputs(context, environment)
    is_noted = False
    with suppress(OSError):
        is_noted = read_file(note) == inputs.encode()
    if is_noted and not again:
        facts = {"modules": final.imports, "skipped": True}
        run.emit("import", ENDED, context.place(FINAL), **facts)
        run.report(
            "the imports worked, and nothing has changed since; to check them again:"
            " nox -s build-stages -- --check-again"
        )
        return
    note.unlink(missing_ok=True)
    _import_modules(context, environment)
    # Another run may have changed the environment meanwhile.
    if _digest_import_inputs(context, environment) == inputs:
        with suppress(OSError):  # without a note, the next run checks again
            write_text(note, inputs)


def _digest_import_inputs(context: BuildContext, environment: Environment) -> str:
    """Return a digest of what imports depend on, as far as it's known here."""
    outer, passed = context.tools.run.outer, context.project.final.pass_env
    return digest_json(
        [
            context.project.final.imports,
            digest_packages(environment),
            identify_interpreter(environment.python),
            {it: outer[it] for it in outer if it.startswith("LD_") or it in passed},
        ]
    )


def _import_modules(context: BuildContext, environment: Environment) -> None:
    """Import the modules of the table; show their output."""
    tools, root = context.tools, context.project.root
    tools.run.report(f"importing {', '.join(context.project.final.imports)}")
    argv = import_command(str(environment.python), context.project.final.imports)
    passed = context.project.final.pass_env
    env = check_variables(environment, tools.run.outer, passed)
    with tools.run.step(
        "import", context.place(FINAL), modules=context.project.final.imports
    ):
        completed = tools.runner(Command(argv=argv, cwd=root, env=env))
        lines = [*completed.stdout.splitlines(), *completed.stderr.splitlines()]
        if not completed.returncode:
            for line in lines:
                tools.run.report(line)
            return
        raise _import_error(context, completed.returncode, lines)


def _import_error(
    context: BuildContext, returncode: int, lines: list[str]
) -> BuildStagesError:
    """Return the error of imports that failed, with the lines that they printed."""
    from nox_buildstages.builder.diagnosis.causes import find_causes  # noqa: PLC0415 - few imports fail
    from nox_buildstages.builder.diagnosis.hints import find_import_hint  # noqa: PLC0415
    from nox_buildstages.builder.diagnosis.situation import Situation  # noqa: PLC0415

    outputs = [output.name for output in context.project.outputs]
    problem = f"an import ended with exit status {returncode}"
    if returncode == 1 and lines:
        problem = lines.pop()
    return BuildStagesError(
        problem=problem,
        details=find_causes(lines).lines,
        hint=find_import_hint(
            lines[-1] if lines else "",
            problem.partition(" ")[0],
            Situation(
                output="",
                stage=FINAL,
                python=context.interpreter.markers["python_version"],
                packages={pin.name: str(pin.version) for pin in context.pins(FINAL)},
            ),
            key=context.project.final.requirements_key,
            output=outputs[0] if len(outputs) == 1 else "NAME",
        ),
    )


def run_all_cells(_options: Options, run: Run, cells: Cells) -> None:
    """Print where the wheels of each cell are; the sessions of the cells ran before.

    Raises:
        UsageError: All cells are for other machines.
    """
    house = cells.first.project.wheelhouse
    if not any(is_this_machine(it.machine) for it in cells.projects):
        raise UsageError(
            problem=f"no cell is for this machine, {platform.machine()}",
            hint="run it on another machine, as a job of CI",
        )
    for project in cells.projects:
        where = f"{house.name}/{project.cell.folder}"
        if not is_this_machine(project.machine):
            where = f"left out, as it is for {project.machine}"
        run.report(f"{project.cell}: {where}")
    if unused := unused_wheelhouses(cells):
        run.report(f"belongs to no cell any more, and stays: {', '.join(unused)}")
