"""From a pyproject.toml to the model: a project for each cell of the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from nox_buildstages.config.final import FINAL
from nox_buildstages.config.getters import (
    Document,
    Item,
    did_you_mean,
    find_nearest,
    items_by_name,
    raw_table,
)
from nox_buildstages.config.graph import find_problems
from nox_buildstages.config.matrix import axis_value, read_matrix, select_index
from nox_buildstages.config.placeholders import Substitution
from nox_buildstages.config.table import PACKAGE, STAGE, TOOL, TOP, read_project
from nox_buildstages.errors import DeclarationError
from nox_buildstages.indexes.url_secrets import extract_logins
from nox_buildstages.model import AxisValue, Cell, Matrix
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nox_buildstages.config.decorated import DecoratedStage
    from nox_buildstages.model import Axis, Project, Stage

_NEAR = 0.85
"""How similar the name of a table is to ours if it is a misspelling."""

_MOST_LETTERS = 5
"""How many letters more or less such a name may have."""

_TABLES = {
    f"[tool.{TOOL}]": TOP,
    f"[[tool.{TOOL}.stage]]": STAGE,
    f"[tool.{TOOL}.final]": FINAL,
    f"[tool.{TOOL}.package.NAME]": PACKAGE,
}
"""The keys of the tables that each file may have, by header."""

_EXAMPLE = """; add

      [[tool.nox-buildstages.stage]]
      name = "kernels"
      outputs = ["flash-attn==2.8.3"]

    `nox -s build-stages-init` proposes what this project needs"""


def read(document: Mapping[str, Any], *, pyproject: Path) -> Project:
    """Read a pyproject.toml for the first cell of the matrix.

    Raises:
        DeclarationError: The file is faulty; has all problems.
    """
    return read_cells(document, pyproject=pyproject)[0]


def read_cells(
    document: Mapping[str, Any],
    *,
    pyproject: Path,
    may_lack_stages: bool = False,
    may_lack_outputs: bool = False,
    decorated: Sequence[DecoratedStage] = (),
) -> tuple[Project, ...]:
    """Read a pyproject.toml, and stages of a noxfile, for each cell of the matrix.

    With ``may_lack_stages``, a file without stages, or without our table, is fine in
    the absence of other problems: it may have rules for packages, and dynamic
    dependencies. With ``may_lack_outputs``, rules for packages that no stage builds are
    fine beside stages, too.

    Raises:
        DeclarationError: The file is faulty; has all problems.
    """
    elsewhere: Mapping[tuple[str | int, ...], str] = {}
    if decorated:
        from nox_buildstages.config.decorated import add_stages, with_code  # noqa: PLC0415 - most have none

        document, elsewhere = add_stages(document, decorated)
    clean, logins = extract_logins(document)
    if may_lack_stages and not _has_stages(clean):
        may_lack_outputs = True
        clean = _without_dynamic_dependencies(clean)
    source = Document(
        content=clean, path=pyproject, elsewhere=elsewhere, tables=_TABLES
    )
    is_misspelled = _check_table_names(source)
    projects = _read_each(source, may_lack_outputs=may_lack_outputs)
    may_lack = may_lack_stages and source.is_sound()
    has_stages = projects and projects[0].stages
    if not (has_stages or may_lack or is_misspelled):
        _check_existence(source)
    problems = source.problems()
    if problems:
        faulty = {it.location for it in problems}
        more = (it for project in projects for it in find_problems(project))
        distinct = dict.fromkeys(it for it in more if it.location not in faulty)
        raise DeclarationError(path=pyproject, problems=(*problems, *distinct))
    if decorated:
        projects = with_code(projects, decorated)
    return tuple(replace(project, logins=logins) for project in projects)


def _has_stages(document: Mapping[str, Any]) -> bool:
    """Whether a file seems to have stages."""
    tools = document.get("tool")
    table = tools.get(TOOL) if isinstance(tools, Mapping) else None
    names = table if isinstance(table, Mapping) else ()
    return any(find_nearest(name, TOP) == "stage" for name in names)


def _without_dynamic_dependencies(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a file without the dynamic dependencies that only stages need to know."""
    project = document.get("project")
    dynamic = project.get("dynamic") if isinstance(project, Mapping) else None
    if not (isinstance(project, Mapping) and isinstance(dynamic, list)):
        return document
    kept = [it for it in dynamic if it != "dependencies"]
    return {**document, "project": {**project, "dynamic": kept}}


def _read_each(
    document: Document, *, may_lack_outputs: bool = False
) -> tuple[Project, ...]:
    """Read the table once for each cell; a faulty matrix counts as a single cell."""
    item = document.find("tool", TOOL)
    if item is None and not document.is_sound():
        return ()
    item = item or Item(value={}, steps=("tool", TOOL), document=document)
    content = raw_table(item)
    if content is None:
        return ()
    matrix = Matrix()
    if "matrix" in content:
        # Cells replace placeholders; until they are known, any text takes their place.
        table = item.child("matrix", content["matrix"])
        anything = Cell(choices=tuple((it, "0") for it in raw_table(table) or ()))
        replaced = Substitution(cell=anything, takes_any=True).replace(item)
        matrix = read_matrix(table.with_value(replaced["matrix"])) or matrix
    in_cells = (_read_cell(item, cell, matrix) for cell in matrix.cells)
    projects = tuple(project for project in in_cells if project is not None)
    if not may_lack_outputs:
        _check_packages(item, content, projects)
    return projects


