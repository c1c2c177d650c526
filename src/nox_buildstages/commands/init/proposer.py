"""Propose stages: find packages without a wheel, lock, and learn from failures.

The result is known to resolve, with declared and undeclared build requirements.
"""

from __future__ import annotations

import textwrap
from contextlib import suppress
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages import errors
from nox_buildstages.builder.diagnosis.modules import find_projects
from nox_buildstages.commands.init.ask import (
    Answers,
    NewSourcesError,
    SharedProvider,
)
from nox_buildstages.commands.init.draft import (
    CYCLE_HINT,
    Draft,
    ProposedOutput,
    add_dependency,
)
from nox_buildstages.commands.init.known import (
    Torch,
    find_torch,
    list_changes,
    list_overrides,
    locate,
)
from nox_buildstages.commands.init.pyproject import Change
from nox_buildstages.config.graph import arrange
from nox_buildstages.config.table import TOOL
from nox_buildstages.config.writing import build_requires_table, indent
from nox_buildstages.declarations.builds import match_runtime
from nox_buildstages.lock.explain.conflicts import explain
from nox_buildstages.lock.resolve.choose_sources import IncompatibleOutputsError
from nox_buildstages.lock.resolve.locker import UnresolvableError
from nox_buildstages.lock.resolve.own_project import with_own_stage
from nox_buildstages.lock.resolve.source_choice import is_direct
from nox_buildstages.lock.resolve.uv_compile import FROM_SOURCE, Question, StandIn
from nox_buildstages.model import FINAL, Metadata, Output
from nox_buildstages.recipes.catalogue import recipe_for
from nox_buildstages.recipes.recipe import BuildRequires, Needs
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.backend_metadata import BackendMetadata
    from nox_buildstages.config.cells import Cells
    from nox_buildstages.lock.files.lockfile import Lock
    from nox_buildstages.lock.resolve.locker import Locker
    from nox_buildstages.model import Project, Stage
    from nox_buildstages.recipes.recipe import Recipe

MAX_GUESSES = 8
"""The number of undeclared modules to find a project for, for one output."""

_BUILD_KEYS = (
    *("extra-build-dependencies", "extra-build-variables"),
    *("config-settings-package", "no-build-isolation-package"),
)
"""The keys of ``[tool.uv]`` that name packages to build."""

_ABOUT = (
    "The build backends listed the build requirements. Modules that a build",
    "imports only while it makes the wheel aren't among them: the error of",
    "that build names them. Optional build requirements, without which a",
    "build makes another wheel, aren't among them either.",
)
_ABOUT_RECIPES = (
    "The tables of packages are from recipes: what is known about a package and",
    "can't be found by asking it. The comment above a line is the reason for it.",
)
_CELLS_DIFFER = (
    "To do: torch may differ by cell, so what recipes know of builds with CUDA",
    "alone, or without it, isn't here. `env` of the matrix's values can have it.",
)


class Proposal(Value):
    """The missing stages, and the changes of tables in the file."""

    heading: tuple[str, ...] = ()
    stages: tuple[tuple[Stage, tuple[str, ...]], ...] = ()  # with comments
    changes: tuple[Change, ...] = ()


