"""The stages proposed so far, before they resolve."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.commands.init.known import (
    CUDA_TOOLKIT,
    Torch,
    apply_facts,
    cuda_dependency,
)
from nox_buildstages.config.writing import indent
from nox_buildstages.declarations import builds
from nox_buildstages.errors import ProposalError
from nox_buildstages.model import FINAL, PROJECT, Output, Stage
from nox_buildstages.recipes.recipe import CudaLibraries, MemoryPerJob, Takes
from nox_buildstages.text import free_name
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from packaging.utils import NormalizedName

    from nox_buildstages.model import PackageRules, Project
    from nox_buildstages.recipes.recipe import Fact

CYCLE_HINT = "use a wheel of one of them: another version, or another index"

_WIDTH = 86
"""The width of a comment without ``#``."""

_MATCH_RUNTIME = (canonicalize_name("torch"),)
"""Projects whose compiled extensions work with a single version only.

They are large too, so the build backends that need one are asked in one environment.
"""

_HARMLESS = {canonicalize_name("wheel")}
"""Build requirements that don't change what setuptools builds."""


class ProposedOutput(Value):
    """A dependency that needs a stage."""

    requirement: Requirement
    reason: str
    requires: frozenset[NormalizedName] = frozenset()
    """The projects of its build requirements: declared, or given by its backend."""
    dependencies: tuple[str, ...] = ()
    """Requirements beside the declared build requirements."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """By undeclared module imported by the build: the requirement that provides it."""
    dropped: tuple[NormalizedName, ...] = ()
    """Declared build requirements without a solution."""
    changes: tuple[str, ...] = ()
    """The packages in the environment whose folders the build changes."""
    to_do: tuple[str, ...] = ()  # why the build requirements are unknown, and a way out
    facts: tuple[Fact, ...] = ()
    """The facts of its recipe about its version, built with the project's torch."""

    @property
    def name(self) -> NormalizedName:
        """The normalized name of the project."""
        return canonicalize_name(self.requirement.name)

    @property
    def needs(self) -> frozenset[NormalizedName]:
        """The projects needed by the build."""
        extra = (canonicalize_name(Requirement(it).name) for it in self.dependencies)
        return self.requires.union(extra) - _HARMLESS

    def comments(self, torch: Torch | None) -> Iterator[str]:
        """Yield the reason for the stage and for its keys, and an open task."""
        modules = ", ".join(
            module if module == name else f"{module} (of {name})"
            for module, name in self.modules.items()
        )
        undeclared = f"; its build imports {modules}, which it doesn't declare"
        line = f"{self.name}: {self.reason}{undeclared if modules else ''}"
        yield from textwrap.wrap(line, _WIDTH)
        if self.changes:
            yield f"its build changes the folder of {', '.join(self.changes)}"
        for fact in self.facts:
            if isinstance(fact, MemoryPerJob):
                line = f"memory-per-job, until a build has measured it: {fact.why}"
                yield from textwrap.wrap(line, _WIDTH)
            elif isinstance(fact, CudaLibraries) and torch and torch.has_compiler:
                line = f"cuda-toolkit: nvcc, and libraries of CUDA: {fact.why}"
                yield from textwrap.wrap(line, _WIDTH)
            elif isinstance(fact, Takes):
                yield from textwrap.wrap(f"takes {fact.unit}: {fact.why}", _WIDTH)
        if self.to_do:
            yield "To do: its build requirements are unknown:"
            yield from indent(self.to_do)


