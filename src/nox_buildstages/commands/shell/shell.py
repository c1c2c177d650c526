"""``build-stages-shell``: a shell in the source and environment of an output."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from nox_buildstages.builder.compilers.cache import find_cache, use_cache
from nox_buildstages.builder.job import Job
from nox_buildstages.builder.jobs.slots import BuildJobs
from nox_buildstages.builder.prepare import occupy_environment, prepare_environment
from nox_buildstages.builder.sandbox.files import BuildFiles
from nox_buildstages.commands.shell.changes import (
    find_changes,
    find_roots,
    is_source,
    list_stamps,
    load_made,
    make_patch,
    note_made,
)
from nox_buildstages.config.graph import session_folder
from nox_buildstages.config.writing import indent, package_table
from nox_buildstages.environments.environment import is_complete
from nox_buildstages.environments.targets import Target
from nox_buildstages.errors import (
    BuildStagesError,
    ChangedEnvironmentError,
    CommandError,
    UsageError,
    not_run,
)
from nox_buildstages.model import DirectorySource
from nox_buildstages.safe_text import show
from nox_buildstages.store.failed_builds import remove_kept_trees
from nox_buildstages.store.key import digest_json
from nox_buildstages.system.files import make_ignored_folder, remove_tree
from nox_buildstages.system.process import USUAL_UMASK, Command, run_in_foreground
from nox_buildstages.system.terminal import print_lines
from nox_buildstages.text import free_name, show_path
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from nox_buildstages.builder.backend import Backend
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.model import Stage
    from nox_buildstages.store.build_dir import BuildDirectory
    from nox_buildstages.workspace.workspace import Workspace

_FOR_PEOPLE = ("TERM", "COLORTERM", "EDITOR", "VISUAL")
"""Variables of the shell that a build doesn't have."""


def run_shell(workspace: Workspace) -> None:
    """Run a shell as the build backend of an output would run; then offer a patch.

    Raises:
        BuildStagesError: The store lacks a wheel of an earlier stage, the shell can't
            be started, or without a terminal it failed.
    """
    (name,), tools = workspace.options.names, workspace.tools
    view, target, stage = _select_stage(workspace, name)
    cell = view.cell
    needed = (stage.name, *cell.graph.ancestors(stage.name))
    locks, _ = view.ensure_locks(needed)
    context = replace(view.context(locks), logs=tools.store.folder / "logs")
    job = Job(
        context=context,
        stage=stage,
        output=next(it for it in locks[stage.name].outputs if it.name == name),
        environment=_find_environment(view, target, stage),
        compiler_cache=find_cache(context, stage),
    )
    make_ignored_folder(job.log.parent)
    job.log.touch()
    hold_key = tools.run.wait(
        lambda begin: tools.store.hold_lock(job.recipe.key, on_wait=begin),
        f"waiting for another run that builds {name}",
    )
    with occupy_environment(tools, job.environment), hold_key:
        prepare_environment(context, stage, job.environment)
        if not job.environment.may_run():
            raise not_run(stage.name, name)
        session = _open_tree(job)
        try:
            status = session.run()
            has_changes = session.offer_patch()
            if not (has_changes or session.is_kept):
                session.build_dir.clear()
        finally:
            remove_tree(session.scratch)
    if status and not sys.stdin.isatty():
        raise BuildStagesError(
            subject=job.title, problem=f"the shell ended with exit status {status}"
        )


def _select_stage(workspace: Workspace, name: str) -> tuple[Workspace, Target, Stage]:
    """Return the first selected cell with an output, a Python, and the stage.

    Raises:
        UsageError: No selected cell has the output, or the Python isn't available.
    """
    select = dict(workspace.options.select)
    version = select.pop("python", workspace.python)
    found = workspace.pythons.find_local((version,))
    for cell in workspace.cells.cells:
        choices = dict(cell.project.cell.choices)
        if select.items() <= choices.items() and found:
            python, interpreter = found[version]
            target = Target(interpreter=interpreter, python=python)
            for stage in cell.project.stages:
                if any(output.name == name for output in stage.outputs):
                    view = replace(workspace, cell=cell, interpreter=interpreter)
                    return view, target, stage
    words = " ".join(f"{axis}={it}" for axis, it in workspace.options.select)
    raise UsageError(
        problem=f"{name} has no cell with {words} on this machine",
        hint="the plan lists the cells and their outputs:\n  nox -s build-stages-plan",
    )


