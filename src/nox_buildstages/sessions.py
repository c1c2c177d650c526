"""The nox sessions: their names, and one adapter around their bodies in `commands/`.

This is the only module that imports nox.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import nox
from nox_buildstages import errors
from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.config.graph import session_folder
from nox_buildstages.config.project import read_cells
from nox_buildstages.declarations.documents import read_document
from nox_buildstages.environments.environment import Environment, is_complete
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.model import LOGS, REPORT, minor_version, sort_pythons
from nox_buildstages.run.ci import annotate
from nox_buildstages.run.environment_lock import EnvironmentLock
from nox_buildstages.run.nox_command_line import (
    DOCS,
    NoxInvocation,
    RegisteredSession,
    read_command_line,
)
from nox_buildstages.run.processes import (
    begin_journal,
    begin_run,
    open_debug_log,
    watch_processes,
)
from nox_buildstages.safe_text import show, show_lines
from nox_buildstages.system.files import read_text
from nox_buildstages.system.machine import is_this_machine
from nox_buildstages.system.terminal import print_lines
from nox_buildstages.text import takes_colour
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeVar

    from nox_buildstages.builder.build import Build
    from nox_buildstages.config.cells import Cells
    from nox_buildstages.config.decorated import DecoratedStage
    from nox_buildstages.model import Project
    from nox_buildstages.run.events import Event
    from nox_buildstages.run.run import Run

    F = TypeVar("F", bound=Callable[..., object])

TAG = "build-stage"
_HERE = ".".join(map(str, sys.version_info[:3]))
INIT, PLAN = "build-stages-init", "build-stages-plan"
RELEASE, SHELL = "build-stages-release", "build-stages-shell"
_BACKENDS = ("uv", "virtualenv", "venv")


@contextmanager
def _end_with_message() -> Iterator[None]:
    """End nox with a message if a block raises an exception that nobody expected."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the last line of defence
        from nox_buildstages.run.unexpected import explain  # noqa: PLC0415

        raise SystemExit(_draw(explain(error))) from None


_decorated: list[DecoratedStage] = []
"""The stages that the noxfile has declared so far, until it calls `register`."""
_registered: list[Path] = []
"""The files that it has registered."""


@_end_with_message()
def decorate(
    positional: Sequence[object], keys: Mapping[str, object]
) -> Callable[[F], F]:
    """Return a decorator that declares a stage in Python."""
    if positional:  # such as the function, without parentheses
        raise UsageError(
            subject="@nox_buildstages.stage",
            problem="the keys of the stage are missing, or have no names",
            hint='write them as keywords:\n  @nox_buildstages.stage(outputs=["NAME"])',
        )
    from nox_buildstages.config.decorated import read_function, read_source  # noqa: PLC0415 - most have none

    @_end_with_message()
    def declare(function: F) -> F:
        source = read_source(function)
        declared = read_function(function, keys, source, is_late=bool(_registered))
        _decorated.append(declared)
        return function

    return declare


def _take_path(pyproject: object) -> Path:
    """Return the file that a noxfile registers.

    Raises:
        UsageError: It is no path, or another file is registered.
        UnicodeEncodeError: The path isn't UTF-8.
    """
    subject = "register()"
    if not isinstance(pyproject, (str, os.PathLike)):
        problem = f"expected the path of a pyproject.toml, found {pyproject!r}"
        raise UsageError(subject=subject, problem=problem)
    if _registered:  # nox would replace sessions of the same name
        raise UsageError(
            subject=subject,
            problem=f"was called before, for {_registered[0]}",
            hint="call it once, and give another project a noxfile of its own",
        )
    path = Path(pyproject).absolute()
    _registered.append(path)
    str(path).encode()  # a path that isn't UTF-8 would fail in the midst of a session
    return path


