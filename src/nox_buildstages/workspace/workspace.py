"""A project in a session: the lock files, made if needed, and the build contexts."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from nox_buildstages.builder.context import SESSION, BuildContext, Tools
from nox_buildstages.builder.jobs.slots import SETTLE, JobPool
from nox_buildstages.builder.sandbox.policy import SandboxPolicy
from nox_buildstages.config.graph import session_folder
from nox_buildstages.declarations.settings import Indexes
from nox_buildstages.environments.environment import is_complete
from nox_buildstages.environments.sync import Syncer
from nox_buildstages.errors import (
    BuildStagesError,
    EditedLockError,
    LockError,
    StaleLockError,
    UsageError,
)
from nox_buildstages.indexes.url_secrets import expand_variables, git_variables
from nox_buildstages.lock.files import folder
from nox_buildstages.lock.files.inputs import (
    describe_differences,
    digest_declarations,
    digest_inputs,
)
from nox_buildstages.lock.files.selection import Selection, digest_interpreter
from nox_buildstages.model import Cell, minor_version, sort_pythons
from nox_buildstages.sources.sources import Sources
from nox_buildstages.sources.trees import find_caches
from nox_buildstages.store.remote import Remote, choose_remote_store
from nox_buildstages.store.store import Store
from nox_buildstages.system import process
from nox_buildstages.system.files import path_id, read_text, write_text
from nox_buildstages.value import Value, replace
from nox_buildstages.wheelhouse.directory import Wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from nox_buildstages.config.cells import CellProject, Cells
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.lock.files.selection import SelectedLock
    from nox_buildstages.model import Interpreter, Project
    from nox_buildstages.run.run import Run
    from nox_buildstages.workspace.make_locks import ProjectLocker
    from nox_buildstages.workspace.pythons import Pythons
    from nox_buildstages.workspace.session_options import Options

_LOG = logging.getLogger(__name__)


def open_workspace(
    cells: Cells,
    cell: CellProject,
    environment: Environment,
    options: Options,
    run: Run,
) -> Workspace:
    """Return a session's workspace, with this user's store and uv.

    Raises:
        CommandError: The environment's interpreter doesn't run.
        UsageError: The project's ``requires-python`` excludes the interpreter.
    """
    run.forget(SESSION)
    project, environments = cells.first.project, environment.location.parent
    tools = run.once(
        ("tools", cells, environments), lambda: _open_tools(cells, environments, run)
    )
    interpreter = tools.probe(environment.python)
    version = interpreter.markers["python_full_version"]
    if not project.accepts_python(version):
        hint = "remove the environment, and let nox choose the Python:\n  rm -r "
        hint += str(environment.location)
        if project.pythons:
            hint = 'name another Python in [tool.nox-buildstages]: python = ["…"]'
        raise UsageError(
            problem=f"requires-python of [project] is {project.requires_python}, and"
            f" this session has Python {version}",
            hint=hint,
        )
    return Workspace(
        cells=cells,
        cell=cell,
        interpreter=interpreter,
        environment=environment,
        options=options,
        tools=replace(tools, has_preflight=not options.no_preflight),
    )


def _open_tools(cells: Cells, environments: Path, run: Run) -> Tools:
    """Return the services that all sessions of a process share."""
    project, outer, runner = cells.first.project, run.outer, process.run
    store = Store.of_user(outer)
    remote_store = choose_remote_store(project, outer)
    indexes = Indexes(
        root=project.root,
        settings={**project.uv, "index": cells.indexes},
        outer=outer,
        logins=expand_variables(project.logins, outer),
    )
    syncer = Syncer(uv=Path(find_uv_bin()), runner=runner, indexes=indexes)
    return Tools(
        store=store,
        sources=Sources(
            project.root,
            store.folder,
            runner,
            excluded=(
                *(project.wheelhouse, project.lock_dir, environments),
                *(*store.all_builds, *find_caches(outer)),
                *(project.root / it for it in [project.uv.get("cache-dir")] if it),
                *(Path(it.url) for it in [remote_store] if it and "://" not in it.url),
            ),
            credentials=indexes.credentials(),
            git_variables=git_variables(indexes.logins, outer),
            report=run.report_once,
            offline=indexes.offline,
        ),
        syncer=replace(
            syncer,
            default_index=lambda: run.once(
                ("default index",), syncer.find_default_index
            ),
        ),
        runner=runner,
        sandbox_policy=SandboxPolicy(runner=runner, report=run.report),
        run=run,
        job_pool=JobPool(
            folder=store.folder / "jobs", settle=SETTLE if run.is_parallel else 0.0
        ),
        remote=None
        if remote_store is None
        else Remote(
            declared=remote_store,
            store=store,
            report=run.report,
            run=run.id,
            offline=indexes.offline,
        ),
    )


class Workspace(Value):
    """A project in a session, with the session's cell, environment and options."""

    cells: Cells
    cell: CellProject
    interpreter: Interpreter
    environment: Environment
    options: Options
    tools: Tools

    @property
    def project(self) -> Project:
        """The project, as declared for the session's cell."""
        return self.cell.project

    @property
    def python(self) -> str:
        """The minor version of the session's interpreter."""
        return self.interpreter.version

    @property
    def pythons(self) -> Pythons:
        """The Pythons of this machine, with environments of them."""
        from nox_buildstages.workspace.pythons import Pythons  # noqa: PLC0415 - to plan and lock

        return Pythons(self.environment, self.interpreter, self.tools)

    @property
    def wheelhouse(self) -> Wheelhouse:
        """The wheelhouse of the session's cell and Python."""
        return self.wheelhouse_of(self.project.cell)

    def wheelhouse_of(
        self, cell: Cell, interpreter: Interpreter | None = None
    ) -> Wheelhouse:
        """Return the wheelhouse of a cell for an interpreter, or for the session's."""
        python = (interpreter or self.interpreter).version
        folder = self.project.wheelhouse_of(cell, python)
        return Wheelhouse(folder, run=self.tools.run)

    def each_cell(self) -> Iterator[Workspace]:
        """Yield this workspace for each cell of the project."""
        for cell in self.cells.cells:
            yield replace(self, cell=cell)

    def context(self, locks: Mapping[str, SelectedLock]) -> BuildContext:
        """Return the build context of the session's cell for some locks."""
        return BuildContext(
            project=self.project,
            graph=self.cell.graph,
            interpreter=self.interpreter,
            tools=self.tools,
            locks=locks,
            logs=self.wheelhouse.logs,
            environment=self.environment,
            find_lower=lambda: self.tools.run.once(
                (SESSION, "lower", str(self.project.cell), self.python),
                lambda: [*self._lower_contexts()],
            ),
        )

    @property
    def lower_pythons(self) -> tuple[str, ...]:
        """The lower Pythons of the cell, the lowest first, as the table names them."""
        pythons = sort_pythons(self.project.cell_pythons)
        versions = [*map(minor_version, pythons)]
        is_one = self.python in versions
        return tuple(pythons[: versions.index(self.python)]) if is_one else ()

    def _lower_contexts(self) -> Iterator[BuildContext]:
        """Yield the contexts of lower Pythons of the project, the lowest first.

        Those are left out for which nox has made no environment here.
        """
        for python in self.lower_pythons:
            names = [f"build-stages{self.project.cell.suffix}"]
            names += map(self.cell.session, self.cell.graph.order)
            places = (
                self.environment.location.with_name(session_folder(f"{it}-{python}"))
                for it in names
            )
            for location in filter(is_complete, places):
                interpreter = self.tools.probe(location / "bin" / "python")
                if interpreter.version == minor_version(python):
                    view = replace(self, interpreter=interpreter)
                    with suppress(LockError):
                        yield view.context(view.read_locks())
                    break

    def use_store(self) -> None:
        """Keep `build-stages-prune` from removing wheels until the process ends."""
        run, store = self.tools.run, self.tools.store
        for path in run.once(("strangers", store.folder), store.move_strangers):
            run.report(f"moved {path} away: a folder of the store belongs there")
        use = run.wait(
            lambda begin: store.use(on_wait=begin),
            "build-stages-prune to end",
        )
        run.once(("store", store.folder), lambda: run.uses.enter_context(use))

    # Lock files ------------------------------------------------------------------

    @property
    def inputs(self) -> str:
        """The digest of all inputs of the locks."""
        return digest_inputs(self.cells.projects, self.interpreter, self.tools.run)

    @property
    def selection(self) -> Selection:
        """The part of the lock files for the interpreter of the session."""
        interpreter, tools = self.interpreter, self.tools
        digest = tools.run.once(
            ("digest", interpreter), lambda: digest_interpreter(interpreter)
        )
        return Selection(
            interpreter=interpreter,
            digest=digest,
            store=tools.store.folder,
            cells=self.cells,
        )

    def read_locks(
        self, needed: Iterable[str] | None = None
    ) -> Mapping[str, SelectedLock]:
        """Return the locks of the session's cell and interpreter.

        The files of the needed locks are checked for changes; None for all files.

        Raises:
            LockError: The locks are missing or out of date.
        """
        try:
            return folder.select_locks(
                self.project,
                self.tools.run,
                self.selection,
                inputs=self.inputs,
                needed=needed,
            )
        except StaleLockError as error:
            raise self.explain_stale(error) from None
        except LockError as error:
            _LOG.debug("the lock files can't be used: %s", error.summary)
            raise

    def explain_stale(self, error: StaleLockError) -> StaleLockError:
        """Return the error for out-of-date lock files, with what has changed."""
        _LOG.debug("the lock files can't be used: %s", error.summary)
        if error.declared:
            projects, run = self.cells.projects, self.tools.run
            now = digest_declarations(projects, self.interpreter, run)
            changes = describe_differences(error.declared, now)
            error.problem = changes or error.problem
        return error

    def ensure_locks(
        self, needed: Iterable[str] | None = None
    ) -> tuple[Mapping[str, SelectedLock], bool]:
        """Return up-to-date locks, and whether the locks were made just now.

        Raises:
            LockError: The locks are out of date and may not be written; or no versions
                satisfy the declaration; or another session of this run failed to lock.
        """
        if self.options.upgrades and not self._was_locked_in_this_run():
            return self.relock(), True
        try:
            return self.read_locks(needed), False
        except EditedLockError:  # nothing replaces what somebody wrote on purpose
            raise
        except LockError as error:
            if self.options.locked or self.tools.run.outer.get("CI"):
                raise
            reason = error.summary
        with self.hold_lock():
            try:
                return self.read_locks(), False
            except EditedLockError:
                raise
            except LockError:
                self._make_locks(reason)
                return self.read_locks(), True

    def relock(self) -> Mapping[str, SelectedLock]:
        """Make the locks, only once in a run.

        Raises:
            LockError: No versions satisfy the declaration; or another session of this
                run failed to lock.
        """
        with self.hold_lock():
            if not self._was_locked_in_this_run():
                self._make_locks()
            return self.read_locks()

    def has_final_locks(self) -> bool:
        """Whether locking again couldn't change anything."""
        from nox_buildstages.workspace.lock_surroundings import are_final  # noqa: PLC0415 - to lock

        try:
            return are_final(self._locked_contexts())
        except LockError:
            return False

    def _locked_contexts(self) -> list[BuildContext]:
        return [view.context(view.read_locks()) for view in self.each_cell()]

    def hold_lock(self) -> AbstractContextManager[object]:
        """Let one process at a time make the locks of this project."""
        name = f"locking-{path_id(self.project.pyproject)}"
        return self.tools.run.wait(
            lambda begin: self.tools.store.hold_lock(name, on_wait=begin),
            "another session that makes the lock files",
        )

    def project_locker(self) -> ProjectLocker:
        """Return the maker of the project's locks."""
        from nox_buildstages.workspace.make_locks import ProjectLocker  # noqa: PLC0415 - most don't lock

        return ProjectLocker(
            contexts=tuple(view.context({}) for view in self.each_cell()),
            options=self.options,
            pythons=self.pythons,
            logs=lambda target: self.wheelhouse_of(Cell(), target.interpreter).logs,
        )

    @property
    def _last_run(self) -> Path:
        """The file with the id of the run that locked last, and a failed session."""
        name = f"{path_id(self.project.pyproject)}.run"
        return self.tools.store.folder / "locks" / name

    def _was_locked_in_this_run(self) -> bool:
        """Whether this run has made the locks.

        Raises:
            LockError: A session of this run has failed to.
        """
        try:
            text = read_text(self._last_run)
        except OSError:
            return False
        run, failed, session = text.partition("\n")
        if run != self.tools.run.id:
            return False
        if failed:
            raise LockError(
                subject="the lock files can't be made",
                problem=f"session {session} of this run failed to make them",
            )
        return True

    def _make_locks(self, reason: str = "") -> None:
        """Make the locks, unless a session of this run has failed to."""
        run = self.tools.run
        self._was_locked_in_this_run()
        if reason:
            run.report(f"{reason}; locking")
        from nox_buildstages.workspace import lock_surroundings  # noqa: PLC0415 - most don't lock

        try:
            with run.step("lock", reason=reason):
                locker = self.project_locker()
                lock_surroundings.note_surroundings(locker.contexts)
                locker.lock_project()
                lock_surroundings.record_final(self._locked_contexts())
        except (BuildStagesError, OSError):
            with suppress(OSError):
                write_text(self._last_run, f"{run.id}\n{self.environment.session}")
            raise
        write_text(self._last_run, run.id)
