"""A plan for GitHub Actions: jobs for cells and stages, as a matrix and a summary."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.commands.plan.formats import session_name
from nox_buildstages.config.cells import MULTIPLIED
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.model import FINAL, Cell, Shard
from nox_buildstages.safe_text import Shown, escape_markdown, show
from nox_buildstages.store.key import digest_json
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.commands.plan.reasons import PlannedOutput
    from nox_buildstages.config.graph import Graph
    from nox_buildstages.model import Project, Runner, Stage

LEVELS = 3
"""The levels of stages with jobs of their own; jobs of cells build deeper stages."""

MOST_JOBS = 256
"""How many jobs a matrix of GitHub may have."""

SCHEME = 1
"""The version of the keys of stores; another one starts all of them empty."""

_ARM = ("ubuntu-24.04-arm",)
"""The label of GitHub's runners with this machine."""


class CellPlan(Value):
    """The plan of a job, which builds a cell for a Python, or a stage."""

    name: str  # unique, of plain characters, for files and artifacts
    label: str = ""  # for people; empty for a single cell
    session: str  # builds the cell
    release: str  # makes the wheelhouse fit to publish
    python: str  # the minor version
    wheelhouse: str  # POSIX, relative to the project
    key: str  # of the job's part of the store
    tools: tuple[str, ...] = ()  # the key doesn't cover their versions
    pass_env: tuple[str, ...] = ()  # the key doesn't cover their values
    runner: Runner
    outputs: tuple[PlannedOutput, ...]  # in the order of the stages
    shards: int = 1  # of a stage
    levels: tuple[tuple[CellPlan, ...], ...] = ()
    """The stages of a cell; each level needs the levels before."""

    @property
    def is_cached(self) -> bool:
        """Whether the job has nothing to build."""
        return not any(it.reasons for it in self.outputs)

    def to_dict(self) -> dict[str, str]:
        """Return the entry of the matrix."""
        runner = self.runner
        labels = runner.runs_on or (_ARM if runner.machine == "aarch64" else ("",))
        variables = (f"{name}={value}" for name, value in runner.variables.items())
        return {
            "cell": self.name,
            "label": self.label,
            "session": self.session,
            "release": self.release,
            "python": self.python,
            "wheelhouse": self.wheelhouse,
            "key": self.key,
            "tools": " ".join(self.tools),
            "pass-env": " ".join(self.pass_env),
            "runs-on": labels[0] if len(labels) == 1 else json.dumps(labels),
            "container": runner.container or "",
            "setup": runner.setup or "",
            "variables": "\n".join(variables),
        }

    def divide(self) -> Iterator[dict[str, str]]:
        """Yield the entry of each shard of a stage that has something to build."""
        if self.shards > 1 and not self.is_cached:
            for number in range(1, self.shards + 1):
                shard = Shard(number=number, count=self.shards)
                name = f"{self.name}_{shard.folder}"
                yield {**self.to_dict(), "cell": name, "shard": str(shard)}


