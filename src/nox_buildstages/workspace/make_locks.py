"""Making the locks of a project at work, and proposing what it lacks."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.builder.metadata import BackendMetadata
from nox_buildstages.commands.init.proposer import Proposer
from nox_buildstages.commands.init.trials import Trials
from nox_buildstages.environments.targets import list_targets, python_versions
from nox_buildstages.errors import UsageError
from nox_buildstages.indexes.logins import redact
from nox_buildstages.lock.files import diff as changes, folder
from nox_buildstages.lock.files.inputs import digest_of_cells
from nox_buildstages.lock.files.share_cells import (
    Locked,
    divergence,
    filed,
    models,
    preferring,
)
from nox_buildstages.lock.resolve.locker import Locker
from nox_buildstages.lock.resolve.own_project import joined
from nox_buildstages.lock.resolve.uv_compile import Resolver

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from nox_buildstages.builder.context import BuildContext, Tools
    from nox_buildstages.commands.init.pyproject import Proposal
    from nox_buildstages.environments.targets import Target
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.resolve.metadata import BackendAnswer
    from nox_buildstages.workspace.options import Options
    from nox_buildstages.workspace.pythons import Pythons


@dataclass(frozen=True, kw_only=True, slots=True)
class Locking:
    """What locks are made with; one at a time works in a project.

    Attributes:
        benches: Of each cell of the project; their locks are not looked at.
        options: The words after ``--``.
        pythons: Those that the backends are asked in.
        logs: Returns the folder for the logs of wheels that are built for a target.
    """

    contexts: tuple[BuildContext, ...]
    options: Options
    pythons: Pythons
    logs: Callable[[Target], Path]
    _resolvers: dict[str, Resolver] = field(default_factory=dict)
    _told: dict[Hashable, BackendAnswer] = field(default_factory=dict)
    _targets: list[Target] = field(default_factory=list)

    @property
    def _tools(self) -> Tools:
        return self.contexts[0].tools

    def write(self) -> dict[str, Lock]:
        """Make the locks, write them, and tell what changed.

        Returns:
            The locks by the names of their files.

        Raises:
            LockError: There are none that satisfy what is declared.
            UsageError: What is to be upgraded is in none of them.
        """
        project, report = self.contexts[0].project, self._tools.report
        before = folder.existing(project)
        locks = filed(self._agreed(before))
        _check_upgraded(self.options, locks)
        written = folder.write(project, locks)
        names = ", ".join(path.name for path in written) or "nothing; all were right"
        report(f"wrote to {project.lock_dir}: {names}")
        for line in changes.told(before, locks):
            report(redact(line))
        return {lock.name: lock for lock in locks}

    def _agreed(self, before: Mapping[str, Lock]) -> tuple[Locked, ...]:
        """Make the locks of every cell, until those agree that share a stage.

        What one of them had to have may do for the others too, so its locks are tried
        as what there was before.

        Raises:
            DivergingStageError: Nothing does for all.
        """
        projects = [context.project for context in self.contexts]
        found = self.made([folder.earlier(it, before) for it in projects])
        error = divergence(found)
        for model in () if error is None else models(found, error.stage):
            found = self._kept().made([preferring(it, model) for it in found])
            if divergence(found) is None:
                return found
        if error is not None:
            raise error
        return found

    def _kept(self) -> Locking:
        """Return what keeps the versions that there were."""
        options = replace(self.options, upgrade=False, upgrade_packages=())
        return replace(self, options=options, _resolvers={})

    def made(self, earlier: Sequence[Mapping[str, Lock]]) -> tuple[Locked, ...]:
        """Make the locks of every cell once, each with what there was of it."""
        found = []
        for context, before in zip(self.contexts, earlier, strict=True):
            if context.project.cell.choices:
                self._tools.report(f"locking for {context.project.cell}")
            with self._workshop(context) as metadata_provider:
                locks = self._relock(metadata_provider, before).locks()
            by_name = {lock.name: lock for lock in locks}
            found.append(Locked(project=context.project, locks=by_name))
        return tuple(found)

    def proposal(self, *, begun: bool) -> Proposal | None:
        """Return the stages that the project lacks; None where it lacks none.

        Locks that are made on the way are not written.

        Args:
            begun: Whether the table is there already.

        Raises:
            BuildStagesError: It can't be found out.
        """
        context = self.contexts[0]
        before = folder.existing(context.project)
        with self._workshop(context) as metadata_provider:
            relock = self._relock(metadata_provider, before)
            return Proposer(
                project=context.project,
                begun=begun,
                trials=Trials(relock=relock, metadata_provider=metadata_provider),
                report=self._tools.report,
            ).propose()

    @contextmanager
    def _workshop(self, context: BuildContext) -> Iterator[BackendMetadata]:
        builds = context.tools.store.folder / "builds"
        builds.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="locking-", dir=builds) as scratch:
            yield BackendMetadata(
                context=context,
                environment=self.pythons.environment_for,
                logs=self.logs,
                scratch=Path(scratch),
                told=self._told,
            )

    def _relock(
        self, metadata_provider: BackendMetadata, earlier: Mapping[str, Lock]
    ) -> Locker:
        context, found = metadata_provider.context, self._found_targets()
        projects = [context.project for context in self.contexts]
        return Locker(
            project=context.project,
            graph=joined(context.project, context.graph),
            targets=found,
            resolver=self._resolver(context, found[0]),
            metadata_provider=metadata_provider,
            inputs=digest_of_cells(projects, context.interpreter),
            earlier=earlier,
        )

    def _found_targets(self) -> tuple[Target, ...]:
        """Return what is locked for, looked for once, as all cells have it."""
        if not self._targets:
            self._targets.extend(self._find_targets())
        return tuple(self._targets)

    def _find_targets(self) -> tuple[Target, ...]:
        context = self.contexts[0]
        project, here = context.project, context.interpreter
        at_hand = self.pythons.at_hand(python_versions(project, here))
        found = list_targets(project, here, at_hand)
        absent = ", ".join(str(target) for target in found if target.python is None)
        if absent:
            self._tools.report(f"what backends say here is taken for {absent}")
        return found

    def _resolver(self, context: BuildContext, target: Target) -> Resolver:
        """Return what resolves for a cell, and knows what it answered for others."""
        project, tools, options = context.project, context.tools, self.options
        settings = repr(project.uv)
        if settings not in self._resolvers:
            self._resolvers[settings] = Resolver(
                uv=tools.syncer.uv,
                python=self.pythons.environment.python,
                target=target,
                runner=tools.runner,
                root=project.root,
                settings=project.uv,
                exclude_newer=project.exclude_newer,
                upgrade=options.upgrade,
                upgrade_packages=options.upgrade_packages,
                outer=tools.outer,
                logins=tools.syncer.indexes.logins,
            )
        return self._resolvers[settings]


def _check_upgraded(options: Options, locks: Iterable[Lock]) -> None:
    held = {package.name for lock in locks for package in lock.pylock.packages}
    held |= {output.name for lock in locks for output in lock.outputs}
    for name in options.upgrade_packages:
        if name not in held:
            raise UsageError(
                message=f"--upgrade-package {name}: it is in no lock",
                hint="the lock files name every project that can be upgraded",
            )
