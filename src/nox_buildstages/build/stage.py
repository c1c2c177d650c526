"""One stage: key → store, else source → environment → backend → check → store."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.requirements import Requirement

from nox_buildstages import files
from nox_buildstages.build import caching, resuming
from nox_buildstages.build.attending import Deadline, all_of
from nox_buildstages.build.budget import counted, wish_of
from nox_buildstages.build.build_folder import staying
from nox_buildstages.build.following import COMPILE, ENV, followed, shown
from nox_buildstages.build.job import Job
from nox_buildstages.build.journal import BUILT, CACHED
from nox_buildstages.build.store import Product
from nox_buildstages.build.workplace import Checkpoints
from nox_buildstages.digests import place_of
from nox_buildstages.errors import NotRunError, WheelError, WrongWheelError
from nox_buildstages.lock import pylock
from nox_buildstages.lock.lockfile import file_name
from nox_buildstages.logins import without_logins
from nox_buildstages.wheelhouse import wheel as wheels

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from nox_buildstages.build.bench import Bench, Tools
    from nox_buildstages.build.budget import Claim
    from nox_buildstages.build.environment import Environment
    from nox_buildstages.build.key import AppliedPatch
    from nox_buildstages.build.store import Entry
    from nox_buildstages.build.workplace import Workplace
    from nox_buildstages.lock.lockfile import LockedOutput
    from nox_buildstages.model import Interpreter, Metadata, Stage
    from nox_buildstages.wheelhouse.wheel import WheelFile


_HEAD = 100
"""Lines of a log, among which is the key of what was built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of an output.

    Attributes:
        entry: Its wheel, and what went into it.
        output: As it is locked.
        patches: Of its source, by their names of today.
        stage: That provides it.
        built: Whether it was built in this run; else it was found in the store.
    """

    entry: Entry
    output: LockedOutput
    patches: tuple[AppliedPatch, ...]
    stage: str
    built: bool


def provide(
    bench: Bench,
    stage: Stage,
    environment: Environment,
    *,
    rebuild: Collection[str] = (),
) -> tuple[Outcome, ...]:
    """Make the store hold every wheel of a stage.

    Args:
        bench: With the locks of the stage and of those before it.
        stage: Whose outputs are wanted.
        environment: To build in; untouched where nothing is to be built.
        rebuild: Outputs that are built although a store has them, unless this
            run has put them there.

    Returns:
        The outcomes, in the order of the outputs.

    Raises:
        MissingWheelError: An earlier stage's wheel isn't in the store.
        RemoteStoreError: There is no driver for the remote store.
        NotRunError: Something is to be built and nox was told not to run.
        NetworkError: It is to be off and can't be.
        CompilerCacheError: It is named and isn't there, or doesn't work.
        SyncError: The environment could not be made.
        BuildError: An output could not be built.
    """
    outputs = bench.locks[stage.name].outputs
    recipes = {output.name: bench.recipe(stage.name, output.name) for output in outputs}
    missing = [
        output
        for output in outputs
        if output.name in rebuild or bench.obtain(recipes[output.name]) is None
    ]
    _note(bench, stage)
    if missing:
        deadline = Deadline.of(stage)
        jobs = [
            Job(
                bench=bench,
                stage=stage,
                output=output,
                environment=environment,
                attend=deadline.watch(output.name) if deadline else None,
            )
            for output in missing
        ]
        # Before it costs anything.
        bench.tools.isolator.isolation(stage)
        caching.chosen(bench, stage)
        if bench.tools.remote is not None:
            bench.tools.remote.check()
        # So early, for a stage that is ready sooner leaves room for those it knows of.
        with occupied(bench.tools, environment), bench.tools.budget.claim() as claim:
            prepare(bench, stage.name, environment)
            if not environment.may_run():
                names = tuple(output.name for output in missing)
                raise NotRunError(stage=stage.name, outputs=names)
            for job in jobs:
                _build(job, claim, again=job.output.name in rebuild)
                _note(bench, stage)
    return outcomes(bench, stage)


def outcomes(bench: Bench, stage: Stage) -> tuple[Outcome, ...]:
    """Return what became of the outputs of a stage.

    Raises:
        MissingWheelError: One isn't in the store.
    """
    outputs = bench.locks[stage.name].outputs
    entries = [bench.entry(stage.name, output.name) for output in outputs]
    return tuple(
        _outcome(bench, stage, output, entry)
        for entry, output in zip(entries, outputs, strict=True)
    )


@contextmanager
def occupied(tools: Tools, environment: Environment) -> Iterator[None]:
    """Keep other runs from changing an environment while it is made or built in."""
    location = environment.location
    with tools.store.locked(
        f"environment-{place_of(location)}",
        wait=lambda: tools.report(f"another run works in {location}; waiting for it"),
    ):
        yield


def present(bench: Bench, stage: Stage) -> Iterator[Outcome]:
    """Yield what became of the outputs of a stage whose wheels are in the store."""
    for output in bench.locks[stage.name].outputs:
        entry = bench.find(bench.recipe(stage.name, output.name))
        if entry is not None:
            yield _outcome(bench, stage, output, entry)


def _note(bench: Bench, stage: Stage) -> None:
    """Tell the journal of every wheel of a stage that is there."""
    bench.journal.add(
        {
            **bench.noted(stage.name, outcome.output),
            "state": BUILT if outcome.built else CACHED,
            "seconds": outcome.entry.wheel.seconds,
            "size": outcome.entry.wheel.size,
        }
        for outcome in present(bench, stage)
    )


def _outcome(bench: Bench, stage: Stage, output: LockedOutput, entry: Entry) -> Outcome:
    return Outcome(
        entry=entry,
        output=output,
        patches=bench.recipe(stage.name, output.name).patches,
        stage=stage.name,
        built=entry.run == bench.tools.run,
    )


def prepare(bench: Bench, name: str, environment: Environment) -> None:
    """Make an environment equal to a stage's lock, with wheels out of the store.

    It has to be occupied.

    Raises:
        MissingWheelError: A stage hasn't built a wheel that it holds.
        SyncError: It could not be made.
        EnvironmentDiffersError: It isn't equal, and nox doesn't let it be changed.
    """
    folder = environment.location
    bound = pylock.bind(bench.pylock(name), bench.wheels(name), folder=folder)
    path = folder / file_name(name)
    files.write_text(path, pylock.dumps(bound))
    sync(bench, name, environment, path)


def sync(bench: Bench, name: str, environment: Environment, lock: Path) -> None:
    """Make an environment equal to a lock whose wheels are all bound.

    It has to be occupied.

    Args:
        bench: Knows what the lock holds.
        name: Of the stage, or ``final``.
        environment: To be made equal.
        lock: A PEP 751 file.

    Raises:
        SyncError: It could not be made.
        EnvironmentDiffersError: It isn't equal, and nox doesn't let it be changed.
    """
    with shown(bench.tools.screen, name, ENV) as attend:
        syncer = replace(bench.tools.syncer, attend=attend)
        syncer.sync(environment, bench.ingredients(name), lock)


def _build(job: Job, claim: Claim, *, again: bool) -> None:
    """Build an output, unless another process did so while we waited for it."""
    tools, recipe = job.bench.tools, job.recipe
    with tools.store.locked(recipe.key):
        there = tools.store.find(recipe.key)
        if there is not None and (there.run == tools.run or not again):
            return
        with (
            claim.jobs(wish_of(job.stage), wait=partial(say_waiting, job)) as jobs,
            job.bench.journal.building(**job.bench.noted(job.stage.name, job.output)),
        ):
            resuming.make(replace(job, jobs=jobs), _make, afresh=again)
        job.bench.forget(recipe)
        job.bench.share(recipe)


def say_waiting(job: Job) -> None:
    """Tell that a build begins when others have ended."""
    job.bench.tools.report(f"{job.output.name} waits for other builds to end")


def _make(job: Job) -> None:
    """Build an output and put it into the store."""
    tools, recipe = job.bench.tools, job.recipe
    what = f"{recipe.name} {recipe.version} with {counted(job.jobs)}"
    goes_on = ", going on where it was stopped" if job.goes_on else ""
    network = "" if job.isolation.is_off else ", network on"
    tools.report(f"building {what} (log: {job.log}){network}{goes_on}")
    started = time.monotonic()
    with tools.store.workplace(recipe.key) as place, job.cached() as cached:
        wheel = build_wheel(cached, place)
        seconds = time.monotonic() - started
        found = _tell_found(cached)
        product = Product(wheel=wheel.path, log=job.log, seconds=seconds, run=tools.run)
        tools.store.put(recipe, product)
    tools.report(f"built {wheel.path.name} in {seconds:.1f} s{found}")


def _tell_found(job: Job) -> str:
    """Write to the log what the compiler cache has found, and return it in brackets."""
    said = job.cache.said() if job.cache else ""
    if said:
        with job.log.open("a", encoding="utf-8") as log:
            log.write(f"{said}\n")
    return said and f" ({said})"


def build_wheel(job: Job, place: Workplace) -> WheelFile:
    """Build an output, and see that it is what was asked for.

    Raises:
        BuildError: There is no such wheel.
    """
    _begin_log(job)
    name, location = job.output.name, job.environment.location
    sources, patches = job.bench.tools.sources, job.bench.patches(name)
    tree = place.begin(
        location, partial(sources.unpack, job.output.source, patches=patches)
    )
    checkpoints = Checkpoints(place=place, environment=location)
    kept = replace(job, attend=all_of(checkpoints, job.attend))
    lock = job.bench.tools.store.keeping(job.recipe.key)
    folder = place.wheel
    with job.watched(), followed(kept, COMPILE) as shown_job:
        backend = staying(shown_job.backend(tree, home=place.home), place.build)
        said = replace(backend, lock=lock).wheel(folder)
    try:
        wheel = _only_wheel(folder, said)
        _check_identity(wheel, job.output)
        _check_tags(wheel, job.bench.interpreter)
    except WheelError as error:
        raise WrongWheelError(
            output=job.output.name,
            stage=job.stage.name,
            wheel=error.wheel,
            problem=error.problem,
            log=job.log,
        ) from error
    return wheel


def _begin_log(job: Job) -> None:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    recipe = job.recipe
    lines = [
        f"{recipe.name} {recipe.version}, stage {job.stage.name}",
        f"source: {job.output.source}",
        *(f"patch: {patch}" for patch in recipe.patches),
        f"key: {recipe.key}",
        f"jobs: {job.jobs}",
        f"network: {job.isolation}",
        *([f"compiler cache: {job.cache.name}"] if job.cache else ()),
        f"environment: {job.environment.location}",
        *(f"  {name} {held.version}" for name, held in recipe.environment.items()),
        "",
    ]
    if job.is_retry:
        lines = ["", f"out of memory; once more with {counted(job.jobs)}", "", *lines]
    elif job.goes_on:
        lines = ["", "going on where it was stopped", "", *lines]
    goes_on = job.is_retry or (job.goes_on and _is_log_of(job.log, recipe.key))
    with job.log.open("a" if goes_on else "w", encoding="utf-8") as log:
        log.write("\n".join(lines) + "\n")


def _is_log_of(log: Path, key: str) -> bool:
    """Whether a log is one of builds of a key."""
    try:
        with log.open(encoding="utf-8", errors="replace") as stream:
            return f"key: {key}\n" in islice(stream, _HEAD)
    except OSError:
        return False


def _only_wheel(folder: Path, said: str) -> WheelFile:
    found = sorted(path.name for path in folder.glob("*.whl"))
    if not found:
        raise WheelError(wheel=said, problem="the backend made no wheel")
    if len(found) > 1:
        listed = ", ".join(found)
        raise WheelError(wheel=said, problem=f"the backend made several: {listed}")
    if found != [said]:
        raise WheelError(wheel=said, problem=f"the backend made {found[0]} instead")
    wheels.verify(folder / said)
    return wheels.read(folder / said)


def _check_identity(wheel: WheelFile, output: LockedOutput) -> None:
    """See that a wheel is what its lock promises.

    Raises:
        WheelError: It isn't.
    """
    file_name, locked = wheel.path.name, output.metadata
    if wheel.name != output.name:
        problem = f"is of {wheel.name}; {output.name} was asked for"
        raise WheelError(wheel=file_name, problem=problem)
    if wheel.version != locked.version:
        problem = f"is version {wheel.version}; the lock says {locked.version}"
        raise WheelError(wheel=file_name, problem=problem)
    differences = _requirement_differences(wheel, locked)
    if differences:
        listed = "; ".join(differences)
        problem = f"its METADATA and the lock ({locked.learned}) disagree: {listed}"
        raise WheelError(wheel=file_name, problem=problem)


def _check_tags(wheel: WheelFile, interpreter: Interpreter) -> None:
    if wheel.tags.isdisjoint(interpreter.tags):
        problem = f"its tags are not for {interpreter}"
        raise WheelError(wheel=wheel.path.name, problem=problem)


def _requirement_differences(wheel: WheelFile, locked: Metadata) -> list[str]:
    said = set(map(_comparable, wheel.requires_dist))
    expected = set(map(_comparable, locked.requires_dist))
    differences = [f"only the wheel has {text}" for text in _sorted(said - expected)]
    differences += [f"only the lock has {text}" for text in _sorted(expected - said)]
    is_known = locked.learned != "config"
    if is_known and wheel.requires_python != locked.requires_python:
        differences.append(
            f"Requires-Python is {wheel.requires_python}, not {locked.requires_python}"
        )
    return differences


def _comparable(text: str) -> Requirement:
    """Return a requirement without the brackets that one backend sets and another not.

    ``(a and b) and c`` is ``a and b and c``; beside an ``or`` they have a meaning.
    """
    requirement = Requirement(without_logins(text))
    marker = str(requirement.marker or "")
    if marker and " or " not in marker:
        requirement.marker = Marker(marker.replace("(", "").replace(")", ""))
    return requirement


def _sorted(requirements: set[Requirement]) -> list[str]:
    return sorted(map(str, requirements))
