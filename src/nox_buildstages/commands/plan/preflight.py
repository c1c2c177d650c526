"""Check whether this machine can build what a plan wants to build.

This needs only locks, machine and store: no environment is made, nothing is fetched or
compiled. The other checks run when a stage starts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.builder.context import SESSION
from nox_buildstages.builder.jobs.memory import choose_need
from nox_buildstages.environments.cuda import nvcc_cuda
from nox_buildstages.preflight.facts import LONG, Disk, Facts, Known, Nvcc
from nox_buildstages.preflight.finding import merge_findings
from nox_buildstages.preflight.machine_facts import (
    COMPILER_VARIABLES,
    find_unwritable,
    free_space,
    has_gpu,
    read_host_compiler,
    read_memory,
    read_nvcc,
)
from nox_buildstages.preflight.recipe_facts import known_of
from nox_buildstages.preflight.run_checks import run_checks
from nox_buildstages.preflight.source_facts import parse_cuda, torch_of
from nox_buildstages.system.machine import is_this_machine
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.commands.plan.reasons import PlannedOutput
    from nox_buildstages.lock.files.lockfile import Pin
    from nox_buildstages.preflight.finding import Finding
    from nox_buildstages.workspace.workspace import Workspace


def check_builds(
    contexts: Iterable[tuple[Workspace, BuildContext]],
    planned: Iterable[PlannedOutput],
) -> tuple[Finding, ...]:
    """Return what the checks find about planned builds, for some cells and Pythons."""
    findings: list[Finding] = []
    builds = {(it.python, it.title, it.name): it for it in planned if it.reasons}
    for view, context in contexts:
        if not is_this_machine(view.project.machine):
            continue
        for stage in view.cell.graph.order:
            title = view.project.stage_label(stage.name)
            for output in stage.outputs:
                build = builds.pop((view.python, title, output.name), None)
                if build is not None:
                    findings += check_build(view, context, build)
    return tuple(merge_findings(findings))


def check_build(
    view: Workspace, context: BuildContext, build: PlannedOutput
) -> list[Finding]:
    """Return what the checks find about a planned build."""
    tools, store = view.tools, view.tools.store
    stage = view.cell.graph.stages[build.stage]
    output = canonicalize_name(build.name)
    pins: tuple[Pin, ...] = ()
    variables: Mapping[str, str] = stage.env
    locked: str | None = None
    if stage.name in context.locks:
        pins = context.pins(stage.name)
        variables = context.variables(stage, output)
        if context.has_own_cuda(stage, output):
            locked = nvcc_cuda({str(it.name): str(it.version) for it in pins})
    env = {"PATH": tools.run.outer.get("PATH", os.defpath), **variables}
    key = build.compared or build.key
    last = None if key is None else store.peek(key)
    known = Known()
    if build.version:
        version = Version(build.version)
        known = known_of(build.name, version, torch=torch_of(pins), variables=variables)
    need = build.memory or choose_need(stage, ())
    # Asked once: what is free changes, and outputs with equal findings share a line.
    memory = tools.run.once(
        (SESSION, "memory"), lambda: read_memory(tools.job_pool.machine)
    )
    sandbox = tools.sandbox_policy.possible
    folder = store.builds(may_move=sandbox.may_move)
    facts = Facts(
        output=f"{build.name}{view.project.stage_cell(stage.name).suffix}",
        stage=stage.name,
        python=view.python,
        variables=variables,
        network=stage.network,
        no_network=sandbox.why,
        sandbox=stage.sandbox,
        open_files=sandbox.open_files,
        is_elsewhere=not sandbox.may_move,
        known=known,
        names_cuda=context.names_cuda(stage, output),
        torch=torch_of(pins),
        has_gpu=has_gpu(),
        jobs=stage.jobs,
        memory=need.within(memory, most=stage.jobs),
        disk=Disk(
            place=str(folder),
            free=tools.run.once((SESSION, "free", folder), lambda: free_space(folder)),
            needed=last.tree_size if last else known.disk,
            is_measured=last is not None,
        ),
        unwritable=find_unwritable((store.folder, view.wheelhouse.folder)),
    )
    if locked is not None:
        own = Nvcc(version=parse_cuda(locked), place="its lock")
        facts = replace(facts, nvcc=own, has_own_cuda=True)
    elif facts.torch and facts.torch.cuda:
        chosen = tuple(env.get(it) for it in COMPILER_VARIABLES)
        nvcc, compiler = tools.run.once(
            ("nvcc", *chosen),
            lambda: (
                read_nvcc(env, tools.runner),
                read_host_compiler(env, tools.runner),
            ),
        )
        facts = replace(facts, nvcc=nvcc, compiler=compiler)
    is_long = known.is_long if last is None else last.seconds >= LONG
    return [it for it in run_checks(facts) if is_long or it.state != "later"]