@_end_with_message()
def register(pyproject: str | os.PathLike[str] = "pyproject.toml") -> None:
    """Register the sessions that a pyproject.toml in the noxfile's folder declares.

    Beside that file, only the files are read in which uv's settings for the project
    stand: a uv.toml, and the pyproject.toml of its workspace and of source folders.
    Call this function from a noxfile; a faulty table ends nox with a message that lists
    every problem.
    """
    path = _take_path(pyproject)
    decorated = tuple(_decorated)  # of this call alone
    _decorated.clear()
    for stream in (sys.stdout, sys.stderr):
        is_picky = getattr(stream, "errors", "") in {"strict", "surrogateescape"}
        if isinstance(stream, TextIOWrapper) and is_picky:  # it may not be UTF-8
            with suppress(OSError):
                stream.reconfigure(errors="backslashreplace")
    try:
        document = read_document(path)
        noxfile = NoxInvocation.of_noxfile(nox.options)
        invocation = read_command_line(sys.argv[1:], os.environ, noxfile)
        cells = arrange_cells(
            read_cells(
                document,
                pyproject=path,
                may_lack_stages=True,
                decorated=decorated,
                may_lack_outputs=[*(invocation.sessions or ())] == [INIT],
            )
        )
    except errors.DeclarationError as error:
        located = _with_lines(error)
        for problem in located.problems:
            print_lines(annotate(str(problem), path, problem.line, os.environ))
        raise SystemExit(_draw(located)) from None
    run = replace(
        begin_run(cells.first.project.wheelhouse),
        stops_on_error=invocation.stops_on_error,
    )
    pythons = cells.first.project.pythons
    first_python = _choose_python(cells.first.project)
    adapter = _Adapter(
        document=document,
        cells=cells,
        run=run,
        lock=EnvironmentLock(invocation=invocation),
        python=first_python,
    )
    sessions = [
        *_stages(cells, decorated),
        *_finals(cells),
        *_others(cells, document),
    ]
    called = invocation.find_called(sessions)
    if invocation.words or SHELL in called:  # which needs a word
        _check_words(invocation, called, cells, adapter.run)
    if called and invocation.makes_environments and invocation.backend:
        # Nox fails if it finds no program, even if it makes no environment.
        _check_backend(invocation.backend.split("|"), may_be_there=True)
    finds_python = any(it.finds_python for it in called.values())
    if finds_python and adapter.find_python() is None:  # nox may download one
        sessions = [replace(it, has_environment=it.has_workspace) for it in sessions]
    backend = None  # of nox's command line, or of the noxfile
    defaults = str(nox.options.default_venv_backend).split("|")
    if not invocation.backend and set(defaults).isdisjoint(_BACKENDS):
        backend = "virtualenv"  # that of the noxfile is for the user's sessions
    for session in sessions:
        # A wheel that fits several Pythons is built by the lowest one.
        python = sort_pythons(session.pythons) or first_python
        of_python = "-{python}" if session.pythons else ""
        has_work = session.has_workspace and session.name != SHELL  # has the terminal
        runs_beside_others = has_work or bool(session.requires)
        nox.session(
            name=session.name,
            python=python if session.has_environment else False,
            reuse_venv=True,
            venv_backend=backend,
            requires=[f"{name}{of_python}" for name in session.requires],
            tags=[*session.tags],
            default=session.is_default,
            allow_parallel=runs_beside_others or None,
        )(adapter.wrap(session))
    selected = invocation.select(sessions)
    watch_processes(
        *(adapter.run, cells, selected, invocation),
        write_report=partial(_report_end, cells, adapter.run),
    )
    wanted = pythons or tuple(filter(None, [first_python]))
    _require_python(selected, wanted, invocation, adapter.run)
    adapter.lock.acquire_for(selected)


def _check_words(
    invocation: NoxInvocation,
    called: Mapping[str, RegisteredSession],
    cells: Cells,
    run: Run,
) -> None:
    """Check the words after ``--`` before nox makes an environment; print the help.

    Raises:
        UsageError: A word is wrong for a session of ours.
        SystemExit: A word asks for help.
    """
    from nox_buildstages.workspace.session_options import (  # noqa: PLC0415 - for --list
        check_effects,
        parse_options,
    )

    if any(it.partition("=")[0] == "--shard" for it in invocation.words):
        problem = "--shard compiles one stage that is named with -s"
        flags = {"-j": invocation.is_parallel, "-k": invocation.keywords}
        for flag in (it for it in flags if flags[it]):
            raise UsageError(problem=problem, hint=f"leave out {flag}")
    helps = []
    for session in called.values():
        name = session.name.partition("(")[0]
        options = parse_options(invocation.words, outputs=cells.names, session=name)
        if options.variants and name == RELEASE and not run.is_parallel:
            from nox_buildstages.commands.release.variants import check_variants  # noqa: PLC0415 - few ask

            check_variants(cells, session.name)
        if options.help:
            helps.append(_describe(session))
    if helps:
        print_lines(show_lines("\n\n".join(helps)), stream=sys.stdout)
        raise SystemExit(0)
    # A child of -j runs one of several sessions; the user's own may require ours.
    is_ours = len(called) >= len(invocation.sessions or ())
    if called and is_ours and not run.is_parallel:
        check_effects(invocation.words, called)