class Proposer(Value):
    """Finds the missing stages of a project."""

    cells: Cells  # as declared
    locker: Locker
    provider: BackendMetadata
    report: Callable[[str], None]
    answers: Answers = field(default_factory=Answers)

    @property
    def project(self) -> Project:
        """The project of the first cell, as declared."""
        return self.cells.first.project

    def propose(self) -> Proposal:
        """Return the missing stages.

        Raises:
            BuildStagesError: A failure teaches nothing.
        """
        draft = self._find_outputs(Draft(declared=self.project))
        draft, _ = self._lock_until_it_works(draft)
        if draft.outputs:
            # Backends have answered: give each group of equal needs a stage.
            draft = self._with_answers(self._with_recipes(draft))
            draft = replace(draft, is_asking=False)
        draft, locks = self._lock_until_it_works(draft)

        # Pin the versions that were locked.
        versions = {
            output.name: output.metadata.version
            for lock in locks
            for output in lock.outputs
        }
        for output in draft.outputs:
            if not self._is_direct(output.requirement):
                pin = Requirement(f"{output.requirement.name}=={versions[output.name]}")
                draft = draft.with_output(replace(output, requirement=pin))

        *stages, final = ({it.name for it in lock.pylock.packages} for lock in locks)
        outputs = draft.project().outputs
        built = {output.name for output in outputs}
        self._report_origins(draft)
        declared = {
            *self.project.match_runtime,
            *match_runtime(self.project.uv, outputs),
        }
        for key in _BUILD_KEYS:
            settings = self.project.uv.get(key, ())
            for name in sorted({*map(canonicalize_name, settings)} & final - built):
                line = f"{name}: {key} of [tool.uv] names it, but it has a wheel"
                self.report(f"{line}; to build it, add it to no-binary-package")
        matched = [
            name
            for name in draft.match_runtime
            if name not in declared
            and name in final
            and any(name in stage for stage in stages)
        ]
        comments = {
            name: tuple(
                line for output in members for line in output.comments(draft.torch)
            )
            for name, members in draft.stages()
        }
        return Proposal(
            heading=tuple(self._heading(draft)),
            stages=tuple(
                (stage, comments[stage.name])
                for stage in arrange(draft.project()).order
                if stage.name in comments
            ),
            changes=tuple(self._list_changes(draft, matched)),
        )

    def _heading(self, draft: Draft) -> Iterator[str]:
        """Yield the first comment: how to read the proposal."""
        python = self.locker.resolver.target.interpreter.short
        yield f"Proposed by `nox -s build-stages-init` for {python}."
        if draft.outputs:
            yield from _ABOUT
        if any([*self._changes_from_recipe(output)] for output in draft.outputs):
            yield from _ABOUT_RECIPES
        if self._differs_by_cell and any(output.facts for output in draft.outputs):
            yield from _CELLS_DIFFER
        for name, text, why in self._overrides(draft, of_project=True):
            line = f"To do: {name} needs {text} in the project: {why}"
            yield from textwrap.wrap(line)
        if draft.torch is not None:
            yield f"The project resolves to {draft.torch}."
            if draft.torch.cuda is not None and not draft.torch.has_compiler:
                yield from textwrap.wrap(draft.torch.advice)
        if draft.mismatch and draft.outputs:
            yield "To do:"
            yield from indent(draft.mismatch)

    def _report_origins(self, draft: Draft) -> None:
        """Report which lines came from recipes, and which from build backends."""
        if draft.torch is not None:
            self.report(f"the project resolves to {draft.torch}")
        for output in draft.outputs:
            lines = [it.key for it in self._changes_from_recipe(output)]
            if lines:
                self.report(f"{output.name}: from its recipe: {', '.join(lines)}")
            answer = self.answers.by_output.get(output.name)
            asked = (*(answer.requires if answer else ()), *output.modules.values())
            if asked:
                self.report(
                    f"{output.name}: from its build backend: {', '.join(asked)}"
                )

    def _list_changes(self, draft: Draft, matched: Collection[str]) -> Iterator[Change]:
        """Yield needs of declared stages, lines from recipes, and match-runtime."""
        for number, stage in enumerate(self.project.stages):
            added_outputs = draft.added.get(stage.name, ())
            if added_outputs and stage.location.startswith("tool."):
                yield Change(
                    table=("tool", TOOL, "stage", number),
                    key="dependencies",
                    value=[*map(str, stage.dependencies), *added_outputs],
                )
        for output in draft.outputs:
            yield from self._changes_from_recipe(output)
        overrides = {
            text: why for _, text, why in self._overrides(draft, of_project=False)
        }
        known = self.project.uv.get("override-dependencies", ())
        added = {text: why for text, why in overrides.items() if text not in known}
        if added:
            yield Change(
                table=("tool", "uv"),
                key="override-dependencies",
                value=[*known, *added],
                comment=tuple(dict.fromkeys(added.values())),
            )
        if matched:
            value = [*self.project.match_runtime, *matched]
            yield Change(table=("tool", TOOL), key="match-runtime", value=value)

    def _changes_from_recipe(self, output: ProposedOutput) -> Iterator[Change]:
        """Yield the lines of an output's recipe that the project lacks."""
        rules = self.project.rules(output.name)
        return list_changes(output.name, rules, output.facts)

    def _overrides(
        self, draft: Draft, *, of_project: bool
    ) -> Iterator[tuple[str, str, str]]:
        """Yield the output, override and reason of each override from recipes.

        uv's overrides replace the project's own requirements too, so overrides of
        packages required by the project itself are apart.
        """
        own = {canonicalize_name(it.name) for it in self.project.final.requirements}
        for output in draft.outputs:
            for text, why in list_overrides(output.facts):
                if (canonicalize_name(Requirement(text).name) in own) == of_project:
                    yield output.name, text, why

    # Find outputs without asking a backend ---------------------------------------

    def _find_outputs(self, draft: Draft) -> Draft:
        """Return a draft with every output in uv's answers.

        Packages with a source in ``[tool.uv]`` come first, also if an output requires
        them.
        """
        for cell in self.cells.cells:
            for requirement in self._list_requirements(draft, cell.project):
                name = canonicalize_name(requirement.name)
                known = {it.name for it in draft.project().outputs}
                located = requirement
                if name not in known:
                    located = Requirement(locate(str(requirement), self.project.uv))
                url = located.url or ""
                if (
                    self._is_direct(located)
                    and name not in known
                    and not url.partition("#")[0].endswith(".whl")
                ):
                    found = f"{requirement.name} @ {url}" if url else requirement.name
                    draft = self._add(draft, Requirement(found), FROM_SOURCE)
        for cell in self.cells.cells:
            draft = self._ask_for_wheels(draft, cell.project)
        return draft

    def _list_requirements(
        self, draft: Draft, project: Project
    ) -> Iterator[Requirement]:
        """Yield the requirements of the runtime and of outputs with known sources."""
        interpreter = self.locker.resolver.target.interpreter
        found = [("", it) for it in project.final.requirements]
        for output in draft.outputs:
            facts = self.answers.sources.get(output.name)
            texts = () if facts is None else facts.requires_dist
            found += ((output.name, Requirement(text)) for text in texts)
        extras: dict[str, set[str]] = {}
        for _, it in found:
            extras.setdefault(canonicalize_name(it.name), {""}).update(it.extras)
        for name, it in found:
            chosen = extras.get(name, {""})
            if it.marker is None or any(
                interpreter.satisfies(it.marker, extra) for extra in chosen
            ):
                yield it

    def _ask_for_wheels(self, draft: Draft, project: Project) -> Draft:
        """Return a draft with the packages for which uv finds no usable wheel.

        The requirements of outputs are unknown here; locking finds what they need.
        """
        while True:
            outputs = {it.name: it.requirement for it in draft.project().outputs}
            direct = [name for name in outputs if self._is_direct(outputs[name])]
            nothing = Metadata(version=Version("0"), learned="static")
            question = Question(
                name=FINAL,
                requirements=tuple(
                    str(it)
                    for it in project.final.requirements
                    if canonicalize_name(it.name) not in direct
                ),
                constraints=tuple(map(str, project.constraints)),
                stand_ins=tuple(StandIn(name=it, metadata=nothing) for it in direct),
                sdists=tuple(it for it in outputs if it not in direct),
                overriding=tuple(direct),
            )
            better = draft
            try:
                packages = self.locker.resolver.resolve(question).packages
            except errors.NoWheelError as error:
                name = canonicalize_name(error.project)
                if name not in outputs:
                    better = self._add(draft, Requirement(name), error.reason)
            except errors.ResolutionError:
                return draft  # locking explains it
            else:
                for package in packages:
                    setting = self.locker.resolver.no_binary_setting(package.name)
                    if setting is not None and package.name not in outputs:
                        reason = f"{setting} says not to use its wheels"
                        better = self._add(better, Requirement(package.name), reason)
            if better == draft:
                return draft
            draft = better

    def _add(self, draft: Draft, requirement: Requirement, reason: str) -> Draft:
        """Return a draft with a stage for a requirement."""
        if self._is_direct(requirement):
            reason = FROM_SOURCE
        else:
            name = canonicalize_name(requirement.name)
            wanted = (
                f"{name}{it.specifier}"
                for it in self.project.final.requirements
                if canonicalize_name(it.name) == name
            )
            located = locate(next(wanted, name), self.project.uv, has_wheel=False)
            requirement = Requirement(located) if "@" in located else requirement
        self.report(f"{requirement.name} has to be built: {reason}")
        return draft.with_output(ProposedOutput(requirement=requirement, reason=reason))

    # Learn from failures ---------------------------------------------------------

    def _lock_until_it_works(self, draft: Draft) -> tuple[Draft, tuple[Lock, ...]]:
        """Return a draft that can be locked, and the locks.

        Raises:
            BuildStagesError: A failure teaches nothing.
        """
        while True:
            draft = self._order(draft)
            try:
                return draft, self._lock(draft)
            except (NewSourcesError, errors.LockError, errors.BuildError) as error:
                failures: list[Exception] = [*self.answers.failures] or [error]
                self.answers.failures.clear()
                if self.answers.is_news:
                    self.answers.is_news = False
                    draft = self._find_outputs(self._with_sources(draft))
                    continue
                better = draft
                for failure in failures:
                    better = self._learn(better, failure) or better
                if better == draft:
                    cause = error.__cause__
                    if isinstance(cause, (UnresolvableError, IncompatibleOutputsError)):
                        raise explain(cause) from error
                    raise
                draft = better

    def _with_recipes(self, draft: Draft) -> Draft:
        """Return a draft with the facts from recipes about the versions of outputs.

        If a source doesn't declare its version, the recipe may know it; else its build
        backend does.
        """
        recipes = {it.name: recipe_for(it.name) for it in draft.outputs}
        known = {name: it for name, it in recipes.items() if it is not None}
        if draft.torch is None and known:
            draft = replace(draft, torch=self._find_torch(draft, known.values()))
        has_cuda = draft.torch is not None and draft.torch.cuda is not None
        cuda = None if draft.torch is None and self._differs_by_cell else has_cuda
        for name, recipe in known.items():
            output, source = draft.output(name), self.answers.sources.get(name)
            version = None if source is None else source.version
            if version is None and source is not None and recipe.git is not None:
                version = recipe.git.version
            answer = self.answers.by_output.get(name)
            if version is None and answer is not None and answer.metadata is not None:
                version = answer.metadata.version
            if output is None or version is None:
                continue
            facts = recipe.facts_for(version, cuda=cuda)
            draft = draft.with_output(replace(output, facts=facts))
            for fact in facts:
                names = {*fact.names} if isinstance(fact, Needs) else set()
                for needed in sorted(
                    names - {it.name for it in draft.project().outputs}
                ):
                    reason = f"{name} needs it: {fact.why}"
                    draft = self._add(draft, Requirement(needed), reason)
        return draft

    @property
    def _differs_by_cell(self) -> bool:
        """Whether torch, or the index of torch, may differ by cell."""
        cells = self.cells.cells
        values = [it for cell in cells for it in cell.project.values.values()]
        return len(cells) > 1 and any(
            it.index or "torch" in it.projects for it in values
        )

    def _find_torch(self, draft: Draft, recipes: Iterable[Recipe]) -> Torch | None:
        """Return the torch that the project resolves to, for itself or for builds.

        If other packages can't be resolved yet, return the torch named by the project.
        If neither needs torch, or cells differ in torch, return None.
        """
        required = {it.name for it in self.project.final.requirements}
        for source in self.answers.sources.values():
            texts = (*source.requires, *source.requires_dist)
            required.update(source.imports, map(_name_of, texts))
        facts = (fact for recipe in recipes for fact in recipe.facts)
        added = (fact.add for fact in facts if isinstance(fact, BuildRequires))
        required.update(it.name for requirements in added for it in requirements)
        if "torch" not in required or self._differs_by_cell:
            return None
        outputs = {it.name for it in draft.project().outputs}
        wanted = [
            it
            for it in (*self.project.final.requirements, Requirement("torch"))
            if canonicalize_name(it.name) not in outputs
        ]
        for chosen in (wanted, [it for it in wanted if it.name == "torch"]):
            question = Question(
                name=FINAL,
                requirements=tuple(map(str, chosen)),
                constraints=tuple(map(str, self.project.constraints)),
            )
            with suppress(errors.ResolutionError):
                packages = self.locker.resolver.resolve(question).packages
                return find_torch({it.name: str(it.version) for it in packages})
        return None

    def _with_sources(self, draft: Draft) -> Draft:
        """Return a draft with the facts from outputs' sources about their builds."""
        draft = self._with_recipes(draft)
        for output in draft.outputs:
            facts = self.answers.sources.get(output.name)
            if facts is None or output.requires:
                continue
            known = draft.needs(output).union(map(_name_of, facts.requires))
            modules = {
                module: project
                for module in facts.imports
                if (project := find_projects(module)[0]) not in {output.name, *known}
            }
            draft = draft.with_output(
                replace(
                    output,
                    requires=frozenset(map(_name_of, facts.requires)),
                    dependencies=(*output.dependencies, *modules.values()),
                    modules={**output.modules, **modules},
                )
            )
        return draft

    def _with_answers(self, draft: Draft) -> Draft:
        """Return a draft with the build requirements named by backends."""
        for output in draft.outputs:
            answer = self.answers.by_output.get(output.name)
            if answer is not None:
                requires = output.requires.union(map(_name_of, answer.requires))
                draft = draft.with_output(replace(output, requires=requires))
        return draft

    def _order(self, draft: Draft) -> Draft:
        """Return a draft in which an output comes before those whose builds need it."""
        names = {it.name for it in draft.project().outputs}
        for output in draft.outputs:
            needed = draft.needs(output) & names - {output.name, *output.dropped}
            known = {*map(_name_of, output.dependencies)}
            dependencies = (*output.dependencies, *sorted(needed - known))
            draft = draft.with_output(replace(output, dependencies=dependencies))
        return draft

    def _lock(self, draft: Draft) -> tuple[Lock, ...]:
        """Return the locks of a draft."""
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
        provider = SharedProvider(
            provider=replace(self.provider, context=context),
            skipped=frozenset(output.name for output in draft.outputs if output.to_do),
            proposed=frozenset(output.name for output in draft.outputs),
            answers=self.answers,
        )
        overrides = [
            text for output in draft.outputs for text, _ in list_overrides(output.facts)
        ]
        resolver = self.locker.resolver
        locker = replace(
            self.locker,
            resolver=resolver.with_overrides(overrides) if overrides else resolver,
            project=project,
            graph=with_own_stage(project, graph),
            metadata_provider=provider,
        )
        try:
            return locker.make_locks().locks
        except (UnresolvableError, IncompatibleOutputsError) as failure:
            raise failure.error from failure

    def _learn(  # noqa: PLR0911 - a case for each kind of error
        self, draft: Draft, error: Exception
    ) -> Draft | None:
        """Return a draft without the cause of a failure; None for no idea."""
        if isinstance(error, errors.NoWheelError):
            return self._add_output(draft, error)
        if isinstance(error, errors.ResolutionError):
            members = dict(draft.stages()).get(error.name, ())
            if len(members) > 1:
                apart = draft.apart.union(it.name for it in members)
                return replace(draft, apart=apart)
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
        wanted = [text for text in error.requirements if _name_of(text) == name]
        members = dict(draft.stages()).get(error.name, ())
        askers = [it for it in members if wanted and name in draft.needs(it)]
        has_choice = error.version is None and error.reason != FROM_SOURCE
        if askers and has_choice and self._has_wheel(name):
            # A build requires an old version that has no wheel; the user decides.
            versions = ", ".join(wanted)
            for member in askers:
                self.report(
                    f"{member.name}: no wheel of {versions}, a build requirement"
                )
                table = build_requires_table(member.name, add=[name], remove=[name])
                problem = f"its build requires {versions}, and there is {error.reason}"
                lines = (
                    f"{problem} of that",
                    "if another version will do, write in pyproject.toml:",
                    *indent(table),
                )
                to_do, dropped = (*member.to_do, *lines), (*member.dropped, name)
                draft = draft.with_output(replace(member, to_do=to_do, dropped=dropped))
            return draft
        return self._add(draft, Requirement(name), error.reason)

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
        """Return a draft with an output's build requirements left to the user.

        None if only the build backend knows the version, because a lock needs it.
        """
        output = draft.output(name)
        source = self.answers.sources.get(canonicalize_name(name))
        has_version = source is not None and source.version is not None
        if output is None or output.to_do or not has_version:
            return None
        to_do = tuple(line for line in lines if line)
        self.report(f"{name}: its build requirements are unknown: {to_do[0]}")
        return draft.with_output(replace(output, to_do=to_do))

    def _is_direct(self, requirement: Requirement) -> bool:
        """Return whether a requirement has a fixed source, for example a URL."""
        return is_direct(self.project, Output(requirement=requirement, location=""))

    def _has_wheel(self, name: str) -> bool:
        try:
            self.locker.resolver.resolve(Question(name="wheel", requirements=(name,)))
        except errors.ResolutionError:
            return False
        return True


def _name_of(text: str) -> NormalizedName:
    return canonicalize_name(Requirement(text).name)