def _find_environment(view: Workspace, target: Target, stage: Stage) -> Environment:
    """Return the environment of a stage's session, or an environment of this session.

    The tree of a failed build contains the path of the environment.
    """
    own, name = view.environment, view.cell.session(stage)
    if view.project.pythons:
        name = f"{name}-{view.python}"
    location = own.location.with_name(session_folder(name))
    python = location / "bin" / "python"
    with suppress(CommandError):  # its Python is gone
        if is_complete(location) and view.tools.probe(python) == view.interpreter:
            own = replace(own, location=location, bin=python.parent, is_made=True)
            return replace(own, python=python)
    return view.pythons.environment_for(target)


def _open_tree(job: Job) -> ShellSession:
    """Return the tree of the failed build, or a fresh one, and the original source."""
    store, report = job.context.tools.store, job.context.tools.run.report
    build_dir, source = job.build_dir, job.output.source
    if job.is_partial:
        key = digest_json([job.recipe.key, "shell"])
        build_dir = store.build_dir(key, may_move=job.sandbox.may_move)
        report("the interrupted build stays as it is; this is another tree")
    build_dir.folder.mkdir(parents=True, exist_ok=True)
    unpack = partial(
        job.context.tools.sources.unpack,
        source,
        patches=job.context.patches(job.output.name),
    )
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=build_dir.folder.parent))
    with ExitStack() as on_failure:
        on_failure.callback(remove_tree, folder)
        original = _find_top(unpack(folder / "source"), source.subdirectory)
        failed = build_dir.failed_build()
        is_kept = failed is not None and failed.environment == str(job.location)
        if failed is not None and is_kept:
            project = build_dir.folder / failed.project
        else:
            remove_kept_trees(store, job.output.name)
            project = build_dir.begin(job.location, unpack)
            build_dir.keep_tree(job.output.name)
        on_failure.pop_all()
    top = _find_top(project, source.subdirectory)
    if load_made(build_dir.made) is None:  # what the failed build has changed
        stamps = list_stamps(top)
        made = {it: stamps.get(it) for it in find_changes(original, top, {})}
        note_made(build_dir.made, {}, made)
    kind = "the tree of its failed build" if is_kept else "its source"
    pattern = f"{build_dir.folder.name[:12]}*"  # shells find the folder by it
    report(f"{job.title}: {kind}, {build_dir.folder.with_name(pattern)}")
    return ShellSession(
        job=job,
        build_dir=build_dir,
        is_kept=is_kept,
        project=project,
        top=top,
        scratch=folder,
        original=original,
    )


def _find_top(project: Path, subdirectory: str | None) -> Path:
    """Return the top of the source, to which the paths in patches are relative."""
    depth = len(Path(subdirectory or "").parts)
    return (project, *project.parents)[depth]


