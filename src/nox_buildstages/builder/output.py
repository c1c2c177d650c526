"""Build an output and put the wheel into the store."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from nox_buildstages.builder.attempts import Attempt, next_attempt
from nox_buildstages.builder.check_wheel import accept_wheel, check_metadata, name_build
from nox_buildstages.builder.compilers.cache import CacheUse, use_cache
from nox_buildstages.builder.compilers.slowest import collect_compiled
from nox_buildstages.builder.compilers.started import (
    StartedCompilers,
    find_native_options,
    read_started,
)
from nox_buildstages.builder.context import SESSION
from nox_buildstages.builder.jobs.parallelism import (
    is_serial,
    knows_server,
    needs_number,
)
from nox_buildstages.builder.jobs.slots import count_jobs, job_variables
from nox_buildstages.builder.notices import (
    describe_pure_wheel,
    find_ignored_variables,
)
from nox_buildstages.builder.sandbox.files import BuildFiles
from nox_buildstages.builder.supervisor import Supervisor
from nox_buildstages.builder.try_wheel import try_wheel
from nox_buildstages.config.writing import build_requires_table, format_value, indent
from nox_buildstages.environments.cuda import NVCC_12
from nox_buildstages.errors import BackendError, BuildError, WheelError
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.lock.resolve.known_metadata import find_unmet
from nox_buildstages.model import NVCC
from nox_buildstages.run.events import BUILT, CACHED
from nox_buildstages.sources import metadata as source_tree
from nox_buildstages.store.compiled import facts_of_files
from nox_buildstages.store.failed_builds import make_room, remove_kept_trees
from nox_buildstages.store.inventory import disk_size
from nox_buildstages.system.files import make_ignored_folder, open_text
from nox_buildstages.value import Value, replace
from nox_buildstages.wheels.wheel import has_machine_code

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nox_buildstages.builder.backend import Backend
    from nox_buildstages.builder.compilers.cache import CompilerCache
    from nox_buildstages.builder.job import Job
    from nox_buildstages.builder.jobs.slots import BuildJobs, JobRequest, JobSlot
    from nox_buildstages.model import Corrections
    from nox_buildstages.store.build_dir import BuildDirectory
    from nox_buildstages.store.key import Recipe
    from nox_buildstages.store.store import StoredWheel
    from nox_buildstages.wheels.wheel import WheelFile

_RESUMING = ", resuming an interrupted build"
_HEADER_LINES = 100
"""Number of lines at the start of a log that may contain its key."""


class BuiltOutput(Value):
    """The result of a build."""

    stored: StoredWheel
    use: CacheUse
    jobs: int
    seconds: float  # without those of interrupted builds that it resumed

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of an event."""
        return {
            **self.stored.facts,
            "jobs": self.jobs,
            "hits": str(self.use),
            **facts_of_files(self.stored.compiled),
        }


def build_output(job: Job, slot: JobSlot) -> None:
    """Build an output and put the wheel into the store.

    A rebuild ignores the wheel in the store, unless another session of this run has
    built it.

    Raises:
        BuildError: The build failed.
        HitRateError: The wheel is in the store, but the cache had too few object files.
        BuildStagesError: The compiler cache doesn't work.
    """
    recipe, tools = job.recipe, job.context.tools
    with tools.run.wait(
        lambda begin: tools.store.hold_lock(recipe.key, on_wait=begin),
        "another run that builds it",
        job.place,
    ):
        earlier = job.context.find_stored(recipe)
        if earlier is not None and (earlier.run == tools.run.id or not job.rebuild):
            # Another process has built the wheel in the meantime.
            tools.run.emit(
                "output",
                BUILT if earlier.run == tools.run.id else CACHED,
                job.place,
                **earlier.facts,
            )
            return
        why = job.explain(is_asked=job.rebuild and earlier is not None)
        with tools.run.step("output", job.place, success=BUILT, **why) as facts:
            if job.rebuild:
                job.build_dir.clear()
            attempt, built = Attempt(is_resumed=job.is_partial), None
            while built is None:
                try:
                    built = make_attempt(job, slot, attempt)
                except BuildError as error:  # noqa: PERF203 - attempts are few
                    compiled = collect_compiled(job.build_dir, job.log)
                    facts.update(facts_of_files(compiled))
                    attempt = next_attempt(job, attempt, error)
            facts.update(built.facts)
        remove_kept_trees(tools.store, job.output.name)
        tools.run.forget(SESSION, "wheel", recipe.key)
        if tools.remote is not None:
            tools.remote.put(
                built.stored, job.context.pass_env_for_key(job.stage, job.output.name)
            )
    tools.run.report(
        f"built {built.stored.path.name} in {built.seconds:.1f} s{built.use.remark}"
    )
    built.use.require(job.hit_rate, title=job.title, log=job.log)