def _check_backend(backends: Sequence[str], *, may_be_there: bool = False) -> None:
    """Check that nox may make an environment with one of our backends.

    ``may_be_there`` allows others whose program is there.

    Raises:
        UsageError: None of them is one.
    """
    if not set(backends).isdisjoint(_BACKENDS):
        return
    if not (may_be_there and any(map(shutil.which, backends))):
        raise UsageError(
            problem=f"the venv backend {backends[0]!r} makes no environment that a lock"
            " can be installed in",
            hint=f"use one of these: -db {', -db '.join(_BACKENDS)}",
        )


def _describe(session: RegisteredSession) -> str:
    """Return the help of a session."""
    from nox_buildstages.workspace.session_help import describe_session  # noqa: PLC0415 - few ask

    return describe_session(session.name, session.doc)


def _choose_python(project: Project) -> str | None:
    """Return the first Python for nox to search for; None for nox's own.

    Of several in the table, it is one that is here. If there are none, and nox's own
    doesn't suit the project, it is the version in ``.python-version``, as in uv, then
    ``requires-python``, for which nox takes the first Python on PATH.
    """
    if pythons := project.pythons:
        if len(pythons) == 1:
            return pythons[0]
        shims_last = sorted(pythons, key=lambda it: _is_shim(_find_program(it)))
        return next((it for it in shims_last if _which(it)), pythons[0])
    if project.accepts_python(_HERE):
        return None
    with suppress(OSError, UnicodeDecodeError):
        text = read_text(project.root / ".python-version").strip()
        pinned = re.fullmatch(r"([0-9]+\.[0-9]+(?:\.[0-9]+)?)t?", text)
        if pinned and project.accepts_python(pinned[1]):
            return text
    return str(project.requires_python)


def _require_python(
    sessions: Mapping[str, RegisteredSession],
    pythons: Sequence[str],
    invocation: NoxInvocation,
    run: Run,
) -> None:
    """Make nox fail if nox has no Python for the sessions of ours in the run.

    Nox skips a session if the Python is missing; if nox skips all sessions, an empty
    run would end with success. But first nox may download a Python.
    """
    if not (sessions and pythons and invocation.makes_environments):
        return
    # An environment of an earlier run may have another Python.
    folders = (Path(invocation.envdir, session_folder(name)) for name in sessions)
    found = (
        is_complete(it) and (it / f"lib/python{version}").is_dir()
        for it in folders
        for version in pythons
    )
    if any(found) or any(map(_which, pythons)):
        return
    from uv import find_uv_bin  # noqa: PLC0415 - rarely needed

    from nox_buildstages.environments.interpreter import find_interpreter  # noqa: PLC0415
    from nox_buildstages.system.process import run as run_program  # noqa: PLC0415

    uv = Path(find_uv_bin())
    if not any(find_interpreter(it, uv=uv, runner=run_program) for it in pythons):
        nox.options.error_on_missing_interpreters = True
        if not run.is_parallel:
            run.report(
                f"Python {' or '.join(pythons)} isn't installed here, and nox runs on"
                f" {_HERE}; unless nox can download it, install it: uv python install"
                f" {quote(pythons[0])}"
            )


def _report_end(cells: Cells, run: Run, events: Sequence[Event]) -> None:
    """Write the report of a run, or of an earlier killed run."""
    has_page = (cells.first.project.wheelhouse / REPORT).exists()
    if any(it.is_work for it in events) or not has_page or run.journal.others():
        from nox_buildstages.report.write import report_end  # noqa: PLC0415 - a no-op needs none

        report_end(cells, run, events)