class GitHubPlan(Value):
    """The jobs of a workflow."""

    cells: tuple[CellPlan, ...]
    wheelhouse: str = "wheelhouse"  # POSIX, relative to the project
    locks: str = "build-stages"  # the folder of the lock files
    only_missing: bool = False  # whether jobs with nothing to build are left out

    def matrices(self) -> dict[str, list[dict[str, str]]]:
        """Return the entries of each matrix: cells, levels of stages, and shards."""
        found = {"matrix": [it.to_dict() for it in self._select_jobs(self.cells)]}
        shards: list[dict[str, str]] = []
        depth = max([LEVELS, *(len(it.levels) for it in self.cells)])
        for number in range(depth):
            stages: dict[str, CellPlan] = {}  # cells may share a stage
            for cell in self.cells:
                for level in cell.levels[number : number + 1]:
                    for stage in level:
                        stages.setdefault(stage.session, stage)
            for stage in stages.values():
                shards += stage.divide()
            if number < LEVELS:
                jobs = self._select_jobs(stages.values())
                found[f"level-{number + 1}"] = [it.to_dict() for it in jobs]
        return {**found, "shards": shards}

    def outputs(self) -> dict[str, str]:
        """Return the outputs of the step; a ``matrix`` is JSON."""
        matrices = self.matrices()
        cells = matrices.pop("matrix")
        return {
            "matrix": _format_matrix(cells),
            "count": str(len(cells)),
            **{name: _format_matrix(it) if it else "" for name, it in matrices.items()},
            "wheelhouse": self.wheelhouse,
            "locks": self.locks,
        }

    def warnings(self) -> Iterator[str]:
        """Yield a line for each matrix that GitHub refuses."""
        for name, entries in self.matrices().items():
            if len(entries) > MOST_JOBS:
                yield (
                    f"{name} has {len(entries)} jobs, and GitHub accepts at most"
                    f" {MOST_JOBS} in one matrix; plan a part with --select"
                )

    def summary(self) -> Iterator[str]:
        """Yield the lines of a Markdown text with a table for each cell."""
        total, jobs = len(self.cells), len(self._select_jobs(self.cells))
        noun = "cell" if total == 1 else "cells"
        yield f"### Build stages: a job for {jobs} of {total} {noun}"
        for cell in self.cells:
            yield from ("", f"#### {escape_markdown(cell.label or cell.session)}", "")
            if self.only_missing and cell.is_cached:
                remote = sum(it.remote for it in cell.outputs)
                stores = "the store"
                if remote == len(cell.outputs) and remote:
                    stores = "the remote store"
                elif remote:
                    stores = "the store or in the remote store"
                yield f"Left out: all its wheels are in {stores}."
                yield ""
            yield "| state | output | version | stage | why |"
            yield "| --- | --- | --- | --- | --- |"
            for it in cell.outputs:
                remark = ("in the remote store",) if it.remote else ()
                why = "<br>".join(map(escape_markdown, it.reasons or remark))
                columns = map(
                    escape_markdown, (it.state, it.name, it.version, it.stage)
                )
                yield f"| {' | '.join((*columns, why))} |"

    def _select_jobs(self, cells: Iterable[CellPlan]) -> list[CellPlan]:
        return [it for it in cells if not (self.only_missing and it.is_cached)]


def plan_cell(
    context: BuildContext, outputs: tuple[PlannedOutput, ...], wheelhouse: Path
) -> CellPlan:
    """Plan the job of a cell, and the jobs of its stages.

    Raises:
        SourceError: A folder or a patch can't be read.
    """
    project, python = context.project, context.interpreter.version
    several = len(project.pythons) > 1

    def with_python(cell: Cell) -> Cell:
        """Return a cell with the Python as another value if there are several."""
        return Cell(choices=(*cell.choices, ("python", python))) if several else cell

    def plan_stages(
        stages: Sequence[Stage], name: str, label: str, *sessions: str
    ) -> CellPlan:
        session, release = (session_name(project, it, python) for it in sessions)
        return CellPlan(
            name=name,
            label=label,
            session=session,
            release=release,
            python=python,
            wheelhouse=relative_path(project, wheelhouse),
            key=store_key(context, stages),
            tools=tuple(sorted({name for it in stages for name in it.programs})),
            pass_env=tuple(sorted({name for it in stages for name in it.pass_env})),
            runner=project.runner(FINAL, python),
            outputs=outputs,
        )

    def plan_stage(stage: Stage) -> CellPlan:
        needed = {stage.name, *context.graph.ancestors(stage.name)}
        stages = [it for it in context.graph.order if it.name in needed]
        cell = with_python(project.stage_cell(stage.name))
        suffix = f"_{cell.name}" if cell.choices else ""
        session = f"build-stage-{project.stage_label(stage.name)}"
        name = f"stage-{stage.name}{suffix}"
        return replace(
            plan_stages(stages, name, str(cell), session, session),
            runner=project.runner(stage.name, python),
            shards=stage.shards,
            outputs=tuple(it for it in outputs if it.stage == stage.name),
        )

    cell = with_python(project.cell)
    sessions = (f"{it}{project.cell.suffix}" for it in MULTIPLIED)
    return replace(
        plan_stages(context.graph.order, cell.name, str(cell), *sessions),
        levels=tuple(
            tuple(map(plan_stage, level)) for level in find_levels(context.graph)
        ),
    )


