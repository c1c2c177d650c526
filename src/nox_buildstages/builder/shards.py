"""Compile a shard of an output: a share of its files, into the compiler cache alone.

The build backend runs as in any build, so its compilers get the same options. Wrappers
of the compilers decide: they compile the files of the shard, and make stand-ins of all
others. The program is `scripts/shard.py`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from nox_buildstages.builder.attempts import (
    Attempt,
    halve_jobs,
    is_out_of_memory,
    mark_out_of_memory,
)
from nox_buildstages.builder.compilers.cache import CacheUse
from nox_buildstages.builder.output import (
    begin_log,
    begin_tree,
    open_build,
    request_jobs,
)
from nox_buildstages.builder.scripts import shard as program
from nox_buildstages.errors import BackendError, BuildError
from nox_buildstages.system.files import open_text, walk
from nox_buildstages.text import count, show_path
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from nox_buildstages.builder.backend import Backend
    from nox_buildstages.builder.job import Job
    from nox_buildstages.builder.jobs.slots import BuildJobs, JobSlot
    from nox_buildstages.model import Shard
    from nox_buildstages.store.build_dir import BuildDirectory


class CompiledShare(Value):
    """The compiled files of a shard, and the files left out."""

    compiled: int = 0  # files
    others: int = 0  # files of other shards
    use: CacheUse
    stop: BackendError | None = None
    """Why the build ended early, if stand-ins may be the reason."""


def compile_share(job: Job, slot: JobSlot, shard: Shard) -> None:
    """Compile the files of a shard into the compiler cache, and remove the rest.

    The build has the folder and the lock of the real build, because compilers write
    paths into object files. No build resumes in the folder, and no wheel is kept.

    Raises:
        BuildError: A file of the shard can't be compiled, or the build failed before
            any stand-in was made.
        BuildStagesError: The compiler cache doesn't work.
    """
    tools, name = job.context.tools, job.output.name
    attempt = Attempt()
    with tools.run.wait(
        lambda begin: tools.store.hold_lock(job.recipe.key, on_wait=begin),
        "another run that builds it",
        job.place,
    ):
        if job.is_partial:
            tools.run.report(
                f"{name}: a shard removes the tree of an interrupted build"
            )
        while True:
            job.build_dir.clear()
            try:
                with tools.store.open_build_dir(job.build_dir) as build_dir:
                    tree = begin_tree(job, build_dir)
                    build_dir.forget_state()
                    request = request_jobs(job, build_dir, tree, attempt.most)
                    with job.take_jobs(slot, request) as jobs:
                        tools.run.report(
                            f"compiling shard {shard} of {name}"
                            f" {job.recipe.version} with {jobs}{job.log_note}"
                        )
                        attempt.begin(jobs.count, tools.job_pool.machine)
                        started = time.monotonic()
                        share = _run_build(job, jobs, build_dir, tree, shard)
                        seconds = time.monotonic() - started
                break
            except BuildError as error:
                failure = mark_out_of_memory(error, job, attempt)
                job.build_dir.clear()
                retry = is_out_of_memory(failure) and halve_jobs(job, attempt)
                if not retry:
                    raise failure from error.__cause__
                attempt = retry
    tools.run.report(
        f"compiled shard {shard} of {name} in {seconds:.1f} s:"
        f" {count(share.compiled, 'file')}, and {share.others} of other shards left out"
        f"{share.use.remark}"
    )
    if share.use.not_kept:
        tools.run.report(
            f"{name}: {share.use.name} can't keep {', '.join(share.use.not_kept)}; the"
            " build of the wheel compiles them again"
        )
    if share.stop is not None:
        tools.run.report(
            f"{name}: the build stopped at a step that needs the files of other shards"
            f" ({share.stop.reason}); log:"
            f" {show_path(job.log, job.context.project.root)}"
        )
    elif not share.compiled and not share.others:
        tools.run.report(
            f"{name}: nothing was compiled that can be divided, so shards save no time"
        )


def _run_build(
    job: Job, jobs: BuildJobs, build_dir: BuildDirectory, tree: Path, shard: Shard
) -> CompiledShare:
    """Run the build of a shard, and return the result.

    Raises:
        BuildError: A file of the shard can't be compiled, or the build failed before
            any stand-in was made.
    """
    sources = list_sources(build_dir.source)
    begin_log(job, jobs, Attempt(), resumes=False)
    stop = None
    with open_build(job, jobs, build_dir, tree) as (backend, cache):
        build_dir.started.write_text("", encoding="ascii")
        with job.log.open("a", encoding="utf-8") as log:
            log.write(f"shard: {shard}, of {count(len(sources), 'source')}\n\n")
        chosen = _install_program(backend, build_dir, shard, sources)
        variables = {**backend.env, program.SHARD: str(chosen)}
        with job.context.tools.run.step(
            *("compile", job.place), jobs=jobs.count, log=str(job.log)
        ):
            try:
                replace(backend, env=variables).build_wheel(build_dir.wheel)
            except BackendError as error:
                stop = error
        use = cache.count() if cache else CacheUse()
    notes = _read_notes(build_dir.started)
    if stop is not None:
        may_be_expected = notes["other"] and not (
            notes["failed"] or stop.out_of_memory or stop.full_disk or stop.refused
        )
        if not may_be_expected:
            raise stop
    return CompiledShare(
        compiled=len(notes["compiled"]),
        others=len(notes["other"]),
        use=use,
        stop=stop,
    )


def list_sources(tree: Path) -> list[str]:
    """Return the sources of a tree that may be divided, in order."""
    return sorted(
        Path(folder, name).relative_to(tree).as_posix()
        for folder, _, names in walk(tree)
        for name in names
        if name.endswith(program.SUFFIXES)
    )


def _install_program(
    backend: Backend, build_dir: BuildDirectory, shard: Shard, sources: list[str]
) -> Path:
    """Put the program that decides into the build's home, and return its path."""
    folder = build_dir.home / "shard"
    folder.mkdir()
    own = folder / "shard.py"
    shutil.copyfile(program.__file__, own)
    settings, chosen = folder / "settings.json", folder / "choose"
    see = backend.sandbox.translate
    texts = {
        "source": see(str(build_dir.source)),
        "build": see(str(build_dir.build)),
        "notes": see(str(build_dir.started)),
    }
    numbers = {"number": shard.number, "count": shard.count}
    settings.write_text(
        json.dumps({**texts, **numbers, "sources": sources}), encoding="utf-8"
    )
    words = map(quote, map(str, (backend.python, "-I", "-S", own, settings)))
    chosen.write_text(
        see(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n'), encoding="utf-8"
    )
    chosen.chmod(0o755)
    return chosen


def _read_notes(notes: Path) -> dict[str, set[str]]:
    """Return the noted files by the result."""
    found: dict[str, set[str]] = defaultdict(set)
    with open_text(notes) as lines:
        for line in lines:
            what, mark, file = line.rstrip("\n").partition("\t")
            if mark:
                found[what].add(file)
    return found
