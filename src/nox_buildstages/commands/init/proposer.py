"""Propose stages by trial: lock, learn from the failure, and lock again.

The result is known to resolve, with declared and undeclared build requirements.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages import errors
from nox_buildstages.builder.diagnosis.modules import find_projects
from nox_buildstages.commands.init.draft import (
    CYCLE_HINT,
    Draft,
    ProposedOutput,
    add_dependency,
)
from nox_buildstages.commands.init.pyproject import render, write_addition
from nox_buildstages.config.graph import arrange
from nox_buildstages.config.writing import build_requires_table, indent
from nox_buildstages.lock.files import folder
from nox_buildstages.lock.resolve.known_metadata import BackendAnswer
from nox_buildstages.lock.resolve.locker import UnresolvableError
from nox_buildstages.lock.resolve.source_choice import is_direct
from nox_buildstages.lock.resolve.source_chooser import IncompatibleOutputsError
from nox_buildstages.lock.resolve.uv_compile import FROM_SOURCE, Question
from nox_buildstages.model import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.builder.backend_metadata import BackendMetadata
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.resolve.known_metadata import (
        BackendQuery,
        MetadataProvider,
    )
    from nox_buildstages.lock.resolve.locker import Locker
    from nox_buildstages.model import Project, Source
    from nox_buildstages.workspace.workspace import Workspace

MAX_GUESSES = 8
"""The number of undeclared modules to find a project for, for one output."""

_ABOUT = (
    "The build backends listed the build requirements. Modules that a build",
    "imports only while it makes the wheel aren't among them: the error of",
    "that build names them. Optional build requirements, without which a",
    "build makes another wheel, aren't among them either.",
)


def run_init(workspace: Workspace, *, has_table: bool) -> None:
    """Propose stages for dependencies without a wheel, without writing any lock.

    Raises:
        BuildStagesError: No stages can be proposed, or they can't be written.
    """
    report = workspace.tools.run.report
    with workspace.hold_lock():
        project_locker = workspace.project_locker()
        context = project_locker.contexts[0]
        earlier = folder.read_all_locks(context.project)
        with project_locker.open_locker(context, earlier) as (locker, provider):
            text = Proposer(
                project=context.project,
                has_table=has_table,
                locker=locker,
                provider=provider,
                report=report,
            ).propose()
    if text is None:
        report(
            "nothing needs a stage: everything else has a wheel for"
            f" {workspace.interpreter.short}"
        )
        return
    print(text, end="", flush=True)  # noqa: T201 - the output of the session
    if workspace.options.write:
        path = context.project.pyproject
        write_addition(path, text)
        report(f"wrote it to the end of {path.name}")
    else:
        report("to write it: nox -s build-stages-init -- --write")


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposer:
    """Finds the missing stages of a project."""

    project: Project  # as declared
    has_table: bool  # whether the pyproject.toml has our table already
    locker: Locker
    provider: BackendMetadata
    report: Callable[[str], None]
    answers: dict[NormalizedName, BackendAnswer] = field(default_factory=dict)
    """The last answers of the build backends, by output."""

    def propose(self) -> str | None:
        """Return the missing stages as TOML; None if no stage is missing.

        Raises:
            BuildStagesError: A failure teaches nothing.
        """
        draft, locks = Draft(declared=self.project), None
        while locks is None:
            try:
                locks = self._lock(draft)
            except (errors.LockError, errors.BuildError) as error:  # noqa: PERF203 - it takes seconds
                better = self._learn(draft, error)
                if better is None:
                    raise
                draft = better
        if not draft.outputs:
            return None

        # Pin the locked versions.
        versions = {
            output.name: output.metadata.version
            for lock in locks
            for output in lock.outputs
        }
        for output in draft.outputs:
            if not self._is_direct(output.requirement):
                pin = Requirement(f"{output.requirement.name}=={versions[output.name]}")
                draft = draft.with_output(replace(output, requirement=pin))

        draft = self._group(draft)
        *stages, final = (
            {package.name for package in lock.pylock.packages}
            for lock in self._lock(draft, use_answers=True)
        )
        matched = tuple(
            name
            for name in draft.match_runtime
            if name not in self.project.match_runtime
            and name in final
            and any(name in stage for stage in stages)
        )
        python = self.locker.resolver.target.interpreter.short
        heading = [f"Proposed by `nox -s build-stages-init` for {python}.", *_ABOUT]
        for name, added in draft.added.items():
            names = ", ".join(added)
            heading.append(f"To do: add {names} to the dependencies of stage {name}.")
        if self.has_table and matched:
            heading.append(f"To do: add {', '.join(matched)} to match-runtime.")
        if draft.mismatch:
            heading += ("To do:", *indent(draft.mismatch))
        comments = {
            name: [line for output in members for line in output.comments()]
            for name, members in draft.stages()
        }
        return render(
            heading,
            (
                (stage, comments[stage.name])
                for stage in arrange(draft.project()).order
                if stage.name in comments
            ),
            match_runtime=() if self.has_table else matched,
            root=self.project.root,
        )

    def _lock(self, draft: Draft, *, use_answers: bool = False) -> tuple[Lock, ...]:
        """Return the locks of a draft.

        With ``use_answers``, earlier answers of build backends count in a new
        environment too, because another question would need builds.
        """
        project = draft.project()
        try:
            graph = arrange(project)
        except errors.DeclarationError as error:
            messages = "; ".join(problem.message for problem in error.problems)
            raise errors.ProposalError(
                problem="packages without a wheel can't be built in any order of"
                f" stages: {messages}",
                hint=CYCLE_HINT,
            ) from error
        context = replace(self.provider.context, project=project, graph=graph)
        provider = CachedProvider(
            provider=replace(self.provider, context=context),
            skipped=frozenset(output.name for output in draft.outputs if output.to_do),
            answers=self.answers,
            use_answers=use_answers,
        )
        locker = replace(
            self.locker, project=project, graph=graph, metadata_provider=provider
        )
        try:
            return locker.make_locks()
        except (UnresolvableError, IncompatibleOutputsError) as failure:
            raise failure.error from failure

    def _learn(
        self, draft: Draft, error: errors.LockError | errors.BuildError
    ) -> Draft | None:
        """Return a draft without the cause of a failure; None for no idea."""
        if isinstance(error, errors.NoWheelError):
            return self._add_output(draft, error)
        if isinstance(error, errors.UnorderedOutputError):
            return add_dependency(draft, error.stage, canonicalize_name(error.output))
        if isinstance(error, (errors.BackendError, errors.ChangedEnvironmentError)):
            return self._help_backend(draft, error)
        if isinstance(error, errors.MetadataError):
            lines = (error.problem, *error.hint.splitlines())
            return self._skip_backend(draft, error.output, lines)
        if isinstance(error, errors.MatchRuntimeError):
            others = tuple(name for name in draft.match_runtime if name != error.name)
            is_ours = error.name not in self.project.match_runtime
            if is_ours and others != draft.match_runtime:
                mismatch = (error.summary, *error.details, *error.hint.splitlines())
                return replace(draft, match_runtime=others, mismatch=mismatch)
        return None

    def _add_output(self, draft: Draft, error: errors.NoWheelError) -> Draft | None:
        """Return a draft with a stage for a package without a wheel."""
        name = canonicalize_name(error.project)
        if name in {output.name for output in draft.project().outputs}:
            return add_dependency(draft, error.name, name)
        wanted = [
            text
            for text in error.requirements
            if canonicalize_name(Requirement(text).name) == name
        ]
        members = dict(draft.stages()).get(error.name)
        has_choice = error.version is None and error.reason != FROM_SOURCE
        if members and wanted and has_choice and self._has_wheel(name):
            # A build requires an old version that has no wheel; the user decides.
            (member,) = members
            versions = ", ".join(wanted)
            self.report(f"{member.name}: no wheel of {versions}, a build requirement")
            lines = (
                f"its build requires {versions}, and there is {error.reason} of that",
                "if another version will do, write in pyproject.toml:",
                *indent(build_requires_table(member.name, add=[name], remove=[name])),
            )
            to_do, dropped = (*member.to_do, *lines), (*member.dropped, name)
            return draft.with_output(replace(member, to_do=to_do, dropped=dropped))
        requirement = self._requirement(draft, error, name)
        self.report(f"{requirement.name} has to be built: {error.reason}")
        output = ProposedOutput(requirement=requirement, reason=error.reason)
        return draft.with_output(output)

    def _requirement(
        self, draft: Draft, error: errors.NoWheelError, name: NormalizedName
    ) -> Requirement:
        """Return the output to build: a declared URL, or the version of an sdist."""
        for requirement in self.project.final.requirements:
            if canonicalize_name(requirement.name) == name and requirement.url:
                return Requirement(f"{requirement.name} @ {requirement.url}")
        if self._is_direct(Requirement(name)):
            return Requirement(name)
        if error.version is not None:
            return Requirement(f"{name}=={error.version}")
        sdists = (
            output.name
            for output in draft.project().outputs
            if not self._is_direct(output.requirement)
        )
        question = Question(
            name="version",
            requirements=error.requirements,
            constraints=error.constraints,
            sdists=(*sdists, name),
        )
        answer = self._resolve(question)
        packages = () if answer is None else answer.packages
        version = next((it.version for it in packages if it.name == name), None)
        return Requirement(name if version is None else f"{name}=={version}")

    def _help_backend(
        self, draft: Draft, error: errors.BackendError | errors.ChangedEnvironmentError
    ) -> Draft | None:
        """Return a draft with what a build needs: a missing module, or a copy."""
        output = draft.output(error.output)
        if output is None:
            return None
        if isinstance(error, errors.ChangedEnvironmentError):
            changes = tuple(error.owners) or ("all packages",)
            return draft.with_output(replace(output, changes=changes))
        first = f"{error.hook} failed: {error.reason}"
        if not error.module:
            lines = (first, *error.excerpt, *error.hint.splitlines())
            return self._skip_backend(draft, output.name, lines)
        if not error.requirement:
            return self._skip_backend(draft, output.name, error.hint.splitlines())
        requirement = self._project_of(error.module, error.requirement, output)
        if requirement is None:
            problem = error.hint.partition(": ")[0]
            line = f"{problem}; nothing was found that provides it"
            return self._skip_backend(draft, output.name, (line,))
        self.report(
            f"{output.name}: its build imports {error.module}; trying {requirement}"
        )
        return draft.with_output(
            replace(
                output,
                dependencies=(*output.dependencies, requirement),
                modules={**output.modules, error.module: requirement},
            )
        )

    def _project_of(
        self, module: str, requirement: str, output: ProposedOutput
    ) -> str | None:
        """Return a new candidate for the project of a module."""
        if module in output.modules or len(output.modules) >= MAX_GUESSES:
            return None
        if requirement not in find_projects(module):  # an earlier version
            is_new = requirement not in output.dependencies
            return requirement if is_new and self._has_wheel(requirement) else None
        names = () if module.startswith("_") else find_projects(module)
        runtime = {canonicalize_name(it.name) for it in self.project.final.requirements}
        candidates = map(canonicalize_name, names)
        for name in sorted(candidates, key=lambda it: it not in runtime):
            is_new = name not in output.dependencies and name != output.name
            if is_new and (name in runtime or self._has_wheel(name)):
                return name
        return None

    def _skip_backend(
        self, draft: Draft, name: str, lines: Iterable[str]
    ) -> Draft | None:
        """Return a draft with an output's build requirements left to the user."""
        output = draft.output(name)
        if output is None or output.to_do:
            return None
        to_do = tuple(line for line in lines if line)
        self.report(f"{name}: its build requirements are unknown: {to_do[0]}")
        return draft.with_output(replace(output, to_do=to_do))

    def _group(self, draft: Draft) -> Draft:
        """Return a draft in which outputs with the same dependencies share a stage."""
        alike: dict[frozenset[str], list[NormalizedName]] = {}
        for output in draft.outputs:
            if not output.to_do:
                key = frozenset(output.dependencies)
                alike.setdefault(key, []).append(output.name)
        for names in alike.values():
            if len(names) > 1:
                together = replace(draft, groups=(*draft.groups, tuple(names)))
                try:
                    self._lock(together, use_answers=True)
                except (errors.LockError, errors.ProposalError):
                    continue
                draft = together
        return draft

    def _is_direct(self, requirement: Requirement) -> bool:
        """Return whether a requirement has a fixed source, for example a URL."""
        return is_direct(self.project, Output(requirement=requirement, location=""))

    def _has_wheel(self, name: str) -> bool:
        question = Question(name="wheel", requirements=(name,))
        return self._resolve(question) is not None

    def _resolve(self, question: Question) -> Pylock | None:
        """Return versions for all requirements; None if no versions exist."""
        try:
            return self.locker.resolver.resolve(question)
        except errors.ResolutionError:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedProvider:
    """Asks build backends for metadata even if an sdist declares them.

    Undeclared imports of a build show only when the build backend runs.
    """

    provider: MetadataProvider
    skipped: Collection[NormalizedName]  # their build backends aren't asked
    answers: dict[NormalizedName, BackendAnswer]
    use_answers: bool  # also in a new environment

    def tree(self, output: NormalizedName, source: Source) -> Path:
        """Return a folder with the unpacked source of an output."""
        return self.provider.tree(output, source)

    def ask(self, query: BackendQuery) -> BackendAnswer:
        """Run the hooks of an output in the stage's environment."""
        if query.output in self.skipped:
            return BackendAnswer(requires=(), metadata=None)
        known = self.answers.get(query.output)
        if known is not None and self.use_answers and not known.unmet:
            return known
        try:
            answer = self.provider.ask(replace(query, wants_metadata=True))
        except errors.BackendError as error:
            if error.output not in self.skipped:
                raise
            raise errors.MetadataError(
                output=query.output,
                stage=query.stage.name,
                problem=f"its build requires {error.output}, whose build failed",
            ) from error
        self.answers[query.output] = answer
        return answer
