"""Propose, try to lock, learn from what stands in the way, until it locks.

So what is proposed in the end is known to lock, with the build requirements that the
outputs declare and with those that they don't.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.builder.hints import missing_module
from nox_buildstages.commands.init.draft import (
    ELSEWHERE,
    Draft,
    Found,
    in_order,
    not_matched,
)
from nox_buildstages.commands.init.pyproject import (
    Proposal,
    ProposedStage,
    render,
    write_addition,
)
from nox_buildstages.commands.init.trials import Trials
from nox_buildstages.config.graph import arrange
from nox_buildstages.config.writing import build_requires_table, indent
from nox_buildstages.errors import (
    BackendError,
    BuildError,
    DeclarationError,
    LockError,
    MatchRuntimeError,
    MetadataError,
    NoWheelError,
    ProposalError,
    UnorderedOutputError,
)
from nox_buildstages.lock.files import folder
from nox_buildstages.lock.resolve.source_choice import is_direct
from nox_buildstages.lock.resolve.uv_compile import FROM_SOURCE, Question
from nox_buildstages.model import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.model import Interpreter, Project
    from nox_buildstages.workspace.workspace import Workspace

MAX_GUESSES = 8
"""How many modules that a build imports undeclared are looked for, for one output."""

_WIDTH = 86
"""Of a comment, without its mark."""

_PROJECTS: Mapping[str, tuple[str, ...]] = {
    "PIL": ("pillow",),
    "cv2": ("opencv-python", "opencv-python-headless"),
    "distutils": ("setuptools",),
    "mesonpy": ("meson-python",),
    "pkg_resources": ("setuptools",),
    "skbuild": ("scikit-build",),
    "sklearn": ("scikit-learn",),
    "yaml": ("pyyaml",),
}
"""Where modules come from whose project has another name."""


def run_init(workspace: Workspace, *, has_table: bool) -> None:
    """Propose stages for the dependencies that have no wheel.

    Locks that are made on the way are not written.

    Args:
        workspace: The project.
        has_table: Whether the pyproject.toml has our table already.

    Raises:
        BuildStagesError: No stages can be proposed, or they can't be written.
    """
    report = workspace.tools.report
    with workspace.hold_lock():
        project_locker = workspace.project_locker()
        context = project_locker.contexts[0]
        earlier = folder.existing(context.project)
        with project_locker.open_locker(context, earlier) as (locker, provider):
            proposal = Proposer(
                project=context.project,
                begun=has_table,
                trials=Trials(relock=locker, metadata_provider=provider),
                report=report,
            ).propose()
    if proposal is None:
        report(
            "nothing needs a stage: everything else has a wheel for"
            f" {workspace.interpreter.short}"
        )
        return
    text = render(proposal, root=context.project.root)
    print(text, end="", flush=True)  # noqa: T201 - the output of the session
    if workspace.options.write:
        path = context.project.pyproject
        write_addition(path, text)
        report(f"wrote it to the end of {path.name}")
    else:
        report("to write it: nox -s build-stages-init -- --write")


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposer:
    """Finds out which stages a project should declare.

    Attributes:
        project: As declared so far.
        begun: Whether its table is there, so that it can't be begun again.
        trials: Tries what is proposed.
        report: Told of everything that is found out, as it is.
    """

    project: Project
    begun: bool
    trials: Trials
    report: Callable[[str], None]

    def propose(self) -> Proposal | None:
        """Return the stages that are missing; None where none is.

        Raises:
            BuildStagesError: It can't be found out.
        """
        draft = Draft(declared=self.project)
        locks = None
        while locks is None:
            draft, locks = self._tried(draft)
        if not draft.found:
            return None
        draft = self._grouped(self._pinned(draft, locks))
        return self._told(draft, self._locks(draft, again=False))

    def _tried(self, draft: Draft) -> tuple[Draft, tuple[Lock, ...] | None]:
        """Return a draft and its locks, or a better one that isn't locked yet."""
        try:
            return draft, self._locks(draft)
        except (LockError, BuildError) as error:
            return self._learnt(draft, error), None

    def _locks(self, draft: Draft, *, again: bool = True) -> tuple[Lock, ...]:
        project = draft.project()
        try:
            graph = arrange(project)
        except DeclarationError as error:
            told = "; ".join(problem.message for problem in error.problems)
            raise ProposalError(
                problem=f"no order of stages builds what has no wheel: {told}",
                hint=ELSEWHERE,
            ) from error
        return self.trials.locks(project, graph, draft.silent, again=again)

    def _learnt(self, draft: Draft, error: LockError | BuildError) -> Draft:
        """Return a better draft; raise the error where nothing is learnt from it."""
        amended = None
        if isinstance(error, NoWheelError):
            amended = self._without_wheel(draft, error)
        elif isinstance(error, UnorderedOutputError):
            amended = in_order(draft, error.stage, canonicalize_name(error.output))
        elif isinstance(error, MatchRuntimeError):
            amended = not_matched(draft, error)
        elif isinstance(error, BackendError):
            amended = self._of_backend(draft, error)
        elif isinstance(error, MetadataError):
            words = (error.problem, *error.hint.splitlines())
            amended = self._silenced(draft, error.output, words)
        if amended is None:
            raise error
        return amended

    def _without_wheel(self, draft: Draft, error: NoWheelError) -> Draft | None:
        name = canonicalize_name(error.project)
        known = {output.name for output in draft.project().outputs}
        if name in known:
            return in_order(draft, error.name, name)
        if self._is_too_old(draft, error, name):
            return self._too_old(draft, error, name)
        output = self._output(draft, error, name)
        self.report(f"{output.name} has to be built: {error.reason}")
        return draft.amended(Found(output=output, reason=error.reason))

    def _output(
        self, draft: Draft, error: NoWheelError, name: NormalizedName
    ) -> Requirement:
        for requirement in self.project.final.requirements:
            if canonicalize_name(requirement.name) == name and requirement.url:
                return Requirement(f"{requirement.name} @ {requirement.url}")
        output = Output(requirement=Requirement(name), location="")
        if is_direct(self.project, output):
            return output.requirement
        version = error.version or self._version(draft, error, name)
        return Requirement(name if version is None else f"{name}=={version}")

    def _version(
        self, draft: Draft, error: NoWheelError, name: NormalizedName
    ) -> str | None:
        """Return the version of a sdist that goes with all that was asked for."""
        outputs = list(draft.project().outputs)
        direct = {it.name for it in outputs if is_direct(self.project, it)}
        question = Question(
            name="version",
            requirements=error.requirements,
            constraints=error.constraints,
            sdists=(*(it.name for it in outputs if it.name not in direct), name),
        )
        answer = self.trials.resolve(question)
        packages = () if answer is None else answer.packages
        return next((str(it.version) for it in packages if it.name == name), None)

    def _has_wheel(self, name: NormalizedName) -> bool:
        asked = Question(name="wheel", requirements=(name,))
        return self.trials.resolve(asked) is not None

    def _is_too_old(
        self, draft: Draft, error: NoWheelError, name: NormalizedName
    ) -> bool:
        """Whether a build requires versions that have no wheel, and others have one."""
        chosen = error.version is not None or error.reason == FROM_SOURCE
        wanted = name in map(_name, error.requirements)
        is_build = bool(draft.building(error.name))
        return is_build and wanted and not chosen and self._has_wheel(name)

    def _too_old(
        self, draft: Draft, error: NoWheelError, name: NormalizedName
    ) -> Draft:
        """Do without such a build requirement, and leave the rest to the user."""
        (found,) = draft.building(error.name)
        asked = ", ".join(it for it in error.requirements if _name(it) == name)
        self.report(f"{found.name}: no wheel of {asked}, which its build requires")
        words = (
            f"its build requires {asked}, and there is {error.reason} of that",
            "if another version will do, say so in pyproject.toml:",
            *indent(build_requires_table(found.name, add=[name], remove=[name])),
        )
        silence, dropped = (*found.silence, *words), (*found.dropped, name)
        return draft.amended(replace(found, silence=silence, dropped=dropped))

    def _of_backend(self, draft: Draft, error: BackendError) -> Draft | None:
        found = draft.of(error.output)
        if found is None:
            return None
        module = missing_module(error.details)
        if module is None:
            first = f"{error.hook} failed: {error.reason}"
            words = (first, *error.details[-1:], error.hint)
            return self._silenced(draft, found.name, words)
        project = self._providing(module, found)
        if project is None:
            unknown = f"its build imports {module}; nothing was found that provides it"
            return self._silenced(draft, found.name, (unknown,))
        self.report(f"{found.name}: its build imports {module}; trying {project}")
        return draft.amended(
            replace(
                found,
                dependencies=(*found.dependencies, project),
                imported={**found.imported, module: project},
            )
        )

    def _providing(self, module: str, found: Found) -> NormalizedName | None:
        """Return a project that should provide a module and isn't tried yet."""
        if module in found.imported or len(found.imported) >= MAX_GUESSES:
            return None
        runtime = {canonicalize_name(it.name) for it in self.project.final.requirements}
        names = [*map(canonicalize_name, _candidates(module))]
        for name in sorted(names, key=lambda it: it not in runtime):
            untried = name not in found.dependencies and name != found.name
            if untried and (name in runtime or self._has_wheel(name)):
                return name
        return None

    def _silenced(
        self, draft: Draft, output: str, words: Iterable[str]
    ) -> Draft | None:
        found = draft.of(output)
        if found is None or found.silence:
            return None
        silence = tuple(line for line in words if line)
        self.report(f"{output} can't be asked what it needs: {silence[0]}")
        return draft.amended(replace(found, silence=silence))

    def _pinned(self, draft: Draft, locks: Iterable[Lock]) -> Draft:
        """Return the same with the versions that were locked."""
        versions = {
            output.name: output.metadata.version
            for lock in locks
            for output in lock.outputs
        }
        for found in draft.found:
            output = Output(requirement=found.output, location="")
            if not is_direct(self.project, output):
                pin = Requirement(f"{found.output.name}=={versions[found.name]}")
                draft = draft.amended(replace(found, output=pin))
        return draft

    def _grouped(self, draft: Draft) -> Draft:
        """Return the same with outputs in one stage that go together in it."""
        alike: dict[frozenset[NormalizedName], list[NormalizedName]] = {}
        for found in draft.found:
            if not found.silence:
                alike.setdefault(frozenset(found.dependencies), []).append(found.name)
        for names in alike.values():
            grouped = replace(draft, groups=(*draft.groups, tuple(names)))
            if len(names) > 1 and self._is_sound(grouped):
                draft = grouped
        return draft

    def _is_sound(self, draft: Draft) -> bool:
        try:
            self._locks(draft, again=False)
        except (LockError, ProposalError):
            return False
        return True

    def _told(self, draft: Draft, locks: tuple[Lock, ...]) -> Proposal:
        *stages, final = ({it.name for it in lock.pylock.packages} for lock in locks)
        matched = tuple(
            name
            for name in draft.matched
            if name not in self.project.match_runtime
            and name in final
            and any(name in stage for stage in stages)
        )
        order = [stage.name for stage in arrange(draft.project()).order]
        proposed = [
            ProposedStage(stage=stage, comments=tuple(_comments(group)))
            for stage, group in zip(draft.stages(), draft.grouped(), strict=True)
        ]
        by_hand = matched if self.begun else ()
        return Proposal(
            heading=tuple(_heading(draft, self.trials.interpreter, by_hand)),
            match_runtime=() if self.begun else matched,
            stages=tuple(sorted(proposed, key=lambda it: order.index(it.stage.name))),
        )