def _read_cell(item: Item, cell: Cell, matrix: Matrix) -> Project | None:
    """Read the table for a cell, with the changes made by the cell's values."""
    document = item.document
    is_faulty = not document.is_sound(*item.steps, "matrix")
    substitution = Substitution(cell=cell, takes_any=is_faulty)
    content = substitution.replace(item)
    values = {}
    for axis_name, name in cell.choices:
        # None for an axis of include alone.
        declared = content["matrix"].get(axis_name)
        changes = declared.get(name, {}) if isinstance(declared, Mapping) else {}
        table = item.child("matrix", content["matrix"]).child(axis_name, declared)
        child = table.child(name, changes)
        values[axis_name] = axis_value(child) or AxisValue(name=name)
        content = {**content, "final": _with_additions(content.get("final", {}), child)}
    _check_unequal(item.child("matrix", None), cell, values)
    tools = {**document.content.get("tool", {}), TOOL: content}
    inner = replace(document, content={**document.content, "tool": tools})
    project = read_project(replace(item, value=content, document=inner))
    if project is None or not document.is_sound():
        return project
    machines = (value.machine for value in values.values() if value.machine)
    constraints = [it for value in values.values() for it in value.constraints]
    added = [it for value in values.values() for it in value.requirements]
    uv = project.uv
    for axis in matrix.axes:
        uv = select_index(uv, axis, values[axis.name])
    # The axes that each package names, and then each stage, also by its packages.
    by_package = {
        canonicalize_name(str(key)): axes
        for (table, key), axes in substitution.named.items()
        if table == "package"
    }
    uses = {}
    for index, stage in enumerate(project.stages):
        packages = (by_package.get(output.name, ()) for output in stage.outputs)
        named = substitution.named.get(("stage", index), set()).union(*packages)
        uses[stage.name] = tuple(
            axis.name
            for axis in matrix.axes
            if axis.name in named.union(matrix.common_axes)
            or _concerns(axis, stage, project)
        )
    return replace(
        project,
        final=replace(
            project.final, requirements=(*project.final.requirements, *added)
        ),
        constraints=(*project.constraints, *constraints),
        uv=uv,
        cell=cell,
        values=values,
        cell_pythons=matrix.pythons.get(cell, project.pythons),
        machine=next(machines, matrix.machine),
        exclude=matrix.exclude,
        is_included=cell in matrix.included,
        uses=uses,
    )


def _with_additions(final: object, value: Item) -> object:
    """Return the table ``final`` with the extras and groups of an axis value."""
    changes = raw_table(value) or {}
    if not isinstance(final, Mapping):
        return final
    added = {
        key: changes[key]
        for key in ("extras", "groups")
        if key in changes and isinstance(final.get(key, []), list)
    }
    return {**final, **{k: [*final.get(k, ()), *names] for k, names in added.items()}}


def _check_unequal(matrix: Item, cell: Cell, values: Mapping[str, AxisValue]) -> None:
    """Add a fault for each setting that two values of a cell disagree on."""
    for key in ("machine", "runs_on", "container"):
        named = {axis: it for axis in values if (it := getattr(values[axis], key))}
        if len(set(named.values())) > 1:
            matrix.fault(
                f"({cell}) has two values of {key.replace('_', '-')}, of the axes"
                f" {' and '.join(named)}; keep one of them"
            )


def _concerns(axis: Axis, stage: Stage, project: Project) -> bool:
    """Whether an axis constrains or requires an output or a dependency of a stage."""
    outputs = [output.name for output in stage.outputs]
    added = [it for name in outputs for it in project.rules(name).build_requires_add]
    wanted = {canonicalize_name(it.name) for it in (*stage.dependencies, *added)}
    return not wanted.union(outputs).isdisjoint(axis.projects)


def _check_packages(
    item: Item, content: Mapping[str, Any], projects: Sequence[Project]
) -> None:
    """Add a fault for each package with rules but without a stage in any cell."""
    # Faulty stages may build it, and a table without stages has another problem.
    if "package" not in content or not item.document.is_sound(*item.steps, "stage"):
        return
    if _lacks_stages(content):
        return
    outputs = {output.name for project in projects for output in project.outputs}
    outputs |= {it.final.project for it in projects if it.final.project is not None}
    packages = items_by_name(item.child("package", content["package"])) or {}
    for name, child in packages.items():
        # In a name with a dot, TOML's keys are the problem.
        if name not in outputs and child.document.is_sound(*child.steps):
            hint = did_you_mean(name, sorted(outputs))
            hint = hint or "; remove the table, or add the output to a stage"
            child.fault(f"no stage has an output of this name{hint}")


def _check_table_names(document: Document) -> bool:
    """Add a fault for each table with a name similar to ours; return if any exists."""
    tools = document.content.get("tool")
    names = [it for it in tools if it != TOOL] if isinstance(tools, Mapping) else []
    # Similar names have similar lengths, and difflib takes long to import.
    names = [it for it in names if abs(len(it) - len(TOOL)) <= _MOST_LETTERS]
    if not names:
        return False
    from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(TOOL, names, cutoff=_NEAR)
    for name in near:
        item = Item(value=None, steps=("tool", name), document=document)
        item.fault(f"unknown table; did you mean {TOOL!r}?")
    return bool(near)


def _check_existence(document: Document) -> None:
    """Add a fault if the file has no table, or the table has no stages."""
    if not isinstance(document.content.get("tool", {}), Mapping):
        return
    item = document.find("tool", TOOL)
    if item is None:
        missing = Item(value=None, steps=("tool", TOOL), document=document)
        missing.fault(f"there is no such table{_EXAMPLE}")
    elif isinstance(item.value, Mapping) and _lacks_stages(item.value):
        item.fault(f"no stage is declared{_EXAMPLE}")


def _lacks_stages(table: Mapping[str, Any]) -> bool:
    """Whether a table has nothing that works without stages, nor stages."""
    names = (find_nearest(name, TOP) for name in table)
    return {"final", "matrix", "stage"}.isdisjoint(names)
