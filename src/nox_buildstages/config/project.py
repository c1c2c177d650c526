"""From a pyproject.toml to the model: a project for each cell of its matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import (
    Document,
    Item,
    any_table,
    by_name,
    did_you_mean,
)
from nox_buildstages.config.matrix import aimed, matrix
from nox_buildstages.config.placeholders import Substitution
from nox_buildstages.config.table import TOOL, project
from nox_buildstages.indexes.logins import extract_logins
from nox_buildstages.model import Cell, Matrix

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from nox_buildstages.config.getters import Step
    from nox_buildstages.model import Axis, Project, Stage

_NEARLY = 0.85
"""How much alike two names of tables are, where one is the other misspelled."""

_EXAMPLE = """; add

      [[tool.nox-buildstages.stage]]
      name = "kernels"
      outputs = ["flash-attn==2.8.3"]

    `nox -s build-stages-init` proposes what this project needs"""


def read(document: Mapping[str, Any], *, pyproject: Path) -> Project:
    """Read what the user declared, for the first cell of its matrix.

    Raises:
        DeclarationError: If anything is wrong: all of it at once.
    """
    return read_cells(document, pyproject=pyproject)[0]


def read_cells(
    document: Mapping[str, Any], *, pyproject: Path, may_lack_stages: bool = False
) -> tuple[Project, ...]:
    """Read what the user declared, for each cell of its matrix.

    Args:
        document: The parsed pyproject.toml.
        pyproject: Its absolute path, to whose folder its paths are relative.
        may_lack_stages: Whether it is fine that no stage is declared, or that there
            is no such table at all, where nothing else is wrong.

    Raises:
        DeclarationError: If anything is wrong: all of it at once.
    """
    clean, logins = extract_logins(document)
    reading = Document(content=clean, path=pyproject)
    is_misspelled = _tell_misspelled(reading)
    projects = _projects(reading)
    may_lack = may_lack_stages and reading.sound()
    has_stages = projects and projects[0].stages
    if not (has_stages or may_lack or is_misspelled):
        _tell_missing(reading)
    reading.finish()
    return tuple(replace(project, logins=logins) for project in projects)


def _projects(document: Document) -> tuple[Project, ...]:
    """Read the table once for each cell; nothing where it is no table."""
    item = document.at("tool", TOOL)
    if item is None and not document.sound():
        return ()
    item = item or Item(value={}, steps=("tool", TOOL), document=document)
    content = any_table(item)
    if content is None:
        return ()
    declared = _matrix(item, content)
    read = (_in_cell(item, cell, declared) for cell in declared.cells)
    found = tuple(project for project in read if project is not None)
    _tell_needless(item, content, found)
    return found


def _matrix(item: Item, content: Mapping[str, Any]) -> Matrix:
    """Read the matrix; a faulty one has one cell, so that the rest is read, too."""
    if "matrix" not in content:
        return Matrix()
    return matrix(item.child("matrix", content["matrix"])) or Matrix()


def _in_cell(item: Item, cell: Cell, declared: Matrix) -> Project | None:
    is_faulty = not item.document.sound(*item.steps, "matrix")
    substitution = Substitution(cell=cell, takes_any=is_faulty)
    content, document = substitution.of(item), item.document
    tools = {**document.content.get("tool", {}), TOOL: content}
    inner = replace(document, content={**document.content, "tool": tools})
    found = project(replace(item, value=content, document=inner))
    if found is None or not document.sound():
        return found
    return _with_values(found, declared, cell, _named(found, substitution.named))


def _with_values(
    found: Project, declared: Matrix, cell: Cell, named: Mapping[str, Collection[str]]
) -> Project:
    """Return a project with what the values of its cell change."""
    chosen = {axis.name: axis.value(cell.value(axis.name)) for axis in declared.axes}
    constraints = [it for value in chosen.values() for it in value.constraints]
    uv = found.uv
    for axis in declared.axes:
        uv = aimed(uv, axis, chosen[axis.name])
    return replace(
        found,
        constraints=(*found.constraints, *constraints),
        uv=uv,
        cell=cell,
        brought={name: value.env for name, value in chosen.items() if value.env},
        uses={
            stage.name: tuple(
                axis.name
                for axis in declared.axes
                if axis.name in named[stage.name] or _decides_on(axis, stage, found)
            )
            for stage in found.stages
        },
    )


def _decides_on(axis: Axis, stage: Stage, project: Project) -> bool:
    """Whether a value constrains what a stage, or the rules of an output, name."""
    built = [output.name for output in stage.outputs]
    added = [it for name in built for it in project.rules(name).build_requires_add]
    wanted = {canonicalize_name(it.name) for it in (*stage.dependencies, *added)}
    return not wanted.union(built).isdisjoint(axis.constrained)


def _named(
    found: Project, named: Mapping[tuple[Step, ...], set[str]]
) -> dict[str, set[str]]:
    """Return the axes that a stage, or a package that it builds, names; by stage."""
    of_packages = {
        canonicalize_name(str(key)): axes
        for (kind, key), axes in named.items()
        if kind == "package"
    }
    return {
        stage.name: named.get(("stage", index), set()).union(
            *(of_packages.get(output.name, ()) for output in stage.outputs)
        )
        for index, stage in enumerate(found.stages)
    }


def _tell_needless(
    item: Item, content: Mapping[str, Any], projects: Sequence[Project]
) -> None:
    """Add a problem for each package with rules that no stage builds in any cell."""
    # Of faulty stages it isn't known what they build.
    if "package" not in content or not item.document.sound(*item.steps, "stage"):
        return
    outputs = {output.name for project in projects for output in project.outputs}
    outputs |= {it.final.project for it in projects if it.final.project is not None}
    declared = by_name(item.child("package", content["package"])) or {}
    for name, child in declared.items():
        if name not in outputs:
            hint = did_you_mean(name, sorted(outputs))
            child.fault(f"no stage has an output of this name{hint}")


def _tell_misspelled(document: Document) -> bool:
    """Add a problem for each table whose name is nearly ours: it would be ignored.

    Returns:
        Whether there is one.
    """
    tools = document.content.get("tool")
    names = [it for it in tools if it != TOOL] if isinstance(tools, Mapping) else []
    near = get_close_matches(TOOL, names, cutoff=_NEARLY)
    for name in near:
        item = Item(value=None, steps=("tool", name), document=document)
        item.fault(f"unknown table; did you mean {TOOL!r}?")
    return bool(near)


def _tell_missing(document: Document) -> None:
    """Add the problem that there are no stages, where nothing is written of any."""
    if not isinstance(document.content.get("tool", {}), Mapping):
        return
    item = document.at("tool", TOOL)
    if item is None:
        missing = Item(value=None, steps=("tool", TOOL), document=document)
        missing.fault(f"there is no such table{_EXAMPLE}")
    elif isinstance(item.value, Mapping) and "stage" not in item.value:
        item.fault(f"no stage is declared{_EXAMPLE}")
