"""Explain why an environment can't be resolved: the conflicting requirements.

uv's message isn't parsed. Instead uv is asked again with fewer requirements, until the
conflict needs all remaining requirements. If the search fails, uv's message stands; the
number of questions is limited, so an explanation never takes long.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.config import writing
from nox_buildstages.errors import LockError, NoWheelError, ResolutionError
from nox_buildstages.lock.explain.incompatible_outputs import (
    explain_incompatible_outputs,
)
from nox_buildstages.lock.explain.minimal_conflict import (
    BUILD_REQUIRES,
    CONSTRAINTS,
    Origin,
    Probe,
    ProbeLimitError,
    SourcedRequirement,
    minimal_conflict,
    requirements_in_question,
)
from nox_buildstages.lock.explain.no_wheel import suggest_output
from nox_buildstages.lock.resolve.choose_sources import IncompatibleOutputsError
from nox_buildstages.lock.resolve.uv_compile import SYSTEM_HINTS
from nox_buildstages.model import FINAL, PROJECT, Stage
from nox_buildstages.text import free_name
from nox_buildstages.value import Value, field_names, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packaging.pylock import Pylock

    from nox_buildstages.lock.resolve.environment import EnvironmentResolver
    from nox_buildstages.lock.resolve.locker import UnresolvableError


def explain(failure: UnresolvableError | IncompatibleOutputsError) -> LockError:
    """Return the error for a failed resolution, with the conflicting requirements.

    If no conflict is found, the error has uv's message only.
    """
    if isinstance(failure, IncompatibleOutputsError):
        return explain_incompatible_outputs(failure)
    error, resolver = failure.error, failure.resolver
    stage = resolver.graph.stages.get(error.name)
    question = resolver.question(stage, failure.bounds)
    if isinstance(error, NoWheelError):
        return suggest_output(error, question, resolver)
    if error.hint in SYSTEM_HINTS.values():  # no requirement is to blame
        return error
    requirements = requirements_in_question(question, stage, resolver, failure.bounds)
    explainer = _Explainer(
        error=error,
        resolver=resolver,
        stage=stage,
        requirements=requirements,
        probe=Probe(resolver=resolver.resolver, question=question),
    )
    return explainer.explain() or error


class _Explainer(Value):
    """Explains a failed resolution."""

    error: ResolutionError
    resolver: EnvironmentResolver
    stage: Stage | None
    requirements: tuple[SourcedRequirement, ...]
    probe: Probe

    def explain(self) -> ResolutionError | None:
        """Return the error with all conflicts; None without a conflict."""
        remaining = self.requirements
        conflicts: list[tuple[SourcedRequirement, ...]] = []
        wrong: list[SourcedRequirement] = []  # at most one of each conflict
        unsatisfiable: set[SourcedRequirement] = set()
        answer: Pylock | None = None
        with suppress(ProbeLimitError):
            while answer is None:
                conflict = minimal_conflict(self.probe, remaining)
                alone = {  # those that can't be satisfied even alone
                    it
                    for it in conflict
                    if it.origin not in CONSTRAINTS
                    and (it.is_bare or it.name not in self._output_versions)
                    and self.probe.conflicts([replace(it, origin=Origin.WANTED)])
                }
                if not conflict or (alone and unsatisfiable):
                    break
                if alone:
                    # A project that doesn't exist, say. A conflict may come on top.
                    unsatisfiable = alone
                    remaining = tuple(it for it in remaining if it not in alone)
                else:
                    conflicts.append(conflict)
                    suspects = self._suspects(conflict)
                    if len(_outputs(suspects)) != 1:
                        break
                    names = [it.name for it in conflict]
                    suspect = min(
                        suspects, key=lambda it: (it.is_bare, -names.count(it.name))
                    )
                    wrong.append(suspect)
                    same = (suspect.origin, suspect.output, suspect.name)
                    remaining = tuple(
                        it
                        for it in remaining
                        if (it.origin, it.output, it.name) != same
                    )
                answer = self.probe.answer(remaining)
        if not conflicts:
            return None
        if not wrong:
            hint = self._split(conflicts[0]) or self._changes(conflicts[0])
            return self._conflict_error(conflicts, hint)
        hint = self._corrections(wrong, remaining, answer)
        if len(wrong) < len(conflicts):
            hint = chain(hint, self._changes(conflicts[-1]))
        return self._conflict_error(conflicts, hint)

    def _accepts_output(self, requirement: SourcedRequirement) -> bool:
        """Whether a requirement is for an output in any version."""
        return requirement.is_bare and requirement.name in self._output_versions

    def _suspects(
        self, requirements: Iterable[SourcedRequirement]
    ) -> list[SourcedRequirement]:
        """Return the build requirements of outputs, which may be wrong."""
        declared = (it for it in requirements if it.origin is Origin.DECLARED)
        return [it for it in declared if not self._accepts_output(it)]

    @property
    def _output_versions(self) -> dict[NormalizedName, str]:
        """The versions of the outputs of earlier stages."""
        return {
            stand_in.name: stand_in.metadata.version.public
            for stand_in in self.probe.question.stand_ins
        }

    def _conflict_error(
        self, conflicts: Iterable[Sequence[SourcedRequirement]], hint: Iterable[str]
    ) -> ResolutionError:
        versions = self._output_versions
        sentences = []
        for conflict in conflicts:
            shown = [it for it in conflict if not self._accepts_output(it)]
            shown.sort(key=lambda it: -it.origin)
            claims = [f"{self._claimant(it)} {it.text}" for it in shown]
            if len(claims) == 1 and shown[0].name in versions:
                name = shown[0].name
                provider = self.resolver.graph.providers[name].name
                claims.append(f"stage {provider} builds {name}=={versions[name]}")
            sentences.append(", and ".join(claims))
        first, *others = sentences
        return replace(
            self.error,
            problem=f"can't be locked: {first}",
            details=[*(f"and {other}" for other in others), *self.error.details],
            hint="\n".join(hint),
        )

    def _claimant(self, requirement: SourcedRequirement) -> str:
        """Return the subject and the verb of a claim."""
        known, name = self.resolver.known, requirement.output
        output = str(name)
        if name is not None and name not in self.resolver.graph.providers:
            output = f"{name}, this project,"
        elif name is not None:
            metadata = known.metadata(name)
            version = metadata and metadata.version
            version = version or known.static[name].choice.version
            output = f"{name} {version.public}" if version else output
        wants = f"stage {self.error.name} wants"
        if self.stage is None:
            wants = f"{self.resolver.project.final.requirements_key} want"
        return {
            Origin.WANTED: wants,
            Origin.CONSTRAINT: "constraints say",
            Origin.BUILD_CONSTRAINT: "build-constraints say",
            Origin.BOUND: f"match-runtime, because of {requirement.holder}, wants",
            Origin.REQUIRED: f"{output}, once built, requires",
            Origin.ADDED: f"build-requires of {name} adds",
            Origin.DECLARED: f"{output} declares",
        }[requirement.origin]

    def _corrections(
        self,
        wrong: Sequence[SourcedRequirement],
        remaining: Sequence[SourcedRequirement],
        answer: Pylock | None,
    ) -> Iterator[str]:
        """Yield the lines to correct wrong build requirements of outputs."""
        packages = () if answer is None else answer.packages
        installed = {package.name for package in packages}
        subject = "the declaration is" if len(wrong) == 1 else "the declarations are"
        yield f"if {subject} wrong, correct it in pyproject.toml:"
        for output in sorted(_outputs(wrong)):
            rules = self.resolver.project.rules(output)
            remove = {it.name for it in wrong if it.output == output}
            # The build needs the project, if in another version.
            add = {
                name
                for name in remove - installed
                if self.probe.is_known_to_resolve(
                    [*remaining, SourcedRequirement(origin=Origin.ADDED, text=name)]
                )
            }
            table = writing.build_requires_table(
                output,
                add={*map(str, rules.build_requires_add), *add},
                remove={*rules.build_requires_remove, *remove},
            )
            yield from writing.indent(table)

    def _changes(self, conflict: Sequence[SourcedRequirement]) -> Iterator[str]:
        """Yield the places to change if no build requirement is to blame."""
        shown = [it for it in conflict if not self._accepts_output(it)]
        origins = {it.origin for it in shown}
        own = self.resolver.project.final.requirements_key
        if self.stage is not None:
            own = f"the dependencies of stage {self.stage.name}"
        if origins == {Origin.REQUIRED}:
            built = {it.name for it in shown} & self._output_versions.keys()
            them = " and ".join(sorted(built | _outputs(shown)))
            yield f"build versions of {them} that go together"
            return
        if origins == {Origin.WANTED} and len(shown) > 1:
            yield f"{own} don't go together: change one of them"
            return
        keys = {
            Origin.WANTED: own,
            Origin.CONSTRAINT: "constraints",
            Origin.BUILD_CONSTRAINT: "build-constraints",
            Origin.BOUND: "match-runtime",
        }
        changes = [key for origin, key in keys.items() if origin in origins]
        builds = _outputs(it for it in conflict if it.origin in BUILD_REQUIRES)
        changes += [f"build-requires of {name}" for name in sorted(builds)]
        yield f"change {' or '.join(changes)} in pyproject.toml"

        # Overrule the runtime requirements of outputs, if uv can resolve that.
        required = {it.name: it for it in conflict if it.origin is Origin.REQUIRED}
        overrides = [
            it.text
            for it in conflict
            if it.origin is Origin.WANTED and it.name in required
        ]
        resolver = self.resolver.resolver.with_overrides(overrides)
        probe = replace(self.probe, resolver=resolver)
        if overrides and probe.is_known_to_resolve(self.requirements):
            names = {canonicalize_name(Requirement(text).name) for text in overrides}
            outputs = sorted({str(required[name].output) for name in names})
            key = "override-dependencies"
            lines = writing.assignment(key, resolver.indexes.settings[key])
            yield f"or overrule what {' and '.join(outputs)} requires:"
            yield from writing.indent(["[tool.uv]", *lines])

    def _groups(self) -> tuple[tuple[NormalizedName, ...], ...] | None:
        """Split the outputs into groups without conflicts, if possible."""
        shared = [it for it in self.requirements if it.origin not in BUILD_REQUIRES]
        groups: list[list[NormalizedName]] = []
        for output in () if self.stage is None else self.stage.outputs:
            for group in (*groups, []):
                members = {*group, output.name}
                builds = [
                    it
                    for it in self.requirements
                    if it.origin in BUILD_REQUIRES and it.output in members
                ]
                if self.probe.is_known_to_resolve([*shared, *builds]):
                    break
            else:
                return None
            if not group:
                groups.append(group)
            group.append(output.name)
        return tuple(map(tuple, groups))

    def _split(self, conflict: Sequence[SourcedRequirement]) -> list[str]:
        """Return the lines to split the stage, if uv can resolve the parts."""
        stage, suspects = self.stage, self._suspects(conflict)
        groups = self._groups() if suspects else None
        if stage is None or groups is None:
            return []
        root, graph = self.resolver.project.root, self.resolver.graph
        declared = {
            output.name: writing.format_requirement(output.requirement, root)
            for output in stage.outputs
        }
        dependencies = [
            writing.format_requirement(it, root) for it in stage.dependencies
        ]
        lines = ["build them in stages of their own, in pyproject.toml:"]
        taken = [PROJECT, FINAL, *graph.stages]
        for number, group in enumerate(groups):
            name = free_name(stage.name, taken) if number else stage.name
            taken.append(name)
            outputs = [declared[output] for output in group]
            table = writing.stage_table(name, outputs, dependencies)
            lines += writing.indent(table)
        bare = Stage(name="", outputs=())
        keys = [
            name.replace("_", "-")
            for name in field_names(Stage)
            if name not in ("name", "dependencies", "outputs", "location")
            and getattr(stage, name) != getattr(bare, name)
        ]
        if keys:
            lines += [f"each with the {', '.join(keys)} that stage {stage.name} has"]
        names = " or ".join(sorted(_outputs(suspects)))
        lines += [f"or correct what is wrong in build-requires of package {names}"]
        lines += [
            f"and see which of them stage {later.name} needs"
            for later in graph.order
            if stage.name in later.needs
        ]
        return lines


def _outputs(requirements: Iterable[SourcedRequirement]) -> set[NormalizedName]:
    return {it.output for it in requirements if it.output is not None}
