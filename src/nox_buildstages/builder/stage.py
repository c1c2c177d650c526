"""Find or build the outputs of a stage."""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from nox_buildstages.builder.jobs.slots import JobRequest
from nox_buildstages.errors import (
    BackendError,
    BuildError,
    HitRateError,
    PreflightError,
    UsageError,
    WheelError,
    not_run,
)
from nox_buildstages.run.events import BUILT, CACHED
from nox_buildstages.system.process import run_in_parallel
from nox_buildstages.value import Record, Value, field

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.job import Job
    from nox_buildstages.builder.jobs.slots import JobSlot
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Shard, Stage
    from nox_buildstages.run.run import Run
    from nox_buildstages.store.key import AppliedPatch
    from nox_buildstages.store.store import StoredWheel


_SINGLE = (HitRateError, PreflightError, WheelError)
"""Failures of one output alone."""


class OutputResult(Value):
    """The result of providing an output."""

    wheel: StoredWheel
    output: LockedOutput
    patches: tuple[AppliedPatch, ...]  # by their current file names
    stage: str
    is_built: bool  # by this run, rather than an earlier run


class BuildOrder(Value):
    """Which outputs of a stage are wanted, and how."""

    only: Collection[str] | None = None  # None for all
    rebuild: Collection[str] = ()
    """Built even if the store has their wheels, unless this run has built them."""
    keeps_going: bool = False
    """Whether a failed build leaves out no other output; the error comes at the end."""
    shard: Shard | None = None
    """The share of the files to compile into the compiler cache, without a wheel."""
    hit_rate: float | None = None
    """The part of each output's compilations that the compiler cache must find."""


def provide_stage(
    context: BuildContext,
    stage: Stage,
    environment: Environment,
    order: BuildOrder | None = None,
) -> tuple[OutputResult, ...]:
    """Find or build every wheel of a stage; return the results in order.

    The environment stays untouched if the store has all wheels. A shard has no results
    but the wheels that the store has.

    Raises:
        BuildStagesError: The store lacks a wheel of an earlier stage.
        BuildStagesError: Nox must not run anything, or the machine can't build.
        UsageError: The remote store has no driver.
        BuildError: An output can't be built.
    """
    tools, order = context.tools, order or BuildOrder()
    only, rebuild = order.only, order.rebuild
    outputs = [
        it
        for it in context.locks[stage.name].outputs
        if only is None or it.name in only
    ]
    recipes = {it.name: context.recipe(stage.name, it.name) for it in outputs}
    missing = [
        output
        for output in outputs
        if (output.name in rebuild and not context.is_shared(recipes[output.name]))
        or context.fetch_wheel(recipes[output.name]) is None
    ]
    for result in available_results(context, stage):
        name, recipe = result.output.name, result.wheel.recipe
        is_kept = name in rebuild and result.wheel.run != tools.run.id
        if is_kept and context.is_shared(recipe):
            python = recipe.interpreter["version"]
            tools.run.report(
                f"{name}: Python {python} builds its wheel for this one, too; to build"
                " it again, run the session of that Python"
            )
        if result.output in outputs and (
            result.is_built or result.output not in missing
        ):
            tools.run.emit(
                *("output", BUILT if result.is_built else CACHED),
                context.place(stage.name, result.output),
                **result.wheel.facts,
            )
            key = recipes[result.output.name].key
            tools.store.remove_partial_build(key, result.wheel.key)
    if missing:
        _build_missing(context, stage, environment, order, missing)
    for output in outputs if order.shard is None else ():
        context.get_wheel(stage.name, output.name)
    return tuple(it for it in available_results(context, stage) if it.output in outputs)