def _draw(error: BuildStagesError) -> str:
    return "\n".join(error.lines(colour=takes_colour(sys.stderr, os.environ)))


def _with_lines(error: errors.DeclarationError) -> errors.DeclarationError:
    """Return an error with the problems in the order of the file, each with a line."""
    from nox_buildstages.config.lines import find_lines  # noqa: PLC0415 - for faulty tables

    try:
        lines = find_lines(read_text(error.path))
    except (OSError, ValueError):
        return error
    located = [replace(it, line=lines.get(it.location)) for it in error.problems]
    problems = tuple(sorted(located, key=lambda it: it.line or 0))
    return errors.DeclarationError(path=error.path, problems=problems)


# The sessions ------------------------------------------------------------------------


def _stages(
    cells: Cells, decorated: Sequence[DecoratedStage]
) -> Iterator[RegisteredSession]:
    """Yield the session of each stage, after the required sessions."""
    in_python = {it.name: it for it in decorated}
    for cell, stage in cells.distinct_stages():
        required = [cell.graph.stages[it] for it in cell.graph.requires[stage.name]]
        doc = f"Build {', '.join(output.name for output in stage.outputs)}."
        function, declared = None, in_python.get(stage.name)
        if declared is not None:
            choices = cell.project.cell.choices
            function = partial(_call, declared, declared.arguments(choices))
            doc = (declared.function.__doc__ or doc).strip().partition("\n")[0]
        yield RegisteredSession(
            name=cell.session(stage),
            doc=doc,
            function=function,
            body="commands.stage:run_stage",
            arguments={"stage": stage},
            cell=cell,
            pythons=cell.project.cell_pythons,
            requires=tuple(map(cell.session, required)),
            tags=(TAG,) if is_this_machine(cell.project.machine) else (),
            builds=True,
        )


def _finals(cells: Cells) -> Iterator[RegisteredSession]:
    """Yield the final and the release session of each cell, and of all together."""
    finals: list[str] = []
    releases: list[str] = []
    for cell in cells.cells:
        suffix = cell.project.cell.suffix
        final = RegisteredSession(
            name=f"build-stages{suffix}",
            doc=DOCS["build-stages"],
            body="commands.final:run_final",
            cell=cell,
            pythons=cell.project.cell_pythons,
            requires=tuple(map(cell.session, cell.graph.order)),
            is_default=not cells.has_matrix,
            builds=True,
        )
        release = replace(
            final,
            name=f"{RELEASE}{suffix}",
            doc=DOCS[RELEASE],
            body="commands.release.release:run_release",
            requires=(final.name,),
            is_default=False,
        )
        if is_this_machine(cell.project.machine):
            finals += final.full_names
            releases += release.full_names
        yield from (final, release)
    if cells.has_matrix:
        every = RegisteredSession(
            name="build-stages",
            doc="Build and install every cell.",
            body="commands.final:run_all_cells",
            arguments={"cells": cells},
            requires=tuple(finals),
            is_default=True,
            has_environment=False,
            has_workspace=False,
        )
        yield every
        yield replace(
            every,
            name=RELEASE,
            doc="Release every cell.",
            body="commands.release.variants:release_all_cells",
            requires=tuple(releases),
            is_default=False,
        )


def _others(cells: Cells, document: Mapping[str, Any]) -> Iterator[RegisteredSession]:
    yield RegisteredSession(
        name=INIT,
        doc=DOCS[INIT],
        body="commands.init.init:run_init",
        arguments={"document": document},
        has_environment=False,
    )
    yield RegisteredSession(
        name="build-stages-lock",
        doc=DOCS["build-stages-lock"],
        body="commands.lock:run_lock",
        has_environment=False,
    )
    yield RegisteredSession(
        name=PLAN,
        doc=DOCS[PLAN],
        body="commands.plan.project:run_plan",
        has_environment=False,
    )
    yield RegisteredSession(
        name="build-stages-prune",
        doc=DOCS["build-stages-prune"],
        body="commands.prune:run_prune",
        has_environment=False,
        has_workspace=False,
    )
    yield RegisteredSession(
        name=SHELL,
        doc=DOCS[SHELL],
        body="commands.shell.shell:run_shell",
        has_environment=False,
    )
    yield RegisteredSession(
        name="build-stages-merge",
        doc=DOCS["build-stages-merge"],
        body="commands.merge.merge:run_merge",
        arguments={"cells": cells},
        has_environment=False,
        has_workspace=False,
    )


