"""Make the locks of a project: of every cell, for every target."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import chain
from typing import TYPE_CHECKING, Any

from nox_buildstages.builder.backend_metadata import BackendMetadata
from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.declarations.upload_times import ALL, SOME, find_dates
from nox_buildstages.declarations.uv_keys import find_idle_keys
from nox_buildstages.declarations.uv_lock import UV_LOCK, find_uv_lock
from nox_buildstages.environments.targets import Target, list_targets, python_versions
from nox_buildstages.errors import BuildError, LockError, UsageError
from nox_buildstages.indexes.url_secrets import redact
from nox_buildstages.lock.files import folder, share_cells
from nox_buildstages.lock.files.diff import describe_changes
from nox_buildstages.lock.files.effects import (
    describe_unused,
    find_idle_axes,
    find_idle_constraints,
    find_idle_editables,
    find_idle_matches,
    find_unused_outputs,
)
from nox_buildstages.lock.files.inputs import digest_declarations, digest_inputs
from nox_buildstages.lock.resolve.choose_sources import IncompatibleOutputsError
from nox_buildstages.lock.resolve.from_uv_lock import make_preference
from nox_buildstages.lock.resolve.locker import Locker, MadeLocks, UnresolvableError
from nox_buildstages.lock.resolve.own_project import with_own_stage
from nox_buildstages.lock.resolve.uv_compile import SYSTEM_HINTS, Resolver
from nox_buildstages.model import FINAL, minor_version
from nox_buildstages.store.surroundings import make_private
from nox_buildstages.system.files import temporary_folder
from nox_buildstages.text import show_path
from nox_buildstages.value import Record, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.errors import BuildStagesError
    from nox_buildstages.lock.explain.cells import Failure
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.workspace.pythons import Pythons
    from nox_buildstages.workspace.session_options import Options


class ProjectLocker(Record):
    """Makes the locks of a project; the caller keeps other processes from doing so."""

    contexts: tuple[BuildContext, ...]  # of each cell, without locks
    options: Options
    pythons: Pythons
    logs: Callable[[Target], Path]  # returns the folder for the logs of wheels
    targets: tuple[tuple[Target, ...], ...] = field(init=False)  # of each cell
    dates: Mapping[str, Any] = field(init=False)  # of spans in exclude-newer
    _resolvers: dict[tuple[str, bool], Resolver] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the targets of each cell, and the dates, which are those of all."""
        projects, here = [it.project for it in self.contexts], self.pythons.interpreter
        versions = (it for project in projects for it in python_versions(project, here))
        local = self.pythons.find_local(tuple(dict.fromkeys((here.version, *versions))))
        self.targets = tuple(list_targets(it, here, local) for it in projects)
        now = datetime.now(timezone.utc)
        self.dates = find_dates(projects[0].exclude_newer, projects[0].uv, now)
        every = dict.fromkeys(it for targets in self.targets for it in targets)
        absent = ", ".join(dict.fromkeys(str(it) for it in every if it.python is None))
        if absent:
            report = self.contexts[0].tools.run.report
            report(f"using the answers of build backends here for {absent}")
        tools = self.contexts[0].tools
        if tools.run.outer.get("UV_FIND_LINKS") and self.contexts[0].project.uv:
            tools.run.report_once(
                "UV_FIND_LINKS: its files count beside those of the project's indexes"
            )
        for name, reason in (
            *tools.syncer.indexes.find_idle_variables(),
            *find_idle_keys(self.contexts[0].project.uv),
        ):
            tools.run.report_once(f"{name} has no effect here: {reason}")

    def lock_project(self) -> dict[str, Lock]:
        """Make the locks of all cells, write all files or none, and print the changes.

        Return the locks by the stems of their files.

        Raises:
            LockError: The declarations can't be satisfied.
            UsageError: No lock contains a project that is to be upgraded.
        """
        project, report = self.contexts[0].project, self.contexts[0].tools.run.report
        before = folder.read_all_locks(project)

        # With the same inputs, a span means the same date as before.
        if self.dates and not self.options.upgrades:
            inputs = self._digest_inputs(self.contexts[0])
            noted = [it.dates for it in before.values() if it.inputs == inputs]
            self.dates = next(filter(None, noted), self.dates)
        if ALL in self.dates:
            report(f"ignoring files that were uploaded after {self.dates[ALL]}")

        # Lock every cell.
        earlier = [folder.earlier_locks(it.project, before) for it in self.contexts]
        if not before and not self.options.upgrade:
            earlier = self.prefer_uv_lock()
        cells = self._lock_cells(earlier)

        # Agree on shared stages: the locks of one cell may suit the other ones, so
        # try the different locks of a stage as the earlier locks of all cells.
        error = share_cells.find_divergence(cells)
        models = [] if error is None else share_cells.distinct_cells(cells, error.stage)
        for model in models:
            preferred = [share_cells.prefer_locks_of(cell, model) for cell in cells]
            cells = self._lock_cells(preferred, is_upgrade=False)
            if share_cells.find_divergence(cells) is None:
                break
        else:
            if error is not None:
                raise error

        locks = share_cells.name_lock_files(cells)
        locked = {package.name for lock in locks for package in lock.pylock.packages}
        locked |= {output.name for lock in locks for output in lock.outputs}
        for name in self.options.upgrade_packages:
            if name not in locked:
                raise UsageError(
                    problem=f"--upgrade-package {name}: it is in no lock"
                    f"{did_you_mean(name, locked)}",
                    hint="choose a package that the lock files contain",
                )

        # Find declarations without effect: outputs that nothing installs in any cell.
        by_cell = [cell.locks for cell in cells]
        projects = [cell.project for cell in cells]
        constraints = {
            "constraints": [it for one in projects for it in one.constraints],
            "build-constraints": [
                it for one in projects for it in one.build_constraints
            ],
        }
        lines = [
            *find_idle_matches(project.match_runtime, by_cell),
            *chain.from_iterable(
                find_idle_constraints(*it, by_cell) for it in constraints.items()
            ),
            *find_idle_axes(projects),
            *dict.fromkeys(it for one in projects for it in find_idle_editables(one)),
            *sorted(frozenset.intersection(*(cell.idle_rules for cell in cells))),
        ]
        used = [
            {package.name for it in locks.values() for package in it.pylock.packages}
            for locks in by_cell
        ]
        unused = [*map(find_unused_outputs, projects, used)]
        everywhere = [it for it in unused[0] if all(it in found for found in unused)]
        lines += (describe_unused(projects[0], it) for it in everywhere)

        # Write the files and print what changed.
        written = folder.write_locks(project, locks)
        names = ", ".join(path.name for path in written)
        names = names or "nothing; all files were up to date"
        report(f"wrote to {show_path(project.lock_dir, project.root)}: {names}")
        for line in (*describe_changes(before, locks), *lines):
            report(redact(line))
        return {lock.name: lock for lock in locks}

    def prefer_uv_lock(self) -> list[dict[str, Lock]]:
        """Return earlier locks of each cell, from the project's uv.lock, if any."""
        project, report = self.contexts[0].project, self.contexts[0].tools.run.report
        try:
            uv_lock = find_uv_lock(project.root)
            if uv_lock is None:
                return [{} for _ in self.contexts]
            projects = (it.project for it in self.contexts)
            pairs = zip(projects, self.targets, strict=True)
            locks = [make_preference(uv_lock, *pair) for pair in pairs]
        except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
            report(f"{UV_LOCK} isn't used, because it can't be read: {error}")
            return [{} for _ in self.contexts]
        report(
            f"there are no lock files yet: taking the versions in {UV_LOCK} that fit;"
            " -- --upgrade moves them"
        )
        return [{FINAL: lock} for lock in locks]

    def _lock_cells(
        self, earlier: Sequence[Mapping[str, Lock]], *, is_upgrade: bool = True
    ) -> tuple[share_cells.CellLocks, ...]:
        """Make the locks of every cell."""
        cells = []
        failures: list[Failure] = []
        for context, targets, locks in zip(
            self.contexts, self.targets, earlier, strict=True
        ):
            if context.project.cell.choices:
                context.tools.run.report(f"locking for {context.project.cell}")
            made = self._lock_cell(
                context, targets, locks, failures, is_upgrade=is_upgrade
            )
            by_name = {it.name: replace(it, dates=self.dates) for it in made.locks}
            if FINAL in by_name:
                first = self.contexts[0]
                projects = [it.project for it in self.contexts]
                declared = digest_declarations(
                    projects, first.interpreter, first.tools.run
                )
                by_name[FINAL] = replace(by_name[FINAL], declared=declared)
            cells.append(
                share_cells.CellLocks(
                    project=context.project, locks=by_name, idle_rules=made.idle_rules
                )
            )
        if failures:
            from nox_buildstages.lock.explain.cells import explain_cells  # noqa: PLC0415 - few fail

            projects = [context.project for context in self.contexts]
            raise explain_cells(failures, projects) from failures[0][2]
        return tuple(cells)

    def _lock_cell(
        self,
        context: BuildContext,
        targets: tuple[Target, ...],
        earlier: Mapping[str, Lock],
        failures: list[Failure],
        *,
        is_upgrade: bool,
    ) -> MadeLocks:
        """Make the locks of a cell; note its failures, for each Python.

        Raises:
            LockError: There is no matrix, or the network or the disk failed.
        """
        project = context.project
        while any(target.python for target in targets):
            with self.open_locker(context, targets, earlier, is_upgrade=is_upgrade) as (
                locker,
                _,
            ):
                try:
                    return locker.make_locks()
                except (IncompatibleOutputsError, UnresolvableError) as caught:
                    from nox_buildstages.lock.explain.conflicts import explain  # noqa: PLC0415 - few fail

                    error: BuildStagesError = explain(caught)
                    error.__cause__, python = caught.error, ""
                    if isinstance(caught, UnresolvableError):
                        python = caught.resolver.resolver.target.version
                except (LockError, BuildError) as caught:
                    error, python = caught, ""
            if not project.cell.choices or error.hint in SYSTEM_HINTS.values():
                raise error
            is_own = python in map(minor_version, project.cell_pythons)
            python = python if is_own and len(project.pythons) > 1 else ""
            failures.append((project, python, error))
            targets = tuple(it for it in targets if python and it.version != python)
        return MadeLocks(locks=(), idle_rules=frozenset())

    @contextmanager
    def open_locker(
        self,
        context: BuildContext,
        targets: tuple[Target, ...],
        earlier: Mapping[str, Lock],
        *,
        is_upgrade: bool = True,
    ) -> Iterator[tuple[Locker, BackendMetadata]]:
        """Yield a cell's locker for some of its targets, and its metadata provider.

        Without ``is_upgrade``, the session's options for upgrades don't count.
        """
        project, tools = context.project, context.tools
        key = repr(project.uv), is_upgrade  # cells with the same settings share answers
        if key not in self._resolvers:
            self._resolvers[key] = Resolver(
                uv=tools.syncer.uv,
                python=self.pythons.environment.python,
                target=targets[0],
                runner=tools.runner,
                indexes=replace(tools.syncer.indexes, settings=project.uv),
                exclude_newer=self.dates.get(ALL, project.exclude_newer),
                exclude_newer_package=self.dates.get(SOME, {}),
                upgrade=is_upgrade and self.options.upgrade,
                upgrade_packages=self.options.upgrade_packages if is_upgrade else (),
            )
        may_move = tools.sandbox_policy.possible.may_move
        builds = tools.store.builds(may_move=may_move)
        make_private(builds)
        with temporary_folder("locking-", builds) as scratch:
            metadata_provider = BackendMetadata(
                context=context,
                environment=self.pythons.environment_for,
                logs=self.logs,
                scratch=scratch,
            )
            locker = Locker(
                project=project,
                graph=with_own_stage(project, context.graph),
                targets=targets,
                resolver=self._resolvers[key],
                metadata_provider=metadata_provider,
                inputs=self._digest_inputs(context),
                earlier=earlier,
            )
            yield locker, metadata_provider

    def _digest_inputs(self, context: BuildContext) -> str:
        projects = [it.project for it in self.contexts]
        return digest_inputs(projects, context.interpreter, context.tools.run)
