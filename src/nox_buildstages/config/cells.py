"""All cells of a project, and the stages shared between cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nox_buildstages.config.graph import OUR_SESSIONS, arrange, session_folder
from nox_buildstages.errors import DeclarationError, Problem
from nox_buildstages.lock.files.names import (
    file_name,
    lock_names,
    possible_stems,
    stem_of,
)
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.model import Output, Project, Stage

MULTIPLIED = ("build-stages", "build-stages-release")
"""The sessions that exist for each cell, and once for all cells."""


class CellProject(Value):
    """The project of a cell, with the order of the stages."""

    project: Project
    graph: Graph

    def session(self, stage: Stage) -> str:
        """Return the session of a stage, without a Python."""
        return f"build-stage-{self.project.stage_label(stage.name)}"


class Cells(Value, eq=False):
    """All cells of a project; a project without a matrix has a single cell.

    No two readings of a pyproject.toml are equal.
    """

    cells: tuple[CellProject, ...]  # in the matrix's order

    @property
    def first(self) -> CellProject:
        """The first cell."""
        return self.cells[0]

    @property
    def projects(self) -> tuple[Project, ...]:
        """The project of each cell."""
        return tuple(cell.project for cell in self.cells)

    @property
    def has_matrix(self) -> bool:
        """Whether cells have values."""
        return bool(self.first.project.cell.choices)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs of all cells, each name once."""
        outputs = (output for it in self.projects for output in it.outputs)
        return tuple({output.name: output for output in outputs}.values())

    @property
    def names(self) -> frozenset[str]:
        """The names of all outputs, and of the project itself in case of an install."""
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
        """Yield each distinct stage with its first cell, in the order of the graph.

        The stages of two cells are the same if all values used by them are the same.
        """
        seen = set()
        for cell in self.cells:
            for stage in cell.graph.order:
                label = cell.project.stage_label(stage.name)
                if label not in seen:
                    seen.add(label)
                    yield cell, stage


def arrange_cells(projects: Sequence[Project]) -> Cells:
    """Order the stages of every cell, and find the axes each stage uses.

    Raises:
        DeclarationError: The stages can't be ordered, or names clash.
    """
    graphs = [arrange(project) for project in projects]
    if not projects[0].cell.choices:
        return Cells(cells=(CellProject(project=projects[0], graph=graphs[0]),))
    uses = _inherit_axes(projects, graphs)
    cells = []
    for project, graph in zip(projects, graphs, strict=True):
        axes = [axis for axis, _ in project.cell.choices]
        stages = []
        for stage in project.stages:
            env = dict(stage.env)
            for axis, value in project.values.items():
                env |= value.env if axis in uses[stage.name] else {}
            stages.append(replace(stage, env=env))
        arranged = replace(
            project,
            uses={
                stage.name: tuple(it for it in axes if it in uses[stage.name])
                for stage in project.stages
            },
            stages=tuple(stages),
        )
        new_graph = arrange(arranged) if arranged.stages != project.stages else graph
        cells.append(CellProject(project=arranged, graph=new_graph))
    _check([cell.project for cell in cells])
    return Cells(cells=tuple(cells))


def _inherit_axes(
    projects: Sequence[Project], graphs: Sequence[Graph]
) -> dict[str, set[str]]:
    """Return the axes each stage uses, including the axes of the stages before."""
    uses: dict[str, set[str]] = {}
    for project in projects:
        for name, axes in project.uses.items():
            uses.setdefault(name, set()).update(axes)
    count = -1
    while count != (count := sum(map(len, uses.values()))):
        for graph in graphs:
            for stage in graph.order:
                needed = (uses[name] for name in graph.requires[stage.name])
                uses[stage.name].update(*needed)
    return uses


def _check(projects: Sequence[Project]) -> None:
    """Check for clashing names of sessions and files, and for env without effect.

    Raises:
        DeclarationError: A check fails.
    """
    messages: dict[str, None] = {}
    owners: dict[str, str] = {}
    for name, owner in _names(projects):
        other = owners.setdefault(name, owner)
        if other != owner:
            message = (
                f"{other} and {owner} would share {name}; give a value, or a stage,"
                " another name"
            )
            messages[message] = None
    with_env = (axis for it in projects for axis in it.values if it.values[axis].env)
    for axis in sorted(set(with_env)):
        if not any(axis in uses for it in projects for uses in it.uses.values()):
            message = (
                f"no stage names {{{axis}}}, so the env of its values goes nowhere"
            )
            messages[message] = None
    if messages:
        location = "tool.nox-buildstages.matrix"
        problems = (Problem(location=location, message=it) for it in messages)
        path = projects[0].pyproject
        raise DeclarationError(path=path, problems=tuple(problems))


def _names(projects: Sequence[Project]) -> Iterator[tuple[str, str]]:
    """Yield the name and the owner of each folder and file with a single owner."""
    sessions = list(OUR_SESSIONS)
    for project in projects:
        labels = (project.stage_label(stage.name) for stage in project.stages)
        sessions += (f"build-stage-{label}" for label in labels)
        sessions += (f"{name}{project.cell.suffix}" for name in MULTIPLIED)
    for session in sessions:
        yield f"the folder {session_folder(session)!r} of nox", session
    for project in projects:
        for name in lock_names(project):
            for stem in possible_stems(project, name):
                yield f"the lock file {file_name(stem)}", f"stage {name}"
    for project in projects:
        yield f"the name {project.cell.name!r}", f"({project.cell})"
        for name in lock_names(project):
            cell = project.stage_cell(name)
            file = file_name(stem_of(name, cell))
            yield f"the lock file {file} of {name}", f"({cell})"
