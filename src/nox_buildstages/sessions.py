"""The nox sessions; the only module that imports nox."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nox
from nox_buildstages import toml
from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.config.project import read_cells
from nox_buildstages.config.table import TOOL
from nox_buildstages.environments.environment import Environment, is_complete
from nox_buildstages.environments.import_check import import_command
from nox_buildstages.errors import (
    BuildStagesError,
    DeclarationError,
    Problem,
    PruneError,
    UsageError,
    file_system_error,
)
from nox_buildstages.run import command_line as call
from nox_buildstages.run.command_line import NoxInvocation, RegisteredSession
from nox_buildstages.run.environment_lock import EnvironmentLock
from nox_buildstages.run.processes import attend, begin_run
from nox_buildstages.text import takes_colour
from nox_buildstages.workspace.options import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from nox_buildstages.config.cells import CellProject, Cells
    from nox_buildstages.model import Project, Stage
    from nox_buildstages.run.run import Run
    from nox_buildstages.workspace.options import Options
    from nox_buildstages.workspace.workspace import Workspace

TAG = "build-stage"
_INIT = "build-stages-init"
_PRUNE = "build-stages-prune"
_MERGE = "build-stages-merge"
_BACKENDS = ("uv", "virtualenv", "venv")


def register(pyproject: str | os.PathLike[str] = "pyproject.toml") -> None:
    """Register the sessions that a pyproject.toml declares.

    Nothing but that file is read. Call it from a noxfile; a faulty table ends nox
    with a message that lists every problem.

    Args:
        pyproject: The file, relative to the noxfile's folder.
    """
    path = Path(pyproject).absolute()
    try:
        document = _load(path)
        projects = read_cells(document, pyproject=path, may_lack_stages=True)
        cells = arrange_cells(projects)
    except BuildStagesError as error:
        drawing = error.lines(colour=takes_colour(sys.stderr, os.environ))
        raise SystemExit("\n".join(drawing)) from None
    making = EnvironmentLock(pyproject=path, call=_call())
    registration = _Registration(
        document=document,
        cells=cells,
        names=cells.names,
        making=making,
        run=begin_run(cells.first.project.wheelhouse),
    )
    registration.register()
    stages = registration.stages_selected() if cells.has_matrix else None
    attend(registration.run, cells, stages)
    making.begin(registration.sessions)


def _call() -> NoxInvocation:
    """Return how nox was called, and what the noxfile says where that says nothing."""
    said = nox.options
    noxfile = NoxInvocation(
        sessions=None if said.sessions is None else tuple(said.sessions),
        tags=None if said.tags is None else tuple(said.tags),
        keywords=said.keywords or "",
        parallel=(said.parallel or 1) > 1,
        envdir=os.fspath(said.envdir),
    )
    return call.read(sys.argv[1:], os.environ, noxfile)


def _load(path: Path) -> dict[str, Any]:
    try:
        return toml.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem = Problem(
            location=path.name, message=f"can't be read: {error.strerror}"
        )
        raise DeclarationError(path=path, problems=(problem,)) from error
    except ValueError as error:
        problem = Problem(location=path.name, message=f"is not TOML: {error}")
        raise DeclarationError(path=path, problems=(problem,)) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Registration:
    document: dict[str, Any]
    cells: Cells
    names: Collection[str]
    making: EnvironmentLock
    run: Run
    sessions: list[RegisteredSession] = field(default_factory=list)

    @property
    def _project(self) -> Project:
        """What all cells have in common."""
        return self.cells.first.project

    def register(self) -> None:
        """Register every session, stages first."""
        for cell, stage in self.cells.distinct_stages():
            self._add_stage(cell, stage)
        for cell in self.cells.cells:
            self._add_final(cell)
        if self.cells.has_matrix:
            self._add_all("build-stages", "Build and install every cell.")
            self._add_all("build-stages-release", "Release every cell.", default=False)
        self._add(
            _INIT,
            partial(_init, begun=TOOL in self.document.get("tool", {})),
            "Propose stages for the dependencies that have no wheel.",
            default=False,
        )
        self._add("build-stages-lock", _lock, "Write the lock files.", default=False)
        self._add("build-stages-plan", _plan, "Say what would be built.", default=False)
        self._add_bare(
            _PRUNE,
            partial(_prune, run=self.run),
            "Bound the store: remove what wasn't used for long.",
        )
        self._add_bare(
            _MERGE,
            self._merge,
            "Make one wheelhouse of several.",
        )

    def stages_selected(self) -> set[str] | None:
        """Return the stages' sessions that may run, without a Python; None for all."""
        names = self.making.call.selected(self.sessions)
        bases = {it.base for it in self.sessions if TAG in it.tags and it.name in names}
        return bases or None

    def _add_stage(self, cell: CellProject, stage: Stage) -> None:
        self._add(
            cell.session(stage),
            partial(_provide, stage=stage),
            f"Build {', '.join(output.name for output in stage.outputs)}.",
            cell=cell,
            requires=[
                self._session(cell.session(cell.graph.stage(name)))
                for name in cell.graph.requires(stage.name)
            ],
            tags=[TAG],
            default=False,
        )

    def _add_final(self, cell: CellProject) -> None:
        suffix = cell.project.cell.suffix
        stages = [cell.session(stage) for stage in cell.graph.order]
        self._add(
            f"build-stages{suffix}",
            _install,
            "Build every stage, install the runtime from the wheelhouse, check it.",
            cell=cell,
            requires=[self._session(name) for name in stages],
            default=not self.cells.has_matrix,
        )
        self._add(
            f"build-stages-release{suffix}",
            _release,
            "Make the wheelhouse fit to publish: sums, an index, provenance, an SBOM.",
            cell=cell,
            requires=[self._session(f"build-stages{suffix}")],
            default=False,
        )

    def _add_all(self, name: str, doc: str, *, default: bool = True) -> None:
        """Register a session that does nothing but require that of every cell."""

        def session(session: nox.Session) -> None:
            def tell() -> None:
                parse(session.posargs, outputs=self.names, session=name)
                house = self._project.wheelhouse.name
                for project in self.cells.projects:
                    session.log(f"{project.cell}: {house}/{project.cell.folder}")
                self._tell_left_over(session)

            _guarded(session, tell)

        session.__doc__ = doc
        bases = {f"{name}{cell.project.cell.suffix}" for cell in self.cells.cells}
        named = [it.name for it in self.sessions if it.base in bases]
        settings: dict[str, Any] = {"requires": named, "default": default}
        nox.session(name=name, python=False, allow_parallel=True, **settings)(session)
        registered = _registered(name, None, settings)
        self.sessions.append(replace(registered, environment=False))

    def _merge(self, session: nox.Session, options: Options) -> None:
        from nox_buildstages.commands.merge import merge as joining  # noqa: PLC0415 - for it alone

        self._tell_left_over(session)
        target = self._project.wheelhouse
        folders = [Path(session.invoked_from, folder) for folder in options.folders]
        for line in joining.join(folders, target, by_cell=options.by_cell):
            session.log(line)

    def _tell_left_over(self, session: nox.Session) -> None:
        """Tell of wheelhouses of values that were declared once."""
        from nox_buildstages.environments.targets import minor_version  # noqa: PLC0415 - for it alone
        from nox_buildstages.wheelhouse.left_over import left_over  # noqa: PLC0415 - for it alone

        pythons = [minor_version(python) for python in self._project.pythons]
        house = self._project.wheelhouse
        houses = {
            house / it.cell.folder / python
            for it in self.cells.projects
            for python in (pythons if len(pythons) > 1 else [""])
        }
        found = [os.path.relpath(it, house.parent) for it in left_over(house, houses)]
        if found:
            session.log(f"of no cell any more, and left as it is: {', '.join(found)}")

    def _session(self, name: str) -> str:
        """Return the name of a session of the same Python, as ``requires`` has it."""
        return f"{name}-{{python}}" if self._project.pythons else name

    def _add(
        self,
        name: str,
        body: Callable[[nox.Session, Workspace], None],
        doc: str,
        cell: CellProject | None = None,
        **settings: Any,  # noqa: ANN401 - nox's own
    ) -> None:
        def session(session: nox.Session) -> None:
            with self.making.at_work(session.name, session.env_dir.absolute()):
                _guarded(session, lambda: self._work(session, name, body, cell))

        session.__doc__ = doc
        pythons = [*self._project.pythons]
        alone = name in (_INIT, "build-stages-lock", "build-stages-plan")
        nox.session(
            name=name,
            python=pythons[0] if pythons and alone else pythons or None,
            reuse_venv=True,
            allow_parallel=True,
            **settings,
        )(session)
        for python in [None] if alone or not pythons else pythons:
            self.sessions.append(_registered(name, python, settings))

    def _work(
        self,
        session: nox.Session,
        name: str,
        body: Callable[[nox.Session, Workspace], None],
        cell: CellProject | None,
    ) -> None:
        workspace = self._workspace(session, name, cell or self.cells.first)
        with workspace.at_work():
            body(session, workspace)

    def _add_bare(
        self, name: str, body: Callable[[nox.Session, Options], None], doc: str
    ) -> None:
        """Register a session that has no environment, and needs no sound table."""

        def session(session: nox.Session) -> None:
            words = session.posargs
            _guarded(
                session,
                lambda: body(session, parse(words, outputs=self.names, session=name)),
            )

        session.__doc__ = doc
        nox.session(name=name, python=False, default=False)(session)

    def _workspace(
        self, session: nox.Session, name: str, cell: CellProject
    ) -> Workspace:
        from nox_buildstages.workspace.workspace import opened  # noqa: PLC0415 - --list is instant

        if name != _INIT and not self._project.stages:
            read_cells(self.document, pyproject=self._project.pyproject)
        workspace = opened(
            self.cells,
            cell,
            _environment(session),
            parse(session.posargs, outputs=self.names, session=name.partition("(")[0]),
            self.run,
        )
        _check_python(session, workspace)
        return workspace