def find_levels(graph: Graph) -> tuple[tuple[Stage, ...], ...]:
    """Return the stages by level; each level requires only the levels before."""
    levels: dict[str, int] = {}
    for stage in graph.order:
        required = graph.requires[stage.name]
        levels[stage.name] = 1 + max((levels[name] for name in required), default=0)
    return tuple(
        tuple(stage for stage in graph.order if levels[stage.name] == level)
        for level in range(1, 1 + max(levels.values(), default=0))
    )


def relative_path(project: Project, folder: Path) -> str:
    """Return the POSIX path of a folder, relative to the project."""
    return Path(os.path.relpath(folder, project.root)).as_posix()


def store_key(context: BuildContext, stages: Iterable[Stage]) -> str:
    """Return the sha256 of everything that goes into the wheels of stages, in hex.

    The key covers locks, declarations, folders and patches. It doesn't cover compilers,
    passed variables, the patch version and the settings of Python, because a machine
    for plans may have others. So the wheels of a key may be in several stores,
    and a store may contain wheels with several keys.

    Raises:
        SourceError: A folder or a patch can't be read.
    """
    entries = []
    for stage in stages:
        stage_wheels = {
            pin.name: [str(pin.version), pin.stage]
            for pin in context.pins(stage.name)
            if isinstance(pin, StagePin)
        }
        declared = replace(stage, tools=(), pass_env=())
        version = context.interpreter.markers["python_version"]
        keys = []
        for output in context.locks[stage.name].outputs:
            recipe = context.make_recipe(declared, output, without=stage_wheels)
            own = {"version": version, "compilation": ""}
            recipe = replace(recipe, interpreter={**recipe.interpreter, **own})
            keys.append(recipe.key)
        entries.append(
            {
                "name": stage.name,
                "held": stage_wheels,
                "tools": stage.programs,
                "outputs": keys,
            }
        )
    return digest_json({"scheme": SCHEME, "stages": entries})


def publish(plan: GitHubPlan, variables: Mapping[str, str]) -> Iterator[Shown]:
    """Write a plan to the files named by environment variables of GitHub Actions.

    Yields:
        The lines to print if a variable isn't set.

    Raises:
        OSError: A file can't be written.
    """
    outputs, summary = plan.outputs(), list(plan.summary())
    if path := variables.get("GITHUB_OUTPUT"):
        _append(path, format_outputs(outputs))
    else:
        yield from (show(f"{name}={value}") for name, value in outputs.items())
    if path := variables.get("GITHUB_STEP_SUMMARY"):
        _append(path, "".join(f"{line}\n" for line in summary))
    else:
        yield from map(show, summary)


def format_outputs(outputs: Mapping[str, str]) -> str:
    """Format the outputs of a step for GitHub's runner, with several lines too."""
    text = ""
    for name, value in outputs.items():
        if value.splitlines() in ([], [value]) and value == value.strip():
            text += f"{name}={value}\n"
        else:  # no text contains its own digest
            end = f"end-{hashlib.sha256(value.encode()).hexdigest()}"
            text += f"{name}<<{end}\n{value}\n{end}\n"
    return text


def _append(path: str, text: str) -> None:
    with Path(path).open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _format_matrix(include: Sequence[Mapping[str, str]]) -> str:
    return json.dumps({"include": include}, separators=(",", ":"))
