"""Explain why no versions of outputs fit together, and find a fitting pin."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.config import writing
from nox_buildstages.errors import ResolutionError, SourceError
from nox_buildstages.lock.explain.minimal_conflict import (
    ProbeLimitError,
    ProbeLimits,
    minimal_conflict,
)
from nox_buildstages.lock.resolve.choose_sources import (
    MAX_VERSIONS,
    OUTPUTS,
    IncompatibleOutputsError,
    SourceChooser,
)
from nox_buildstages.lock.resolve.uv_compile import SYSTEM_HINTS
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from nox_buildstages.lock.resolve.uv_compile import StandIn


class Claim(Value):
    """A reason against some versions of an output."""

    name: NormalizedName  # of the output
    text: str  # the requirement
    place: str = ""  # in the table
    by: NormalizedName | None = None  # or else the output that requires it
    claimant: str = ""  # with the verb


def explain_incompatible_outputs(failure: IncompatibleOutputsError) -> ResolutionError:
    """Return the error with both sides, and with a fitting pin, if any.

    If no conflict is found, the error has uv's message only.
    """
    error, chooser = failure.error, failure.chooser
    claims = [*_claims(chooser)]
    probe = ClaimsProbe(chooser=chooser, claims=claims)
    try:
        if error.hint in SYSTEM_HINTS.values() or probe.conflicts(()):
            return error  # an index can't be reached, or an output has no source
        if not probe.conflicts(claims):
            return error
        conflict = minimal_conflict(probe, claims)
    except ProbeLimitError:
        return error
    # A declaration is shown with the output's version, so the pin needn't be shown.
    requirers = {it.by for it in conflict}
    shown = [it for it in conflict if it.place != OUTPUTS or it.name not in requirers]
    if not any(it.by for it in shown):
        return error
    sides = [f"{it.claimant} {it.text}" for it in reversed(shown)]
    if len(sides) == 1:
        sides.append(f"no such version of {shown[0].name} has a source")
    details = [
        f"read the newest {len(versions)} versions of {name}, back to {versions[0]}"
        for name in chooser.outputs
        if len(versions := chooser.read_versions(name)) >= MAX_VERSIONS
    ]
    return replace(
        error,
        problem=f"can't be locked: {', and '.join(sides)}",
        details=[*details, *error.details],
        hint="\n".join(_advise(chooser, conflict)),
    )


class ClaimsProbe(ProbeLimits):
    """Asks uv about subsets of the claims on versions of outputs."""

    chooser: SourceChooser
    claims: Sequence[Claim]

    def conflicts(self, requirements: Iterable[Claim]) -> bool:
        """Whether claims conflict.

        Raises:
            ProbeLimitError: No further question may be asked.
        """
        self.count()
        subset = {*requirements}
        ignored = ((it.place, it.text) for it in self.claims if it not in subset)
        chooser = replace(self.chooser, ignored=frozenset(ignored))
        question = chooser.question(has_runtime=False)
        kept = {(it.by, it.name) for it in subset}
        question = replace(
            question,
            candidates=tuple(_keep(it, kept) for it in question.candidates),
            stand_ins=tuple(_keep(it, kept) for it in question.stand_ins),
        )
        try:
            for resolver in chooser.resolvers:
                resolver.resolve(question)
        except ResolutionError:
            return True
        return False


def _keep(
    version: StandIn, kept: Container[tuple[NormalizedName | None, NormalizedName]]
) -> StandIn:
    """Return a version of an output that requires only some of the others."""
    requires = tuple(
        text
        for text in version.metadata.requires_dist
        if (version.name, canonicalize_name(Requirement(text).name)) in kept
    )
    return replace(version, metadata=replace(version.metadata, requires_dist=requires))


def _claims(chooser: SourceChooser) -> Iterator[Claim]:
    """Yield what the table says of the versions of outputs, and what they require.

    Requirements of outputs on each other are in the words of the newest version.
    """
    for place, text in chooser.limits():
        name = canonicalize_name(Requirement(text).name)
        claimant = f"{place} {'wants' if place.startswith('stage ') else 'say'}"
        if place == OUTPUTS:
            claimant = f"stage {chooser.graph.providers[name].name} builds"
        if name in chooser.outputs:
            yield Claim(name=name, text=text, place=place, claimant=claimant)
    found: dict[tuple[NormalizedName, NormalizedName], Claim] = {}
    for by in chooser.outputs:
        for version in reversed(chooser.read_versions(by)):
            known = chooser.known(by, version)
            metadata = known.metadata(by)
            stated = version or (metadata.version if metadata else None)
            subject = f"{by} {stated.public}" if stated else by
            declared = known.build_requires(by)
            wanted: dict[NormalizedName, dict[str, str]] = {}
            for text in chooser.requirements_of(by, version):
                requirement = Requirement(text)
                verb = " declares" if text in declared else ", once built, requires"
                if requirement.specifier:
                    name = canonicalize_name(requirement.name)
                    wanted.setdefault(name, {})[text] = f"{verb} {text}"
            for name, texts in wanted.items():
                text = [*texts][-1]
                claimant = f"{subject}{' and'.join(texts.values())}"
                claimant = claimant.removesuffix(f" {text}")
                claim = Claim(name=name, text=text, by=by, claimant=claimant)
                found.setdefault((by, name), claim)
    yield from found.values()


def _advise(chooser: SourceChooser, conflict: Sequence[Claim]) -> Iterator[str]:
    """Yield the lines to pin another version in the table, if any fits.

    Otherwise yield those to drop a declaration of an output.
    """
    required = {it.name for it in conflict if it.by}
    said = [it for it in conflict if it.place]
    for claim in sorted(
        said, key=lambda it: (it.place != OUTPUTS, it.name not in required)
    ):
        trial = chooser.without(claim.place, claim.text)
        with suppress(IncompatibleOutputsError, ResolutionError, SourceError):
            version = trial.choose()[claim.name].choice.version
            pin = f"{claim.name}=={version}"
            stage = chooser.graph.providers[claim.name]
            if claim.place != OUTPUTS:
                yield f"write {pin} in {claim.place}"
                return
            root = chooser.project.root
            outputs = [
                pin
                if it.name == claim.name
                else writing.format_requirement(it.requirement, root)
                for it in stage.outputs
            ]
            yield f"{pin} fits; pin it in stage {stage.name}, in pyproject.toml:"
            yield from writing.indent(writing.assignment("outputs", outputs))
            return
    by, claim = next((it.by, it) for it in conflict if it.by)
    rules = chooser.project.rules(by)
    yield "if the declaration is wrong, correct it in pyproject.toml:"
    if "declares" in claim.claimant:
        table = writing.build_requires_table(
            by,
            add={*map(str, rules.build_requires_add)},
            remove={*rules.build_requires_remove, claim.name},
        )
        yield from writing.indent(table)
        return
    settings, key = chooser.project.uv, "override-dependencies"
    wanted = next((it.text for it in conflict if it.place), claim.name)
    overrides = [*settings.get(key, ()), wanted]
    yield from writing.indent(["[tool.uv]", *writing.assignment(key, overrides)])