def _name(requirement: str) -> NormalizedName:
    return canonicalize_name(Requirement(requirement).name)


def _candidates(module: str) -> tuple[str, ...]:
    """Return the projects that may provide a module, best first."""
    if module in _PROJECTS:
        return _PROJECTS[module]
    is_private = module.startswith("_") or module in sys.stdlib_module_names
    return () if is_private else (module,)


def _heading(
    draft: Draft, interpreter: Interpreter, matched: tuple[NormalizedName, ...]
) -> Iterator[str]:
    yield f"Proposed by `nox -s build-stages-init` for {interpreter.short}."
    yield "The build backends were asked what they need. What is imported only while a"
    yield "wheel is built isn't seen: the failure of that build names it. Nor is what a"
    yield "build does without, where it makes another wheel then."
    for stage, outputs in draft.ordered.items():
        yield f"To do: add {', '.join(outputs)} to the dependencies of stage {stage}."
    if matched:
        yield f"To do: add {', '.join(matched)} to match-runtime."
    if draft.unmatched:
        yield "To do:"
        yield from (f"  {line}" for line in draft.unmatched)


def _comments(group: Iterable[Found]) -> Iterator[str]:
    for found in group:
        imports = ", ".join(
            module if module == name else f"{module} (of {name})"
            for module, name in found.imported.items()
        )
        undeclared = f"; its build imports {imports}, which it doesn't declare"
        told = f"{found.name}: {found.reason}{undeclared if imports else ''}"
        yield from textwrap.wrap(told, _WIDTH)
        if found.silence:
            yield "To do: it can't be asked what it needs:"
            yield from (f"  {line}" for line in found.silence)