class Draft(Value):
    """A proposal before it resolves."""

    declared: Project
    outputs: tuple[ProposedOutput, ...] = ()  # sorted by name
    is_asking: bool = True
    """Whether backends are still asked: in one environment for all that need torch."""
    apart: frozenset[NormalizedName] = frozenset()
    """Outputs that can't share a stage: their build requirements don't fit others."""
    added: Mapping[str, tuple[NormalizedName, ...]] = field(default_factory=dict)
    """By declared stage: proposed outputs to add to the dependencies."""
    match_runtime: tuple[NormalizedName, ...] = _MATCH_RUNTIME
    """To add to match-runtime."""
    mismatch: tuple[str, ...] = ()  # why a project can't be in match-runtime
    torch: Torch | None = None
    """The torch that the project resolves to, if recipes depend on it."""

    def output(self, name: str) -> ProposedOutput | None:
        """Return a proposed output by name."""
        return next((it for it in self.outputs if it.name == name), None)

    def with_output(self, output: ProposedOutput) -> Draft:
        """Return the draft with an output added, or replaced."""
        others = (it for it in self.outputs if it.name != output.name)
        outputs = sorted((*others, output), key=lambda it: it.name)
        return replace(self, outputs=tuple(outputs))

    def stages(self) -> Iterator[tuple[str, tuple[ProposedOutput, ...]]]:
        """Yield the proposed stages: name and outputs.

        Outputs whose builds need the same projects share a stage. It has the name of
        the first output, with a number if the name is taken.
        """
        taken = {PROJECT, FINAL, *(stage.name for stage in self.declared.stages)}
        groups: dict[Hashable, list[ProposedOutput]] = {}
        for output in self.outputs:
            groups.setdefault(self._group(output), []).append(output)
        for members in groups.values():
            name = free_name(members[0].name, taken)
            taken.add(name)
            yield name, tuple(members)

    def _group(self, output: ProposedOutput) -> Hashable:
        """Return what outputs of the same stage have in common."""
        needs = self.needs(output)
        is_alone = output.name in self.apart.union(needs)
        if output.to_do or output.changes or is_alone:
            return output.name
        shared = needs.intersection(self.match_runtime)
        if self.is_asking and shared:
            return shared, needs.intersection(it.name for it in self.outputs)
        return needs

    def project(self) -> Project:
        """Return the project with the proposed stages."""
        project = self.declared
        stages = []
        for stage in project.stages:
            added = map(Requirement, self.added.get(stage.name, ()))
            stages.append(replace(stage, dependencies=(*stage.dependencies, *added)))
        for name, members in self.stages():
            names = dict.fromkeys(
                it for output in members for it in output.dependencies
            )
            facts = [fact for output in members for fact in output.facts]
            cuda = cuda_dependency(facts)
            if cuda is not None and self.torch is not None and self.torch.has_compiler:
                names[cuda] = None
            outputs = (
                Output(requirement=it.requirement, location=f"{it.name} (proposed)")
                for it in members
            )
            stage = Stage(
                name=name,
                dependencies=tuple(map(Requirement, names)),
                outputs=tuple(outputs),
                private_environment=any(it.changes for it in members),
                location=f"stage {name} (proposed)",
            )
            stages.append(stage)
        rules = {}
        for output in self.outputs:
            known = self.rules(output)
            removed = (*known.build_requires_remove, *output.dropped)
            rules[output.name] = replace(
                known,
                build_requires_remove=removed,
                requires_dist=() if output.to_do else known.requires_dist,
            )
        every = [output for stage in stages for output in stage.outputs]
        matched = (
            *project.match_runtime,
            *builds.match_runtime(project.uv, every),
            *self.match_runtime,
        )
        declared_rules = {**project.packages, **rules}
        return replace(
            project,
            match_runtime=tuple(dict.fromkeys(matched)),
            stages=tuple(stages),
            packages=builds.package_rules(project.uv, every, declared_rules),
        )

    def needs(self, output: ProposedOutput) -> frozenset[NormalizedName]:
        """Return the projects that an output's build needs, as the rules have it."""
        rules = self.rules(output)
        added = {canonicalize_name(it.name) for it in rules.build_requires_add}
        if cuda_dependency(output.facts) is not None:
            added.add(CUDA_TOOLKIT)
        kept = output.needs.difference(rules.build_requires_remove)
        return kept.union(added) - _HARMLESS

    def rules(self, output: ProposedOutput) -> PackageRules:
        """Return the rules of an output: declared, or of its recipe."""
        return apply_facts(self.declared.rules(output.name), output.facts)


def add_dependency(draft: Draft, stage: str, output: NormalizedName) -> Draft | None:
    """Return a draft with a stage depending on an output; None for no change.

    Raises:
        ProposalError: The stage builds the output itself.
    """
    members = dict(draft.stages()).get(stage, ())
    if not members:
        added = draft.added.get(stage, ())
        is_declared = stage in {it.name for it in draft.declared.stages}
        if output in added or not is_declared:
            return None
        return replace(draft, added={**draft.added, stage: (*added, output)})
    if [member.name for member in members] == [output]:
        raise ProposalError(
            problem=f"no usable wheel of {output} exists, and its build requires"
            f" {output} itself",
            hint=CYCLE_HINT,
        )
    better = draft
    for member in members:
        if output not in (member.name, *member.dependencies):
            dependencies = (*member.dependencies, output)
            better = better.with_output(replace(member, dependencies=dependencies))
    return None if better == draft else better