def _call(
    declared: DecoratedStage,
    arguments: Mapping[str, str],
    session: nox.Session,
    build: Build,
) -> None:
    """Call the function of a stage in Python.

    Raises:
        UsageError: The function fails outside of nox and of a build.
    """
    try:
        declared.function(session, build, **arguments)
    except Exception as error:
        from traceback import format_exception, walk_tb  # noqa: PLC0415 - after a failure

        inner = error.__traceback__ and error.__traceback__.tb_next
        modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(inner)]
        if any(it.partition(".")[0] in {"nox", __package__} for it in modules):
            raise
        raise UsageError(
            subject=declared.location,
            problem=f"its function failed: {type(error).__name__}",
            details="".join(format_exception(type(error), error, inner)).splitlines(),
        ) from error


# The adapter -------------------------------------------------------------------------


class _Adapter(Value):
    """Runs the bodies of sessions, and ends a failing session with our message."""

    document: dict[str, Any]
    cells: Cells
    run: Run
    lock: EnvironmentLock
    python: str | None  # of sessions without several; None for nox's own

    def wrap(self, declared: RegisteredSession) -> Callable[[nox.Session], None]:
        """Return the function of a session, as nox wants it."""

        def session(session: nox.Session) -> None:
            try:
                self._begin_journal(declared)
                location = session.env_dir.absolute()
                self.run.place = self._place(session, declared)
                with (
                    open_debug_log(
                        self.run,
                        session.name,
                        logs=lambda: self._logs(declared, self._minor_version(session)),
                        root=self.cells.first.project.root,
                    ),
                    self.lock.release_during(
                        location if declared.has_environment else None
                    ),
                    self._report_session(),
                    self.run.screen.live(),
                    self.run.step("session"),
                ):
                    skip_reason = self._run_body(session, declared)
            except Exception as caught:
                if type(caught).__module__.startswith("nox."):  # a program failed
                    raise
                from nox_buildstages.run.unexpected import explain  # noqa: PLC0415

                error = explain(caught)
            else:
                if skip_reason is not None:
                    session.skip(show(skip_reason))
                return
            self._annotate(error)
            run = self.run
            print_lines(error.lines(colour=run.colour, width=run.width))
            if error.exit_status != 1:  # nox knows no other status of a session
                raise SystemExit(error.exit_status)
            session.error("see the error above")

        session.__doc__ = declared.doc
        if self.lock.invocation.usage in {declared.name, *declared.full_names}:
            session.__doc__ = _describe(declared)
        return session

    def _begin_journal(self, declared: RegisteredSession) -> None:
        """Begin the journal if a session of the user's own requires one that builds."""
        invocation = self.lock.invocation
        is_begun = self.run.keeps_events or not invocation.makes_environments
        if declared.builds and not is_begun:
            sessions = dict.fromkeys(declared.full_names, declared)
            report = partial(_report_end, self.cells, self.run)
            begin_journal(
                self.run, self.cells, sessions, invocation, write_report=report
            )

    def _annotate(self, error: BuildStagesError) -> None:
        """Show an error beside the pyproject.toml, in GitHub."""
        pyproject = self.cells.first.project.pyproject
        self.run.print_lines(annotate(error.summary, pyproject, None, self.run.outer))

    @contextmanager
    def _report_session(self) -> Iterator[None]:
        """Write the report at the end of a session that did something.

        Sessions without a build write the report of a killed run.
        """
        try:
            yield
        finally:
            if not self.run.keeps_events and self.run.journal.others():
                _report_end(self.cells, self.run, ())
            if self.run.has_worked:
                from nox_buildstages.report.write import report_session  # noqa: PLC0415 - a no-op needs none

                self.run.has_worked = False
                report_session(self.cells, self.run)

    def _place(
        self, session: nox.Session, declared: RegisteredSession
    ) -> dict[str, str]:
        """Return the place of a session's events."""
        cell = str((declared.cell or self.cells.first).project.cell)
        python = self._minor_version(session)
        return {"session": session.name, "python": python, "cell": cell}

    def _logs(self, declared: RegisteredSession, python: str) -> Path:
        """Return the folder of a session's logs, in the wheelhouse of the cell."""
        if declared.cell is None:
            return self.cells.first.project.wheelhouse / LOGS
        project = declared.cell.project
        stage = declared.arguments.get("stage")
        cell = project.cell if stage is None else project.stage_cell(stage.name)
        return project.wheelhouse_of(cell, python) / LOGS

    def _run_body(
        self, session: nox.Session, declared: RegisteredSession
    ) -> str | None:
        """Run a session's body; return the reason if nox is to skip the session."""
        runs_hooks = declared.builds or declared.name == SHELL
        if runs_hooks and sys.platform != "linux":
            raise UsageError(
                problem=f"builds run on Linux, and this is {sys.platform}",
                hint="use a container or CI",
            )
        project = (declared.cell or self.cells.first).project
        if declared.builds and not is_this_machine(project.machine):
            raise UsageError(
                problem=f"({project.cell}) is for {project.machine}, and this is"
                f" {platform.machine()}",
                hint=f"run it on {project.machine}, as a job of CI",
            )
        from nox_buildstages.workspace.session_options import parse_options  # noqa: PLC0415 - for --list

        options = parse_options(
            session.posargs,
            outputs=self.run.once(("outputs",), lambda: self.cells.names),
            session=declared.name.partition("(")[0],
        )
        if options.help:  # nox chose the session by a keyword
            print_lines(show_lines(_describe(declared)), stream=sys.stdout)
            return None
        folders = [str(Path(session.invoked_from, it)) for it in options.folders]
        options = replace(options, folders=tuple(folders))
        is_called = bool(self.lock.invocation.find_called([declared]))
        # A stage that another one requires is built: its wheels are needed.
        options = replace(options, shard=options.shard if is_called else None)
        if options.statement:
            path = Path(session.invoked_from, options.statement)
            options = replace(options, statement=str(path))
        skip_reason: str | None
        # The body is imported only now: `nox --list` needs none of its imports.
        module, _, function = declared.body.partition(":")
        body = getattr(import_module(f"{__package__}.{module}"), function)
        if not declared.has_workspace:
            skip_reason = body(options, self.run, **declared.arguments)
            return skip_reason
        project = self.cells.first.project
        if not project.stages and declared.name != INIT:
            read_cells(self.document, pyproject=project.pyproject)
        # Before hours are spent on building.
        if options.repair or options.embed_sbom or options.verify:
            from nox_buildstages.commands.release.release import check_tools  # noqa: PLC0415 - few sessions release

            check_tools(options, self.run.outer)
        from nox_buildstages.workspace.workspace import open_workspace  # noqa: PLC0415 - for --list

        workspace = open_workspace(
            self.cells,
            declared.cell or self.cells.first,
            self._environment(session, declared),
            options,
            self.run,
        )
        # Nox reuses an environment even if the session's Python has changed.
        has_environment = declared.has_environment or bool(session.python)
        wanted = self._minor_version(session) if has_environment else ""
        if wanted not in ("", workspace.python):
            problem = (
                f"the environment was made with Python {workspace.python}, and the"
                f" session needs {wanted}"
            )
            raise _unusable(workspace.environment.location, problem)
        workspace.use_store()
        arguments = dict(declared.arguments)
        if declared.function is not None:
            arguments["function"] = partial(declared.function, session)
        skip_reason = body(workspace, **arguments)
        return skip_reason

    def _environment(
        self, session: nox.Session, declared: RegisteredSession
    ) -> Environment:
        """Return a session's environment, with the actions allowed by nox.

        Whether nox skips installs can only be found out by an attempt to run something.

        Raises:
            UsageError: The environment can't be made equal to a lock; or nox mustn't
                make environments, and a session without an environment may need one.
        """
        invocation = self.lock.invocation
        location = session.env_dir.absolute()
        # With nox's --force-python, every session has an environment.
        has_environment = declared.has_environment or bool(session.python)
        backends = (invocation.backend or "uv").split("|")
        if has_environment:
            backends = [session.venv_backend]
        elif not invocation.makes_environments:
            backends = ["none"]
        if declared.name != PLAN:
            _check_backend(backends)

        def run(argv: Sequence[str], cwd: Path, *, env: Mapping[str, str]) -> None:
            is_there = Path.cwd() == cwd  # nox prints every change of the folder
            with nullcontext() if is_there else session.chdir(cwd):
                session.run(*argv, external=True, env=env, include_outer_env=False)

        was_made = is_complete(location)
        environment = Environment(
            location=location,
            bin=location / "bin",
            python=location / "bin" / "python",
            session=session.name,
            may_run=lambda: not invocation.skips_programs,
            run=run,
        )
        if not has_environment:
            python = self.find_python()
            if python is None:
                raise UsageError(
                    problem=f"Python {self.python} isn't installed here",
                    hint=f"install it:\n  uv python install {quote(str(self.python))}",
                )
            return replace(
                environment,
                python=python,
                is_made=False,
                may_install=lambda: not (was_made and invocation.may_skip_installs),
            )
        if not was_made:
            problem = "the environment is incomplete: nox was stopped while making it"
            raise _unusable(location, problem)
        nothing = ("python", "-I", "-S", "-c", "")  # starts quickly
        programs = Path(session.bin).absolute()
        return replace(
            environment,
            bin=programs,
            python=programs / "python",
            may_install=cache(
                lambda: (
                    not invocation.may_skip_installs
                    or session.run_install(*nothing, silent=True, log=False) is not None
                )
            ),
        )

    def find_python(self) -> Path | None:
        """Return the Python of sessions without an environment, chosen as nox would.

        Nox's own Python comes first if the version is right, then the first on PATH,
        then uv's.
        """
        wanted = self.python
        if wanted is None or _is_this_python(wanted):
            return Path(sys.executable)
        return self.run.once(("python", wanted), lambda: _search_python(wanted))

    def _minor_version(self, session: nox.Session) -> str:
        """Return the minor version of a session's Python; empty if unknown."""
        wanted = str(session.python or self.python or _HERE)
        found = re.search(r"^[^<>=!~]*?(\d+\.\d+[.\d]*t?)", wanted)
        return "" if found is None else minor_version(found[1])