def make_attempt(job: Job, slot: JobSlot, attempt: Attempt) -> BuiltOutput:
    """Build an output once, and put the wheel into the store.

    Raises:
        BuildError: The build failed.
        BuildStagesError: The compiler cache doesn't work.
    """
    recipe, tools = job.recipe, job.context.tools
    resumes, spent = job.is_partial, job.build_dir.spent(job.location)
    with tools.store.open_build_dir(job.build_dir) as build_dir:
        last = job.history.previous(recipe)
        make_room(tools.store, build_dir.folder, last.tree_size if last else None)
        tree = begin_tree(job, build_dir)
        request = request_jobs(job, build_dir, tree, attempt.most)
        with job.take_jobs(slot, request) as jobs:
            network = "" if job.sandbox.is_off else ", network on"
            tools.run.report(
                f"building {recipe.name} {recipe.version} with {jobs}"
                f"{describe_limit(job, jobs, request)}{network}{_RESUMING * resumes}"
                f"{job.log_note}"
            )
            attempt.begin(jobs.count, tools.job_pool.machine)
            started = time.monotonic()
            begin_log(job, jobs, attempt, resumes=resumes)
            wheel, use, is_complete, compilers = build_wheel(
                *(job, jobs, build_dir, tree), is_fresh=not resumes
            )
            seconds = time.monotonic() - started
        with hold_own_lock(job, wheel, compilers) as kept:
            stored = tools.store.put(
                kept,
                wheel.path,
                log=job.log,
                seconds=spent + seconds,
                run=tools.run.id,
                tree_size=disk_size(build_dir.folder),
                memory=build_dir.read_memory(
                    jobs.count, is_complete=is_complete, kill=attempt.kill
                ),
                compiled=collect_compiled(build_dir, job.log),
                compilers=compilers.names,
            )
    return BuiltOutput(stored=stored, use=use, jobs=jobs.count, seconds=seconds)


def choose_recipe(job: Job, wheel: WheelFile, started: StartedCompilers) -> Recipe:
    """Return the recipe under which a wheel is kept.

    Without the compilers if the build started none, so that the wheel is found again on
    a machine with other ones; with the processor if the wheel is for no other.
    """
    recipe = job.recipe
    is_unused = started.names == () and wheel.is_pure
    if is_unused and not has_machine_code(wheel.path):
        return recipe.without_compilers
    settings = map(str, job.config_settings.values())
    options = find_native_options(
        (*started.options, *job.variables.values(), *settings)
    )
    if not options:
        return recipe
    if not job.context.project.rules(job.output.name).native:
        job.context.tools.run.report(
            f"{wheel.path.name} is for the processor of this machine alone"
            f" ({', '.join(options)}): machines with another one build it again"
        )
    return recipe.for_processor


@contextmanager
def hold_own_lock(
    job: Job, wheel: WheelFile, started: StartedCompilers
) -> Iterator[Recipe]:
    """Hold the lock of a finished wheel; yield the recipe for keeping the wheel.

    The caller holds the lock of the job's recipe.
    """
    kept = choose_recipe(job, wheel, started)
    with ExitStack() as stack:
        if kept.key != job.recipe.key:
            stack.enter_context(job.context.tools.store.hold_lock(kept.key))
        yield kept


def begin_tree(job: Job, build_dir: BuildDirectory) -> Path:
    """Unpack the source of a build, unless it resumes; return the project's folder."""
    context = job.context
    patches = context.patches(job.output.name)
    unpack = partial(
        context.tools.sources.unpack,
        job.output.source,
        patches=patches,
        identity=job.recipe.source,
    )
    return build_dir.begin(job.location, unpack)


def request_jobs(
    job: Job, build_dir: BuildDirectory, tree: Path, most: int | None
) -> JobRequest:
    """Return how many jobs a build wants, and how its tools learn of them.

    ``most`` limits the number, in addition to the table.
    """
    context, request = job.context, job.request(most)
    tools = context.tools
    settings = context.project.rules(job.output.name).config_settings.values()
    arguments = chain(*([it] if isinstance(it, str) else it for it in settings))
    has_number = job.stage.jobs is not None
    if has_number or needs_number(tree, job.variables, arguments):
        return request
    path, pipe = job.search_path, build_dir.pipe
    is_served = tools.run.once(
        (SESSION, "jobserver", path),
        lambda: knows_server(
            path,
            tools.run.outer,
            runner=tools.runner,
            cache=tools.store.folder / "interpreters",
        ),
    )
    seen = job.sandbox.show(build_dir.folder).translate(str(pipe))
    if is_served and not set(seen) & set(" \t\n$#"):  # tools split MAKEFLAGS
        with suppress(OSError):  # some file systems have no pipes
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
            return replace(request, pipe=pipe)
    if is_serial(tree, source_tree.read_build_system(tree)):
        return replace(request, most=1)
    return request