def _registered(
    name: str, python: str | None, settings: Mapping[str, Any]
) -> RegisteredSession:
    requires = settings.get("requires", ())
    return RegisteredSession(
        name=name if python is None else f"{name}-{python}",
        base=name,
        requires=tuple(other.format(python=python) for other in requires),
        tags=tuple(settings.get("tags", ())),
        default=settings.get("default", True),
    )


def _provide(session: nox.Session, workspace: Workspace, *, stage: Stage) -> None:
    for outcome in workspace.provide(stage):
        if not outcome.built:
            session.log(f"cached {outcome.wheel.path.name}")
    if workspace.options.check_reproducible:
        workspace.check_reproducible(stage)


def _install(session: nox.Session, workspace: Workspace) -> None:
    from nox_buildstages.run import summary as closing  # noqa: PLC0415 - --list is instant

    table = workspace.install()
    final = workspace.project.final
    if (final.imports or final.checks) and not workspace.environment.may_run():
        session.skip("--install-only: the environment is ready, nothing was checked")
    try:
        _check(session, workspace)
    finally:
        for line in closing.rendered(table):
            session.log(line)
        workspace.close()


def _check(session: nox.Session, workspace: Workspace) -> None:
    final = workspace.project.final
    with session.chdir(workspace.project.root):
        if final.imports:
            session.log(f"importing {', '.join(final.imports)}")
            session.run(*import_command("python", final.imports), log=False)
        for check in final.checks:
            session.run(*check, external=True)


