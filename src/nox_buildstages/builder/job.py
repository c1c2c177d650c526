"""The build of an output."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from nox_buildstages.builder.backend import Backend
from nox_buildstages.builder.backend_variables import backend_variables
from nox_buildstages.builder.compilers.cache import (
    does_distribute,
    hide_caches,
    map_paths,
)
from nox_buildstages.builder.compilers.started import wrap_compilers
from nox_buildstages.builder.compilers.wrappers import WRAPPERS
from nox_buildstages.builder.context import SESSION
from nox_buildstages.builder.diagnosis.neighbours import Origin
from nox_buildstages.builder.diagnosis.situation import Situation
from nox_buildstages.builder.home import read_home
from nox_buildstages.builder.jobs.server import take_jobs
from nox_buildstages.builder.jobs.slots import BuildJobs, JobRequest
from nox_buildstages.builder.sandbox.files import find_access, find_package_links
from nox_buildstages.environments.bytecode import BYTECODE_FOLDER
from nox_buildstages.environments.cuda import add_cuda
from nox_buildstages.environments.listing import PRIVATE_FOLDER
from nox_buildstages.environments.snapshot import (
    EnvironmentGuard,
    copy_environment,
    find_owners,
    private_hint,
)
from nox_buildstages.errors import (
    BackendError,
    BuildTimeoutError,
    ChangedEnvironmentError,
)
from nox_buildstages.indexes.mask import Mask
from nox_buildstages.model import PROJECT, DirectorySource, fill_environment, log_name
from nox_buildstages.preflight.facts import LONG
from nox_buildstages.run import log_progress
from nox_buildstages.run.events import ASKED, RUNNING
from nox_buildstages.run.follow import LogFollower, LogTail, PreviousBuild
from nox_buildstages.sources import metadata as source_tree
from nox_buildstages.store.compiled import read_activity
from nox_buildstages.store.history import History
from nox_buildstages.system.files import open_text
from nox_buildstages.text import format_time, show_path
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from nox_buildstages.builder.compilers.cache import CompilerCache
    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.home import HomeSettings
    from nox_buildstages.builder.jobs.memory import MemoryNeed
    from nox_buildstages.builder.jobs.slots import JobSlot
    from nox_buildstages.builder.sandbox.files import BuildFiles, FileAccess
    from nox_buildstages.builder.sandbox.sandbox import Sandbox
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import ConfigSettings, Stage
    from nox_buildstages.preflight.facts import Known
    from nox_buildstages.run.events import Step
    from nox_buildstages.run.log_progress import LogSteps
    from nox_buildstages.store.build_dir import BuildDirectory
    from nox_buildstages.store.compiled import Activity
    from nox_buildstages.store.key import Recipe


_ENOUGH = 3
"""Number of files compiled one after the other, to know that a build isn't parallel."""