def _is_this_python(wanted: str) -> bool:
    """Whether nox runs on a version of Python, such as 3.11 or 3.14t."""
    has_version = f"{_HERE}.".startswith(f"{wanted.removesuffix('t')}.")
    return has_version and wanted.endswith("t") == ("t" in sys.abiflags)


def _search_python(wanted: str) -> Path | None:
    """Return a Python of this machine, in any form that nox takes."""
    from uv import find_uv_bin  # noqa: PLC0415 - most find none

    from nox_buildstages.environments.interpreter import find_interpreter  # noqa: PLC0415
    from nox_buildstages.system.process import run as run_program  # noqa: PLC0415

    uv = Path(find_uv_bin())
    return find_interpreter(_which(wanted) or wanted, uv=uv, runner=run_program)


def _which(wanted: str) -> str | None:
    """Return the program of a Python on PATH; a shim only if it runs."""
    program = _find_program(wanted)
    if program is None or not _is_shim(program):
        return program
    from nox_buildstages.system.process import Command, run  # noqa: PLC0415 - rarely needed

    ran = run(Command(argv=(program, "-c", ""), env=os.environ))
    return None if ran.returncode else program


def _is_shim(program: str | None) -> bool:
    """Whether a program is a script, such as a shim of pyenv.

    pyenv has a shim for each Python of this machine, and it fails unless that Python is
    selected here.
    """
    with suppress(OSError), Path(program or "").open("rb") as file:
        return file.read(2) == b"#!"
    return False


def _find_program(wanted: str) -> str | None:
    if _is_this_python(wanted):
        return sys.executable
    return shutil.which(f"python{wanted}") or shutil.which(wanted)


def _unusable(location: Path, problem: str) -> UsageError:
    return UsageError(
        subject=str(location),
        problem=problem,
        hint=f"remove the folder, then run the session again:\n  rm -r {location}",
    )