def _release(session: nox.Session, workspace: Workspace) -> None:
    for line in workspace.release():
        session.log(line)


def _lock(session: nox.Session, workspace: Workspace) -> None:
    options = workspace.options
    if options.check or options.locked:
        workspace.check_locks()
        session.log("the lock files are current")
        return
    workspace.relock()


def _init(session: nox.Session, workspace: Workspace, *, begun: bool) -> None:
    from nox_buildstages.commands.init import (  # noqa: PLC0415 - for init alone
        pyproject,
    )

    project = workspace.project
    proposal = workspace.propose(begun=begun)
    if proposal is None:
        session.log(
            "nothing needs a stage: everything else has a wheel for"
            f" {workspace.interpreter.short}"
        )
        return
    text = pyproject.render(proposal, root=project.root)
    print(text, end="", flush=True)  # noqa: T201 - it is what was asked for
    if workspace.options.write:
        pyproject.write_addition(project.pyproject, text)
        session.log(f"wrote it to the end of {project.pyproject.name}")
    else:
        session.log(f"to write it: nox -s {_INIT} -- --write")


def _plan(_session: nox.Session, workspace: Workspace) -> None:
    for line in _plan_lines(workspace):
        print(line)  # noqa: T201 - it is what was asked for


def _plan_lines(workspace: Workspace) -> Iterator[str]:
    from nox_buildstages.commands.plan import (  # noqa: PLC0415 - for it alone
        actions,
        formats as plan_formats,
        project as planning,
    )

    if workspace.options.github:
        return actions.publish(planning.for_github(workspace), workspace.tools.outer)
    plan = planning.whole(workspace)
    if workspace.options.json:
        return plan_formats.document(plan, workspace.cells)
    return plan_formats.text(plan)


