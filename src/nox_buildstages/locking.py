"""Making the locks of a project at work, and proposing what it lacks."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.build.workshop import StageWorkshop
from nox_buildstages.errors import UsageError
from nox_buildstages.lock import changes, folder
from nox_buildstages.lock.inputs import inputs_digest
from nox_buildstages.lock.relock import Relock
from nox_buildstages.lock.resolver import Resolver
from nox_buildstages.lock.targets import targets, versions
from nox_buildstages.logins import redacted
from nox_buildstages.proposal.proposer import Proposer
from nox_buildstages.proposal.trials import Trials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nox_buildstages.build.bench import Bench
    from nox_buildstages.declare.writing import Proposal
    from nox_buildstages.lock.lockfile import Lock
    from nox_buildstages.lock.targets import Target
    from nox_buildstages.options import Options
    from nox_buildstages.pythons import Pythons


@dataclass(frozen=True, kw_only=True, slots=True)
class Locking:
    """What locks are made with; one at a time works in a project.

    Attributes:
        bench: Of the project; its locks are not looked at.
        options: The words after ``--``.
        pythons: Those that the backends are asked in.
        logs: Returns the folder for the logs of wheels that are built for a target.
    """

    bench: Bench
    options: Options
    pythons: Pythons
    logs: Callable[[Target], Path]

    def write(self) -> dict[str, Lock]:
        """Make the locks, write them, and tell what changed.

        Raises:
            LockError: There are none that satisfy what is declared.
            UsageError: What is to be upgraded is in none of them.
        """
        with self._workshop() as workshop:
            locks = self._relock(workshop).locks()
        _check_upgraded(self.options, locks)
        project, report = self.bench.project, self.bench.tools.report
        before = folder.existing(project)
        written = folder.write(project, locks)
        names = ", ".join(path.name for path in written) or "nothing; all were right"
        report(f"wrote to {project.lock_dir}: {names}")
        for line in changes.told(before, locks):
            report(redacted(line))
        return {lock.name: lock for lock in locks}

    def proposal(self, *, begun: bool) -> Proposal | None:
        """Return the stages that the project lacks; None where it lacks none.

        Locks that are made on the way are not written.

        Args:
            begun: Whether the table is there already.

        Raises:
            BuildStagesError: It can't be found out.
        """
        with self._workshop() as workshop:
            return Proposer(
                project=self.bench.project,
                begun=begun,
                trials=Trials(relock=self._relock(workshop), workshop=workshop),
                report=self.bench.tools.report,
            ).propose()

    @contextmanager
    def _workshop(self) -> Iterator[StageWorkshop]:
        builds = self.bench.tools.store.folder / "builds"
        builds.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="locking-", dir=builds) as scratch:
            yield StageWorkshop(
                bench=self.bench,
                environment=self.pythons.environment_for,
                logs=self.logs,
                scratch=Path(scratch),
            )

    def _relock(self, workshop: StageWorkshop) -> Relock:
        bench, found = self.bench, self._targets()
        return Relock(
            project=bench.project,
            graph=bench.graph,
            targets=found,
            resolver=self._resolver(found[0]),
            workshop=workshop,
            inputs=inputs_digest(bench.project, bench.interpreter),
            earlier=folder.existing(bench.project),
        )

    def _targets(self) -> tuple[Target, ...]:
        project, here = self.bench.project, self.bench.interpreter
        at_hand = self.pythons.at_hand(versions(project, here))
        found = targets(project, here, at_hand)
        absent = ", ".join(str(target) for target in found if target.python is None)
        if absent:
            self.bench.tools.report(f"what backends say here is taken for {absent}")
        return found

    def _resolver(self, target: Target) -> Resolver:
        project, tools = self.bench.project, self.bench.tools
        return Resolver(
            uv=tools.syncer.uv,
            python=self.pythons.environment.python,
            target=target,
            runner=tools.runner,
            root=project.root,
            settings=project.uv,
            exclude_newer=project.exclude_newer,
            upgrade=self.options.upgrade,
            upgrade_packages=self.options.upgrade_packages,
            outer=tools.outer,
            logins=tools.syncer.indexes.logins,
        )


def _check_upgraded(options: Options, locks: Iterable[Lock]) -> None:
    held = {package.name for lock in locks for package in lock.pylock.packages}
    held |= {output.name for lock in locks for output in lock.outputs}
    for name in options.upgrade_packages:
        if name not in held:
            raise UsageError(
                message=f"--upgrade-package {name}: it is in no lock",
                mend="the lock files name every project that can be upgraded",
            )