def describe_limit(job: Job, jobs: BuildJobs, request: JobRequest) -> str:
    """Return why memory limits the jobs of a build, or why it should; else nothing."""
    pool = job.context.tools.job_pool
    is_limited = pool.count_alone(request) <= jobs.count < pool.count_wanted(request)
    if not is_limited and job.stage.memory_per_job is None:
        return ""
    need = job.memory_need
    if need.exceeded and jobs.count > 1:
        return f": {need.reason}, although {need.exceeded}"
    if not is_limited:
        return ""
    is_fixed = str(jobs) == count_jobs(jobs.count)
    return f"{'' if is_fixed else f', {jobs.count} at first'}: {need.reason}"


@contextmanager
def open_build(
    job: Job, jobs: BuildJobs, build_dir: BuildDirectory, tree: Path
) -> Iterator[tuple[Backend, CompilerCache | None]]:
    """Yield the supervised build backend of a source tree, and its compiler cache.

    Raises:
        PreflightError: A long build would fail.
        BuildStagesError: The compiler cache doesn't work.
    """
    context = job.context
    with use_cache(
        context.tools,
        job.compiler_cache,
        stage=job.stage.name,
        sandbox=job.restrict(
            *(build_dir.folder, {"PATH": job.search_path, **job.variables}),
            write=build_dir.writable,
        ),
        declared=job.declared_in(build_dir.folder),
    ) as cache:
        supervisor = Supervisor(
            lock=context.tools.store.processes_lock(job.recipe.key),
            checkpoint=build_dir.checkpoint,
            memory=build_dir.memory,
            compiled=build_dir.compiled,
            build=build_dir.folder.name,
        )
        with job.open_backend(
            *("compile", tree),
            BuildFiles(
                home=build_dir.home,
                writable=build_dir.writable,
                wrappers=build_dir.wrappers,
                started=build_dir.started,
            ),
            jobs=jobs,
            cache=cache,
        ) as backend:
            report_ignored_variables(job, backend)
            report_cuda(job)
            resumable = backend.with_build_dir(build_dir.build)
            if context.tools.has_preflight and job.is_long:
                from nox_buildstages.builder import preflight  # noqa: PLC0415 - for few

                preflight.check_before_compile(job, resumable, build_dir)
            yield replace(resumable, supervisor=supervisor), cache


def build_wheel(
    job: Job, jobs: BuildJobs, build_dir: BuildDirectory, tree: Path, *, is_fresh: bool
) -> tuple[WheelFile, CacheUse, bool, StartedCompilers]:
    """Run the hook ``build_wheel`` in a source tree, and check the wheel.

    Return the wheel, the use of the compiler cache, whether all compilers ran below the
    build backend, so that their memory was measured, and the compilers.

    Raises:
        BuildError: The build failed, or made another wheel than expected.
        BuildStagesError: The compiler cache doesn't work.
    """
    context, name = job.context, job.output.name
    corrections = context.corrections(job.stage, name)
    try:
        with open_build(job, jobs, build_dir, tree) as (backend, cache):
            if is_fresh:  # what preflight has started doesn't count
                build_dir.started.write_text("", encoding="ascii")
            if is_fresh and job.output.metadata.learned in ("static", "wheel"):
                check_promise(backend, build_dir.home, job, corrections)
            with context.tools.run.step(
                *("compile", job.place),
                jobs=jobs.count,
                resumed=not is_fresh,
                log=str(job.log),
            ) as facts:
                file_name = backend.build_wheel(build_dir.wheel)
                facts["jobs"] = jobs.count
            compilers = read_started(build_dir.started)
            use = cache.count() if cache else CacheUse()
            is_measured = cache is None or cache.compiles_all()
        wheel = accept_wheel(
            build_dir.wheel,
            file_name,
            job.output,
            context.interpreter,
            corrections=corrections,
        )
        try_wheel(
            wheel,
            job.environment,
            syncer=context.tools.syncer,
            store=context.tools.store,
            scratch=build_dir.folder / "trial",
        )
    except WheelError as error:
        raise name_build(error, name, job.stage.name, job.log) from error
    if line := describe_pure_wheel(wheel, tree):
        context.tools.run.report(line)
    if str(use):
        with job.log.open("a", encoding="utf-8") as log:
            log.write(f"{use}\n")
    return wheel, use, is_measured, compilers