def _build_missing(
    context: BuildContext,
    stage: Stage,
    environment: Environment,
    order: BuildOrder,
    missing: Sequence[LockedOutput],
) -> None:
    """Build outputs in the environment of a stage, several at once.

    Raises:
        BuildStagesError: Nox must not run anything, or the machine can't build.
        BuildError: An output can't be built.
    """
    tools = context.tools
    from nox_buildstages.builder.compilers.cache import (  # noqa: PLC0415
        describe_missing_cache,
        does_distribute,
        find_cache,
    )
    from nox_buildstages.builder.forecast import emit_forecast  # noqa: PLC0415
    from nox_buildstages.builder.job import Job  # noqa: PLC0415 - to build
    from nox_buildstages.builder.prepare import (  # noqa: PLC0415
        occupy_environment,
        prepare_environment,
    )
    from nox_buildstages.environments.snapshot import EnvironmentGuard  # noqa: PLC0415

    is_whole = order.shard is None
    if is_whole and all(it.name in context.locks for it in context.graph.order):
        emit_forecast(context, order.rebuild)  # not while locks are made
    # Check the machine before anything takes time.
    tools.sandbox_policy.sandbox(stage)
    compiler_cache = find_cache(context, stage)
    words = {"--shard": order.shard, "--require-hit-rate": order.hit_rate}
    needing = [name for name, it in words.items() if it is not None]
    if needing and compiler_cache is None:
        raise UsageError(
            subject=f"stage {stage.name}",
            problem=f"{needing[0]} needs a compiler cache, and there is none",
            hint=describe_missing_cache(context, stage),
        )
    cores, wanted = tools.job_pool.machine.cores(), stage.jobs or 0
    if wanted > cores and not does_distribute(tools, compiler_cache):
        tools.run.report_once(
            f"stage {stage.name}: jobs = {wanted} is limited to the"
            f" {cores} cores of this machine"
        )
    if tools.remote is not None:
        tools.remote.check()
    timeout = stage.timeout
    deadline = None if timeout is None else time.monotonic() + timeout
    guard = EnvironmentGuard(environment=environment, syncer=tools.syncer)
    jobs = [
        Job(
            context=context,
            stage=stage,
            output=output,
            environment=environment,
            compiler_cache=compiler_cache,
            rebuild=output.name in order.rebuild,
            hit_rate=order.hit_rate or 0.0,
            deadline=deadline,
            guard=guard,
        )
        for output in missing
    ]
    builds = StageBuilds(
        pending=deque(jobs),
        keeps_going=order.keeps_going,
        shard=order.shard,
    )
    # All builds with private environments use the same path.
    most = 1 if stage.private_environment else len(missing)
    least = min(job.memory_need.size for job in jobs)
    most = min(most, tools.job_pool.count_alone(JobRequest(memory_per_job=least)))
    # The slots are taken before the environment is made: stages that are ready
    # sooner leave jobs for this one.
    with occupy_environment(tools, environment), ExitStack() as stack:
        slots = [stack.enter_context(tools.job_pool.take_slot()) for _ in range(most)]
        environment.may_install()  # nox is asked once, and not by a thread
        run_in_parallel(
            [
                partial(prepare_environment, context, stage, environment),
                *(partial(_fetch, context, stage, it) for it in missing),
            ]
        )
        if not environment.may_run():
            raise not_run(stage.name, *(output.name for output in missing))
        run_in_parallel(partial(builds.build_outputs, slot) for slot in slots)
    failures = [
        builds.failures[it.name] for it in missing if it.name in builds.failures
    ]
    if failures:
        raise failures[0] if len(failures) == 1 else _join(stage, failures)


def _fetch(context: BuildContext, stage: Stage, output: LockedOutput) -> None:
    """Fetch the source of an output."""
    with context.tools.run.step("fetch", context.place(stage.name, output)):
        context.tools.sources.prefetch(output.source)


class StageBuilds(Record):
    """The builds of a stage, which threads take one after another.

    After a failure of one output alone, threads build the others. After another
    failure, no build begins, and running builds come to an end, as with make and ninja.
    """

    pending: deque[Job]
    keeps_going: bool
    shard: Shard | None = None
    running: set[str] = field(default_factory=set)
    failures: dict[str, BuildError] = field(default_factory=dict)

    def build_outputs(self, slot: JobSlot) -> None:
        """Build one output after another in a slot, until none is left."""
        from nox_buildstages.builder.output import build_output  # noqa: PLC0415 - to build

        try:
            while (job := self._take_next()) is not None:
                name = job.output.name
                self.running.add(name)
                try:
                    if self.shard is None:
                        build_output(job, slot)
                    else:
                        from nox_buildstages.builder.shards import compile_share  # noqa: PLC0415 - for few

                        compile_share(job, slot, self.shard)
                except BuildError as error:
                    self.running.remove(name)
                    self._note_failure(name, error, job.context.tools.run)
                else:
                    self.running.remove(name)
        except BaseException:
            self.pending.clear()
            raise
        finally:
            slot.close()

    def _take_next(self) -> Job | None:
        with suppress(IndexError):
            return self.pending.popleft()
        return None

    def _note_failure(self, name: str, error: BuildError, run: Run) -> None:
        self.failures[name] = error
        is_single = isinstance(error, _SINGLE) or (
            isinstance(error, BackendError) and not error.full_disk
        )
        others = ", ".join(sorted(self.running))
        if is_single and self.keeps_going:
            if self.pending or others:
                run.report(f"{error.summary}; building the other outputs")
        else:
            self.pending.clear()
            if others:
                run.report(f"{error.summary}; waiting for the build of {others}")


def _join(stage: Stage, failures: Sequence[BuildError]) -> BuildError:
    """Return an error that shows all failures of a stage."""
    subjects = ", ".join(it.subject.partition(" (")[0] for it in failures)
    return BuildError(
        subject=f"stage {stage.name}",
        problem=f"{len(failures)} outputs failed: {subjects}",
        causes=failures,
        hint="fix the errors above, then run the same command again",
    )


def find_results(context: BuildContext, stage: Stage) -> tuple[OutputResult, ...]:
    """Return the results of a stage whose wheels are all in the store.

    Raises:
        BuildStagesError: The store lacks a wheel.
    """
    for output in context.locks[stage.name].outputs:
        context.get_wheel(stage.name, output.name)
    return tuple(available_results(context, stage))


def available_results(context: BuildContext, stage: Stage) -> Iterator[OutputResult]:
    """Yield the results of the outputs whose wheels are in the store."""
    for output in context.locks[stage.name].outputs:
        recipe = context.recipe(stage.name, output.name)
        wheel = context.find_wheel(recipe)
        if wheel is not None:
            yield OutputResult(
                wheel=wheel,
                output=output,
                patches=recipe.patches,
                stage=stage.name,
                is_built=wheel.run == context.tools.run.id
                and not context.is_shared(recipe),
            )
