"""Why an environment can't be resolved: whose wishes don't go together.

What uv says of it isn't read. The resolver is asked again with some of the wishes
left out, until each of those that remain is needed for the failure. Whatever goes
wrong on the way, the first failure still stands; and there is a limit to how often
is asked, so that an explanation is never long in coming.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.config import writing
from nox_buildstages.errors import (
    Claim,
    ConflictError,
    NoWheelError,
    ResolutionError,
    SplitError,
)
from nox_buildstages.lock.explain.no_wheel import placed
from nox_buildstages.lock.explain.wishes import (
    CONSTRAINTS,
    OF_BUILDS,
    EnoughError,
    Kind,
    Probe,
    SourcedRequirement,
    minimal,
    wishes_of,
)
from nox_buildstages.model import FINAL, PROJECT
from nox_buildstages.text import free_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.errors import LockError
    from nox_buildstages.lock.resolve.environment import EnvironmentResolver
    from nox_buildstages.lock.resolve.match_runtime import Bound
    from nox_buildstages.model import Stage


def explained(
    error: ResolutionError, drafter: EnvironmentResolver, bounds: Sequence[Bound]
) -> LockError | None:
    """Return the same failure with its cause; None where uv has said all there is.

    Args:
        error: Of a stage's environment, or of the final one.
        drafter: Who asked for it.
        bounds: That it was asked under.
    """
    question = drafter.question(error.name, [str(it) for it in bounds])
    if isinstance(error, NoWheelError):
        return placed(error, question, drafter)
    stage = drafter.graph.stages.get(error.name)
    case = _Case(
        error=error,
        drafter=drafter,
        stage=stage,
        wishes=wishes_of(question, stage, drafter, bounds),
        probe=Probe(resolver=drafter.resolver, question=question),
    )
    return case.explanation()


@dataclass(kw_only=True, slots=True)
class _Found:
    """What a search has come to.

    Attributes:
        rest: The wishes that may still go together.
        conflicts: Wishes that don't, of each conflict.
        wrong: The declarations that are left out of the rest; one of each conflict.
        answer: What has all of the rest.
    """

    rest: tuple[SourcedRequirement, ...]
    conflicts: list[tuple[SourcedRequirement, ...]] = field(default_factory=list)
    wrong: list[SourcedRequirement] = field(default_factory=list)
    answer: Pylock | None = None

    def leave_out(self, wishes: Collection[SourcedRequirement]) -> None:
        """Take wishes away."""
        self.rest = tuple(wish for wish in self.rest if wish not in wishes)

    def correct(self, wrong: SourcedRequirement) -> None:
        """Take away what an output declares of a project."""
        self.wrong.append(wrong)
        said = (wrong.kind, wrong.output, wrong.name)
        self.leave_out(
            {it for it in self.rest if (it.kind, it.output, it.name) == said}
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """A question that has no answer, and all that was known when it was asked.

    Attributes:
        error: Uv's.
        drafter: Who asked.
        stage: For whose environment; None for ``final``.
        wishes: All of them, those that are blamed first in front.
        probe: Asks again.
    """

    error: ResolutionError
    drafter: EnvironmentResolver
    stage: Stage | None
    wishes: tuple[SourcedRequirement, ...]
    probe: Probe

    def explanation(self) -> ConflictError | None:
        """Return what doesn't go together; None where it isn't that."""
        found = _Found(rest=self.wishes)
        with suppress(EnoughError):
            self._search(found)
        if not found.conflicts:
            return None
        if not found.wrong:
            return self._split(found.conflicts[0])
        hint = [*self._correction(found)]
        if len(found.wrong) < len(found.conflicts):
            hint += self._mend(found.conflicts[-1])
        return self._conflict(found.conflicts, hint)

    def _search(self, found: _Found) -> None:
        """Look for what doesn't go together, and on without what a package declares.

        Raises:
            EnoughError: It would take too long to find more.
        """
        impossible: set[SourcedRequirement] = set()
        while found.answer is None:
            conflict = minimal(self.probe, found.rest)
            alone = {wish for wish in conflict if self._fails_alone(wish)}
            if not conflict or (alone and impossible):
                return
            if alone:
                # A project that there isn't, say. There may be a conflict beside it.
                impossible = alone
                found.leave_out(alone)
            else:
                found.conflicts.append(conflict)
                declared = self._declared(conflict)
                if len(_outputs(declared)) != 1:
                    return
                found.correct(_wrong(declared, conflict))
            found.answer = self.probe.answer(found.rest)

    def _fails_alone(self, wish: SourcedRequirement) -> bool:
        """Whether nobody else is needed for the failure, not even one of our stages."""
        if wish.kind in CONSTRAINTS:
            return False
        if wish.name in self._provided and not wish.is_bare:
            return False
        return self.probe.fails([replace(wish, kind=Kind.WANTED)])

    def _merely_names(self, wish: SourcedRequirement) -> bool:
        """Whether a wish is for an output, in whatever version it is built."""
        return wish.is_bare and wish.name in self._provided

    def _declared(
        self, wishes: Iterable[SourcedRequirement]
    ) -> list[SourcedRequirement]:
        """Return those wishes that outputs declare, and that may be wrong."""
        declared = (wish for wish in wishes if wish.kind is Kind.DECLARED)
        return [wish for wish in declared if not self._merely_names(wish)]

    @property
    def _provided(self) -> dict[NormalizedName, str]:
        """The versions of the outputs that may be in the environment."""
        return {
            stand_in.name: stand_in.metadata.version.public
            for stand_in in self.probe.question.stand_ins
        }

    def _conflict(
        self, conflicts: Iterable[Sequence[SourcedRequirement]], hint: Iterable[str]
    ) -> ConflictError:
        return ConflictError(
            name=self.error.name,
            output=self.error.output,
            hint=writing.hint_text(hint),
            conflicts=tuple(self._told(found) for found in conflicts),
        )

    def _told(self, found: Sequence[SourcedRequirement]) -> tuple[Claim, ...]:
        """Return the wishes in words; without those that merely name an output."""
        provided = self._provided
        telling = [wish for wish in found if not self._merely_names(wish)]
        ordered = sorted(telling, key=lambda wish: -wish.kind)
        told = [Claim(who=self._who(wish), what=wish.text) for wish in ordered]
        if len(told) == 1 and ordered[0].name in provided:
            name = ordered[0].name
            who = f"stage {self.drafter.graph.providers[name].name} builds"
            told.append(Claim(who=who, what=f"{name}=={provided[name]}"))
        return tuple(told)

    def _who(self, wish: SourcedRequirement) -> str:
        output = wish.output and self._with_version(wish.output)
        words = {
            Kind.WANTED: f"stage {self.error.name} wants",
            Kind.CONSTRAINT: "constraints say",
            Kind.BUILD_CONSTRAINT: "build-constraints say",
            Kind.BOUND: f"match-runtime, because of {wish.holder}, wants",
            Kind.REQUIRED: f"{output}, once built, requires",
            Kind.ADDED: f"build-requires of {wish.output} adds",
            Kind.DECLARED: f"{output} declares",
        }
        if wish.kind is Kind.WANTED and self.stage is None:
            return "final.requirements want"
        return words[wish.kind]

    def _with_version(self, output: NormalizedName) -> str:
        if output not in self.drafter.graph.providers:
            return f"{output}, this project,"
        facts = self.drafter.facts
        metadata = facts.metadata(output)
        version = facts.promises[output].chosen.version
        version = metadata.version if metadata is not None else version
        return str(output) if version is None else f"{output} {version.public}"

    def _correction(self, found: _Found) -> Iterator[str]:
        """Yield the lines that take wrong declarations away."""
        packages = () if found.answer is None else found.answer.packages
        held = {package.name for package in packages}
        wrong = (
            "the declaration is" if len(found.wrong) == 1 else "the declarations are"
        )
        yield f"if {wrong} wrong, settle it in pyproject.toml:"
        for output in sorted(_outputs(found.wrong)):
            rules = self.drafter.project.rules(output)
            remove = {it.name for it in found.wrong if it.output == output}
            lost = {
                name
                for name in remove - held
                if self.probe.goes(
                    [*found.rest, SourcedRequirement(kind=Kind.ADDED, text=name)]
                )
            }
            table = writing.build_requires_table(
                output,
                add={*map(str, rules.build_requires_add), *lost},
                remove={*rules.build_requires_remove, *remove},
            )
            yield from writing.indent(table)

    def _mend(self, found: Sequence[SourcedRequirement]) -> Iterator[str]:
        """Yield what can be changed where nobody's declaration is to blame."""
        kinds = {wish.kind for wish in found}
        own = "final.requirements"
        if self.stage is not None:
            own = f"the dependencies of stage {self.stage.name}"
        if kinds == {Kind.WANTED} and len(found) > 1:
            yield f"{own} don't go together: change one of them"
            return
        places = {
            Kind.WANTED: own,
            Kind.CONSTRAINT: "constraints",
            Kind.BUILD_CONSTRAINT: "build-constraints",
            Kind.BOUND: "match-runtime",
        }
        changeable = [place for kind, place in places.items() if kind in kinds]
        builds = _outputs(wish for wish in found if wish.kind in OF_BUILDS)
        changeable += [f"build-requires of {name}" for name in sorted(builds)]
        yield f"change {' or '.join(changeable)} in pyproject.toml"
        yield from self._override(found)

    def _override(self, found: Sequence[SourcedRequirement]) -> Iterator[str]:
        """Yield the line that overrules what an output requires, if that would do."""
        required = {wish.name: wish for wish in found if wish.kind is Kind.REQUIRED}
        wanted = [
            wish.text
            for wish in found
            if wish.kind is Kind.WANTED and wish.name in required
        ]
        resolver = self.drafter.resolver.overriding(wanted)
        if not wanted or not replace(self.probe, resolver=resolver).goes(self.wishes):
            return
        wrong = {required[canonicalize_name(Requirement(text).name)] for text in wanted}
        names = " and ".join(sorted({str(wish.output) for wish in wrong}))
        yield f"or overrule what {names} requires:"
        key = "override-dependencies"
        overrides = writing.assignment(key, resolver.settings[key])
        yield from writing.indent(["[tool.uv]", *overrides])

    def _split(self, found: Sequence[SourcedRequirement]) -> ConflictError:
        """Return the failure with the outputs divided, where that is known to do."""
        stage = self.stage
        groups = self._groups() if self._declared(found) else None
        if stage is None or groups is None:
            return self._conflict([found], self._mend(found))
        return SplitError(
            name=self.error.name,
            output=self.error.output,
            hint=writing.hint_text(self._stages(stage, groups, found)),
            conflicts=(self._told(found),),
            groups=groups,
        )

    def _groups(self) -> tuple[tuple[NormalizedName, ...], ...] | None:
        """Divide the outputs so that each group goes; None where one doesn't alone."""
        shared = [wish for wish in self.wishes if wish.kind not in OF_BUILDS]
        groups: list[list[NormalizedName]] = []
        for output in () if self.stage is None else self.stage.outputs:
            for group in (*groups, []):
                members = {*group, output.name}
                wishes = [wish for wish in self.wishes if wish.kind in OF_BUILDS]
                ours = [wish for wish in wishes if wish.output in members]
                if self.probe.goes([*shared, *ours]):
                    break
            else:
                return None
            if not group:
                groups.append(group)
            group.append(output.name)
        return tuple(map(tuple, groups))

    def _stages(
        self,
        stage: Stage,
        groups: Sequence[Sequence[NormalizedName]],
        found: Sequence[SourcedRequirement],
    ) -> Iterator[str]:
        """Yield the tables of the stages that take the place of one."""
        root = self.drafter.project.root
        declared = {
            output.name: writing.as_declared(output.requirement, root)
            for output in stage.outputs
        }
        dependencies = [writing.as_declared(it, root) for it in stage.dependencies]
        yield "build them in stages of their own, in pyproject.toml:"
        taken = [PROJECT, FINAL, *self.drafter.graph.stages]
        for number, group in enumerate(groups):
            name = free_name(stage.name, taken) if number else stage.name
            taken.append(name)
            outputs = [declared[output] for output in group]
            table = writing.stage_table(name, outputs, dependencies)
            yield from writing.indent(table)
        other = [
            key
            for key, value in (
                ("needs", stage.needs),
                ("env", stage.env),
                ("pass-env", stage.pass_env),
                ("tools", stage.tools),
            )
            if value
        ]
        if other:
            yield f"each with the {', '.join(other)} that stage {stage.name} has"
        names = " or ".join(sorted(_outputs(self._declared(found))))
        yield f"or correct what is wrong in build-requires of package {names}"
        for later in self.drafter.graph.order:
            if stage.name in later.needs:
                yield f"and see which of them stage {later.name} needs"


def _wrong(
    declared: Iterable[SourcedRequirement], found: Sequence[SourcedRequirement]
) -> SourcedRequirement:
    """Return the declaration that is most likely wrong among wishes that conflict."""
    names = [wish.name for wish in found]
    return min(declared, key=lambda it: (it.is_bare, -names.count(it.name)))


def _outputs(wishes: Iterable[SourcedRequirement]) -> set[NormalizedName]:
    return {wish.output for wish in wishes if wish.output is not None}