def report_ignored_variables(job: Job, backend: Backend) -> None:
    """Print a line about variables that are set here and that builds don't see."""
    run = job.context.tools.run
    names = find_ignored_variables(run.outer, backend.env, backend.tree)
    if names:
        run.report_once(
            f"stage {job.stage.name}: builds don't see variables that are set here; to"
            f" pass them: pass-env = {format_value(names)}"
        )
    both = [it for it in job.stage.pass_env if it in job.stage.env]
    if ignored := [it for it in both if run.outer.get(it)]:
        run.report_once(
            f"stage {job.stage.name}: pass-env has no effect on {', '.join(ignored)},"
            " because env sets it"
        )
    overruled = [
        name
        for name in job_variables(1)
        if run.outer.get(name) and name not in job.variables
    ]
    if overruled:
        run.report_once(
            f"stage {job.stage.name}: builds ignore {', '.join(overruled)};"
            " to limit how many compilers run at once, set jobs"
        )


def report_cuda(job: Job) -> None:
    """Print a line if the lock, the table and variables disagree about nvcc."""
    context, stage, run = job.context, job.stage, job.context.tools.run
    overridden = context.ignored_variables(stage, job.output.name)
    if ignored := [it for it in overridden if run.outer.get(it)]:
        run.report_once(
            f"stage {stage.name}: builds ignore {', '.join(ignored)}, because"
            " the stage's lock contains nvcc; remove it from pass-env"
        )
    held = {pin.name for pin in context.pins(stage.name)}
    if NVCC_12 in held and not {NVCC, "CUDA_HOME"} & {*held, *job.variables}:
        run.report_once(
            f"stage {stage.name}: {NVCC_12} contains no nvcc, which PyPI has from CUDA"
            " 13 on; to compile CUDA 12, set CUDA_HOME in env or pass-env"
        )


def check_promise(
    backend: Backend, scratch: Path, job: Job, corrections: Corrections
) -> None:
    """Compare what the lock trusts with the build backend, before it compiles.

    The lock has the metadata of an sdist or of a wheel on the index. The backend may
    not have been asked yet in this environment, or only without earlier outputs. A
    backend may fail here and still build the wheel.

    Raises:
        WheelError: The backend announces another wheel, or has more requirements.
    """
    output, pins = job.output, job.context.pins(job.stage.name)
    rules = job.context.project.rules(output.name)
    if any(isinstance(pin, StagePin) for pin in pins):
        requires: list[str] = []
        with suppress(BackendError):
            requires += rules.apply_removals(backend.get_requires())
        missing = (it for it in requires if it not in output.build_requires)
        unmet = find_unmet(missing, pins, job.context.interpreter)
        if unmet:
            table = build_requires_table(
                output.name,
                add={*map(str, rules.build_requires_add), *unmet},
                remove=rules.build_requires_remove,
            )
            first = "add it in pyproject.toml, and lock again:"
            raise WheelError(
                problem=f"its build backend requires {unmet[0]} as soon as outputs of"
                " earlier stages are installed",
                hint="\n".join((first, *indent(table))),
            )
    is_computed = source_tree.computes_version(backend.tree)
    if not is_computed and output.metadata.learned == "static":
        return
    folder = scratch / "metadata"
    folder.mkdir()
    with suppress(BackendError):
        announced = backend.prepare_metadata(folder)
        if announced is not None:
            check_metadata(announced, job.output, corrections=corrections)


def begin_log(job: Job, jobs: BuildJobs, attempt: Attempt, *, resumes: bool) -> None:
    """Write the header of an attempt's log.

    The log of an earlier build is replaced, unless the attempt continues the build.
    """
    recipe, header = job.recipe, ""
    continues = attempt.most is not None
    if continues:
        header = f"\nout of memory; retrying with {jobs}\n\n"
    elif resumes:
        header = "\nresuming an interrupted build\n\n"
        with suppress(OSError), open_text(job.log) as log:
            continues = f"key: {recipe.key}\n" in islice(log, _HEADER_LINES)
    lines = [
        f"{recipe.name} {recipe.version}, stage {job.stage.name}",
        f"source: {job.output.source}",
        *(f"patch: {patch}" for patch in recipe.patches),
        f"key: {recipe.key}",
        f"jobs: {str(jobs).partition(' job')[0]}",
        f"network: {job.sandbox}",
        f"files: {job.sandbox.files}",
        *([f"compiler cache: {job.compiler_cache.stem}"] if job.compiler_cache else ()),
        f"environment: {job.location}",
        *(f"  {name} {it.version}" for name, it in recipe.environment.items()),
        "",
    ]
    make_ignored_folder(job.log.parent)
    if not job.log.is_file():  # a pipe would wait for a reader
        job.log.unlink(missing_ok=True)
    with job.log.open("a" if continues else "w", encoding="utf-8") as log:
        log.write(header + "\n".join(lines) + "\n")
