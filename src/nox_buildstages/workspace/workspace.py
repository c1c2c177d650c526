"""A project at work: locks made when needed, stages provided, the runtime installed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uv import find_uv_bin

from nox_buildstages.builder.context import BuildContext, Tools
from nox_buildstages.builder.jobs.slots import SETTLE, JobPool
from nox_buildstages.builder.prepare import occupied, prepare, sync
from nox_buildstages.builder.sandbox import SandboxPolicy
from nox_buildstages.builder.stage import outcomes, present, provide
from nox_buildstages.environments.sync import Syncer
from nox_buildstages.errors import BuildError, BuildStagesError, LockError, UsageError
from nox_buildstages.indexes.logins import expand_variables, git_variables, redact
from nox_buildstages.indexes.settings import Indexes
from nox_buildstages.lock.files import folder
from nox_buildstages.lock.files.inputs import digest_of_cells
from nox_buildstages.lock.files.merge_targets import selected
from nox_buildstages.model import FINAL, Cell
from nox_buildstages.run.journal import CLOSED, FAILED
from nox_buildstages.sources.sources import Sources
from nox_buildstages.store.in_use import present as at_work
from nox_buildstages.store.remote_choice import remote_store
from nox_buildstages.store.store import Store, cache_folder
from nox_buildstages.system import process as commands
from nox_buildstages.system.files import path_id, write_text
from nox_buildstages.wheelhouse.directory import Delivery, Wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from nox_buildstages.builder.stage import OutputResult
    from nox_buildstages.commands.init.pyproject import Proposal
    from nox_buildstages.config.cells import CellProject, Cells
    from nox_buildstages.config.graph import Graph
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.model import Interpreter, Project, Stage
    from nox_buildstages.run.run import Run
    from nox_buildstages.workspace.make_locks import ProjectLocker
    from nox_buildstages.workspace.options import Options
    from nox_buildstages.workspace.pythons import Pythons


def opened(
    cells: Cells,
    cell: CellProject,
    environment: Environment,
    options: Options,
    run: Run,
) -> Workspace:
    """Return a session's workspace, with this user's store and uv.

    Args:
        cells: All cells of the project.
        cell: The session's cell.
        environment: The session's own.
        options: The words after ``--``.
        run: The run of nox that the session belongs to.

    Raises:
        CommandError: The environment's interpreter doesn't run.
    """
    if options.repair:
        from nox_buildstages.commands.release import repairing  # noqa: PLC0415 - for it alone

        repairing.check_at_hand(run.outer)  # before hours are spent on building
    tools = _tools(cells, environment, run)
    return Workspace(
        cells=cells,
        project=cell.project,
        graph=cell.graph,
        interpreter=tools.probe(environment.python),
        environment=environment,
        options=options,
        tools=tools,
    )


def _tools(cells: Cells, environment: Environment, run: Run) -> Tools:
    project = cells.first.project
    store = Store(cache_folder(run.outer))
    ours = (project.wheelhouse, project.lock_dir, environment.location.parent)
    indexes = Indexes(
        root=project.root,
        settings={**project.uv, "index": cells.indexes},
        outer=run.outer,
        logins=expand_variables(project.logins, run.outer),
    )
    sources = Sources(
        project.root,
        store.folder,
        commands.run,
        left_out=ours,
        credentials=indexes.credentials(),
        git=git_variables(indexes.logins, run.outer),
    )
    return Tools(
        store=store,
        sources=sources,
        syncer=Syncer(uv=_uv(), runner=commands.run, indexes=indexes),
        runner=commands.run,
        sandbox_policy=SandboxPolicy(runner=commands.run, report=run.report),
        outer=run.outer,
        report=run.report,
        run=run,
        screen=run.screen,
        job_pool=JobPool(
            folder=store.folder / "jobs", settle=SETTLE if run.is_parallel else 0.0
        ),
        remote=remote_store(project, store, run.outer, run.report, run.id),
    )


@cache
def _uv() -> Path:
    return Path(find_uv_bin())


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """What one session works with.

    Attributes:
        cells: All cells of the project.
        project: What is declared for the session's cell.
        graph: Its stages in order.
        interpreter: Of the session's environment.
        environment: The session's own, made equal to a lock when it is needed.
        options: The words after ``--``.
        tools: What the work is done with.
    """

    cells: Cells
    project: Project
    graph: Graph
    interpreter: Interpreter
    environment: Environment
    options: Options
    tools: Tools

    def at_work(self) -> AbstractContextManager[None]:
        """Keep others from removing what is used of the store meanwhile."""
        return at_work(
            self.tools.store.folder,
            run=self.tools.run.id,
            waiting=lambda: self.tools.report("waiting for build-stages-prune to end"),
        )

    @property
    def wheelhouse(self) -> Wheelhouse:
        """Where the wheels go; there is one for each cell, and for each Python."""
        return self._wheelhouse_of(self.interpreter, self.project.cell)

    def _wheelhouse_of(self, interpreter: Interpreter, cell: Cell) -> Wheelhouse:
        house = self.project.wheelhouse / cell.folder
        if len(self.project.pythons) > 1:
            house /= interpreter.markers["python_version"]
        return Wheelhouse(house)

    def read_locks(self, needed: Iterable[str] | None = None) -> Mapping[str, Lock]:
        """Return the locks as they are.

        Args:
            needed: Those that will be looked at; None for all.

        Raises:
            LockError: There are none, or they aren't current.
        """
        return folder.read_for(
            self.interpreter, self.project, inputs=self.inputs, needed=needed
        )

    def check_locks(self) -> None:
        """See that the locks of all cells are current.

        Raises:
            LockError: They aren't.
        """
        for view in self.each_cell():
            view.read_locks()

    @property
    def inputs(self) -> str:
        """The digest of what the locks are made from."""
        return digest_of_cells(self.cells.projects, self.interpreter)

    def selected(self, locks: Mapping[str, Lock]) -> Mapping[str, Lock]:
        """Return what locks hold for the session's interpreter."""
        return {name: selected(locks[name], self.interpreter) for name in locks}

    def current_locks(self) -> Mapping[str, Lock]:
        """Return the locks, and make them first where they aren't current.

        Raises:
            LockError: They aren't current and may not be written; or there are none
                that satisfy what is declared.
        """
        return self._current_or_made_locks()[0]

    def _current_or_made_locks(
        self, needed: Iterable[str] | None = None
    ) -> tuple[Mapping[str, Lock], bool]:
        """Return the locks, and whether they were made here and now.

        Args:
            needed: Those that will be looked at; None for all.
        """
        if self.options.check:
            raise UsageError(
                problem="--check is for build-stages-lock, and this session builds",
                hint="`nox -s build-stages-lock -- --check` looks at the lock files",
            )
        if self.options.upgrades and not self._made_in_this_run():
            return self.relock(), True
        try:
            return self.read_locks(needed), False
        except LockError as error:
            if self.options.locked or self.tools.outer.get("CI"):
                raise
            reason = error.summary
        with self._alone():
            try:
                return self.read_locks(), False
            except LockError:
                self.tools.report(f"{reason}; locking")
                return self._relock(), True

    def relock(self) -> Mapping[str, Lock]:
        """Make the locks, newer than those there are where that was asked for.

        It is done once in a run, whichever sessions ask for it.

        Raises:
            LockError: There are none that satisfy what is declared.
        """
        with self._alone():
            return self.read_locks() if self._made_in_this_run() else self._relock()

    @property
    def python(self) -> str:
        """The minor version of the session's interpreter."""
        return self.interpreter.markers["python_version"]

    def each_cell(self) -> Iterator[Workspace]:
        """Yield a workspace for each cell."""
        for cell in self.cells.cells:
            yield replace(self, project=cell.project, graph=cell.graph)

    @property
    def pythons(self) -> Pythons:
        """Those of this machine, with environments of them."""
        from nox_buildstages.workspace.pythons import Pythons  # noqa: PLC0415 - to plan and lock

        return Pythons(
            environment=self.environment,
            interpreter=self.interpreter,
            tools=self.tools,
        )

    def propose(self, *, begun: bool) -> Proposal | None:
        """Return the stages that the project lacks; None where it lacks none.

        Args:
            begun: Whether the table is there already.

        Raises:
            BuildStagesError: It can't be found out.
        """
        with self._alone():
            return self._locking().proposal(begun=begun)

    def provide(self, stage: Stage) -> tuple[OutputResult, ...]:
        """Make the store and the wheelhouse hold every wheel of a stage.

        Raises:
            BuildStagesError: They can't.
        """
        needed = (stage.name, *self.graph.ancestors(stage.name))
        locks, made = self._current_or_made_locks(needed)
        variant = self.project.stage_cell(stage.name)
        house = self._wheelhouse_of(self.interpreter, variant)
        context = replace(self.context(locks), logs=house.logs)
        outputs = {output.name for output in stage.outputs}
        rebuild = outputs if self.options.rebuild_all else set(self.options.rebuild)
        with self._told(stage.name):
            try:
                provided = provide(
                    context, stage, self.environment, rebuild=rebuild & outputs
                )
            except BuildError:
                if variant == self.project.cell:
                    house.deliver(map(_delivery, present(context, stage)))
                raise
            if made:  # and so backends of other stages were asked in this environment
                with occupied(self.tools, self.environment):
                    prepare(context, stage.name, self.environment)
            if variant == self.project.cell:
                house.deliver(map(_delivery, provided))
        return provided

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Note where a stage, or ``final``, fails."""
        try:
            yield
        except (BuildStagesError, OSError):
            title = self.project.stage_label(name)
            self.tools.run.journal.note(FAILED, python=self.python, stage=title)
            raise

    def check_reproducible(self, stage: Stage) -> None:
        """Build every wheel of a stage once more, and compare it with the store's.

        Raises:
            NotReproducibleError: One came out differently.
            BuildStagesError: One can't be built.
        """
        from nox_buildstages.builder import reproducible as reproducing  # noqa: PLC0415 - for it alone

        context = self.context(self.current_locks())
        with self._told(stage.name):
            reproducing.check(context, stage, self.environment)

    def install(self) -> list[dict[str, Any]]:
        """Make the environment the runtime, from the wheelhouse alone.

        Returns:
            What this run says of every output in the manifest, stage by stage.

        Raises:
            BuildStagesError: It can't be made.
        """
        context = self.context(self.current_locks())
        with self._told(FINAL):
            return self._install(context)

    def release(self) -> tuple[str, ...]:
        """Make the wheelhouse fit to publish.

        Returns:
            What there is to say of it.

        Raises:
            BuildStagesError: It can't be.
        """
        from nox_buildstages.commands.release.release import Release  # noqa: PLC0415 - for it

        release = Release(
            context=self.context(self.current_locks()),
            house=self.wheelhouse,
            environment=self.environment,
            vendor=self.options.vendor,
            repair=self.options.repair,
        )
        return release.make()

    def close(self) -> None:
        """Note that the closing table was printed."""
        cell = str(self.project.cell)
        self.tools.run.journal.note(CLOSED, python=self.python, cell=cell)

    def _install(self, context: BuildContext) -> list[dict[str, Any]]:
        deliveries = [
            _delivery(outcome)
            for stage in self.graph.order
            for outcome in outcomes(context, stage)
        ]
        house = self.wheelhouse
        entries = house.deliver(deliveries)
        house.keep_only({delivery.wheel.name for delivery in deliveries})
        bound = house.bind(context.pylock(FINAL), context.wheels(FINAL))
        with occupied(self.tools, self.environment):
            self._make_runtime(context, bound)
        return entries

    def _make_runtime(self, context: BuildContext, bound: Path) -> None:
        own, options = self.project.final.project, self.options
        if own is None:
            sync(context, FINAL, self.environment, bound)
            return
        from nox_buildstages.builder import editable  # noqa: PLC0415 - for it alone

        afresh = options.rebuild_all or own in options.rebuild
        editable.install(context, own, self.environment, bound, afresh=afresh)

    def context(self, locks: Mapping[str, Lock]) -> BuildContext:
        """Return where the stages of the session's cell are built."""
        return BuildContext(
            project=self.project,
            graph=self.graph,
            interpreter=self.interpreter,
            tools=self.tools,
            locks=locks,
            logs=self.wheelhouse.logs,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time make the locks of this project."""
        tell = partial(
            self.tools.report, "others make the lock files; waiting for them"
        )
        with self.tools.store.hold_lock(f"locking-{self._place}", on_wait=tell):
            yield

    @property
    def _place(self) -> str:
        """A name for the project's place on this machine."""
        return path_id(self.project.pyproject)

    @property
    def _last_run(self) -> Path:
        """The file that says which run of nox made the locks last."""
        return self.tools.store.folder / "locks" / f"{self._place}.run"

    def _made_in_this_run(self) -> bool:
        try:
            return self._last_run.read_text(encoding="utf-8") == self.tools.run.id
        except OSError:
            return False

    def _relock(self) -> Mapping[str, Lock]:
        locks = self._locking().lock_project()
        write_text(self._last_run, self.tools.run.id)
        stems = folder.stems(self.project)
        named = {name: replace(locks[stem], name=name) for name, stem in stems.items()}
        return self.selected(named)

    def _locking(self) -> ProjectLocker:
        from nox_buildstages.workspace.make_locks import ProjectLocker  # noqa: PLC0415 - most don't lock

        return ProjectLocker(
            contexts=tuple(view.context({}) for view in self.each_cell()),
            options=self.options,
            pythons=self.pythons,
            logs=lambda target: self._wheelhouse_of(target.interpreter, Cell()).logs,
        )


def _delivery(outcome: OutputResult) -> Delivery:
    held = outcome.wheel.recipe.environment
    source = [redact(str(outcome.output.source))]
    source += (f"patched with {patch}" for patch in outcome.patches)
    return Delivery(
        wheel=outcome.wheel,
        stage=outcome.stage,
        built=outcome.built,
        source=", ".join(source),
        environment={name: held[name].version for name in held},
    )
