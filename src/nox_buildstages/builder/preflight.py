"""Check for reasons to fail before a long build compiles."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages import reader
from nox_buildstages.builder.supervisor import Supervisor
from nox_buildstages.errors import CommandError, PreflightError
from nox_buildstages.preflight.facts import Disk, Facts
from nox_buildstages.preflight.finding import format_findings, merge_findings
from nox_buildstages.preflight.machine_facts import (
    find_nvcc,
    free_space,
    has_gpu,
    read_ccache,
    read_host_compiler,
    read_memory,
    read_nvcc,
)
from nox_buildstages.preflight.run_checks import run_checks
from nox_buildstages.preflight.source_facts import (
    read_source,
    read_torch,
    read_torch_headers,
)
from nox_buildstages.preflight.trial_build import Trial, run_trial
from nox_buildstages.store.inventory import disk_size
from nox_buildstages.system.files import remove_tree
from nox_buildstages.system.process import USUAL_UMASK, Command, helper_variables
from nox_buildstages.text import count
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nox_buildstages.builder.backend import Backend
    from nox_buildstages.builder.job import Job
    from nox_buildstages.preflight.facts import Language, TrialResult
    from nox_buildstages.store.build_dir import BuildDirectory
    from nox_buildstages.system.process import Completed

_PATHS = """
import json, sys, sysconfig
scheme = "venv" if "venv" in sysconfig.get_scheme_names() else "posix_prefix"
places = {"base": sys.argv[1], "platbase": sys.argv[1]}
names = "include", "platlib"
print(json.dumps([sysconfig.get_path(it, scheme, vars=places) for it in names]))
"""


def check_before_compile(job: Job, backend: Backend, build_dir: BuildDirectory) -> None:
    """Check a build that would take long, when its backend is ready to compile.

    Raises:
        PreflightError: The build would fail.
    """
    started = time.monotonic()
    with job.context.tools.run.step("preflight", job.place) as said:
        facts = find_facts(job, backend, build_dir)
        findings = merge_findings(run_checks(facts))
        warnings = [it.line for it in findings if it.state == "warning"]
        said |= {"checks": len(findings), "warnings": warnings}
    lines = [*format_findings(findings, encoding="utf-8")]
    with job.log.open("a", encoding="utf-8") as log:
        log.writelines(f"{line}\n" for line in ("preflight:", *lines, ""))
    run, name = job.context.tools.run, job.output.name
    failed = [it for it in findings if it.state == "error"]
    if failed:
        first, *others = failed
        raise PreflightError(
            subject=f"{name} (stage {job.stage.name})",
            problem=first.text,
            details=[
                *format_findings(
                    [replace(it, outputs=()) for it in others],
                    encoding=getattr(sys.stderr, "encoding", None) or "utf-8",
                ),
                "nothing was compiled; to build anyway: -- --no-preflight",
            ],
            log=job.log,
            hint=first.hint,
        )
    for it in findings:
        if it.state == "warning":
            run.report(f"! {it.line}")
    took = time.monotonic() - started
    checks = count(len(findings), "check")
    run.report(f"{name}: {checks} before it compiles took {took:.1f} s")


def find_facts(job: Job, backend: Backend, build_dir: BuildDirectory) -> Facts:
    """Return the facts about a build in a stage's environment."""
    context, stage, env = job.context, job.stage, backend.env
    previous, known = job.history.previous(job.recipe), job.known
    tools = context.tools
    include, packages = _find_folders(backend)
    source = read_source(backend.tree)
    torch = read_torch(packages) if packages else None
    need = job.memory_need
    missing_header: str | None = None
    if include is not None:
        header = include / "Python.h"
        missing_header = "" if header.is_file() else str(header)
    facts = Facts(
        output=job.output.name,
        stage=stage.name,
        python=context.interpreter.version,
        variables=env,
        network=stage.network,
        no_network=tools.sandbox_policy.possible.why,
        sandbox=stage.sandbox,
        open_files=tools.sandbox_policy.possible.open_files,
        is_elsewhere=not job.sandbox.may_move,
        known=known,
        has_built=previous is not None and previous.recipe.source == job.recipe.source,
        has_own_cuda=context.has_own_cuda(stage, job.output.name),
        names_cuda=context.names_cuda(stage, job.output.name),
        may_have_nvcc=find_nvcc(env) is not None,
        torch=torch,
        has_ninja=shutil.which("ninja", path=env["PATH"]) is not None,
        ccache=read_ccache(job.compiler_cache, tools.runner),
        has_gpu=has_gpu(),
        jobs=stage.jobs,
        missing_header=missing_header,
        source=source,
        memory=need.within(read_memory(tools.job_pool.machine), most=stage.jobs),
        disk=Disk(
            place=str(build_dir.folder.parent),
            free=free_space(build_dir.folder),
            needed=previous.tree_size if previous else known.disk,
            is_measured=previous is not None,
            used=disk_size(build_dir.folder),
        ),
    )
    has_cuda = facts.has_own_cuda or bool(torch and torch.cuda)
    is_cuda = facts.compiles_cuda and has_cuda
    if is_cuda:
        facts = replace(
            facts,
            nvcc=read_nvcc(env, tools.runner),
            compiler=read_host_compiler(env, tools.runner),
        )
    language: Language | None = None
    for it in ("C", "C++", "CUDA"):
        if it in source.languages and (it != "CUDA" or (is_cuda and facts.nvcc)):
            language = it
    if language is None:
        return facts
    trial = Trial(
        language=language,
        variables=env,
        nvcc=find_nvcc(env),
        python_headers=None if facts.missing_header else include,
    )
    if language == "CUDA" and torch is not None and packages is not None:
        headers = read_torch_headers(packages) if source.has_torch_on_gpu else ()
        trial = replace(trial, torch=packages / "torch", headers=headers)
    return replace(facts, trial=try_to_compile(trial, job, backend, build_dir))


def try_to_compile(
    trial: Trial, job: Job, backend: Backend, build_dir: BuildDirectory
) -> TrialResult:
    """Compile the lines of a trial as the build would, and log the output."""

    def run(argv: Sequence[str], folder: Path) -> Completed:
        command = Command(
            argv=tuple(argv),
            cwd=folder,
            env={**backend.env, "CCACHE_DISABLE": "1"},  # its hits are counted
            attend=backend.attend,
            umask=USUAL_UMASK,
        )
        return job.context.tools.runner(
            Supervisor().around(backend.sandbox.wrap(command))
        )

    folder = build_dir.home / "trial"
    try:
        result, log = run_trial(trial, folder, run)
    finally:
        remove_tree(folder)
    with job.log.open("a", encoding="utf-8") as file:
        # Indented, so that nobody counts its compilers as progress.
        file.writelines(f"  | {line}\n" for line in backend.mask.hide(log).splitlines())
    return result


def _find_folders(backend: Backend) -> tuple[Path | None, Path | None]:
    """Return the folders of Python's headers and of the packages in an environment."""
    location = str(backend.python.parent.parent)
    argv = (str(backend.python), "-I", "-S", "-c", _PATHS, location)
    with suppress(CommandError, ValueError):
        env = helper_variables(backend.env)
        answer = backend.runner(Command(argv=argv, cwd=Path("/"), env=env))
        paths = reader.parse_json(answer.stdout, reader.list_of(reader.text))
        include, packages = map(Path, paths)
        return include, packages
    return None, None
