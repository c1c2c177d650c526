"""The cells of a project side by side: which stages they share, and which not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nox_buildstages.config.graph import OUR_SESSIONS, arrange, folder_of
from nox_buildstages.errors import DeclarationError, Problem
from nox_buildstages.lock.files.names import (
    file_name,
    lock_names,
    possible_stems,
    stem_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.model import Output, Project, Stage

MULTIPLIED = ("build-stages", "build-stages-release")
"""The sessions that there are once for each cell, and once for all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellProject:
    """A cell of the matrix: its project and the order of its stages.

    Attributes:
        project: What is declared for it.
        graph: Its stages in order.
    """

    project: Project
    graph: Graph

    def session(self, stage: Stage) -> str:
        """Return the session of a stage, without a Python."""
        return f"build-stage-{self.project.stage_label(stage.name)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """All cells of a project; one that has no values where there is no matrix.

    Attributes:
        cells: In the matrix's order.
    """

    cells: tuple[CellProject, ...]

    @property
    def first(self) -> CellProject:
        """The first cell."""
        return self.cells[0]

    @property
    def projects(self) -> tuple[Project, ...]:
        """What is declared for each cell."""
        return tuple(cell.project for cell in self.cells)

    @property
    def has_matrix(self) -> bool:
        """Whether cells have values."""
        return bool(self.first.project.cell.choices)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every output of every cell, by name once."""
        found = (output for it in self.projects for output in it.outputs)
        return tuple({output.name: output for output in found}.values())

    @property
    def names(self) -> frozenset[str]:
        """What is built: every output, and the project itself where it is installed."""
        own = self.first.project.final.project
        names = (*(output.name for output in self.outputs), own)
        return frozenset(name for name in names if name is not None)

    @property
    def indexes(self) -> list[Mapping[str, Any]]:
        """The ``[[tool.uv.index]]`` of all cells, each once."""
        found: list[Mapping[str, Any]] = []
        for project in self.projects:
            found += (it for it in project.uv.get("index", ()) if it not in found)
        return found

    def distinct_stages(self) -> Iterator[tuple[CellProject, Stage]]:
        """Yield each stage once for all cells that share it, those needed first.

        A stage comes with the first of these cells.
        """
        seen = set()
        for cell in self.cells:
            for stage in cell.graph.order:
                title = cell.project.stage_label(stage.name)
                if title not in seen:
                    seen.add(title)
                    yield cell, stage


def arrange_cells(projects: Sequence[Project]) -> Cells:
    """Bring the stages of every cell into order.

    What a stage uses, those that need it use as well, through whatever cell.

    Raises:
        DeclarationError: If they can't be: every reason at once.
    """
    graphs = [arrange(project) for project in projects]
    if not projects[0].cell.choices:
        return Cells(cells=(CellProject(project=projects[0], graph=graphs[0]),))
    uses = _spread(projects, graphs)
    used = [_using(project, uses) for project in projects]
    _check(used)
    return Cells(
        cells=tuple(
            CellProject(
                project=project, graph=arrange(project) if project.brought else graph
            )
            for project, graph in zip(used, graphs, strict=True)
        )
    )


def _spread(
    projects: Sequence[Project], graphs: Sequence[Graph]
) -> dict[str, set[str]]:
    """Return the axes that each stage uses itself, or because of what it needs."""
    uses: dict[str, set[str]] = {}
    for project in projects:
        for name, axes in project.uses.items():
            uses.setdefault(name, set()).update(axes)
    is_done = False
    while not is_done:
        before = sum(map(len, uses.values()))
        for graph in graphs:
            for stage in graph.order:
                needed = (uses[name] for name in graph.requires(stage.name))
                uses[stage.name].update(*needed)
        is_done = sum(map(len, uses.values())) == before
    return uses


def _using(project: Project, uses: Mapping[str, set[str]]) -> Project:
    """Return a project whose stages know what they use, and have what that brings."""
    axes = [axis for axis, _ in project.cell.choices]
    brought = project.brought
    return replace(
        project,
        uses={
            stage.name: tuple(it for it in axes if it in uses[stage.name])
            for stage in project.stages
        },
        stages=tuple(
            replace(stage, env={**stage.env, **_united(brought, uses[stage.name])})
            for stage in project.stages
        )
        if brought
        else project.stages,
    )


def _united(brought: Mapping[str, Mapping[str, str]], axes: set[str]) -> dict[str, str]:
    env: dict[str, str] = {}
    for axis, variables in brought.items():
        env |= variables if axis in axes else {}
    return env


def _check(projects: Sequence[Project]) -> None:
    """See that sessions and locks have names of their own, and that all env counts.

    Raises:
        DeclarationError: It is otherwise.
    """
    messages = [
        f"{one} and {other} would share {what}; give a value, or a stage, another name"
        for named in (_sessions(projects), _locks(projects), _variants(projects))
        for what, one, other in _shared(named)
    ]
    messages += [
        f"no stage names {{{axis}}}, so the env of its values goes nowhere"
        for axis in sorted({axis for project in projects for axis in project.brought})
        if not any(axis in uses for it in projects for uses in it.uses.values())
    ]
    if messages:
        location = "tool.nox-buildstages.matrix"
        problems = (
            Problem(location=location, message=it) for it in dict.fromkeys(messages)
        )
        path = projects[0].pyproject
        raise DeclarationError(path=path, problems=tuple(problems))


def _sessions(projects: Sequence[Project]) -> Iterator[tuple[str, str]]:
    """Yield what nox would call the folder of each session, and the session."""
    for session in OUR_SESSIONS:
        yield f"the folder {folder_of(session)!r} of nox", session
    for project in projects:
        sessions = [
            f"build-stage-{project.stage_label(it.name)}" for it in project.stages
        ]
        sessions += [f"{name}{project.cell.suffix}" for name in MULTIPLIED]
        for session in sessions:
            yield f"the folder {folder_of(session)!r} of nox", session


def _locks(projects: Sequence[Project]) -> Iterator[tuple[str, str]]:
    """Yield what the lock of each stage may be called, and the stage."""
    for project in projects:
        for name in lock_names(project):
            for stem in possible_stems(project, name):
                yield f"the lock file {file_name(stem)}", f"stage {name}"


def _variants(projects: Sequence[Project]) -> Iterator[tuple[str, str]]:
    """Yield what is called by all values that a stage uses, and those values."""
    for project in projects:
        yield f"the name {project.cell.name!r}", f"({project.cell})"
        for name in lock_names(project):
            variant = project.stage_cell(name)
            file = file_name(stem_of(name, variant))
            yield f"the lock file {file} of {name}", f"({variant})"


def _shared(named: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Yield what is named twice, and the two."""
    first: dict[str, str] = {}
    for what, name in named:
        other = first.setdefault(what, name)
        if other != name:
            yield what, other, name