class Job(Value):
    """The build of an output."""

    context: BuildContext
    stage: Stage
    output: LockedOutput
    environment: Environment  # equal to the stage's lock
    compiler_cache: Path | None = None  # the program
    rebuild: bool = False  # whether to build a wheel that the store has
    hit_rate: float = 0.0
    """The part of the compilations that the compiler cache must find."""
    deadline: float | None = None
    """The time at which the stage's builds are stopped, by the monotonic clock."""
    guard: EnvironmentGuard | None = None
    """Of the environment, if other builds run in it at the same time."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the wheel."""
        return self.context.own_recipe(self.stage.name, self.output.name)

    @property
    def place(self) -> dict[str, str]:
        """The place of the build's events."""
        return self.context.place(self.stage.name, self.output)

    @property
    def title(self) -> str:
        """The output, its version and the stage, for messages."""
        version = self.output.metadata.version
        return f"{self.output.name} {version} (stage {self.stage.name})"

    @property
    def log(self) -> Path:
        """The log file of the build backend."""
        return self.context.logs / log_name(self.output.name)

    @property
    def log_note(self) -> str:
        """The path of the log, for lines on the screen; empty without ``-v``."""
        context = self.context
        path = show_path(self.log, context.project.root)
        return f" (log: {path})" if context.tools.run.is_verbose else ""

    @property
    def build_dir(self) -> BuildDirectory:
        """The folder in which the wheel is built."""
        may_move = self.sandbox.may_move
        return self.context.tools.store.build_dir(self.recipe.key, may_move=may_move)

    @property
    def location(self) -> Path:
        """The path of the environment that the build backend sees."""
        location = self.environment.location
        private = self.stage.private_environment
        return location / PRIVATE_FOLDER if private else location

    @property
    def moved_environment(self) -> Path | None:
        """The environment that builds see at the same path; not of an editable wheel.

        Such a wheel may refer to the environment later.
        """
        return None if self.stage.name == PROJECT else self.location

    @property
    def is_partial(self) -> bool:
        """Whether the build can resume in the tree of an interrupted build."""
        return self.build_dir.partial_build(self.location) is not None

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox of the build backend.

        Raises:
            BuildStagesError: The stage requires more than the system can do.
        """
        return self.context.tools.sandbox_policy.sandbox(self.stage)

    def restrict(
        self,
        folder: Path,
        variables: Mapping[str, str],
        *,
        read: Iterable[Path] = (),
        write: Iterable[Path],
    ) -> Sandbox:
        """Return the sandbox of a build in a folder, with rules for files.

        Raises:
            BuildStagesError: The stage requires more than the system can do.
        """
        location = self.environment.location
        own = (folder, location, *find_package_links(location))
        settings = self.home_settings
        named = os.pathsep.join((*map(str, settings.toolchains), *settings.places))
        rules = self.file_access.rules(
            {**variables, "home": named},
            read=(*own, *read),
            write=write,
        )
        return self.sandbox.show(folder, self.moved_environment).restrict(rules)

    @property
    def history(self) -> History:
        """The earlier builds in the store, read once in a session."""
        tools, keys = self.context.tools, self.context.delivered
        return tools.run.once(
            (SESSION, "history"), lambda: History(store=tools.store, keys=keys)
        )

    def explain(self, *, is_asked: bool) -> dict[str, object]:
        """Return why the output is built, and the build this compares with, as facts.

        ``is_asked`` says whether the user wants the output to be built again.
        """
        last = self.history.previous(self.recipe)
        reasons = [ASKED] if is_asked else []
        if last is None or not is_asked or not self.recipe.accepts(last.recipe):
            changes = self.history.explain(self.recipe, last)
            reasons += (text for text, _ in changes)
        compared = {"compared": last.to_build()} if last else {}
        return {"reasons": reasons, **compared}

    @property
    def memory_need(self) -> MemoryNeed:
        """The memory that each compiler may need, by earlier builds."""
        earlier = self.history.memory_of(self.recipe)
        interrupted = self.build_dir.read_memory(jobs=1)
        earlier = [*filter(None, [interrupted]), *earlier]
        return self.context.memory_need(self.stage, self.output, earlier)

    def request(self, most: int | None = None) -> JobRequest:
        """Return the resources to request; ``most`` limits the jobs further."""
        return JobRequest(
            most=most or self.stage.jobs,
            memory_per_job=self.memory_need.size,
            is_distributed=self.stage.jobs is not None
            and does_distribute(self.context.tools, self.compiler_cache),
        )

    @property
    def is_long(self) -> bool:
        """Whether the build is expected to take more than a minute."""
        if self.build_dir.spent(self.location) >= LONG:
            return True
        previous = self.history.previous(self.recipe)
        return self.known.is_long if previous is None else previous.seconds >= LONG

    @property
    def known(self) -> Known:
        """The facts in the catalogue of recipes about the build."""
        from nox_buildstages.preflight.recipe_facts import known_of  # noqa: PLC0415 - to build
        from nox_buildstages.preflight.source_facts import torch_of  # noqa: PLC0415

        return known_of(
            self.output.name,
            self.output.metadata.version,
            torch=torch_of(self.context.pins(self.stage.name)),
            variables=self.variables,
        )

    @property
    def variables(self) -> dict[str, str]:
        """The variables from ``env`` and ``pass-env``, and for CUDA."""
        context, stage, output = self.context, self.stage, self.output.name
        variables = context.variables(stage, output, self.location)
        if context.has_own_cuda(stage, output):
            path = context.tools.run.outer.get("PATH", os.defpath)
            return add_cuda(variables, self.location, path=path)
        return variables

    @property
    def config_settings(self) -> ConfigSettings:
        """The config settings, with the path of the environment."""
        location = str(self.location)
        settings = self.context.project.rules(self.output.name).config_settings
        return {
            name: fill_environment(value, location)
            if isinstance(value, str)
            else tuple(fill_environment(it, location) for it in value)
            for name, value in settings.items()
        }

    @property
    def search_path(self) -> str:
        """The ``PATH`` of the build, without wrappers of compilers."""
        outer = self.context.tools.run.outer.get("PATH", os.defpath)
        declared = self.variables.get("PATH", outer)
        return os.pathsep.join((str(self.environment.bin), declared))

    @property
    def home_settings(self) -> HomeSettings:
        """The settings of the user's home for builds."""
        tools = self.context.tools
        return tools.run.once(
            ("home",), lambda: read_home(tools.run.outer, tools.runner)
        )

    @property
    def file_access(self) -> FileAccess:
        """The files that builds may read on this machine."""
        tools, project = self.context.tools, self.context.project
        own = (project.root, project.wheelhouse, project.lock_dir)
        hidden = (*own, tools.store.folder, *tools.store.all_builds)
        return tools.run.once(
            ("file access", *own), lambda: find_access(tools.run.outer, hidden)
        )

    def declared_in(self, folder: Path) -> dict[str, str]:
        """Return the declared variables for a build in a folder."""
        if self.sandbox.may_move:
            return self.variables
        return map_paths(
            self.context.tools, self.variables, folder, self.moved_environment
        )

    def _situation(self, step: Step) -> Situation:
        """Return what hints about a failure take into account."""
        context, stage = self.context, self.stage.name
        is_known = step == "compile" and stage != PROJECT
        choices = [*context.project.stage_cell(stage).choices]
        if len(context.project.pythons) > 1:
            choices.append(("python", context.interpreter.version))
        return Situation(
            select="".join(f" --select {axis}={it}" for axis, it in choices),
            version=str(self.output.metadata.version) if is_known else "",
            output=self.output.name,
            stage=stage,
            python=context.interpreter.version,
            packages={pin.name: str(pin.version) for pin in context.pins(stage)},
            pass_env=self.stage.pass_env,
            outer=context.tools.run.outer,
        )

    def take_jobs(
        self, slot: JobSlot, request: JobRequest
    ) -> AbstractContextManager[BuildJobs]:
        """Yield the jobs of the build, after waiting for other builds."""
        return self.context.tools.run.wait(
            partial(take_jobs, slot, request),
            "{} that other builds use",
            self.place,
        )

    @contextmanager
    def follow(
        self, step: Step, jobs: BuildJobs | None = None, *, backend: str = ""
    ) -> Iterator[Callable[[], None]]:
        """Emit the progress of the build backend while a block runs.

        Yields:
            A function to call regularly, which raises ``BuildTimeoutError`` after
            the deadline.
        """
        run = self.context.tools.run
        follower = LogFollower(
            emit=partial(run.emit, step, RUNNING, self.place),
            log=LogTail(path=self.log, offset=self.log.stat().st_size),
            show=run.screen.output,
        )
        if step == "compile" and jobs is not None and self.stage.name != PROJECT:
            follower.find_previous = self._find_previous_build
            follower.watch = partial(self._watch, jobs, backend)

        def attend() -> None:
            if self.deadline is not None and time.monotonic() >= self.deadline:
                raise BuildTimeoutError(
                    subject=f"{self.output.name} (stage {self.stage.name})",
                    problem=f"stopped after {format_time(self.stage.timeout or 0)}, its"
                    " timeout",
                    hint="the last lines of the run say what is kept"
                    if self.rebuild
                    else "",
                )
            if jobs is not None:
                jobs.balance()
            follower.update_slowly()

        try:
            yield attend
        finally:
            follower.end()

    def _watch(self, jobs: BuildJobs, backend: str, steps: LogSteps) -> Activity | None:
        """Return what the build does now; print a line if it uses only one job."""
        activity = read_activity(self.build_dir)
        if (
            activity is not None
            and (activity.most == 1 < jobs.count and activity.done >= _ENOUGH)
            and steps.total is None
        ):
            self.context.tools.run.report_once(
                f"{self.output.name}: {backend.partition('.')[0]} compiles one file at"
                f" a time and uses 1 of {jobs.count} jobs"
            )
        return activity

    def _find_previous_build(self) -> PreviousBuild:
        """Return the previous build of the output."""
        recipe = self.recipe
        wheel = self.history.previous(recipe)
        if wheel is None:
            return PreviousBuild()
        previous = PreviousBuild(seconds=wheel.seconds)
        if wheel.recipe.source == recipe.source:
            with suppress(OSError), open_text(wheel.log) as log:
                steps = log_progress.count_steps(log)
                if steps.total is None:
                    files = wheel.compiled.count if wheel.compiled else None
                    return replace(previous, files=steps.begun or files)
        return previous

    @contextmanager
    def open_backend(
        self,
        step: Step,
        tree: Path,
        files: BuildFiles,
        *,
        jobs: BuildJobs | None = None,
        cache: CompilerCache | None = None,
    ) -> Iterator[Backend]:
        """Yield the build backend of a source tree, and show the progress.

        The home folder is in the same folder as the source. Without a cache, the build
        finds no cache on ``PATH`` either.

        Raises:
            BuildTimeoutError: The deadline has passed.
            BuildStagesError: The backend has changed the environment.
        """
        context, output, stage = self.context, self.output.name, self.stage.name
        home = files.home
        jobs, settings = jobs or BuildJobs.of(1), self.home_settings
        settings.write(home)
        declared = self.declared_in(home.parent)
        if cache is None:
            declared |= hide_caches(context.tools, declared)
        else:
            declared = cache.merge_env(declared)
        if files.wrappers is not None:
            path = declared.get("PATH", context.tools.run.outer.get("PATH", os.defpath))
            seen = self.sandbox.show(home.parent, self.moved_environment).translate
            wrap_compilers(files.wrappers, path, str(files.started), seen)
            declared["PATH"] = os.pathsep.join((str(files.wrappers), path))
            if cache is not None:
                declared[WRAPPERS] = str(files.wrappers)
        guard = self.guard or EnvironmentGuard(
            environment=self.environment, syncer=context.tools.syncer
        )
        used = (
            copy_environment(self.environment)
            if self.stage.private_environment
            else guard.watch(output=output, stage=stage, log=self.log)
        )
        system = source_tree.read_build_system(tree)
        name = system.backend
        with used as environment, self.follow(step, jobs, backend=name) as attend:
            env = backend_variables(
                context.tools.run.outer,
                environment,
                declared={**jobs.variables, **declared},
                home=home,
                toolchains=settings.variables,
            )
            texts = chain(*self.config_settings.values())
            own = environment.location  # a private one, or its bytecode alone
            own /= "" if self.stage.private_environment else BYTECODE_FOLDER
            sandbox = self.restrict(
                *(home.parent, {**env, "settings": " ".join(texts)}),
                read=files.readable,
                write=(home, *files.writable, own, *(cache.writable if cache else ())),
            )
            try:
                yield Backend(
                    situation=self._situation(step),
                    tree=tree,
                    system=system,
                    python=environment.python,
                    env=env,
                    settings=self.config_settings,
                    log=self.log,
                    mask=Mask.of(context.pass_env_values(self.stage, output)),
                    runner=context.tools.runner,
                    sandbox=sandbox,
                    home_settings=settings,
                    attend=attend,
                    origin=self._origin,
                )
            except BackendError as error:
                if not error.refused:
                    raise
                raise ChangedEnvironmentError(
                    output=output,
                    stage=stage,
                    owners=find_owners(environment, [error.refused]),
                    details=[f"refused to write {error.refused}"],
                    log=self.log,
                    hint=private_hint(stage),
                ) from error

    @property
    def _origin(self) -> Origin | None:
        source, root = self.output.source, self.context.project.root
        if not isinstance(source, DirectorySource) or self.stage.name == PROJECT:
            return None
        return Origin(
            output=self.output.name,
            root=root,
            top=root / source.path,
            subdirectory=source.subdirectory,
        )