class ShellSession(Value):
    """A shell in the source of an output."""

    job: Job
    build_dir: BuildDirectory
    project: Path  # in which the hooks run
    top: Path  # of the source
    is_kept: bool  # whether the tree is that of a failed build
    scratch: Path  # removed afterwards
    original: Path  # the top of the source without any changes

    def run(self) -> int:
        """Run the shell until it ends; return the exit status."""
        job, run = self.job, self.job.context.tools.run
        # A failed build may have left links in its home, to files of the user.
        remove_tree(self.build_dir.home)
        for folder in (self.build_dir.home, self.bin):
            folder.mkdir(exist_ok=True)
        with use_cache(
            job.context.tools,
            job.compiler_cache,
            stage=job.stage.name,
            sandbox=job.restrict(
                *(self.build_dir.folder, {"PATH": job.search_path, **job.variables}),
                write=[self.build_dir.folder],
            ),
            declared=job.declared_in(self.build_dir.folder),
        ) as cache:
            count = job.context.tools.job_pool.count_alone(job.request())
            try:
                with job.open_backend(
                    "compile",
                    self.project,
                    BuildFiles(
                        home=self.build_dir.home,
                        writable=(self.build_dir.folder,),
                        # For ``rebuild``.
                        readable=(
                            *map(Path, (sys.prefix, sys.base_prefix)),
                            Path(__file__).parents[3],
                        ),
                    ),
                    jobs=BuildJobs.of(count),
                    cache=cache,
                ) as backend:
                    run.report(
                        f"network {job.sandbox}; `rebuild` builds, `exit` leaves"
                    )
                    return self._run_shell(backend.with_build_dir(self.build_dir.build))
            except ChangedEnvironmentError as error:
                run.report(f"{error.summary}; it is made again before the next build")
                return 0

    @property
    def bin(self) -> Path:
        """The folder of the program ``rebuild``, first on PATH."""
        return self.build_dir.folder / "bin"

    def _run_shell(self, backend: Backend) -> int:
        sandbox, tools = backend.sandbox, self.job.context.tools
        outer = tools.run.outer
        settings = self.bin / "rebuild.json"
        texts = {
            "tree": str(self.project),
            "top": str(self.top),
            "made": str(self.build_dir.made),
            "path": backend.env["PATH"],
        }
        content = {
            **{name: sandbox.translate(text) for name, text in texts.items()},
            "backend": backend.system.backend,
            "backend-path": backend.system.backend_path,
            "python": str(backend.python),
            "settings": backend.hook_settings(),
            "without": [it for it in _FOR_PEOPLE if it not in backend.env],
        }
        settings.write_text(json.dumps(content), encoding="utf-8")
        module = "nox_buildstages.commands.shell.rebuild"
        words = (sys.executable, "-I", "-m", module, sandbox.translate(str(settings)))
        program = self.bin / "rebuild"
        program.write_text(f"#!/bin/sh\nexec {' '.join(map(quote, words))}\n")
        program.chmod(0o755)
        env = {
            **{name: outer[name] for name in _FOR_PEOPLE if name in outer},
            **backend.env,
            "PATH": f"{self.bin}:{backend.env['PATH']}",
        }
        shells = (it for it in (outer.get("SHELL"), "bash", "/bin/sh") if it)
        found = (shutil.which(it, path=outer.get("PATH")) for it in shells)
        for shell in filter(None, found):
            command = Command(
                argv=(shell,), cwd=self.project, env=env, umask=USUAL_UMASK
            )
            trial = replace(command, argv=(shell, "-c", "exit"))
            if not tools.runner(sandbox.wrap(trial)).returncode:
                break
            tools.run.report(f"{shell} doesn't start in the sandbox")
        return run_in_foreground(sandbox.wrap(command))

    def offer_patch(self) -> bool:
        """Offer the changes of the source as a patch; return whether any exist."""
        job = self.job
        run, root = job.context.tools.run, job.context.project.root
        made = load_made(self.build_dir.made) or {}
        changes = find_changes(self.original, self.top, made)
        changed = [it for it in changes if is_source(self.original, self.top, it)]
        others = [it for it in changes if it not in changed]
        if others:
            roots = ", ".join(find_roots(self.original, others))
            run.report(f"new, and left out of a patch: {roots}")
        if not changed:
            run.report("no file of the source was changed")
            return False
        text = make_patch(
            self.original, self.top, changed, runner=job.context.tools.runner
        )
        names = {it.name for it in root.joinpath("patches").glob("*")}
        stem = free_name(job.output.name, {it.removesuffix(".patch") for it in names})
        patch = Path("patches", f"{stem}.patch")
        files = "1 file" if len(changed) == 1 else f"{len(changed)} files"
        run.report(f"you changed {files}: {', '.join(changed)}")
        if _asks(f"write the changes to {patch}? [Y/n] "):
            root.joinpath(patch).parent.mkdir(exist_ok=True)
            with root.joinpath(patch).open("xb") as file:
                file.write(text)
            lines = [f"wrote {patch}"]
        else:
            kept = self.build_dir.folder / patch.name
            kept.write_bytes(text)
            command = f"cp {quote(str(kept))} {quote(str(patch))}"
            lines = ["to take the patch:", f"  mkdir -p patches && {command}"]
        lines += self._describe_use(patch)
        print_lines(map(show, lines), stream=sys.stdout)
        return True

    def _describe_use(self, patch: Path) -> list[str]:
        """Return lines about how to build with the patch."""
        name, source = self.job.output.name, self.job.output.source
        rules = self.job.context.project.rules(name)
        names = [*(it.name for it in rules.patches), patch.as_posix()]
        lines = ["help: build with it, in pyproject.toml:"]
        lines += indent(package_table(name, "patches", names))
        root = self.job.context.project.root
        if isinstance(source, DirectorySource):
            folder = (root / source.path).resolve()
            if folder.is_relative_to(root.resolve()):
                path = quote(show_path(folder, root.resolve()))
                lines += [
                    f"or, as {path} is a folder of this project, change its files:",
                    f"  git apply --directory={path} {quote(str(patch))}",
                ]
        return lines


def _asks(question: str) -> bool:
    """Ask a question on a terminal; without one the answer is no."""
    if not sys.stdin.isatty():
        return False
    try:
        return input(question).strip().lower() in {"", "y", "yes"}
    except (EOFError, KeyboardInterrupt):
        return False
