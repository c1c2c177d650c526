"""The order of the stages, by the wheels they need from each other."""

from __future__ import annotations

import re
import unicodedata
from bisect import insort
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.errors import DeclarationError, Problem
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.model import Output, Project, Stage

_Edges: TypeAlias = "Mapping[str, Mapping[str, str]]"
"""By name of a stage: the stages needed directly, each with the reason."""
_StageProblem: TypeAlias = tuple[int, Problem]
"""A problem, and the position of its stage in the table."""

OUR_SESSIONS = (
    "build-stages",
    "build-stages-init",
    "build-stages-lock",
    "build-stages-plan",
    "build-stages-release",
)


class Graph(Value):
    """The stages and their needs, without cycles."""

    order: tuple[Stage, ...]  # needed stages first, otherwise in the table's order
    stages: Mapping[str, Stage]
    providers: Mapping[NormalizedName, Stage]  # the stage of each output
    requires: Mapping[str, tuple[str, ...]]
    """By name of a stage: the stages needed directly, in order."""

    def provider(self, output: str) -> Stage | None:
        """Return the stage of an output, in any spelling of the name."""
        return self.providers.get(canonicalize_name(output))

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Return all stages needed by a stage, directly or not, in order."""
        found: set[str] = set()
        waiting = list(self.requires[name])
        while waiting:
            current = waiting.pop()
            if current not in found:
                found.add(current)
                waiting.extend(self.requires[current])
        return tuple(stage.name for stage in self.order if stage.name in found)


def arrange(project: Project) -> Graph:
    """Order the stages of a project.

    Raises:
        DeclarationError: Stages can't be ordered; has all reasons.
    """
    graph, problems = _arrange(project)
    if problems:
        raise DeclarationError(path=project.pyproject, problems=problems)
    return graph


def find_problems(project: Project) -> tuple[Problem, ...]:
    """Return the reasons why the stages of a project can't be ordered.

    The table may be faulty: stages without a name are ignored.
    """
    return _arrange(project)[1]


def _arrange(project: Project) -> tuple[Graph, tuple[Problem, ...]]:
    stages = {stage.name: stage for stage in reversed(project.stages)}
    providers = {
        output.name: stage
        for stage in reversed(project.stages)
        for output in stage.outputs
    }
    edges: dict[str, dict[str, str]] = {}
    for stage in project.stages:
        if stages[stage.name] is not stage:
            continue  # a second stage of the same name
        needs = edges[stage.name] = {}
        for dependency in stage.dependencies:
            name = canonicalize_name(dependency.name)
            provider = providers.get(name)
            if provider is not None and provider.name != stage.name:
                needs.setdefault(provider.name, f"its dependencies name {name}")
        for need in stage.needs:
            if need in stages and need != stage.name:
                needs.setdefault(need, "its needs name it")
    names, cycles = _sort(edges)
    problems = [
        *_name_problems(project),
        *_stage_problems(project.stages),
        *_cycle_problems(cycles, edges, project.stages),
    ]
    order = tuple(stages[name] for name in names)
    graph = Graph(
        order=order,
        stages={stage.name: stage for stage in order},
        providers=providers,
        requires={
            name: tuple(sorted(needs, key=names.index)) for name, needs in edges.items()
        },
    )
    ordered = sorted(problems, key=itemgetter(0))
    return graph, tuple(problem for _, problem in ordered)


def session_folder(session: str) -> str:
    """Return nox's folder for a session, as nox's ``_normalize_path`` does."""
    name = unicodedata.normalize("NFKD", session).encode("ascii", "ignore").decode()
    name = re.sub(r"[^\w\s-]", "-", name).strip().lower()
    return re.sub(r"[-\s]+", "-", name).strip("-")


def _sort(edges: _Edges) -> tuple[list[str], list[tuple[str, ...]]]:
    """Sort by Kahn's algorithm, in the table's order where free; return cycles too.

    The stages of a cycle count as sorted once the cycle is found. Later stages aren't
    taken for a part of the cycle.
    """
    names = tuple(edges)
    index = {name: position for position, name in enumerate(names)}
    missing = {name: len(needed) for name, needed in edges.items()}
    dependents: dict[str, list[str]] = {name: [] for name in names}
    for name, needed in edges.items():
        for need in needed:
            dependents[need].append(name)
    ready = [index[name] for name in names if not missing[name]]
    waiting = dict.fromkeys(names)
    cycles = []
    order = []
    while waiting:
        if not ready:
            # Every waiting stage needs another one, so a walk runs into a cycle.
            path: dict[str, None] = {}
            name = next(iter(waiting))
            while name not in path:
                path[name] = None
                name = next(need for need in edges[name] if need in waiting)
            cycle = tuple(path)[list(path).index(name) :]
            cycles.append(cycle)
            ready = sorted(index[name] for name in cycle)
            missing.update(dict.fromkeys(cycle, 0))
        name = names[ready.pop(0)]
        del waiting[name]
        order.append(name)
        for dependent in dependents[name]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                insort(ready, index[dependent])
    return order, cycles


def _cycle_problems(
    cycles: Sequence[tuple[str, ...]], edges: _Edges, stages: Sequence[Stage]
) -> Iterator[_StageProblem]:
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


def _name_problems(project: Project) -> Iterator[_StageProblem]:
    """Yield stages of the same name, and stages for which nox uses the same folder."""
    suffixes = [f"-{python}" for python in project.pythons] or [""]
    first: dict[str, Stage] = {}
    folders = {
        session_folder(f"{name}{suffix}"): f"session {name}"
        for name in OUR_SESSIONS
        for suffix in suffixes
    }
    for index, stage in enumerate(project.stages):
        location = f"{stage.location}.name"
        own = [session_folder(f"build-stage-{stage.name}{it}") for it in suffixes]
        clash = next((folder for folder in own if folder in folders), None)
        if not stage.name:
            continue
        if stage.name in first:
            message = f"{stage.name!r} is the name of {first[stage.name].location} too"
            yield index, Problem(location=location, message=message)
        elif clash is not None:
            message = (
                f"{stage.name!r} would share the folder {clash!r} of nox with "
                f"{folders[clash]}; choose another name"
            )
            yield index, Problem(location=location, message=message)
        first.setdefault(stage.name, stage)
        for folder in own:
            folders.setdefault(folder, f"stage {stage.name!r}")


def _stage_problems(stages: Sequence[Stage]) -> Iterator[_StageProblem]:
    """Yield outputs of two stages, wrong needs, and dependencies on own outputs."""
    names = {stage.name: None for stage in stages}
    first: dict[NormalizedName, Output] = {}
    for index, stage in enumerate(stages):
        for output in stage.outputs:
            other = first.setdefault(output.name, output)
            if other is not output:
                message = f"{output.name} is built already: {other.location}"
                yield index, Problem(location=output.location, message=message)
        for at, need in enumerate(stage.needs):
            location = f"{stage.location}.needs[{at}]"
            if need == stage.name:
                message = "a stage can't need itself"
                yield index, Problem(location=location, message=message)
            elif need not in names and "" not in names:
                message = f"there is no stage {need!r}{did_you_mean(need, names)}"
                yield index, Problem(location=location, message=message)
        own = {output.name: output.location for output in stage.outputs}
        for at, dependency in enumerate(stage.dependencies):
            name = canonicalize_name(dependency.name)
            if name in own:
                location = f"{stage.location}.dependencies[{at}]"
                message = (
                    f"{name} is built by this stage itself: {own[name]}; move the"
                    " outputs that need it to a stage of their own"
                )
                yield index, Problem(location=location, message=message)
