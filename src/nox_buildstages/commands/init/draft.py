"""The stages proposed so far, before they resolve."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.config.writing import indent
from nox_buildstages.errors import ProposalError
from nox_buildstages.model import FINAL, PROJECT, Output, Stage
from nox_buildstages.text import free_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.utils import NormalizedName

    from nox_buildstages.model import Project

CYCLE_HINT = "use a wheel of one of them: another version, or another index"

_WIDTH = 86
"""The width of a comment without ``#``."""

_MATCH_RUNTIME = (canonicalize_name("torch"),)
"""Projects whose compiled extensions work with a single version only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposedOutput:
    """A dependency that needs a stage."""

    requirement: Requirement
    reason: str
    dependencies: tuple[str, ...] = ()
    """Requirements beside the declared build requirements."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """By undeclared module imported by the build: the requirement that provides it."""
    dropped: tuple[NormalizedName, ...] = ()
    """Declared build requirements without a solution."""
    changes: tuple[str, ...] = ()
    """The packages in the environment whose folders the build changes."""
    to_do: tuple[str, ...] = ()  # why the build requirements are unknown, and a way out

    @property
    def name(self) -> NormalizedName:
        """The normalized name of the project."""
        return canonicalize_name(self.requirement.name)

    def comments(self) -> Iterator[str]:
        """Yield the reason for the stage, and an open task."""
        modules = ", ".join(
            module if module == name else f"{module} (of {name})"
            for module, name in self.modules.items()
        )
        undeclared = f"; its build imports {modules}, which it doesn't declare"
        line = f"{self.name}: {self.reason}{undeclared if modules else ''}"
        yield from textwrap.wrap(line, _WIDTH)
        if self.changes:
            yield f"its build changes the folder of {', '.join(self.changes)}"
        if self.to_do:
            yield "To do: its build requirements are unknown:"
            yield from indent(self.to_do)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A proposal before it resolves."""

    declared: Project
    outputs: tuple[ProposedOutput, ...] = ()  # sorted by name
    groups: tuple[tuple[NormalizedName, ...], ...] = ()
    """Outputs that share a stage; others have stages of their own."""
    added: Mapping[str, tuple[NormalizedName, ...]] = field(default_factory=dict)
    """By declared stage: proposed outputs to add to the dependencies."""
    match_runtime: tuple[NormalizedName, ...] = _MATCH_RUNTIME
    """To add to match-runtime."""
    mismatch: tuple[str, ...] = ()  # why a project can't be in match-runtime

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

        A stage has the name of the first output, with a number if the name is taken.
        """
        taken = {PROJECT, FINAL, *(stage.name for stage in self.declared.stages)}
        groups = {name: group for group in self.groups for name in group}
        for output in self.outputs:
            group = groups.get(output.name, (output.name,))
            if group[0] == output.name:
                members = tuple(it for it in self.outputs if it.name in group)
                yield free_name(output.name, taken), members

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
        rules = {
            output.name: replace(
                project.rules(output.name),
                build_requires_remove=output.dropped,
                requires_dist=() if output.to_do else None,
            )
            for output in self.outputs
        }
        matched = dict.fromkeys((*project.match_runtime, *self.match_runtime))
        return replace(
            project,
            match_runtime=tuple(matched),
            stages=tuple(stages),
            packages={**project.packages, **rules},
        )


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
    (member,) = members
    if member.name == output:
        raise ProposalError(
            problem=f"no usable wheel of {output} exists, and its build requires"
            f" {output} itself",
            hint=CYCLE_HINT,
        )
    if output in member.dependencies:
        return None
    dependencies = (*member.dependencies, output)
    return draft.with_output(replace(member, dependencies=dependencies))
