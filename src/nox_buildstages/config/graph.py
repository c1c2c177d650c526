"""Which stage needs which: their order, and whose wheels each may see."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.errors import DeclarationError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.model import Output, Project, Stage

_Edges: TypeAlias = "Mapping[str, Mapping[str, str]]"
"""By a stage's name the stages that it needs, each with the reason."""
_Found: TypeAlias = tuple[int, Problem]
"""A problem, and the position of the stage that it is told of."""

OUR_SESSIONS = (
    "build-stages",
    "build-stages-init",
    "build-stages-lock",
    "build-stages-plan",
    "build-stages-release",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """The stages and what they need of each other; free of cycles.

    Attributes:
        order: Each stage after all that it needs, in the table's order where free.
        stages: By name.
        providers: The stage that builds an output.
        needed: The names of the stages that a stage needs itself, in order.
    """

    order: tuple[Stage, ...]
    stages: Mapping[str, Stage]
    providers: Mapping[NormalizedName, Stage]
    needed: Mapping[str, tuple[str, ...]]

    def stage(self, name: str) -> Stage:
        """Return the stage of a name; raise KeyError where there is none."""
        return self.stages[name]

    def provider(self, output: str) -> Stage | None:
        """Return the stage that builds an output, however its name is spelled."""
        return self.providers.get(canonicalize_name(output))

    def requires(self, name: str) -> tuple[str, ...]:
        """Return the stages that a stage needs itself, in order."""
        return self.needed[name]

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Return all stages that come before a stage because of it, in order."""
        found: set[str] = set()
        waiting = list(self.needed[name])
        while waiting:
            current = waiting.pop()
            if current not in found:
                found.add(current)
                waiting.extend(self.needed[current])
        return tuple(stage.name for stage in self.order if stage.name in found)


def arrange(project: Project) -> Graph:
    """Bring the stages into order.

    Raises:
        DeclarationError: If they can't be: every reason at once.
    """
    stages = {stage.name: stage for stage in reversed(project.stages)}
    providers = {
        output.name: stage
        for stage in reversed(project.stages)
        for output in stage.outputs
    }
    edges = {
        stage.name: _edges(stage, stages, providers)
        for stage in project.stages
        if stages[stage.name] is stage
    }
    order, cycles = _sorted(edges)
    found = (
        *_clashing_names(project),
        *_repeated_outputs(project.stages),
        *_wrong_needs(project.stages, stages),
        *_own_outputs(project.stages),
        *_cycles_told(cycles, edges, project.stages),
    )
    if found:
        ordered = sorted(found, key=itemgetter(0))
        raise DeclarationError(
            path=project.pyproject, problems=tuple(problem for _, problem in ordered)
        )
    return _graph([stages[name] for name in order], providers, edges)


def _graph(
    order: Sequence[Stage], providers: Mapping[NormalizedName, Stage], edges: _Edges
) -> Graph:
    position = {stage.name: index for index, stage in enumerate(order)}
    return Graph(
        order=tuple(order),
        stages={stage.name: stage for stage in order},
        providers=providers,
        needed={
            name: tuple(sorted(needed, key=position.__getitem__))
            for name, needed in edges.items()
        },
    )


def _edges(
    stage: Stage, stages: Mapping[str, Stage], providers: Mapping[NormalizedName, Stage]
) -> dict[str, str]:
    """Return the stages that one needs, each with the first reason."""
    found: dict[str, str] = {}
    for dependency in stage.dependencies:
        provider = providers.get(canonicalize_name(dependency.name))
        if provider is not None and provider.name != stage.name:
            reason = f"its dependencies name {canonicalize_name(dependency.name)}"
            found.setdefault(provider.name, reason)
    for need in stage.needs:
        if need in stages and need != stage.name:
            found.setdefault(need, "its needs name it")
    return found


def _sorted(edges: _Edges) -> tuple[list[str], list[tuple[str, ...]]]:
    """Sort by Kahn's algorithm, taking what comes first in the table first.

    A cycle is noted and its stages taken as if their turn had come, so that
    those that merely stand behind it aren't held for a part of it.
    """
    names = tuple(edges)
    index = {name: position for position, name in enumerate(names)}
    missing = {name: len(needed) for name, needed in edges.items()}
    needing: dict[str, list[str]] = {name: [] for name in names}
    for name, needed in edges.items():
        for need in needed:
            needing[need].append(name)
    ready = [index[name] for name in names if not missing[name]]
    waiting = dict.fromkeys(names)
    cycles = []
    order = []
    while waiting:
        if not ready:
            cycles.append(_cycle(waiting, edges))
            ready = sorted(index[name] for name in cycles[-1])
            missing.update(dict.fromkeys(cycles[-1], 0))
        name = names[heappop(ready)]
        del waiting[name]
        order.append(name)
        for next_name in needing[name]:
            missing[next_name] -= 1
            if missing[next_name] == 0:
                heappush(ready, index[next_name])
    return order, cycles


def _cycle(waiting: Mapping[str, None], edges: _Edges) -> tuple[str, ...]:
    """Return a cycle among stages that each wait for another of them."""
    path: dict[str, None] = {}
    name = next(iter(waiting))
    while name not in path:
        path[name] = None
        name = next(need for need in edges[name] if need in waiting)
    walked = tuple(path)
    return walked[walked.index(name) :]


def _cycles_told(
    cycles: Sequence[tuple[str, ...]], edges: _Edges, stages: Sequence[Stage]
) -> Iterator[_Found]:
    first = {stage.name: index for index, stage in reversed([*enumerate(stages)])}
    for cycle in cycles:
        start = cycle.index(min(cycle, key=first.__getitem__))
        path = (*cycle[start:], *cycle[: start + 1])
        reasons = "; ".join(
            f"{name} needs {need}: {edges[name][need]}" for name, need in pairwise(path)
        )
        at = first[path[0]]
        message = f"stages need each other: {' -> '.join(path)} ({reasons})"
        yield at, Problem(location=stages[at].location, message=message)


def _clashing_names(project: Project) -> Iterator[_Found]:
    """Yield stages of one name, and those that nox would give one folder."""
    suffixes = [f"-{python}" for python in project.pythons] or [""]
    named: dict[str, Stage] = {}
    folders = {
        folder_of(f"{name}{suffix}"): f"session {name}"
        for name in OUR_SESSIONS
        for suffix in suffixes
    }
    for index, stage in enumerate(project.stages):
        location = f"{stage.location}.name"
        own = [folder_of(f"build-stage-{stage.name}{suffix}") for suffix in suffixes]
        taken = next((folder for folder in own if folder in folders), None)
        if stage.name in named:
            message = f"{stage.name!r} is the name of {named[stage.name].location} too"
            yield index, Problem(location=location, message=message)
        elif taken is not None:
            message = (
                f"{stage.name!r} would share the folder {taken!r} of nox with "
                f"{folders[taken]}; choose another name"
            )
            yield index, Problem(location=location, message=message)
        named.setdefault(stage.name, stage)
        for folder in own:
            folders.setdefault(folder, f"stage {stage.name!r}")


def folder_of(session: str) -> str:
    """Return the folder that nox gives a session, as its ``_normalize_path`` does."""
    name = unicodedata.normalize("NFKD", session).encode("ascii", "ignore").decode()
    name = re.sub(r"[^\w\s-]", "-", name).strip().lower()
    return re.sub(r"[-\s]+", "-", name).strip("-")


def _repeated_outputs(stages: Sequence[Stage]) -> Iterator[_Found]:
    first: dict[NormalizedName, Output] = {}
    for index, stage in enumerate(stages):
        for output in stage.outputs:
            if output.name in first:
                message = (
                    f"{output.name} is built already: {first[output.name].location}"
                )
                yield index, Problem(location=output.location, message=message)
            first.setdefault(output.name, output)


def _wrong_needs(
    stages: Sequence[Stage], known: Mapping[str, Stage]
) -> Iterator[_Found]:
    for index, stage in enumerate(stages):
        for at, need in enumerate(stage.needs):
            location = f"{stage.location}.needs[{at}]"
            if need == stage.name:
                yield (
                    index,
                    Problem(location=location, message="a stage can't need itself"),
                )
            elif need not in known:
                hint = did_you_mean(need, known)
                message = f"there is no stage {need!r}{hint}"
                yield index, Problem(location=location, message=message)


def _own_outputs(stages: Sequence[Stage]) -> Iterator[_Found]:
    for index, stage in enumerate(stages):
        own = {output.name: output.location for output in stage.outputs}
        for at, dependency in enumerate(stage.dependencies):
            name = canonicalize_name(dependency.name)
            if name in own:
                location = f"{stage.location}.dependencies[{at}]"
                message = f"{name} is built by this stage itself: {own[name]}"
                yield index, Problem(location=location, message=message)