def _prune(session: nox.Session, options: Options, *, run: Run) -> None:
    from nox_buildstages.store import pruning  # noqa: PLC0415 - for it alone
    from nox_buildstages.store.store import Store, cache_folder  # noqa: PLC0415

    store = Store(cache_folder(os.environ))
    limits = pruning.Limits(
        older_than=options.older_than, larger_than=options.larger_than
    )
    pruned = pruning.prune(
        store,
        limits,
        run=run.id,
        waiting=lambda: session.log("waiting for another build-stages-prune to end"),
        is_dry=options.dry_run,
    )
    session.log(f"the store is {store.folder}")
    for line in pruning.told(pruned, limits, is_dry=options.dry_run):
        session.log(line)
    if pruned.failures:
        raise PruneError(failures=pruned.failures)


def _guarded(session: nox.Session, work: Callable[[], None]) -> None:
    """Do the work of a session; end it with our message if that fails."""
    try:
        work()
    except (BuildStagesError, OSError) as caught:
        error = file_system_error(caught) if isinstance(caught, OSError) else caught
        colour = takes_colour(sys.stderr, os.environ)
        print(*error.lines(colour=colour), sep="\n", file=sys.stderr, flush=True)  # noqa: T201 - nox would put its own words around it
        session.error(error.summary)


def _environment(session: nox.Session) -> Environment:
    if session.venv_backend not in _BACKENDS:
        raise UsageError(
            problem=f"the backend {session.venv_backend!r} makes no environment that"
            " could be made equal to a lock (--no-venv?)",
            hint=f"use one of these: -db {', -db '.join(_BACKENDS)}",
        )
    location = session.env_dir.absolute()
    if not is_complete(location):
        raise UsageError(
            problem=f"{location} is no environment; it was left half made",
            hint="remove that folder and run it again",
        )
    nothing = ("python", "-c", "")
    return Environment(
        location=location,
        bin=Path(session.bin).absolute(),
        python=Path(session.bin, "python").absolute(),
        may_install=lambda: (
            session.run_install(*nothing, silent=True, log=False) is not None
        ),
        may_run=lambda: session.run(*nothing, silent=True, log=False) is not None,
    )


def _check_python(session: nox.Session, workspace: Workspace) -> None:
    """See that a reused environment is of the Python that is wanted now.

    Nox reuses it whatever it was made with.
    """
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = re.search(r"\d+\.\d+", str(session.python or running))
    found = workspace.interpreter.markers["python_version"]
    if wanted is not None and wanted[0] != found:
        location = workspace.environment.location
        raise UsageError(
            problem=f"{location} was made with Python {found}, and it is to be"
            f" {wanted[0]} now",
            hint="remove that folder and run it again",
        )
